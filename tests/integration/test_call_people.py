"""Who answers what a call or an agent asks, and what silence does: on real ledgers, over processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger
from blocks.ledger.waits.waits import NotAsked, OtherProposal
from tasks.context import RunContext
from tasks.doers.people import ask_person_tool
from tasks.effects.gate import EffectGate, Unsure
from tasks.effects.waits import Undecided
from tasks.tools import ToolResult
from tasks.waiting import Waiting
from tests.support.effects import Receiver, call
from tests.support.gates import GateDesk
from workflows.core.plans.plan import DecidersPlan

PEOPLE = DecidersPlan(assignees=("ann", "bob", "cho"), quorum=2)
HOUR = 3600.0
LOST = Unsure("the connection was lost")
NEVER = Receiver(["never"])


def until(on_timeout: Any, *others: str, quorum: int = 2) -> DecidersPlan:
    """The same people, asked for an hour."""
    more = {"quorum": quorum, "deadline": HOUR, "on_timeout": on_timeout, "escalate_to": others}
    return PEOPLE.model_copy(update=more)


@pytest.fixture
def desk(ledger: Ledger, tmp_path: Path) -> Iterator[GateDesk]:
    yield GateDesk(ledger, tmp_path, {})
    assert NEVER.keys == []


def perform(desk: GateDesk, send: Any, *, generation: int = 0, **more: Any) -> ToolResult:
    return desk.work(lambda gate, context: call(gate, send, **more), generation=generation)


def waits(desk: GateDesk, send: Any, **more: Any) -> str:
    with pytest.raises(Waiting) as caught:
        perform(desk, send, **more)
    (wait_id,) = caught.value.wait_ids
    assert desk.wait.wait_id == wait_id
    return wait_id


def undecided(desk: GateDesk, **more: Any) -> Undecided:
    with pytest.raises(Undecided, match="nobody answered in time") as caught:
        perform(desk, NEVER, **more)
    assert "phaseline resume r-1 --from s" in caught.value.cure
    return caught.value


# --- may it be made ---


def test_two_of_three_approve_a_call_and_it_is_made_once(desk: GateDesk) -> None:
    asked = {"approval": True, "people": PEOPLE}
    waits(desk, NEVER, **asked)
    assert (desk.wait.kind, desk.wait.assignees, desk.wait.quorum) == ("action", PEOPLE.assignees, 2)
    with pytest.raises(NotAsked, match="does not ask kim"):
        desk.vote("kim")
    assert desk.vote("ann").state == "open"
    waits(desk, NEVER, **asked)
    assert desk.vote("cho").state == "answered"
    send = Receiver(["paid"])
    for _ in range(2):
        assert perform(desk, send, **asked) == ToolResult("paid")
    assert len(send.keys) == 1


def test_of_a_rejection_those_are_named_who_rejected(desk: GateDesk) -> None:
    asked = {"approval": True, "people": PEOPLE}
    waits(desk, NEVER, **asked)
    desk.vote("bob", decision="reject", note="too much")
    desk.vote("ann")
    desk.vote("cho", decision="reject")
    told = perform(desk, NEVER, **asked)
    assert told.is_error and "bob and cho did not approve this call of bank.pay." in str(told.content)
    assert "too much" in str(told.content) and desk.effect.state == "refused"


def test_a_call_that_nobody_approved_in_time_is_not_made_and_names_nobody(desk: GateDesk) -> None:
    asked = {"approval": True, "people": until("reject")}
    first = waits(desk, NEVER, **asked)
    desk.vote("ann")  # one of two
    assert desk.pass_deadline().state == "rejected"
    told = perform(desk, NEVER, **asked)
    assert told == ToolResult(
        "This call of bank.pay was not approved in time. It was not made.", is_error=True
    )
    assert (desk.effect.state, desk.effect.sent) == ("refused", 0)
    assert waits(desk, NEVER, generation=1, **asked) != first
    for voter in ("ann", "bob"):
        desk.vote(voter)
    assert perform(desk, Receiver(["paid"]), generation=1, **asked) == ToolResult("paid")


def test_a_deadline_fails_the_step_of_a_call_to_be_approved(desk: GateDesk) -> None:
    asked = {"approval": True, "people": until("fail")}
    waits(desk, NEVER, **asked)
    assert desk.pass_deadline().state == "expired"
    for _ in range(2):
        assert undecided(desk, **asked).cure.startswith("be asked again: ")
    assert (desk.effect.state, desk.effect.sent) == ("intended", 0)
    waits(desk, NEVER, generation=1, **asked)


@pytest.mark.parametrize("effect", ["none", "idempotent", "once"])
def test_an_approval_is_escalated(desk: GateDesk, effect: str) -> None:
    asked = {"approval": True, "people": until("escalate", "dee", "eve"), "effect": effect}
    first = waits(desk, NEVER, **asked)
    desk.vote("ann")
    escalated = desk.pass_deadline()
    assert (escalated.state, escalated.assignees) == ("open", ("dee", "eve"))
    assert waits(desk, NEVER, **asked) == first
    assert (desk.wait.assignees, desk.wait.on_timeout) == (("dee", "eve"), "fail")
    with pytest.raises(NotAsked):
        desk.vote("bob")
    desk.vote("eve")
    assert perform(desk, Receiver(["paid"]), **asked) == ToolResult("paid")


def test_after_the_last_deadline_nobody_has_decided(desk: GateDesk) -> None:
    asked = {"approval": True, "people": until("escalate", "dee", "eve")}
    waits(desk, NEVER, **asked)
    desk.pass_deadline()
    assert desk.pass_deadline().state == "expired"
    undecided(desk, **asked)


def test_changed_people_reach_the_open_question_and_votes_stay(desk: GateDesk) -> None:
    first = waits(desk, NEVER, approval=True)
    assert (desk.wait.assignees, desk.wait.quorum, desk.wait.deadline) == ((), 1, None)
    assert waits(desk, NEVER, approval=True, people=until("reject")) == first
    assert desk.wait.deadline == desk.wait.created + HOUR * 1_000_000
    desk.vote("ann")
    assert waits(desk, NEVER, approval=True, people=until("fail", quorum=3)) == first
    assert [vote["voter"] for vote in desk.wait.decided_by] == ["ann"]
    assert perform(desk, Receiver(["paid"]), approval=True, people=until("fail", quorum=1)) == ToolResult(
        "paid"
    )


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_call_is_decided_by_those_who_are_asked_now(desk: GateDesk, decision: str) -> None:
    """Mal's yes is kept, and is no half of what ann has to say alone now."""
    two, one = DecidersPlan(assignees=("mal", "ann"), quorum=2), DecidersPlan(assignees=("ann",))
    first = waits(desk, NEVER, approval=True, people=two)
    desk.vote("mal", note="go")
    assert waits(desk, NEVER, approval=True, people=one) == first
    assert [vote["voter"] for vote in desk.wait.decided_by] == ["mal"]
    assert desk.vote("ann", decision=decision).state != "open"
    told = perform(desk, Receiver(["paid"]), approval=True, people=one)
    if decision == "approve":
        assert told == ToolResult("paid")
    else:
        assert told.content == "ann did not approve this call of bank.pay. It was not made."


