"""Waits, votes and signals of the ledger, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import text

from blocks.ledger import (
    Fenced,
    Lease,
    Ledger,
    LedgerError,
    NotAsked,
    OtherProposal,
    RunStart,
    StepRecord,
    UnfitAnswer,
    UnfitForm,
    UnfitWait,
    UnknownWait,
    VotedAlready,
    WaitClosed,
    WaitOverdue,
    WaitRow,
    WaitStart,
)
from blocks.ledger.database.access import run_order
from blocks.ledger.waits.changes import LENGTH
from blocks.ledger.waits.documents import wait_document
from blocks.ledger.waits.signals import StoreSignal, signal_values
from blocks.ledger.waits.votes import make_ballot
from workflows.core.errors import UsageError

HOUR = 3_600_000_000
FAR = 4_000_000_000_000_000  # the year 2096
FORM = {
    "type": "object",
    "properties": {"amount": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["amount"],
    "additionalProperties": False,
}


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    return begin(ledger)


def begin(ledger: Ledger, run_id: str = "r-1", **fields: Any) -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w", **fields)))


def a_wait(**fields: Any) -> WaitStart:
    key = fields.get("wait_key", "k")
    given = {"run_id": "r-1", "step_path": f"s-{key}", "wait_key": key, "kind": "approval", "ask": "Go on?"}
    return WaitStart(**{**given, **fields})


def ask(ledger: Ledger, lease: Lease, **fields: Any) -> WaitRow:
    return asyncio.run(ledger.waits.open(lease, a_wait(**{"run_id": lease.run_id, **fields})))


def approve(ledger: Ledger, row: WaitRow, voter: str = "ann", data: Any = None, **more: Any) -> WaitRow:
    return ledger.waits.vote(row.tenant, row.wait_id, voter, "approve", data, **more)


def reject(ledger: Ledger, row: WaitRow, voter: str = "ann", data: Any = None, **more: Any) -> WaitRow:
    return ledger.waits.vote(row.tenant, row.wait_id, voter, "reject", data, **more)


def holds_up(ledger: Ledger, lease: Lease, *rows: WaitRow, done: Sequence[WaitRow] = ()) -> None:
    """Their steps wait, and those of `done` are completed."""
    for state, those in (("waiting", rows), ("completed", done)):
        for row in those:
            record = StepRecord(step_path=row.step_path, state=state)  # type: ignore[arg-type]
            asyncio.run(ledger.record_step(lease, record))


def finish(ledger: Ledger, lease: Lease, state: Any = "waiting", *, keep_waits: bool = False) -> None:
    asyncio.run(ledger.finish_run(lease, state, keep_waits=keep_waits))


def shift(ledger: Ledger, row: WaitRow, back: int) -> None:
    """The wait as if it had been opened that many microseconds earlier."""
    moved = ", ".join(f"{name} = {name} - {back}" for name in ("created", "deadline", "remind_at"))

    def operation(connection: Any) -> None:
        connection.execute(text(f"UPDATE wait SET {moved} WHERE wait_id = '{row.wait_id}'"))

    ledger.access.write_blocking(operation, run_order(row.tenant, row.run_id))


def told(ledger: Ledger, run_id: str = "r-1") -> list[str]:
    return [event.name for event in ledger.events.of_run("default", run_id)]


def microseconds() -> int:
    return time.time_ns() // 1000


# --- asking ---


def test_a_wait_comes_back_as_it_was_asked(ledger: Ledger, lease: Lease) -> None:
    start = a_wait(
        kind="action",
        ask="付款？\x00",
        form=FORM,
        assignees=("ann", "bob"),
        quorum=2,
        deadline=FAR,
        on_timeout="escalate",
        escalate_to=("cho", "dee"),
        subject="abc",
        detail={"tool": "pay"},
        evidence=[{"uri": "file:///x"}],
    )
    row = asyncio.run(ledger.waits.open(lease, start))
    assert row.wait_id.startswith("w-") and len(row.wait_id) == 12
    assert row.ask == "付款？\ufffd"
    for name in ("kind", "form", "assignees", "quorum", "deadline", "escalate_to", "subject", "evidence"):
        assert getattr(row, name) == getattr(start, name), name
    assert (row.state, row.answer, row.decided_by, row.decided, row.version) == ("open", None, [], None, 0)
    assert ledger.waits.get_blocking("default", row.wait_id) == row
    assert ledger.waits.of_run_blocking("default", "r-1") == [row] == ledger.waits.list_open("default")
    assert asyncio.run(ledger.waits.get("default", row.wait_id)) == row
    assert asyncio.run(ledger.waits.of_run("default", "r-1")) == [row]
    assert ledger.waits.get_blocking("other", row.wait_id) is None
    assert told(ledger) == ["wait.opened"]


def test_asking_again_finds_the_same_wait_as_it_stands(ledger: Ledger, lease: Lease) -> None:
    first = ask(ledger, lease)
    assert ask(ledger, lease, ask="worded otherwise") == first
    answered = approve(ledger, first)
    assert ask(ledger, lease) == answered
    other = ask(ledger, lease, wait_key="another")
    assert other.wait_id != first.wait_id
    assert told(ledger) == ["wait.opened", "wait.voted", "wait.answered", "wait.opened"]


def test_a_changed_subject_needs_a_wait_of_its_own(ledger: Ledger, lease: Lease) -> None:
    ask(ledger, lease, kind="action", subject="digest-1")
    with pytest.raises(LedgerError, match="about another subject"):
        ask(ledger, lease, kind="action", subject="digest-2")


def test_only_the_holder_of_the_run_asks(ledger: Ledger, lease: Lease) -> None:
    finish(ledger, lease)
    with pytest.raises(Fenced):
        ask(ledger, lease)
    assert ledger.waits.of_run_blocking("default", "r-1") == []


def test_the_same_id_of_another_run_gives_a_longer_one(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease)

    def taken(connection: Any) -> None:
        connection.execute(text("UPDATE wait SET run_id = 'r-2'"))

    begin(ledger, "r-2")
    ledger.access.write_blocking(taken, "test")
    again = ask(ledger, lease)
    assert again.wait_id.startswith(row.wait_id) and len(again.wait_id) > len(row.wait_id)


def test_what_nobody_could_answer_is_refused(ledger: Ledger, lease: Lease) -> None:
    with pytest.raises(UnfitWait, match="can never be reached"):
        ask(ledger, lease, assignees=("ann",), quorum=2)
    with pytest.raises(UnfitForm, match="its `type` is not given"):
        ask(ledger, lease, form={"amount": {"type": "integer"}})
    assert ledger.waits.of_run_blocking("default", "r-1") == []


# --- asking something else ---


@pytest.mark.parametrize("kind", ["approval", "event"])
def test_a_changed_question_takes_the_place_of_the_older(ledger: Ledger, lease: Lease, kind: str) -> None:
    asked = {"kind": kind, "step_path": "s", "event_type": "paid" if kind == "event" else ""}
    beside = ask(ledger, lease, wait_key="beside", **{**asked, "step_path": "t"})
    older = ask(ledger, lease, wait_key="old", **asked)
    newer = ask(ledger, lease, wait_key="new", **asked)
    assert {r.wait_id for r in ledger.waits.list_open("default")} == {beside.wait_id, newer.wait_id}
    assert told(ledger)[-2:] == ["wait.opened", "wait.cancelled"]
    with pytest.raises(WaitClosed, match="was withdrawn"):
        approve(ledger, older)
    again = ask(ledger, lease, wait_key="old", **asked)  # the definition was changed back
    assert {r.wait_id for r in ledger.waits.list_open("default")} == {beside.wait_id, again.wait_id}
    assert again.wait_id == older.wait_id


def test_an_agent_asks_several_things_at_a_time(ledger: Ledger, lease: Lease) -> None:
    for key in ("1", "2"):
        ask(ledger, lease, kind="ask_person", step_path="s", wait_key=key)
        ask(ledger, lease, kind="action", step_path="s", wait_key=f"action-{key}")
    assert len(ledger.waits.list_open("default")) == 4


def test_an_answered_question_stays_when_another_is_asked(ledger: Ledger, lease: Lease) -> None:
    done = approve(ledger, ask(ledger, lease, step_path="s", wait_key="old"))
    ask(ledger, lease, step_path="s", wait_key="new")
    assert ledger.waits.get_blocking("default", done.wait_id) == done


def test_changed_people_reach_an_open_question(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob"), quorum=2)
    half = approve(ledger, row, "ann")
    asked = {
        "assignees": ("bob", "cho"),
        "on_timeout": "escalate",
        "escalate_to": ("dee", "eve"),
        "quorum": 2,
    }
    changed = ask(ledger, lease, **asked)
    for name, value in asked.items():
        assert getattr(changed, name) == value, name
    assert changed.decided_by == half.decided_by
    assert ask(ledger, lease, **asked) == changed
    assert told(ledger) == ["wait.opened", "wait.voted", "wait.changed"]
    with pytest.raises(NotAsked):
        approve(ledger, row, "mal")
    assert approve(ledger, row, "cho").state == "open", "ann is not asked any more"
    assert approve(ledger, row, "bob").state == "answered"
    assert ask(ledger, lease, assignees=("zoe",)).assignees == ("bob", "cho"), "it is decided"


def test_a_smaller_quorum_may_be_reached_already(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, quorum=2, form=FORM)
    approve(ledger, row, "ann", {"amount": 1})
    answered = ask(ledger, lease, quorum=1, form=FORM)
    assert answered.state == "answered" and answered.answer is not None
    assert answered.answer["data"] == {"amount": 1}
    assert told(ledger)[-2:] == ["wait.changed", "wait.answered"]


def test_people_who_cannot_reach_the_quorum_any_more_have_rejected(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob"), quorum=1)
    reject(ledger, row, "ann")
    ended = ask(ledger, lease, assignees=("ann",), quorum=1)
    assert ended.state == "rejected" and ended.answer is not None and ended.answer["data"] is None


def test_a_changed_deadline_counts_from_when_it_was_asked(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, deadline=FAR, detail={LENGTH: 7200.0})
    same = ask(ledger, lease, deadline=FAR + HOUR, detail={LENGTH: 7200.0})
    assert same == row, "a deadline of the same length is the one it has"
    shorter = ask(ledger, lease, deadline=FAR, detail={LENGTH: 3600.0})
    assert (shorter.deadline, shorter.detail) == (row.created + HOUR, {LENGTH: 3600.0})
    assert shorter.remind_at == row.created + HOUR // 2
    endless = ask(ledger, lease)
    assert (endless.deadline, endless.detail) == (None, {})


def test_going_on_does_not_take_a_question_back_from_whom_it_was_escalated_to(
    ledger: Ledger, lease: Lease
) -> None:
    given = {"assignees": ("ann",), "on_timeout": "escalate", "escalate_to": ("bob",)}
    row = ask(ledger, lease, deadline=microseconds() + HOUR, detail={LENGTH: 3600}, **given)
    shift(ledger, row, 2 * HOUR)
    (escalated,) = ledger.waits.expire_due("default")
    assert ask(ledger, lease, deadline=FAR, detail={LENGTH: 3600}, **given) == escalated
    changed = ask(ledger, lease, detail={LENGTH: 3600}, **{**given, "escalate_to": ("cho",)})
    assert (changed.assignees, changed.on_timeout) == (("cho",), "fail")
    assert escalated.deadline is not None and changed.deadline is not None
    assert changed.deadline > escalated.deadline, "who is asked newly has the whole time"


def test_votes_of_people_who_are_not_asked_any_more_do_not_count(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("mal", "ann"), quorum=2, form=FORM)
    approve(ledger, row, "mal", {"amount": 5})
    changed = ask(ledger, lease, assignees=("ann", "bob"), quorum=1, form=FORM)
    assert changed.state == "open", "nobody who is asked has said anything"
    assert [vote.get("counts", True) for vote in wait_document(changed)["votes"]] == [False]
    with pytest.raises(VotedAlready):
        approve(ledger, row, "mal", {"amount": 5})
    answered = approve(ledger, row, "ann", {"amount": 7})  # nor is what mal approved a proposal
    assert answered.state == "answered" and answered.answer is not None
    assert [vote["voter"] for vote in answered.answer["votes"]] == ["ann"]
    assert [vote["voter"] for vote in answered.decided_by] == ["mal", "ann"]


@pytest.mark.parametrize("named", [("mal", "ann"), ()])
def test_votes_count_again_when_their_people_are_named_again(
    ledger: Ledger, lease: Lease, named: tuple[str, ...]
) -> None:
    row = ask(ledger, lease, assignees=("mal", "ann"), quorum=2)
    approve(ledger, row, "mal")
    assert ask(ledger, lease, assignees=("ann", "bob"), quorum=2).state == "open"
    assert ask(ledger, lease, assignees=named, quorum=1).state == "answered"


@pytest.mark.parametrize(("named", "state"), [(("mal", "ann"), "rejected"), ((), "open")])
def test_people_who_approved_different_things_have_not_agreed(
    ledger: Ledger, lease: Lease, named: tuple[str, ...], state: str
) -> None:
    row = ask(ledger, lease, assignees=("mal", "ann"), quorum=2, form=FORM)
    approve(ledger, row, "mal", {"amount": 5})
    ask(ledger, lease, assignees=("ann", "bob"), quorum=2, form=FORM)
    approve(ledger, row, "ann", {"amount": 7})
    assert ask(ledger, lease, assignees=named, quorum=2, form=FORM).state == state


def test_after_an_escalation_those_asked_before_count_while_their_definition_names_them(
    ledger: Ledger, lease: Lease
) -> None:
    given = {"assignees": ("ann", "mal"), "on_timeout": "escalate", "escalate_to": ("bob", "cho")}
    row = ask(ledger, lease, quorum=2, deadline=microseconds() + HOUR, detail={LENGTH: 3600}, **given)
    approve(ledger, row, "mal")
    shift(ledger, row, 2 * HOUR)
    ledger.waits.expire_due("default")
    assert ask(ledger, lease, quorum=2, detail={LENGTH: 3600}, **given).state == "open"
    changed = ask(ledger, lease, quorum=2, detail={LENGTH: 3600}, **{**given, "assignees": ("ann", "eve")})
    assert changed.assignees == ("bob", "cho")
    assert approve(ledger, row, "cho").state == "open", "the vote of mal does not count any more"
    assert ask(ledger, lease, quorum=2, detail={LENGTH: 3600}, **given).state == "answered"


@pytest.mark.parametrize(("seconds", "people"), [(3600, ("ann",)), (1800, ("ann",)), (7200, ("zoe",))])
def test_a_definition_that_does_not_escalate_any_more_changes_all_at_once(
    ledger: Ledger, lease: Lease, seconds: int, people: tuple[str, ...]
) -> None:
    given = {"assignees": ("ann",), "on_timeout": "escalate", "escalate_to": ("bob",)}
    row = ask(ledger, lease, deadline=microseconds() + HOUR, detail={LENGTH: 3600}, **given)
    shift(ledger, row, 3 * HOUR)
    ledger.waits.expire_due("default")
    before = microseconds()
    asked = {"assignees": people, "on_timeout": "reject", "detail": {LENGTH: seconds}}
    changed = ask(ledger, lease, **asked)
    assert (changed.assignees, changed.escalate_to, changed.on_timeout) == (people, (), "reject")
    assert changed.deadline is not None
    assert abs(changed.deadline - before - seconds * 1_000_000) < HOUR // 10, "from now: it would have passed"
    assert ask(ledger, lease, **asked) == changed
    assert ledger.waits.expire_due("default") == []


def test_a_deadline_counts_from_now_for_people_who_are_asked_newly(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob"), deadline=microseconds() + HOUR, detail={LENGTH: 3600})
    shift(ledger, row, HOUR // 2)
    fewer = ask(ledger, lease, assignees=("ann",), detail={LENGTH: 3600})
    assert fewer.deadline == (row.deadline or 0) - HOUR // 2, "nobody is asked newly"
    given = {"on_timeout": "escalate", "escalate_to": ("dee",), "detail": {LENGTH: 3600}}
    others = ask(ledger, lease, assignees=("ann", "cho"), **given)
    assert others.deadline is not None and others.deadline > microseconds() + HOUR * 0.9
    longer = ask(ledger, lease, assignees=("ann", "cho"), **{**given, "detail": {LENGTH: 7200}})
    assert longer.deadline == others.deadline + HOUR, "it counts from when these were asked"
    assert ask(ledger, lease, assignees=("ann", "cho"), **{**given, "detail": {LENGTH: 7200}}) == longer
    shift(ledger, row, 4 * HOUR)
    (escalated,) = ledger.waits.expire_due("default")
    assert escalated.deadline is not None
    assert abs(escalated.deadline - microseconds() - 2 * HOUR) < HOUR // 10, "for as long again"


def test_a_shorter_deadline_has_not_passed_by_the_change_itself(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, deadline=microseconds() + 5 * HOUR, detail={LENGTH: 18_000})
    shift(ledger, row, 2 * HOUR)
    shorter = ask(ledger, lease, detail={LENGTH: 3600})
    assert shorter.deadline is not None and shorter.deadline > microseconds() + HOUR * 0.9
    assert ledger.waits.expire_due("default") == []


# --- answering ---


def test_one_approval_answers_by_default(ledger: Ledger, lease: Lease) -> None:
    row = approve(ledger, ask(ledger, lease, form=FORM), data={"amount": 3}, note="fine")
    (vote,) = row.decided_by
    assert row.state == "answered" and row.decided == vote["at"]
    assert {**vote, "at": 0} == {
        "voter": "ann",
        "at": 0,
        "decision": "approve",
        "note": "fine",
        "data": {"amount": 3},
    }
    assert row.answer == {"approved": True, "data": {"amount": 3}, "votes": [vote]}
    assert ledger.waits.get_blocking("default", row.wait_id) == row
    assert ledger.waits.list_open("default") == []
    assert told(ledger) == ["wait.opened", "wait.voted", "wait.answered"]


def test_a_quorum_counts_different_people(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob", "cho"), quorum=2, form=FORM)
    half = approve(ledger, row, "ann", {"amount": 1})
    assert half.state == "open" and half.answer is None and len(half.decided_by) == 1
    with pytest.raises(VotedAlready, match="ann has answered"):
        approve(ledger, row, "ann", {"amount": 2})
    whole = approve(ledger, row, "cho", {"amount": 1})
    assert whole.state == "answered" and whole.answer is not None
    assert whole.answer["data"] == {"amount": 1}
    assert [vote["voter"] for vote in whole.answer["votes"]] == ["ann", "cho"]


def test_one_account_is_one_voter_under_every_name(ledger: Ledger, lease: Lease) -> None:
    """A user of no name goes by the number; the name that comes later, or changes, is the same person."""
    row = ask(ledger, lease, quorum=3, form=FORM)
    approve(ledger, row, "1000", {"amount": 1}, account="1000")
    for voter, account in (("ann", "1000"), ("1000", "1000"), ("1000", ""), ("1000", "7")):
        with pytest.raises(VotedAlready):
            approve(ledger, row, voter, {"amount": 1}, account=account)
    approve(ledger, row, "bob", {"amount": 1}, account="1001")
    for voter, account in (("bob", "1002"), ("robert", "1001"), ("1001", "1001")):
        with pytest.raises(VotedAlready):
            approve(ledger, row, voter, {"amount": 1}, account=account)
    whole = approve(ledger, row, "cho", {"amount": 1}, account="1003")
    assert whole.state == "answered"
    assert [vote["account"] for vote in whole.decided_by] == ["1000", "1001", "1003"]


def test_votes_of_before_accounts_were_kept_count_by_name(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, quorum=2, form=FORM)
    approve(ledger, row, "ann", {"amount": 1})
    with pytest.raises(VotedAlready):
        approve(ledger, row, "ann", {"amount": 1}, account="1000")
    assert approve(ledger, row, "bob", {"amount": 1}, account="1001").state == "answered"


def test_a_quorum_approves_one_and_the_same(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob", "cho"), quorum=2, form=FORM)
    half = approve(ledger, row, "ann", {"amount": 1, "note": "a"})
    for shown in (row, half):
        with pytest.raises(OtherProposal) as caught:
            approve(ledger, shown, "bob", {"amount": 2})
        assert 'others approved {"amount": 1, "note": "a"} (ann was the first)' in caught.value.message
        assert "approve the same, or reject" in caught.value.cure
    assert ledger.waits.get_blocking("default", row.wait_id) == half
    whole = approve(ledger, row, "cho")  # without data: what ann approved
    assert whole.state == "answered" and whole.answer is not None
    assert whole.answer["data"] == {"amount": 1, "note": "a"}
    assert [vote["data"] for vote in whole.decided_by] == [{"amount": 1, "note": "a"}] * 2


def test_the_same_in_another_order_is_the_same(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, quorum=2, form=FORM)
    approve(ledger, row, "ann", {"amount": 1, "note": "a"})
    assert approve(ledger, row, "bob", {"note": "a", "amount": 1}).state == "answered"


def test_an_approval_that_did_not_see_another_does_not_count_beside_it(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, quorum=2, form=FORM)
    late = make_ballot(row, "bob", "approve", {"amount": 2}, "", False, row.created)
    half = approve(ledger, row, "ann", {"amount": 1})
    with pytest.raises(OtherProposal):
        ledger.access.write_blocking(late, run_order("default", "r-1"))
    assert ledger.waits.get_blocking("default", row.wait_id) == half


def test_a_rejection_decides_when_too_few_are_left(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob", "cho"), quorum=2, form=FORM)
    assert reject(ledger, row, "ann").state == "open"
    assert approve(ledger, row, "bob", {"amount": 1}).state == "open"
    ended = reject(ledger, row, "cho", note="too much")
    assert ended.state == "rejected" and ended.answer is not None
    assert ended.answer["approved"] is False and ended.answer["data"] is None
    assert told(ledger)[-2:] == ["wait.voted", "wait.rejected"]


def test_anybodys_first_rejection_decides_where_nobody_is_named(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, quorum=3)
    approve(ledger, row, "ann")
    assert reject(ledger, row, "bob").state == "rejected"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "amount is missing"),
        ({"amount": "3"}, "amount: '3' is not of type 'integer'"),
        ({"amount": 3, "nte": "x"}, "nte is no field of it (did you mean 'note'?)"),
        ([3], "a list"),
    ],
)
def test_an_answer_that_does_not_fit_names_the_field(
    ledger: Ledger, lease: Lease, data: Any, said: str
) -> None:
    row = ask(ledger, lease, form=FORM)
    with pytest.raises(UnfitAnswer) as caught:
        approve(ledger, row, data=data)
    assert said in caught.value.message and "amount (integer, required)" in caught.value.cure
    assert ledger.waits.get_blocking("default", row.wait_id) == row


def test_without_a_form_an_agent_gets_text_and_an_approval_needs_none(ledger: Ledger, lease: Lease) -> None:
    asked = ask(ledger, lease, kind="ask_person")
    with pytest.raises(UnfitAnswer, match="text is missing"):
        approve(ledger, asked)
    answered = approve(ledger, asked, data={"text": "蓝色"})
    assert answered.answer is not None and answered.answer["data"] == {"text": "蓝色"}
    assert approve(ledger, ask(ledger, lease, wait_key="2")).state == "answered"


def test_only_assignees_answer_also_through_an_administrator(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, assignees=("ann", "bob"))
    for admin in (False, True):
        with pytest.raises(NotAsked) as caught:
            approve(ledger, row, "eve", local_admin=admin)
        assert "ann, bob" in caught.value.cure
    (vote,) = approve(ledger, row, "bob", local_admin=True).decided_by
    assert vote["voter"] == "bob" and vote["by_admin"] is True


def test_a_closed_wait_says_who_closed_it_and_when(ledger: Ledger, lease: Lease) -> None:
    row = approve(ledger, ask(ledger, lease), "ann")
    for voter in ("ann", "bob"):
        with pytest.raises(WaitClosed, match="is answered already") as caught:
            reject(ledger, row, voter)
        assert "ann approved it at 2" in caught.value.cure and "UTC" in caught.value.cure


def test_a_late_answer_is_refused(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, deadline=microseconds() + HOUR, on_timeout="reject")
    shift(ledger, row, 2 * HOUR)
    with pytest.raises(WaitOverdue, match="passed at") as caught:
        approve(ledger, row)
    assert "on_timeout: reject" in caught.value.cure
    ledger.waits.expire_due("default")
    with pytest.raises(WaitClosed) as closed:
        approve(ledger, row)
    assert "its deadline decided at" in closed.value.cure


def test_an_unknown_wait_is_refused_with_the_nearest_id(ledger: Ledger, lease: Lease) -> None:
    with pytest.raises(UnknownWait) as caught:
        ledger.waits.vote("default", "w-0123456789", "ann", "approve")
    assert "nothing waits" in caught.value.cure
    row = ask(ledger, lease)
    with pytest.raises(UnknownWait) as caught:
        ledger.waits.vote("default", row.wait_id[:-1], "ann", "approve")
    assert row.wait_id in caught.value.cure
    with pytest.raises(UnknownWait):
        ledger.waits.vote("other", row.wait_id, "ann", "approve")


@pytest.mark.parametrize(
    ("voter", "decision", "note"), [("", "approve", ""), ("ann", "aprove", ""), ("ann", "reject", "x" * 5000)]
)
def test_odd_votes_are_refused(ledger: Ledger, lease: Lease, voter: str, decision: Any, note: str) -> None:
    row = ask(ledger, lease)
    with pytest.raises(UsageError) as caught:
        ledger.waits.vote("default", row.wait_id, voter, decision, note=note)
    assert caught.value.cure
    assert ledger.waits.get_blocking("default", row.wait_id) == row


def test_a_vote_repeated_after_a_lost_connection_is_one_vote(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, quorum=2)
    ballot = make_ballot(row, "ann", "approve", None, "", False, row.created)
    order = run_order("default", "r-1")
    first = ledger.access.write_blocking(ballot, order)
    approve(ledger, row, "bob")
    again = ledger.access.write_blocking(ballot, order)
    assert isinstance(first, WaitRow) and isinstance(again, WaitRow)
    assert [vote["voter"] for vote in again.decided_by] == ["ann", "bob"] and again.state == "answered"


# --- deadlines ---


@pytest.mark.parametrize(
    ("kind", "on_timeout", "state", "answer"),
    [
        ("approval", "approve", "answered", {"approved": True, "by_timeout": True}),
        ("action", "reject", "rejected", {"approved": False, "by_timeout": True}),
        ("approval", "fail", "expired", {"approved": None, "by_timeout": True}),
        ("unknown", "", "expired", {"approved": None, "by_timeout": True}),
        ("event", "continue", "answered", {"approved": None, "by_timeout": True}),
    ],
)
def test_a_deadline_decides_as_it_was_told(
    ledger: Ledger, lease: Lease, kind: Any, on_timeout: str, state: str, answer: Any
) -> None:
    event_type = "paid" if kind == "event" else ""
    row = ask(ledger, lease, kind=kind, on_timeout=on_timeout, deadline=1, event_type=event_type)
    ask(ledger, lease, wait_key="later", deadline=FAR, on_timeout="approve")
    ask(ledger, lease, wait_key="never", on_timeout="approve")
    (ended,) = ledger.waits.expire_due("default")
    assert (ended.wait_id, ended.state, ended.answer) == (row.wait_id, state, answer)
    assert ended.decided is not None and ended == ledger.waits.get_blocking("default", row.wait_id)
    assert ledger.waits.expire_due("default") == []
    assert told(ledger)[-1] == f"wait.{state}"
    assert len(ledger.waits.list_open("default")) == 2


def test_an_escalation_asks_others_for_as_long_and_then_fails(ledger: Ledger, lease: Lease) -> None:
    asked = {"assignees": ("ann",), "on_timeout": "escalate", "escalate_to": ("bob", "cho")}
    row = ask(ledger, lease, deadline=microseconds() + HOUR, **asked)
    shift(ledger, row, 2 * HOUR)
    before = microseconds()
    (escalated,) = ledger.waits.expire_due("default")
    assert (escalated.state, escalated.assignees, escalated.reminders) == ("open", ("bob", "cho"), 1)
    assert escalated.deadline is not None and before + HOUR * 0.99 < escalated.deadline
    assert escalated.on_timeout == "fail" and told(ledger)[-1] == "wait.escalated"
    with pytest.raises(NotAsked):
        approve(ledger, row, "ann")
    assert ledger.waits.expire_due("default") == []

    shift(ledger, row, 2 * HOUR)
    (failed,) = ledger.waits.expire_due("default")
    assert failed.state == "expired"


def test_votes_outlast_an_escalation(ledger: Ledger, lease: Lease) -> None:
    asked = {"on_timeout": "escalate", "escalate_to": ("bob", "cho"), "deadline": microseconds() + HOUR}
    row = ask(ledger, lease, assignees=("ann", "bob"), quorum=2, **asked)
    approve(ledger, row, "ann")
    shift(ledger, row, 2 * HOUR)
    ledger.waits.expire_due("default")
    assert approve(ledger, row, "cho").state == "answered"


@pytest.mark.parametrize(("kind", "state"), [("approval", "rejected"), ("unknown", "expired")])
def test_an_escalation_that_can_reach_no_quorum_is_a_rejection(
    ledger: Ledger, lease: Lease, kind: Any, state: str
) -> None:
    """Except of a call in doubt, of which a rejection would say what became of it."""
    asked = {"on_timeout": "escalate", "escalate_to": ("ann", "dee"), "deadline": microseconds() + HOUR}
    row = ask(ledger, lease, kind=kind, assignees=("ann", "bob", "cho"), quorum=2, **asked)
    reject(ledger, row, "ann")
    shift(ledger, row, 2 * HOUR)
    (ended,) = ledger.waits.expire_due("default")
    assert ended.state == state and told(ledger)[-2:] == ["wait.escalated", f"wait.{state}"]


def test_the_next_moment_is_the_earliest_deadline_or_reminder(ledger: Ledger, lease: Lease) -> None:
    assert ledger.waits.next_due("default") is None
    endless = ask(ledger, lease, wait_key="endless")
    assert ledger.waits.next_due("default") is None
    assert ledger.waits.next_due("default", every_us=HOUR) == endless.created + HOUR
    ask(ledger, lease, wait_key="later", deadline=FAR)
    ask(ledger, lease, wait_key="soon", deadline=FAR - HOUR)
    assert ledger.waits.next_due("default") == FAR - HOUR
    assert ledger.waits.next_due("other") is None


def test_people_are_reminded_at_half_time_and_then_at_intervals(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease, deadline=microseconds() + 10 * HOUR)
    assert ledger.waits.remind_due("default", HOUR * 100) == []
    shift(ledger, row, 6 * HOUR)
    (reminded,) = ledger.waits.remind_due("default", HOUR)
    assert reminded.reminders == 1 and reminded.state == "open"
    assert ledger.waits.remind_due("default", HOUR) == []
    shift(ledger, row, 2 * HOUR)
    assert [item.reminders for item in ledger.waits.remind_due("default", HOUR)] == [2]
    shift(ledger, row, 9 * HOUR)  # too late to answer
    assert ledger.waits.remind_due("default", HOUR) == []
    assert told(ledger) == ["wait.opened", "wait.reminded", "wait.reminded"]


def test_a_wait_without_a_deadline_is_reminded_of_at_intervals(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease)
    assert ledger.waits.remind_due("default", HOUR) == []
    shift(ledger, row, 2 * HOUR)
    assert len(ledger.waits.remind_due("default", HOUR)) == 1
    assert ledger.waits.remind_due("default", HOUR) == []


# --- signals ---


def event_wait(ledger: Ledger, lease: Lease, **fields: Any) -> WaitRow:
    return ask(ledger, lease, **{"kind": "event", "event_type": "paid", "event_key": "o-1", **fields})


def test_a_signal_answers_the_oldest_wait_for_it(ledger: Ledger, lease: Lease) -> None:
    other = event_wait(ledger, lease, wait_key="other", event_key="o-2")
    first = event_wait(ledger, lease, wait_key="first")
    second = event_wait(ledger, lease, wait_key="second")
    answered = ledger.waits.signal("default", "paid", "o-1", "e-1", {"sum": 5})
    assert answered is not None and answered.wait_id == first.wait_id
    assert answered.answer == {"approved": True, "data": {"sum": 5}, "event_id": "e-1"}
    assert answered.decided_by[0]["voter"] == "event:e-1"
    assert {row.wait_id for row in ledger.waits.list_open("default")} == {other.wait_id, second.wait_id}
    assert told(ledger)[-1] == "wait.answered"


def test_the_same_signal_again_is_the_same(ledger: Ledger, lease: Lease) -> None:
    event_wait(ledger, lease, wait_key="1")
    event_wait(ledger, lease, wait_key="2")
    first = ledger.waits.signal("default", "paid", "o-1", "e-1", {"sum": 5})
    assert ledger.waits.signal("default", "paid", "o-1", "e-1", {"sum": 6}) == first
    assert len(ledger.waits.list_open("default")) == 1


def test_what_became_of_a_signal_is_told(ledger: Ledger, lease: Lease) -> None:
    kept = ledger.waits.deliver("default", "paid", "o-1", "e-1", {"sum": 5})
    again = ledger.waits.deliver("default", "paid", "o-1", "e-1", {"sum": 6})
    assert (kept.wait, kept.duplicate, again.wait, again.duplicate) == (None, False, None, True)
    assert (kept.differs, again.differs) == (False, True)
    row = event_wait(ledger, lease)
    late = ledger.waits.deliver("default", "paid", "o-1", "e-1", {"sum": 5})
    assert (late.wait, late.duplicate, late.differs) == (row, True, False)


def test_the_same_id_under_another_key_is_another_signal(ledger: Ledger, lease: Lease) -> None:
    """Systems that number the events of each order, or invoice, from 1."""
    rows = [event_wait(ledger, lease, wait_key=key, event_key=key) for key in ("o-1", "o-2")]
    told = [ledger.waits.deliver("default", "paid", key, "1", {"of": key}) for key in ("o-1", "o-2")]
    assert [d.wait.wait_id for d in told if d.wait] == [row.wait_id for row in rows]
    assert [d.wait.answer["data"] for d in told if d.wait and d.wait.answer] == [{"of": "o-1"}, {"of": "o-2"}]
    assert not any(d.duplicate for d in told)


def test_a_signal_that_a_killed_process_left_answers_when_it_comes_again(
    ledger: Ledger, lease: Lease
) -> None:
    row = event_wait(ledger, lease)
    ledger.access.write_blocking(StoreSignal(signal_values("default", "paid", "o-1", "e-1", {})), "signal")
    told = ledger.waits.deliver("default", "paid", "o-1", "e-1", {})
    assert told.wait is not None and told.wait.wait_id == row.wait_id
    assert not told.duplicate


def test_a_plain_yes_is_no_event(ledger: Ledger, lease: Lease) -> None:
    row = event_wait(ledger, lease)
    with pytest.raises(UnfitAnswer, match="awaits the event paid for o-1") as caught:
        ledger.waits.vote("default", row.wait_id, "kim", "approve")
    assert "--data" in caught.value.cure and caught.value.exit_code == 2
    assert ledger.waits.get_blocking("default", row.wait_id) == row
    answered = ledger.waits.vote("default", row.wait_id, "kim", "approve", {})
    assert answered.answer is not None and answered.answer["data"] == {}


def test_a_signal_that_came_before_answers_at_once_and_only_once(ledger: Ledger, lease: Lease) -> None:
    for number in (1, 2):
        assert ledger.waits.signal("default", "paid", "o-1", f"e-{number}", {"n": number}) is None
    rows = [event_wait(ledger, lease, wait_key=f"{n}") for n in range(3)]
    assert [row.state for row in rows] == ["answered", "answered", "open"]
    assert [row.answer["data"]["n"] for row in rows if row.answer] == [1, 2]
    assert ledger.waits.signal("default", "paid", "o-1", "e-1", {}) == rows[0]
    assert told(ledger)[:2] == ["wait.opened", "wait.answered"]


def test_a_signal_of_another_tenant_type_or_key_answers_nothing(ledger: Ledger, lease: Lease) -> None:
    row = event_wait(ledger, lease)
    for tenant, kind, key in (("other", "paid", "o-1"), ("default", "sent", "o-1"), ("default", "paid", "")):
        assert ledger.waits.signal(tenant, kind, key, "e-1", {}) is None
    assert ledger.waits.get_blocking("default", row.wait_id) == row


def test_a_wait_without_a_key_takes_any_event_of_its_type(ledger: Ledger, lease: Lease) -> None:
    row = event_wait(ledger, lease, wait_key="any", event_key="")
    keyed = event_wait(ledger, lease, wait_key="keyed")
    assert ledger.waits.signal("default", "sent", "o-1", "e-0", {}) is None
    first = ledger.waits.signal("default", "paid", "o-9", "e-1", {"n": 1})
    assert first is not None and (first.wait_id, first.state) == (row.wait_id, "answered")
    assert ledger.waits.signal("default", "paid", "o-9", "e-2", {"n": 2}) is None
    assert ledger.waits.get_blocking("default", keyed.wait_id) == keyed
    later = event_wait(ledger, lease, wait_key="later", event_key="")  # what came before it
    assert later.answer is not None and later.answer["event_id"] == "e-2"
    answered = ledger.waits.signal("default", "paid", "o-1", "e-3", {})
    assert answered is not None and answered.wait_id == keyed.wait_id


def test_a_signal_after_the_deadline_is_too_late(ledger: Ledger, lease: Lease) -> None:
    row = event_wait(ledger, lease, deadline=microseconds() + HOUR, on_timeout="continue")
    shift(ledger, row, 2 * HOUR)
    assert ledger.waits.signal("default", "paid", "o-1", "e-1", {}) is None
    (ended,) = ledger.waits.expire_due("default")
    assert ended.answer == {"approved": None, "by_timeout": True}


def test_the_sweep_matches_what_a_killed_process_left_also_after_the_deadline(
    ledger: Ledger, lease: Lease
) -> None:
    row = event_wait(ledger, lease, deadline=microseconds() + HOUR)
    values = signal_values("default", "paid", "o-1", "e-1", {"sum": 5})
    ledger.access.write_blocking(StoreSignal(values), "signal")

    def past(connection: Any) -> None:
        connection.execute(text(f"UPDATE signal SET created = created - {2 * HOUR}"))

    ledger.access.write_blocking(past, "signal")
    shift(ledger, row, HOUR + HOUR // 2)
    (answered,) = ledger.waits.expire_due("default")
    assert answered.state == "answered" and answered.answer is not None
    assert answered.answer["data"] == {"sum": 5}
    assert ledger.waits.expire_due("default") == []


@pytest.mark.parametrize(
    ("type_", "event_id", "payload"), [("", "e", {}), ("t", "", {}), ("t" * 501, "e", {}), ("t", "e", [])]
)
def test_odd_signals_are_refused(ledger: Ledger, type_: str, event_id: str, payload: Any) -> None:
    with pytest.raises(UsageError):
        ledger.waits.signal("default", type_, "k", event_id, payload)


# --- runs ---


@pytest.mark.parametrize("state", ["completed", "cancelled"])
def test_a_run_that_ends_withdraws_its_questions_and_going_on_asks_again(
    ledger: Ledger, lease: Lease, state: str
) -> None:
    done = approve(ledger, ask(ledger, lease, wait_key="done"))
    row = ask(ledger, lease, deadline=FAR)
    finish(ledger, lease, state)
    cancelled = ledger.waits.get_blocking("default", row.wait_id)
    assert cancelled is not None and cancelled.state == "cancelled"
    assert ledger.waits.cancel_of_run("default", "r-1") == []
    assert ledger.waits.get_blocking("default", done.wait_id) == done
    with pytest.raises(WaitClosed, match="was withdrawn"):
        approve(ledger, row)
    assert told(ledger)[-1] == "wait.cancelled"

    again = ask(ledger, begin(ledger), deadline=FAR + 1)
    assert (again.wait_id, again.state, again.deadline) == (row.wait_id, "open", FAR + 1)
    assert approve(ledger, again).state == "answered"


def test_a_run_that_waits_keeps_its_questions(ledger: Ledger, lease: Lease) -> None:
    row = ask(ledger, lease)
    finish(ledger, lease)
    assert ledger.waits.list_open("default") == [row]


def test_a_waiting_run_goes_on_when_something_was_decided(ledger: Ledger, lease: Lease) -> None:
    one, two = ask(ledger, lease, wait_key="1"), ask(ledger, lease, wait_key="2")
    begin(ledger, "r-running")
    finish(ledger, begin(ledger, "r-parked"))  # waits for nobody's answer
    assert ledger.waits.runs_to_resume("default") == []
    holds_up(ledger, lease, one, two)
    finish(ledger, lease)
    assert ledger.waits.runs_to_resume("default") == []
    approve(ledger, one)
    assert ledger.waits.runs_to_resume("default") == ["r-1"]

    again = begin(ledger)  # it goes on, and waits for the second now
    holds_up(ledger, again, two, done=[one])
    finish(ledger, again)
    assert ledger.waits.runs_to_resume("default") == []
    reject(ledger, two)
    assert ledger.waits.runs_to_resume("default") == ["r-1"]
    assert ledger.waits.runs_to_resume("other") == []


def test_an_answer_that_came_while_other_steps_worked_lets_the_run_go_on(
    ledger: Ledger, lease: Lease
) -> None:
    """Whoever gave it: also a deadline that passed meanwhile. A start that is refused changes nothing."""
    late = ask(ledger, lease, wait_key="late", deadline=1, on_timeout="reject")
    open_still = ask(ledger, lease, wait_key="open")
    holds_up(ledger, lease, late, open_still)
    assert ledger.waits.expire_due("default")
    finish(ledger, lease)
    assert ledger.steering.due("default") == ledger.steering.due_by_clock("default") == ["r-1"]
    asyncio.run(ledger.leave_run(begin(ledger)))
    assert ledger.steering.due_by_clock("default") == ["r-1"]

    again = begin(ledger)
    holds_up(ledger, again, open_still, done=[late])
    # The step goes on with its answer, and asks something else.
    more = ask(ledger, again, wait_key="more", kind="ask_person", step_path=late.step_path)
    holds_up(ledger, again, more)
    finish(ledger, again)
    assert ledger.steering.due("default") == []
    approve(ledger, more, data={"text": "so"})
    assert ledger.steering.due("default") == ["r-1"] and ledger.steering.due_by_clock("default") == []


def test_a_start_that_did_nothing_leaves_the_run_as_it_was(ledger: Ledger, lease: Lease) -> None:
    stopped = {"wake_at": 5, "wake_reason": "quota", "error": {"message": "no"}}
    asyncio.run(ledger.finish_run(lease, "stopped", **stopped))  # type: ignore[arg-type]
    before = ledger.reader.get_run("default", "r-1")
    again = begin(ledger, flow_run_id="other", storage="elsewhere")
    asyncio.run(ledger.change_run(again, inputs={"a": 1}, plan_digest="d", labels={"b": 2}))
    asyncio.run(ledger.leave_run(again))
    after = ledger.reader.get_run("default", "r-1")
    assert before is not None and after is not None and after.holder is None
    counted = {"version": before.version, "epoch": before.epoch, "updated": before.updated}
    assert dataclasses.replace(after, **counted) == before
    with pytest.raises(Fenced):
        asyncio.run(ledger.finish_run(again, "failed"))


def test_a_run_whose_last_answer_came_while_it_ended_goes_on(ledger: Ledger, lease: Lease) -> None:
    approve(ledger, ask(ledger, lease))
    finish(ledger, lease)
    assert ledger.waits.runs_to_resume("default") == ["r-1"]


def test_a_nested_runs_answer_wakes_its_root(ledger: Ledger, lease: Lease) -> None:
    nested = begin(ledger, "r-1.inner", parent_run_id="r-1", root_run_id="r-1")
    row = ask(ledger, nested)
    finish(ledger, nested)
    finish(ledger, lease)
    assert ledger.waits.runs_to_resume("default") == []
    approve(ledger, row)
    assert ledger.waits.runs_to_resume("default") == ["r-1"]
