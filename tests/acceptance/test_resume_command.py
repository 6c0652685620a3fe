"""`phaseline resume`: what is reused, what runs again, what is asked before a changed workflow goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.command import User
from tests.support.durable import Desk, statuses


@pytest.fixture
def desk(newcomer: User) -> Desk:
    """A person with an empty home and a catalog of steps that leave marks."""
    return Desk.make(newcomer)


def actions(document: Any) -> dict[str, tuple[str, str]]:
    """Action and reason by step."""
    return {s["id"]: (s["action"], s["reason"]) for s in document["preview"]}


def reused(document: Any) -> set[str]:
    """Ids of the steps that were reused."""
    return {s["id"] for s in document["steps"] if s["reused"]}


def chain(desk: Desk, text: str = "b") -> list[str]:
    """a -> b -> c (which can be kept from succeeding), and d beside them."""
    return [
        desk.step("a"),
        desk.step("b", "depends_on: a", text=text + " after {{ a.text }}"),
        desk.step("c", "depends_on: b", text="c after {{ b.text }}", unless="in-the-way"),
        desk.step("d"),
    ]


def test_after_a_failure_and_from_a_step_on(desk: Desk) -> None:
    desk.write("w", *chain(desk), also="budget: {tokens: 1000, time: 1h}\n")
    desk.path("in-the-way").touch()
    assert desk.run("w").code == 1
    desk.path("in-the-way").unlink()
    shown = desk.json("resume", "w", "--plan")
    assert (shown["drift"], shown["status"]) == (False, "failed")
    assert {k: v[0] for k, v in actions(shown).items()} == {
        "a": "reuse",
        "b": "reuse",
        "c": "rerun",
        "d": "reuse",
    }
    assert "it failed: mark raised ValueError" in actions(shown)["c"][1]
    for words, expected in (
        (("--raise-budget", "tokens=10"), "would not raise"),
        (("--raise-budget", "time=30m"), "is 1h already"),
        (("--raise-budget", "turns=5"), "no limit of turns"),
        (("--raise-budget", "5"), "raises no budget"),
        (("--from", "cc"), "did you mean 'c'"),
    ):
        answer = desk.user.phaseline("resume", "w", *words)
        assert answer.code == 2 and expected in answer.err, answer
    document = desk.json("resume", "w", "--raise-budget", "tokens=2000,time=2h")
    assert statuses(document)["c"] == "completed" and reused(document) == {"a", "b", "d"}
    (budget,) = desk.json("show", "w", "--cost")["budgets"]
    assert budget["limits"]["tokens"] == 2000
    assert "is completed; nothing is left" in desk.user.phaseline("resume", "w").out
    assert sorted(desk.marks) == ["a", "b after a", "c after b after a", "c after b after a", "d"]
    shown = desk.json("resume", "w", "--from", "b", "--plan")
    assert {k for k, v in actions(shown).items() if v[0] == "rerun"} == {"b", "c"}
    document = desk.json("resume", "w", "--from", "b")
    assert reused(document) == {"a", "d"} and document["status"] == "completed"
    answer = desk.user.phaseline("resume", "ww")
    assert answer.code == 2 and "did you mean 'w'" in answer.err


def test_a_changed_workflow_asks_first(desk: Desk) -> None:
    desk.write("w", *chain(desk))
    desk.path("in-the-way").touch()
    assert desk.run("w").code == 1
    desk.path("in-the-way").unlink()
    marks = desk.marks
    desk.write("w", *chain(desk, "new b")[:3], desk.step("e"))
    answer = desk.user.phaseline("resume", "w")
    assert answer.code == 2 and "changed since the run w began" in answer.err
    assert "  rerun     b  its definition changed" in answer.out
    refused = desk.json("resume", "w", code=2)
    assert (refused["status"], refused["drift"]) == ("invalid", True)
    assert "--use stored" in refused["error"]["cure"]
    assert {k: v[0] for k, v in actions(refused).items()} == {
        "a": "reuse",
        "b": "rerun",
        "c": "rerun",
        "e": "new",
        "d": "orphaned",
    }
    assert actions(desk.json("plan", "--catalog", str(desk.catalog), "w", "--run-id", "w")) == actions(
        refused
    )
    assert desk.marks == marks
    document = desk.json("resume", "w", "--use", "stored")
    assert set(statuses(document)) == {"a", "b", "c", "d"} and reused(document) == {"a", "b", "d"}
    assert desk.marks[len(marks) :] == ["c after b after a"]
    document = desk.json("resume", "w", "--use", "new")
    assert reused(document) == {"a"}
    assert set(desk.marks[len(marks) + 1 :]) == {"new b after a", "c after new b after a", "e"}
    assert not desk.json("resume", "w", "--plan")["drift"]
