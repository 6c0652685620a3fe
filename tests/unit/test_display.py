"""What commands print: widths, plain tables, control characters, one document."""

from __future__ import annotations

import io
import json
import math
import unicodedata
from datetime import date

import pytest

from deployments.terminal.display import Out, as_json, cell, pad, plain_table, printable, width
from workflows.core.errors import InvalidDefinition, Mistake, PhaselineError, UsageError


def out(json_mode: bool = False) -> Out:
    return Out(json_mode, io.StringIO(), io.StringIO())


def written(shown: Out) -> tuple[str, str]:
    assert isinstance(shown.stdout, io.StringIO)
    assert isinstance(shown.stderr, io.StringIO)
    return shown.stdout.getvalue(), shown.stderr.getvalue()


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("需求", 4),
        ("AI工程师", 8),
        ("\uff21", 2),
        ("e\u0301", 1),
        ("🧩", 2),
        ("a\u200bb", 2),
        ("", 0),
    ],
)
def test_width_in_terminal_columns(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(pad(text, 10)) == 10
    assert pad(text, 10, right=True).endswith(text)


def test_plain_table_lines_up_wide_characters() -> None:
    text = plain_table(("id", "name", "n"), [("a", "需求分析", "5"), ("bb", "x", "12")], (False, False, True))
    assert text == "id  name       n\na   需求分析   5\nbb  x         12\n"


def test_table_right_aligns_figures_only() -> None:
    shown = out()
    shown.table(("what", "n", "usd"), [("a", 1200, "$0.10"), ("b", None, "$12.00")])
    assert written(shown)[0] == "what      n     usd\na     1,200   $0.10\nb         -  $12.00\n"


def test_cells() -> None:
    assert [cell(v) for v in (None, "", (), True, False, 1234, ["a", 2], "a\nb  c")] == [
        *("-", "-", "-", "yes", "no", "1,234", "a, 2", "a b c")
    ]


def test_written_text_cannot_steer_the_terminal() -> None:
    assert printable("ok 需求\n\t") == "ok 需求\n\t"
    assert printable("\x1b[31mred\x07\x9b\r") == "\\x1b[31mred\\x07\\x9b\\r"
    shown = out()
    shown.line("\x1b[2J", "red")
    shown.note("\x1b[2J", "red")
    assert written(shown) == ("\\x1b[2J\n", "\\x1b[2J\n")


def test_the_two_modes_exclude_each_other() -> None:
    people, program = out(), out(json_mode=True)
    for shown in (people, program):
        shown.line("hello")
        shown.table(("a",), [("b",)])
        shown.document({"名": 1})
    assert written(people)[0] == "hello\na\nb\n"
    assert json.loads(written(program)[0]) == {"名": 1}
    with pytest.raises(RuntimeError):
        program.document({})


def test_as_json_takes_what_yaml_gives() -> None:
    value = {1: math.nan, "d": date(2026, 1, 2), "t": (1, 2.5), "i": math.inf, None: True}
    assert as_json(value) == {"1": None, "d": "2026-01-02", "t": [1, 2.5], "i": None, "None": True}


def test_errors_in_both_modes() -> None:
    people, program = out(), out(json_mode=True)
    for shown in (people, program):
        shown.error(UsageError("no such thing", "look again"))
    assert written(people) == ("", "error: no such thing\n  cure: look again\n")
    assert json.loads(written(program)[0]) == {
        "status": "invalid",
        "error": {"message": "no such thing", "cure": "look again"},
    }


def test_mistakes_stand_together_by_file() -> None:
    found = [
        Mistake("a.yaml", 2, 3, "x", 1, "wrong", "mend it"),
        Mistake("b.yaml", 0, 0, "", None, "unreadable", ""),
        Mistake("a.yaml", 9, 1, "", None, "worse", ""),
    ]
    shown = out()
    shown.error(InvalidDefinition(found))
    assert written(shown)[1].splitlines() == [
        "a.yaml:2:3: error: x: wrong",
        "    cure: mend it",
        "a.yaml:9:1: error: worse",
        "b.yaml: error: unreadable",
        "3 mistakes; nothing was started",
    ]
    program = out(json_mode=True)
    program.error(InvalidDefinition(found))
    assert len(json.loads(written(program)[0])["errors"]) == 3


def test_an_error_after_the_document_adds_nothing_to_it() -> None:
    shown = out(json_mode=True)
    shown.document({"rule": None})
    shown.error(UsageError("nothing matched"))
    assert json.loads(written(shown)[0]) == {"rule": None}


STEERING = "".join(
    map(chr, [0x7F, 0x80, 0x85, 0x9B, 0x9D, 0xAD, 0x61C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029])
)
TURNING = "".join(
    map(chr, [*range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0xFFF9, 0xE0001, 0xE0041])
)


def test_json_for_a_terminal_cannot_steer_it_and_stays_the_same_value() -> None:
    value = {
        "a\u202eb": f"x{STEERING}y{TURNING}z",
        "plain": "née, 你好, a\u00a0b\u3000c, \N{GRINNING FACE}",
        "half": "\ud800",
    }
    stdout = io.StringIO()
    Out(True, stdout, io.StringIO()).document(value)
    shown = stdout.getvalue()
    assert json.loads(shown) == value
    assert all(c == "\n" or c.isprintable() or unicodedata.category(c) == "Zs" for c in shown)
    assert "née, 你好" in shown and "\N{GRINNING FACE}" in shown


def test_nothing_printed_for_people_turns_its_letters() -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    out = Out(False, stdout, stderr)
    out.line(STEERING + TURNING)
    out.note(STEERING + TURNING)
    out.table(("a",), [[STEERING + TURNING]])
    out.error(PhaselineError(STEERING, TURNING))
    assert not set(STEERING + TURNING) & set(stdout.getvalue() + stderr.getvalue())