# --- did it happen ---


def test_two_of_three_say_the_same_of_a_call_in_doubt(desk: GateDesk) -> None:
    asked = {"people": PEOPLE}
    waits(desk, Receiver([LOST]), **asked)
    with pytest.raises(NotAsked):
        desk.vote("kim", {"outcome": "done"})
    desk.vote("ann", {"outcome": "done", "result": "receipt 7"})
    with pytest.raises(OtherProposal):
        desk.vote("bob", {"outcome": "not_done"})
    waits(desk, NEVER, **asked)
    desk.vote("bob")
    assert perform(desk, NEVER, **asked) == ToolResult("receipt 7")


def test_those_who_cannot_agree_have_it_left(desk: GateDesk) -> None:
    waits(desk, Receiver([LOST]), people=PEOPLE)
    desk.vote("ann", {"outcome": "not_done"})
    for voter in ("bob", "cho"):
        desk.vote(voter, decision="reject")
    told = perform(desk, NEVER, people=PEOPLE)
    assert "is not made again: bob and cho abandoned it." in str(told.content)
    assert desk.effect.state == "abandoned"


@pytest.mark.parametrize("on_timeout", ["reject", "fail"])
def test_silence_says_nothing_of_a_call_in_doubt(desk: GateDesk, on_timeout: str) -> None:
    """It stays unknown over every resume, and is sent again only after somebody said `not_done`."""
    asked = {"people": until(on_timeout)}
    lost = Receiver([LOST])
    first = waits(desk, lost, **asked)
    assert (desk.wait.kind, desk.wait.on_timeout) == ("unknown", "fail")
    desk.vote("ann", {"outcome": "not_done"})  # one of two
    assert desk.pass_deadline().state == "expired"
    for _ in range(2):
        assert undecided(desk, **asked).cure.startswith("find out whether bank.pay did it")
        assert (desk.effect.state, desk.effect.sent) == ("unknown", 1)
    second = waits(desk, NEVER, generation=1, **asked)
    assert second != first and desk.wait.decided_by == [] and desk.effect.wait_id == second
    assert desk.pass_deadline().state == "expired"
    undecided(desk, generation=1, **asked)
    assert (desk.effect.state, desk.effect.sent) == ("unknown", 1)
    waits(desk, NEVER, generation=2, **asked)
    for voter in ("ann", "bob"):
        desk.vote(voter, {"outcome": "not_done"})
    send = Receiver(["paid"])
    assert perform(desk, send, generation=2, **asked) == ToolResult("paid")
    assert send.keys == lost.keys and desk.effect.sent == 2


