"""Inputs on the command line: every wrong one is told, each with its cure, before anything starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from blocks.settings import Settings
from blocks.storage.artifacts import ArtifactStore
from deployments.runs.earlier_inputs import require_inputs
from deployments.runs.stored_inputs import GivenFile
from tests.support.catalogs import compiled, make_catalog
from tests.support.given import read_inputs
from workflows.core.compile.inputs import bind_inputs
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan

WORKFLOW = """workflow: w
inputs:
  brief: {type: file}
  words: {type: integer, default: 3}
  tone: {type: string, choices: [plain, formal], default: plain}
  note: {type: string}
steps:
  - id: a
    agent: ann
    inputs: [brief]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return compiled(make_catalog(tmp_path / "catalog", w=WORKFLOW))


def refused(plan: Plan, *pairs: str, file: str | None = None, whole: bool = False) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read_inputs(plan, pairs, file, whole=whole)
    return caught.value


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("text", "message", "cure"),
    [
        ("a,b\n1,2\n1,2,3\n", "t.csv:3: it has 3 cells, and the header names 2 columns", "double quotes"),
        ('a,b\n1,"2\n', "t.csv:2: a quote is never closed", "close it"),
        (",\n1,2\n", "no header line", "name the columns"),
        ("", "no header line", "name the columns"),
    ],
)
def test_a_file_that_is_no_table(plan: Plan, tmp_path: Path, text: str, message: str, cure: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    fault = refused(plan, f"brief=@{file}")
    assert message in fault.message
    assert cure in fault.cure


def test_short_rows_are_noted(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1\n")
    given = read_inputs(plan, [f"brief=@{file}"], None)["brief"]
    assert isinstance(given, GivenFile)
    assert given.note == f"{file}: line 2 has fewer cells than the header; what is missing is taken as empty"


@pytest.mark.parametrize("text", ["", "  \n\t\n", "\ufeff\n"])
def test_a_document_that_says_nothing_is_refused(plan: Plan, tmp_path: Path, text: str) -> None:
    file = tmp_path / "brief.md"
    file.write_text(text, "utf-8")
    assert "is empty" in refused(plan, f"brief=@{file}").message
    assert "an empty text is no document" in refused(plan, f"brief={text.strip(chr(0xFEFF))}").cure
    with pytest.raises(UsageError, match="'brief' is no file"):
        bind_inputs(plan, {"brief": " ", "note": "n"})
    assert read_inputs(plan, [f"note=@{file}"], None)["note"].strip() == ""


@pytest.mark.parametrize("name", ["nope", "nope.pdf", "nope.md", "brief.md/nope.md"])
def test_that_a_file_is_missing_comes_before_what_its_name_ends_in(
    plan: Plan, tmp_path: Path, name: str
) -> None:
    (tmp_path / "brief.md").write_text("x")
    fault = refused(plan, f"brief=@{tmp_path / name}")
    assert f"there is no file {tmp_path / name}" in fault.message


def test_a_folder_is_told_as_one(plan: Plan, tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder" in refused(plan, f"brief=@{tmp_path}").message
    (tmp_path / "there.bin").write_bytes(b"x")
    assert "files of type '.bin' are not read" in refused(plan, f"brief=@{tmp_path / 'there.bin'}").message


# ---------------------------------------------------------------- all at once


def test_every_wrong_input_is_told_at_once(plan: Plan) -> None:
    fault = refused(plan, "words=many", "tone=loud", "nots=x", "brief=@nope.md", whole=True)
    assert fault.message.splitlines() == [
        "5 inputs cannot be used",
        "  the input 'words' is no integer: 'many'",
        "    cure: write a whole number",
        "  the input 'tone' may not be 'loud'",
        "    cure: known: formal, plain",
        "  the workflow 'w' has no input 'nots'",
        "    cure: did you mean 'note'?",
        "  the input 'brief': there is no file nope.md",
        "    cure: check the path",
        "  missing input: note",
        "    cure: add -i note=VALUE",
    ]


def test_a_lone_wrong_input_is_told_as_it_is(plan: Plan) -> None:
    fault = refused(plan, "words=many")
    assert (fault.message, fault.cure) == ("the input 'words' is no integer: 'many'", "write a whole number")


def test_a_server_tells_all_of_them_too(plan: Plan) -> None:
    with pytest.raises(UsageError) as caught:
        bind_inputs(plan, {"words": "many", "tone": "loud"})
    assert caught.value.message.count("cure:") == 3
    bound: dict[str, Any] = {"brief": "b", "words": 3, "tone": "plain", "note": "n"}
    assert bind_inputs(plan, {"brief": "b", "note": "n"}) == bound


# ---------------------------------------------------------------- of a run that is continued


def test_a_run_that_is_not_there_has_no_inputs(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.read({"PHASELINE_HOME": str(tmp_path / "home")})
    with pytest.raises(UsageError) as caught:
        require_inputs(plan, ["note"], None, "new", tenant="default", settings=settings, environ={})
    assert caught.value.message == "missing input: brief (no run 'new' is there that could have it)"
    assert caught.value.cure == "add -i brief=@FILE"
    require_inputs(plan, ["note", "brief"], None, "new", tenant="default", settings=settings, environ={})


def test_what_an_earlier_start_was_given_is_not_missing(plan: Plan, tmp_path: Path) -> None:
    settings = Settings.read({"PHASELINE_HOME": str(tmp_path / "home")})
    kept = {"brief": {"value": "b"}}
    with ArtifactStore.open(settings.storage, environ={}) as store:
        asyncio.run(store.write_manifest("default", "old", {"inputs": kept}))
    require_inputs(plan, ["note"], None, "old", tenant="default", settings=settings, environ={})
    require_inputs(plan, ["note"], kept, "r", tenant="default", settings=settings, environ={})
    for recorded, run_id in (({}, "r"), (kept, "r"), (None, "old")):
        with pytest.raises(UsageError, match="missing input: ") as caught:
            require_inputs(plan, [], recorded, run_id, tenant="default", settings=settings, environ={})
        assert "no run" not in caught.value.message
