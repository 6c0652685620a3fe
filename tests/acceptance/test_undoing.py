"""Taking back what a run did: items, iterations, what no `undo` covers, and that the run is over after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import User
from tests.support.durable import Desk

ASK = '  - {id: ask, depends_on: LAST, approval: {ask: "Keep it?"}}\n'


@pytest.fixture
def desk(newcomer: User) -> Desk:
    """A person with an empty home and a catalog of steps that leave marks."""
    return Desk.make(newcomer)


def undo(file: Path, text: str = "undo {{ output.text }}") -> str:
    """The line of a step that marks its being taken back."""
    args = {"file": str(file), "text": text}
    return f"undo: {{skill: shared/tool, handler: mark, args: {json.dumps(args)}}}"


def inner(desk: Desk, text: str) -> None:
    """The workflow `inner` with the input `n`."""
    desk.write("inner", desk.step("mark", undo(desk.file), text=text), also="inputs: {n: {type: string}}\n")


def test_items_and_iterations_are_taken_back_one_by_one(desk: Desk) -> None:
    inner(desk, "inner {{ n }}")
    desk.write(
        "w",
        desk.step("each", "for_each: [a, b]", undo(desk.file), text="item {{ item }}"),
        desk.step(
            "again",
            "depends_on: each",
            'repeat: {until: "iteration >= 2", max: 3}',
            undo(desk.file),
            text="turn {{ iteration }}",
        ),
        "  - id: nested\n    depends_on: again\n    workflow: inner\n"
        '    for_each: [x, y]\n    max_concurrent: 1\n    args: {n: "{{ item }}"}\n',
        ASK.replace("LAST", "nested"),
    )
    assert desk.run("w").code == 3
    done = desk.marks
    assert sorted(done) == ["inner x", "inner y", "item a", "item b", "turn 1", "turn 2"]
    document = desk.json("cancel", "w", "--undo")
    assert all(u["done"] for u in document["undone"]) and document["not_taken_back"] == []
    undone = desk.marks[len(done) :]
    assert sorted(undone) == sorted(f"undo {mark}" for mark in done)
    assert [u for u in undone if "turn" in u] == ["undo turn 2", "undo turn 1"]
    assert "inner" in undone[0] and "inner" in undone[1] and "item" in undone[-1]
    answer = desk.run("w")
    assert answer.code == 2 and "the run w was taken back" in answer.err, answer
    assert "cancel w --undo" in desk.user.phaseline("show", "w").out
    assert len(desk.json("cancel", "w", "--undo")["undone"]) == len(undone)
    assert desk.marks == [*done, *undone]


def test_items_of_a_step_that_failed(desk: Desk) -> None:
    """Also that effects without an `undo`, and those that may have happened, are named."""
    desk.write(
        "w",
        desk.step("plain"),
        desk.step(
            "each",
            "depends_on: plain",
            f'for_each: [ok, "{desk.path("bad")}"]',
            "max_concurrent: 1",
            undo(desk.file),
            text="item {{ item }}",
        ).replace('"text": "item', '"unless": "{{ item }}", "text": "item'),
    )
    desk.path("bad").touch()
    assert desk.run("w").code == 1
    document = desk.json("cancel", "w", "--undo", code=1)
    assert [u["done"] for u in document["undone"]] == [True]
    assert desk.marks[-1] == "undo item ok"
    left = [(one["step"], one["state"], one["in_doubt"]) for one in document["not_taken_back"]]
    assert left[0] == ("plain", "done", False)
    assert left[1][0].startswith("each/") and left[1][1:] == ("unknown", True), left
    assert "plain: shared/tool.mark is not taken back" in desk.user.phaseline("cancel", "w", "--undo").out