def test_a_doubt_is_escalated_and_one_rejection_with_silence_abandons_nothing(desk: GateDesk) -> None:
    asked = {"people": until("escalate", "ann", "eve")}
    waits(desk, Receiver([LOST]), **asked)
    desk.vote("ann", decision="reject")
    assert desk.pass_deadline().state == "expired"
    undecided(desk, **asked)
    assert desk.effect.state == "unknown"
    waits(desk, NEVER, generation=1, **asked)
    assert desk.pass_deadline().assignees == ("ann", "eve")
    for voter in ("ann", "eve"):
        desk.vote(voter, {"outcome": "done", "result": "receipt 7"})
    assert perform(desk, NEVER, generation=1, **asked) == ToolResult("receipt 7")


def test_changed_people_reach_an_open_doubt(desk: GateDesk) -> None:
    first = waits(desk, Receiver([LOST]), people=until("fail"))
    assert waits(desk, NEVER, people=until("escalate", "dee", "eve")) == first
    assert (desk.wait.on_timeout, desk.wait.escalate_to) == ("escalate", ("dee", "eve"))
    desk.vote("bob", {"outcome": "done"})
    assert waits(desk, NEVER, generation=1, people=PEOPLE) == first, "also when the step is done anew"
    assert (desk.wait.deadline, len(desk.wait.decided_by)) == (None, 1)
    assert "performed" in str(perform(desk, NEVER).content), "one answer of anybody is enough now"


# --- what the other side wants to know ---

