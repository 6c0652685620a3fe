"""What `prove` visits, what it finds, and how it tells: from notes and facts, without running anything."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blocks.boundaries import BOUNDARIES, arm, reach_boundary
from deployments.prover.answers import answer_for
from deployments.prover.cases import Choice, Ended, choose
from deployments.prover.child import Place
from deployments.prover.compare import Difference, Verdict, differences, judge, notes, together
from deployments.prover.facts import label_of, varying_texts
from deployments.prover.recording import (
    KILLED,
    Boundary,
    Record,
    Recorder,
    boundaries_of,
    open_effects,
    read_records,
)
from deployments.prover.report import document, markdown, print_proof
from deployments.prover.sweep import Proof, Sweep, Wanted, _Running
from deployments.terminal.display import Out

DOCS = Path(__file__).parents[2] / "docs" / "durability.md"
TURN = [("turn.sending", "a", ""), ("turn.answered", "a", "1:1"), ("turn.kept", "a", "1:1")]
EFFECT = [
    ("effect.intended", "b", "k"),
    ("effect.sending", "b", "k"),
    ("effect.performed", "b", "k"),
    ("effect.settled", "b", "k:done"),
]
DONE = [("step.running", "a", ""), *TURN, ("step.completed", "a", "")]
KILL = [(KILLED, "", "")]

Note = tuple[str, str, str]


def records(*processes: Iterable[Note]) -> tuple[Record, ...]:
    """What one process after the other noted."""
    return tuple(Record(n, *note) for n, notes_ in enumerate(processes) for note in notes_)


def effect(**change: Any) -> dict[str, Any]:
    """An effect that was performed once and recorded."""
    return {
        **{"step": "b", "tool": "t", "effect": "once", "key": "k", "idempotency_key": "i", "label": "l"},
        **{"state": "done", "sent": 1, "wait_id": "", "outcome": "fine"},
        **change,
    }


def facts(**change: Any) -> dict[str, Any]:
    """What a run with one output, one effect and one question left."""
    return {
        "state": "completed",
        "error": None,
        "outputs": {"o": {"sha256": "1" * 64, "shown": "one"}},
        "effects": [effect()],
        "waits": [wait()],
        "steps": {},
        **change,
    }


def wait(kind: str = "approval", subject: str = "") -> dict[str, Any]:
    """A question that was asked."""
    return {"step": "c", "kind": kind, "state": "answered", "subject": subject, "votes": 1}


def ended(*processes: Iterable[Note], **change: Any) -> Ended:
    """A case that came to its end."""
    made = Ended(Boundary("turn.kept", "a"), records(*processes), facts(), "completed", {"a": "completed"})
    return replace(made, killed=len(processes) > 1, **change)


BASE = ended([*DONE, *EFFECT])


def texts(case: Ended) -> list[str]:
    """What differs."""
    return [d.text for d in differences(BASE, case)]


# ---------------------------------------------------------------- what is noted


def test_nothing_is_told_unless_the_process_armed_itself(tmp_path: Path) -> None:
    reach_boundary("run.begun")
    recorder = Recorder(tmp_path / "records", 3)
    arm(recorder)
    try:
        reach_boundary("turn.kept", "a", "1:2")
        reach_boundary("turn.kept", "a", "1:3")
    finally:
        arm(lambda *_: None)
    noted = read_records(tmp_path / "records")
    assert noted == [Record(3, "turn.kept", "a", "1:2"), Record(3, "turn.kept", "a", "1:3")]
    assert boundaries_of(noted) == [Boundary("turn.kept", "a", 1), Boundary("turn.kept", "a", 2)]
    assert Recorder(tmp_path / "records", 4)._count["turn.kept", "a"] == 2


@pytest.mark.parametrize(
    ("noted", "truth"),
    [
        (EFFECT, {}),
        (EFFECT[:1], {}),
        (EFFECT[:2], {"k": "not_done"}),
        (EFFECT[:3], {"k": "done"}),
        ([*EFFECT[:2], ("effect.in_flight", "b", "k")], {"k": "unknown"}),
        ([*EFFECT[:3], ("effect.settled", "b", "k:unknown")], {"k": "done"}),
    ],
)
def test_what_is_true_of_an_effect_is_known_from_what_was_noted(
    noted: list[Note], truth: dict[str, str]
) -> None:
    assert open_effects(records(noted)) == truth


def test_who_is_asked_tells_the_truth_and_never_causes_a_second_call() -> None:
    assert answer_for("not_done", "fine") == {"outcome": "not_done"}
    assert answer_for("done", "fine") == {"outcome": "done", "result": "fine"}
    assert answer_for("unknown", "") == {"outcome": "done"}


def test_what_varies_by_nature_is_taken_out(tmp_path: Path) -> None:
    one = varying_texts(tmp_path / "case-1", [])
    other = varying_texts(tmp_path / "case-2", [])
    first = label_of("s", "t", {"file": str(tmp_path / "case-1" / "home")}, one)
    assert first == label_of("s", "t", {"file": str(tmp_path / "case-2" / "home")}, other)


# ---------------------------------------------------------------- what is visited


def test_every_boundary_is_visited_but_the_middle_of_many_equal_ones() -> None:
    many = [Boundary("step.running", f"m/{n}") for n in range(9)]
    once = [Boundary("run.begun"), *many, Boundary(KILLED), Boundary("run.finished")]
    choice = choose(once)
    assert [b.path for b in choice.visited] == ["", "m/0", "m/1", "m/2", "m/8", ""]
    assert {why for _, why in choice.left} == {"one of many equal ones (--all visits it)"}
    assert len(choose(once, every=True).visited) == 11 and not choose(once, every=True).left


@pytest.mark.parametrize(
    ("only", "found"),
    [
        ("turn.kept", ["a", "m/x"]),
        ("turn.*@m", ["m/x", "m/x"]),
        ("*@m/x", ["m/x", "m/x"]),
        ("nothing", []),
    ],
)
def test_only_names_boundaries_and_steps(only: str, found: list[str]) -> None:
    known = [Boundary(n, p) for p in ("a", "m/x") for n in ("turn.sending", "turn.kept")]
    assert [b.path for b in choose(known, only=only).visited] == found


def test_a_limit_is_spread_evenly() -> None:
    known = [Boundary("run.begun", nth=n) for n in range(1, 101)]
    assert [b.nth for b in choose(known, every=True, limit=3).visited] == [1, 50, 100]
    assert [b.nth for b in choose(known, every=True, limit=1).visited] == [1]


# ---------------------------------------------------------------- what is found


@pytest.mark.parametrize("cut", range(len(DONE) + len(EFFECT)))
def test_a_run_that_goes_on_where_it_was_cut_off_does_not_differ(cut: int) -> None:
    whole = [*DONE, *EFFECT]
    before, after = whole[: cut + 1], whole[cut + 1 :]
    again = {"turn.sending": TURN[:1], "turn.answered": TURN[:2]}.get(before[-1][0], [])
    asked = before[-1][0] in ("effect.sending", "effect.performed")
    if asked:
        after = [("effect.settled", "b", "k:not_done"), *EFFECT[1:]] if cut == len(DONE) + 1 else after
    case = ended([*before, *KILL], [*again, *after])
    if asked:
        sent = 2 if cut == len(DONE) + 1 else 1
        more = facts(effects=[effect(sent=sent)], waits=[wait(), wait("unknown", "k")])
        case = replace(case, facts=more)
    assert texts(case) == []


def test_an_answer_in_flight_may_be_asked_for_again_and_is_told() -> None:
    case = ended([*DONE[:3], *KILL], [*TURN, DONE[-1], *EFFECT])
    assert texts(case) == [] and list(notes(case)) == ["1 request in flight"]


@pytest.mark.parametrize(
    ("again", "found"),
    [
        ([("turn.answered", "a", "1:1")], "1 answer of a paid again"),
        ([("turn.answered", "a", "2:1")], "1 answer of a paid again"),
    ],
)
def test_an_answer_that_was_kept_is_not_paid_again(again: list[Note], found: str) -> None:
    case = ended([*DONE[:4], *KILL], [*again, DONE[-1], *EFFECT])
    assert texts(case) == [found]


def test_a_finished_step_does_not_work_again() -> None:
    case = ended([*DONE, *KILL], [("step.running", "a", ""), ("step.completed", "a", ""), *EFFECT])
    assert texts(case) == ["a was finished and worked again"]


def test_an_effect_that_may_happen_once_is_not_sent_again_unasked() -> None:
    again = [("effect.sending", "b", "k"), *EFFECT[2:]]
    case = ended([*DONE, *EFFECT[:3], *KILL], again, facts=facts(effects=[effect(sent=2)]))
    assert texts(case) == [
        "t in b was performed twice",
        "t in b was sent again, and nobody was asked whether it had happened",
    ]
    once = effect(effect="idempotent", sent=2)
    case = replace(case, facts=facts(effects=[once]))
    assert texts(case) == [] and list(notes(case)) == ["1 idempotent call made again with the same key"]


def test_no_effect_is_sent_again_after_its_outcome_was_recorded() -> None:
    twice = effect(effect="idempotent", sent=2)
    case = ended([*DONE, *EFFECT, *KILL], EFFECT[1:], facts=facts(effects=[twice]))
    assert texts(case) == ["t in b was sent again after its outcome was recorded"]


def test_an_effect_is_neither_lost_nor_made_under_another_name() -> None:
    assert texts(ended(DONE, [])) == ["t in b was never performed"]
    two = facts(effects=[effect(), effect(key="other", label="x")])
    assert texts(ended([*DONE, *EFFECT], [], facts=two)) == ["b made 2 calls of t, not 1"]


def test_people_are_asked_once() -> None:
    case = ended([*DONE, *EFFECT], [], facts=facts(waits=[wait(), wait()]))
    assert texts(case) == ["c asked twice (approval), not once"]
    assert texts(replace(case, facts=facts(waits=[]))) == ["c asked never (approval), not once"]


def test_status_steps_and_outputs_are_those_of_the_undisturbed_run() -> None:
    other = facts(outputs={"o": {"sha256": "2" * 64, "shown": "two"}, "p": {"sha256": "3", "shown": ""}})
    case = ended([*DONE, *EFFECT], [], facts=other, status="failed", error="oh", steps={"a": "failed"})
    assert texts(case) == [
        "the run ended as failed, not completed: oh",
        "the step a is failed, not completed",
        "the output o differs: 'two', not 'one'",
        "the output p is new",
    ]
    assert texts(replace(case, trouble="it hangs")) == ["it hangs"]


def test_what_varies_by_itself_is_no_difference() -> None:
    other = facts(outputs={"o": {"sha256": "2" * 64, "shown": "two"}})
    case = ended([*DONE, *EFFECT], [], facts=other)
    assert not judge(BASE, case, Boundary("turn.kept", "a"), 1.0, frozenset()).ok
    assert judge(BASE, case, Boundary("turn.kept", "a"), 1.0, frozenset({"output o"})).ok
    unkilled = replace(case, killed=False)
    assert judge(BASE, unkilled, Boundary("turn.kept", "a"), 1.0, frozenset()).result == "not reached"


# ---------------------------------------------------------------- what is told


def proof(*verdicts: Verdict) -> Proof:
    """What a sweep of these verdicts found."""
    left = choose([v.boundary for v in verdicts] + [Boundary("run.begun")], only="turn.*")
    return Proof(verdicts, left, ("output x",), BASE, 61.0)


def verdict(*found: str, reached_: bool = True) -> Verdict:
    """A verdict on one boundary, with these differences."""
    case = ended([*DONE, *EFFECT], [])
    made = judge(
        BASE, replace(case, trouble="; ".join(found)), Boundary("turn.kept", "a|b"), 1.5, frozenset()
    )
    return made if reached_ else replace(made, reached=False)


def test_the_report_tells_what_differs_and_what_was_not_visited() -> None:
    text = markdown(proof(verdict("it hangs")), "w", "phaseline prove w")
    assert "1 boundaries visited in 61 s: 1 differ" in text
    assert "| 1 | `turn.kept` | a\\|b |" in text and "**differs: it hangs**" in text
    assert "- not asked for (--only): 1 (run.begun)" in text
    assert "- output x: differs between two undisturbed runs" in text and "A power cut" in text


def test_the_document_is_whole_and_the_table_short() -> None:
    found = proof(verdict(), verdict("it hangs"))
    told_ = json.loads(json.dumps(document(found, "w")))
    assert told_["ok"] is False and told_["cases"] == 2 and told_["not_compared"] == ["output x"]
    assert [b["result"] for b in told_["boundaries"]] == ["ok", "differs"]
    assert told_["not_visited"] == [
        {"name": "run.begun", "path": "", "nth": 1, "reason": "not asked for (--only)"}
    ]
    screen = io.StringIO()
    print_proof(found, Out(False, screen, io.StringIO()))
    assert "turn.kept        2   1  it hangs" in screen.getvalue()
    assert document(proof(verdict()), "w")["ok"] is True


def test_what_was_not_reached_says_nothing() -> None:
    found = proof(verdict(), verdict(reached_=False))
    assert found.ok and document(found, "w")["not_visited"][0]["reason"] == "the killed run took another way"


def test_a_proof_in_which_nothing_was_reached_proves_nothing() -> None:
    found = proof(verdict(reached_=False), verdict(reached_=False))
    told_ = document(found, "w")
    assert not found.ok and told_["ok"] is False
    assert "none of the 2 boundaries was reached again" in told_["error"]["message"]
    screen = io.StringIO()
    print_proof(found, Out(False, screen, io.StringIO()))
    assert "turn.kept        0   0  not reached" in screen.getvalue() and "cure: " in screen.getvalue()
    assert document(proof(verdict()), "w")["error"] is None


# ---------------------------------------------------------------- tried more than once


def tried(*found: str, reached_: bool = True) -> Verdict:
    """One try of a boundary."""
    boundary = Boundary("turn.kept", "a")
    return Verdict(boundary, tuple(Difference("t", text) for text in found), ("noted",), 1.0, reached_)


def test_what_differed_in_any_try_differs() -> None:
    assert together([tried("x")]) == tried("x")
    assert together([tried(), tried()]) == tried()
    assert not together([tried(reached_=False), tried(reached_=False)]).reached
    made = together([tried("x"), tried(), tried("x", "y")])
    assert [d.text for d in made.differences] == ["x", "y"]
    assert made.notes == ("noted", "differed in 2 of 3 tries")
    assert together([tried("x"), tried(reached_=False)]).differences
    assert "**differs: x; noted; differed in 1 of 2 tries**" in markdown(
        proof(together([tried("x"), tried()])), "w", "w"
    )


class Played(Sweep):
    """A sweep of cases that ended already, in that order."""

    def prepared(self, *ends: Ended) -> Played:
        """What the tries come to."""
        self.ends = list(ends)
        return self

    def _begin(self, boundary: Boundary | None) -> None:
        place = Place(self.root / f"{len(self.ends)}")
        place.folder.mkdir()
        self._running.append(_Running(boundary, place, 0, 0.0))

    def _ends(self) -> Iterator[tuple[_Running, Ended]]:
        yield self._running.pop(), self.ends.pop(0)


def test_a_race_that_shows_in_one_try_is_not_thrown_away(tmp_path: Path) -> None:
    """Another branch had just sent something at the kill, so that the case is tried again."""
    boundary = Boundary("turn.kept", "a")
    unsure = [*DONE, *EFFECT, ("effect.in_flight", "b", "k"), *KILL]
    other = facts(outputs={"o": {"sha256": "2" * 64, "shown": "two"}})
    wrong, right = (ended(unsure, [], facts=f, status="completed") for f in (other, facts()))
    told_: list[Verdict] = []
    wanted = Wanted(keep=True)
    sweep = Played(None, tmp_path, wanted, lambda choice: None, told_.append, 1)  # type: ignore[arg-type]
    found = sweep.prepared(wrong, right)._visit_boundaries(BASE, Choice((boundary,)), frozenset())
    assert told_ == [found[boundary]] and sweep.ends == []
    assert [d.text for d in found[boundary].differences] == ["the output o differs: 'two', not 'one'"]
    assert found[boundary].notes[-1] == "differed in 1 of 2 tries"
    assert sweep._folders == {boundary: tmp_path / "2"} and (tmp_path / "2").is_dir()


def test_the_documentation_names_every_boundary() -> None:
    text = DOCS.read_text("utf-8")
    assert [name for name in BOUNDARIES if f"`{name}`" not in text] == []
