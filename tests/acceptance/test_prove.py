"""`phaseline prove` as a command: a sound workflow passes at every boundary, an unsound one does not."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

import pytest

from blocks.boundaries import BOUNDARIES
from tests.support.catalogs import make_catalog
from tests.support.command import Answer, User
from tests.support.command import phaseline as run_phaseline

APPEND = '''"""A file that grows."""

from pathlib import Path


def append(file: str, text: str) -> dict[str, int]:
    """Append a line to a file.

    Args:
        file: Absolute path of the file.
        text: The line.
    """
    with Path(file).open("a") as opened:
        opened.write(text + "\\n")
    return {"lines": len(Path(file).read_text().splitlines())}
'''
READ = '''"""What was written."""

from pathlib import Path


def read(file: str) -> list[str]:
    """The lines of a file.

    Args:
        file: Absolute path of the file.
    """
    return Path(file).read_text().splitlines()
'''
EFFECTS = "handlers:\n  - name: append\n    effect: {effect}\n  - name: read\n    effect: none\n"

PANEL = """workflow: w
inputs:
  file: {type: string}
outputs: [look]
budget: {turns: 50}
steps:
  - id: review
    agents: [ann, bob]
    prompt: Say what you think of the plan.
  - id: allow
    depends_on: review
    approval:
      ask: Shall it be written down?
      form:
        type: object
        required: [line]
        properties: {line: {type: string, enum: [yes, please]}}
  - id: write
    depends_on: allow
    skill: shared/tool
    handler: append
    args: {file: "{{ file }}", text: "{{ allow.data.line }}"}
  - id: look
    depends_on: write
    skill: shared/tool
    handler: read
    args: {file: "{{ file }}"}
"""
"""A panel, a question to people, one effect, and what the effect left as an output."""

LONE = """workflow: w
inputs:
  file: {type: string}
steps:
  - id: write
    skill: shared/tool
    handler: append
    args: {file: "{{ file }}", text: hello}