SURE: dict[str, Any] = {"properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}


def asking(desk: GateDesk, sent: list[str], *, generation: int = 0, **more: Any) -> ToolResult:
    """A call whose server asks once before it does anything; `sent` notes each time that it is called."""

    async def piece(gate: EffectGate, _: RunContext) -> ToolResult:
        async def send(key: str) -> ToolResult:
            known = await gate.find_decision(key)
            sent.append("with the answer" if known else "from the beginning")
            row = known or await gate.ask(key, ask="Sure?", form=SURE, detail={"question": "q"})
            return ToolResult(f"{row.state} {(row.answer or {}).get('data')}")

        return await call(gate, send, **more)

    return desk.work(piece, generation=generation)


@pytest.mark.parametrize("effect", ["none", "idempotent", "once"])
def test_a_server_is_answered_by_those_whom_its_tool_names(desk: GateDesk, effect: str) -> None:
    sent: list[str] = []
    more = {"effect": effect, "people": PEOPLE}
    for _ in range(2):
        with pytest.raises(Waiting):
            asking(desk, sent, **more)
    assert (desk.wait.kind, desk.wait.assignees, desk.wait.quorum) == ("mcp", PEOPLE.assignees, 2)
    assert len(sent) == (2 if effect == "none" else 1), "who waits for an answer is not called again"
    desk.vote("ann", {"sure": True})
    desk.vote("bob")
    assert asking(desk, sent, **more) == ToolResult("answered {'sure': True}")


@pytest.mark.parametrize("effect", ["idempotent", "once"])
def test_a_server_that_nobody_answers_in_time_is_not_called_until_people_are_asked_anew(
    desk: GateDesk, effect: str
) -> None:
    sent: list[str] = []
    more = {"effect": effect, "people": until("fail")}
    with pytest.raises(Waiting):
        asking(desk, sent, **more)
    first = desk.wait.wait_id
    assert desk.pass_deadline().state == "expired"
    for _ in range(2):
        with pytest.raises(Undecided) as caught:
            asking(desk, sent, **more)
        assert caught.value.cure == "be asked again: phaseline resume r-1 --from s"
    assert (sent, desk.effect.state) == (["from the beginning"], "not_done")
    with pytest.raises(Waiting):
        asking(desk, sent, generation=1, **more)
    assert desk.wait.wait_id != first
    for voter in ("ann", "bob"):
        desk.vote(voter, {"sure": True})
    for _ in range(2):
        assert asking(desk, sent, generation=1, **more) == ToolResult("answered {'sure': True}")
    assert sent == ["from the beginning", "from the beginning", "with the answer"]
    assert desk.effect.state == "done"


def test_a_server_that_only_reads_is_called_again_and_nobody_is_asked_before_people_want_it(
    desk: GateDesk,
) -> None:
    """Nothing is recorded of such a call: its server asks again, which meets the question as it stands."""
    sent: list[str] = []
    more = {"effect": "none", "people": until("fail")}
    with pytest.raises(Waiting):
        asking(desk, sent, **more)
    first = desk.wait.wait_id
    assert desk.pass_deadline().state == "expired"
    for _ in range(2):
        with pytest.raises(Undecided):
            asking(desk, sent, **more)
    assert sent == ["from the beginning"] * 3 and desk.ledger.waits.list_open("default") == []
    with pytest.raises(Waiting):
        asking(desk, sent, generation=1, **more)
    assert desk.wait.wait_id != first
    for voter in ("ann", "bob"):
        desk.vote(voter, {"sure": True})
    assert asking(desk, sent, generation=1, **more) == ToolResult("answered {'sure': True}")
    assert sent == ["from the beginning"] * 5 and desk.effects() == []


@pytest.mark.parametrize("effect", ["none", "idempotent", "once"])
def test_silence_of_an_earlier_generation_answers_no_server(desk: GateDesk, effect: str) -> None:
    sent: list[str] = []
    more = {"effect": effect, "people": until("reject")}
    with pytest.raises(Waiting):
        asking(desk, sent, **more)
    first = desk.wait.wait_id
    assert desk.pass_deadline().state == "rejected"
    with pytest.raises(Waiting):
        asking(desk, sent, generation=1, **more)
    assert desk.wait.wait_id != first and sent == ["from the beginning"] * 2
    assert desk.pass_deadline().state == "rejected"
    assert asking(desk, sent, generation=1, **more) == ToolResult("rejected None")


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_what_a_person_said_in_an_earlier_generation_answers_a_server(desk: GateDesk, decision: str) -> None:
    sent: list[str] = []
    with pytest.raises(Waiting):
        asking(desk, sent)
    desk.answer({"sure": True} if decision == "approve" else None, decision)
    told = asking(desk, sent, generation=1)
    assert told == ToolResult("answered {'sure': True}" if decision == "approve" else "rejected None")
    assert sent == ["from the beginning", "with the answer"]


def test_changed_people_reach_a_servers_open_question(desk: GateDesk) -> None:
    sent: list[str] = []
    for people in (None, until("fail"), None, until("reject", quorum=1)):
        with pytest.raises(Waiting):
            asking(desk, sent, people=people)
        names = people.assignees if people else ()
        assert (desk.wait.assignees, desk.wait.deadline is None) == (names, people is None)
    assert desk.pass_deadline().state == "rejected"
    assert asking(desk, sent) == ToolResult("rejected None")
    assert sent == ["from the beginning", "with the answer"]


def test_a_servers_question_that_was_withdrawn_is_asked_again(desk: GateDesk) -> None:
    sent: list[str] = []
    with pytest.raises(Waiting):
        asking(desk, sent)
    desk.ledger.waits.cancel_of_run("default", "r-1")
    with pytest.raises(Waiting):
        asking(desk, sent)
    assert sent == ["from the beginning"], "it is not called to ask again"
    desk.vote("kim", {"sure": True})
    assert asking(desk, sent) == ToolResult("answered {'sure': True}")
    assert sent == ["from the beginning", "with the answer"]


# --- what an agent wants to know ---


def asks(desk: GateDesk, people: DecidersPlan | None = None, *, generation: int = 0) -> ToolResult:
    async def piece(_: EffectGate, context: RunContext) -> ToolResult:
        given = {"question": "How much?", "form": {"properties": {"most": {"type": "integer"}}}}
        return await ask_person_tool(context, "s", people).run(given)

    return desk.work(piece, generation=generation)


def test_an_agent_asks_those_whom_its_tool_names(desk: GateDesk) -> None:
    with pytest.raises(Waiting):
        asks(desk)
    with pytest.raises(Waiting):
        asks(desk, PEOPLE)
    with pytest.raises(NotAsked):
        desk.vote("kim", {"most": 1})
    desk.vote("ann", {"most": 7})
    with pytest.raises(OtherProposal):
        desk.vote("bob", {"most": 8})
    desk.vote("bob", {"most": 7})
    assert asks(desk, PEOPLE) == ToolResult('{"most": 7}')


def test_what_an_agent_asks_holds_no_known_secret(desk: GateDesk) -> None:
    desk.environ["BANK_TOKEN"] = "tok-0123456789"

    async def piece(_: EffectGate, context: RunContext) -> ToolResult:
        about = {"type": "string", "description": "Instead of tok-0123456789", "default": "tok-0123456789"}
        given = {"question": "Is tok-0123456789 right?", "form": {"properties": {"token": about}}}
        return await ask_person_tool(context, "s").run(given)

    with pytest.raises(Waiting) as caught:
        desk.work(piece)
    assert desk.wait.ask == "Is [secret BANK_TOKEN] right?" and desk.wait.ask in str(caught.value)
    assert desk.wait.form["properties"]["token"]["default"] == "[secret BANK_TOKEN]"
    events = desk.ledger.events.of_run("default", "r-1")
    assert "tok-0123456789" not in repr((desk.wait, events))


def test_an_agent_goes_on_without_an_answer(desk: GateDesk) -> None:
    with pytest.raises(Waiting):
        asks(desk, until("reject"))
    desk.pass_deadline()
    told = asks(desk, until("reject"))
    assert told == ToolResult("There was no answer in time; go on without it or say what is missing.")


@pytest.mark.parametrize("people", [until("fail"), until("escalate", "dee", "eve")])
def test_an_agent_that_nobody_answered_fails(desk: GateDesk, people: DecidersPlan) -> None:
    with pytest.raises(Waiting):
        asks(desk, people)
    if people.escalate_to:
        assert desk.pass_deadline().assignees == ("dee", "eve")
    desk.pass_deadline()
    for _ in range(2):
        with pytest.raises(Undecided, match="nobody answered in time: How much") as caught:
            asks(desk, people)
        assert caught.value.cure == "be asked again: phaseline resume r-1 --from s"
    with pytest.raises(Waiting):
        asks(desk, people, generation=1)


def test_people_are_reminded_of_every_kind_of_question(desk: GateDesk) -> None:
    with pytest.raises(Waiting):
        asks(desk, until("fail"))
    waits_of = desk.ledger.waits
    assert waits_of.next_due("default") == desk.wait.deadline
    assert [row.kind for row in waits_of.remind_due("default", 0)] == ["ask_person"]
    assert [e.name for e in desk.ledger.events.of_run("default", "r-1")][-1] == "wait.reminded"
