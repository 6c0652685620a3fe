"""Where a secret input may be read: `check` refuses every place in which its name alone would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.catalogs import compiled, examined, make_catalog

USE = '''"""Uses."""


def use(token: str, note: str = "") -> str:
    """Use a token.

    Args:
        token: The token.
        note: About it.
    """
    return token
'''
INPUTS = "workflow: w\ninputs: {ticket: {type: secret, required: false}, note: {type: string}}\nsteps:\n"
SKILL = "  - {id: a, skill: shared/tool, handler: use, "


def catalog(folder: Path, *lines: str, inner: str = "secret") -> Path:
    root = make_catalog(folder / "catalog", w=INPUTS + "\n".join(lines) + "\n")
    step = "steps: [{id: b, agent: bob, prompt: Say.}]\n"
    (root / "inner.yaml").write_text(f"workflow: inner\ninputs: {{ticket: {{type: {inner}}}}}\n{step}")
    tool = root / "skills" / "shared" / "tool"
    (tool / "handlers" / "use.py").write_text(USE)
    (tool / "config.yaml").write_text("handlers: [{name: use, effect: once}, {name: count, effect: none}]\n")
    return root


@pytest.mark.parametrize(
    "line",
    [
        SKILL + 'args: {token: "{{ ticket }}"}}',
        SKILL + 'args: {token: "{{ticket}}"}, when: "ticket"}',
        SKILL + 'args: {token: "{{ ticket }}"}, '
        'undo: {skill: shared/tool, handler: use, args: {token: "{{ ticket }}"}}}',
        SKILL + 'inputs: [ticket], args: {token: "{{ note }}"}, '
        'undo: {skill: shared/tool, handler: use, args: {token: "{{ ticket }}"}}}',
        '  - {id: a, workflow: inner, args: {ticket: "{{ ticket }}"}}',
        '  - {id: a, agent: bob, prompt: "{{ note }}", when: "ticket"}',
    ],
)
def test_a_secret_goes_to_handlers_and_to_secret_inputs(tmp_path: Path, line: str) -> None:
    root = catalog(tmp_path, line)
    assert examined(root).errors == []
    assert compiled(root).inputs[0].type == "secret"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (SKILL + 'args: {token: "of {{ ticket }}"}}', "steps[0].args.token"),
        (SKILL + 'args: {token: "{{ ticket | upper }}"}}', "steps[0].args.token"),
        (SKILL + 'args: {token: ["{{ ticket }}"]}}', "steps[0].args.token[0]"),
        (
            SKILL + 'inputs: [ticket], args: {token: "{{ note }}"}, '
            'undo: {skill: shared/tool, handler: use, args: {token: "x{{ ticket }}"}}}',
            "steps[0].undo.args.token",
        ),
        ("  - {id: a, skill: shared/tool, handler: count, args: {text: ticket}}", "steps[0].args.text"),
        ('  - {id: a, agent: bob, prompt: "Use {{ ticket }}."}', "steps[0].prompt"),
        ("  - {id: a, agent: bob, inputs: [ticket], prompt: Look.}", "steps[0].inputs"),
        ('  - {id: a, approval: {ask: "With {{ ticket }}?"}}', "steps[0].approval.ask"),
        ('  - {id: a, await_event: {type: t, key: "{{ ticket }}"}}', "steps[0].await_event.key"),
        ('  - {id: a, agent: bob, prompt: Look., for_each: "[ticket]"}', "steps[0].for_each"),
        (
            '  - {id: a, agent: bob, prompt: Look., repeat: {until: "a == ticket", max: 2}}',
            "steps[0].repeat.until",
        ),
        ('  - {id: a, workflow: inner, args: {ticket: "no {{ ticket }}"}}', "steps[0].args.ticket"),
    ],
)
def test_everywhere_else_it_is_refused(tmp_path: Path, line: str, path: str) -> None:
    (mistake,) = examined(catalog(tmp_path, line)).errors
    assert "'ticket' is a secret" in mistake.message and "{{ ticket }}" in mistake.cure
    assert (mistake.file, mistake.line, mistake.path) == ("w.yaml", 4, path)


def test_an_input_that_is_no_secret_takes_none(tmp_path: Path) -> None:
    line = '  - {id: a, workflow: inner, args: {ticket: "{{ ticket }}"}}'
    (mistake,) = examined(catalog(tmp_path, line, inner="string")).errors
    assert (mistake.line, mistake.path) == (4, "steps[0].args.ticket")
    assert "is none" in mistake.message and "{type: secret}" in mistake.cure