"""


def catalog_of(folder: Path, workflow: str, effect: str) -> Path:
    """A catalog whose skill can append to a file, and says of itself that this has that effect."""
    root = make_catalog(folder / "catalog", w=workflow)
    tool = root / "skills" / "shared" / "tool"
    (tool / "handlers" / "append.py").write_text(APPEND)
    (tool / "handlers" / "read.py").write_text(READ)
    (tool / "config.yaml").write_text(EFFECTS.format(effect=effect))
    return root


def prove(folder: Path, catalog: Path, *words: str, timeout: float = 240) -> Answer:
    """`phaseline prove w` with a file that each case has for itself."""
    home = folder / "home"
    scratch = folder / "scratch"
    scratch.mkdir()
    answer = run_phaseline(
        *("prove", "w", "--catalog", str(catalog), "-i", "file={home}/lines", "--json", *words),
        home=home,
        environment={"TMPDIR": str(scratch)},
        timeout=timeout,
    )
    assert list(scratch.iterdir()) == [], answer.err
    return answer


def test_a_sound_workflow_is_proved_at_every_boundary(tmp_path: Path) -> None:
    report = tmp_path / "proof.md"
    answer = prove(tmp_path, catalog_of(tmp_path, PANEL, "once"), "--report", str(report))
    assert answer.code == 0, answer
    proof = answer.document
    assert proof["ok"] and proof["not_compared"] == []
    assert {b["result"] for b in proof["boundaries"]} == {"ok"}
    assert proof["not_visited"] == []
    # Everything that such a workflow can reach; it has no values that vary, and calls no tool in a turn.
    # What a command writes before its run begins is in test_killed_runs.
    unreachable = {"input.kept", "tool.answered", "tool.kept", "run.announced", "run.given"}
    assert {b["name"] for b in proof["boundaries"]} == set(BOUNDARIES) - unreachable
    asked = [b for b in proof["boundaries"] if any("asked whether" in n for n in b["notes"])]
    assert [b["name"] for b in asked] == ["effect.sending", "effect.performed"]
    text = report.read_text()
    assert "nothing differs" in text and "| `effect.performed` | write |" in text


def test_a_handler_that_hides_its_effect_is_found_out(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, LONE, "none")
    answer = prove(tmp_path, catalog, "--only", "*@write")
    assert answer.code == 1, answer
    wrong = [b for b in answer.document["boundaries"] if b["result"] == "differs"]
    # What Prefect has of a step is not believed: at both the handler is called again.
    assert [b["name"] for b in wrong] == ["artifact.stored", "step.stored"]
    assert wrong[0]["differences"] == [
        "the output write differs: '{\\n  \"lines\": 2\\n}\\n', not '{\\n  \"lines\": 1\\n}\\n'"
    ]


def test_an_interrupted_proof_leaves_nothing_behind(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, PANEL, "once")
    scratch, folder = tmp_path / "scratch", tmp_path / "empty"
    scratch.mkdir()
    folder.mkdir()
    user = User(tmp_path / "home", folder, {"TMPDIR": str(scratch)})
    with user.start("prove", "w", "--catalog", str(catalog), "-i", "file={home}/lines") as process:
        await_cases(scratch)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
    assert list(scratch.iterdir()) == []
    assert processes_of(scratch) == []


def await_cases(scratch: Path) -> None:
    """Until a case noted something."""
    deadline = time.monotonic() + 60
    while not list(scratch.glob("phaseline-prove-*/case-*/records")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that have to do with a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
            if str(folder).encode() in words:
                found.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--only", "turn.keept@review"), "there is no boundary 'turn.keept'"),
        (("--answers", "answers.yaml"), "'w' has no step 'alow'"),
        (("--report", "nowhere/report.md"), "--report nowhere/report.md"),
        (("--keep", "."), "the folder . is not empty"),
        (("--limit", "0"), "is not a number of at least 1"),
    ],
)
def test_what_cannot_be_proved_is_said_at_once(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    catalog = catalog_of(tmp_path, PANEL, "once")
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "answers.yaml").write_text("alow: {line: please}\n")
    command = ("prove", "w", "--catalog", str(catalog), "-i", "file={home}/lines", *words)
    answer = run_phaseline(*command, home=tmp_path / "home", cwd=folder)
    assert answer.code == 2 and told in answer.err and "cure: " in answer.err, answer


def test_nobody_acts_far_away_by_proving_something(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, "workflow: w\nsteps:\n  - {id: a, agent: ann, prompt: Go.}\n", "once")
    server = {"mcpServers": {"bank": {"url": "https://bank.example/mcp"}}}
    (catalog / "agents" / "ann" / "tools-config.json").write_text(json.dumps(server))
    answer = run_phaseline("prove", "w", "--catalog", str(catalog), home=tmp_path / "home")
    assert answer.code == 2 and "the MCP server 'bank' of ann" in answer.err, answer
    assert "--allow-effects" in answer.err


def test_a_workflow_that_fails_by_itself_is_not_proved(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, LONE, "once")
    answer = run_phaseline(
        *("prove", "w", "--catalog", str(catalog), "-i", "file={home}/no/such/folder/lines"),
        home=tmp_path / "home",
    )
    assert answer.code == 1 and "does not complete when nobody disturbs it" in answer.err, answer


def test_answers_are_taken_from_a_file(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, PANEL.replace("enum: [yes, please]", "minLength: 1"), "once")
    answers = tmp_path / "answers.yaml"
    answers.write_text("allow: {line: written by me}\n")
    kept = tmp_path / "kept"
    report = ("--answers", str(answers), "--only", "effect.performed", "--keep", str(kept))
    answer = prove(tmp_path, catalog, *report)
    assert answer.code == 0, answer
    assert [(b["name"], b["path"]) for b in answer.document["boundaries"]] == [("effect.performed", "write")]
