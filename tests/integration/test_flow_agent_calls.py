"""What an agent calls in a recorded run: done once, asked about in doubt, and never made again when kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, WaitRow
from deployments.runs.next_commands import going_on_by
from tests.support.callers import Call, bench_of, effects, model, pay, payments
from tests.support.flows import FLOW_MARKS, Bench, agent, steps
from tests.support.gates import pass_deadline
from workflows.core.errors import UsageError

pytestmark = FLOW_MARKS


def answer(bench: Bench, kind: str, data: dict[str, Any]) -> WaitRow:
    with Ledger.open(bench.settings.database) as ledger:
        (wait,) = ledger.waits.list_open("default")
        assert wait.kind == kind
        return ledger.waits.vote("default", wait.wait_id, "kim", "approve", data)


# --- handlers that fail after they acted ---


@pytest.mark.parametrize(
    ("how", "why"),
    [("raises", "the bank closed the line"), ("prints", "printed more"), ("unreadable", "not JSON")],
)
def test_a_handler_that_fails_after_it_acted_is_asked_about(tmp_path: Path, how: str, why: str) -> None:
    bench = bench_of(tmp_path, [pay(tmp_path, how=how)])
    for _ in range(2):
        ran = bench.run()
        assert ran.outcome.status == "waiting" and ran.outcome.exit_code == 3
        assert why in ran.outcome.waits[0]["ask"] and "cure:" not in ran.outcome.waits[0]["ask"]
    assert payments(bench) == 1 and [row.state for row in effects(bench)] == ["unknown"]
    answer(bench, "unknown", {"outcome": "done", "result": "receipt 7"})
    model(bench).turns = ["Paid."]
    assert bench.run().outcome.status == "completed"
    (told,) = model(bench).told
    assert told["content"] == "receipt 7" and "is_error" not in told
    assert payments(bench) == 1 and len(model(bench).requests) == 2


def test_an_idempotent_handler_that_fails_may_be_called_again(tmp_path: Path) -> None:
    call = pay(tmp_path, how="broken")
    bench = bench_of(tmp_path, [call], [call], "Paid.", effect="idempotent")
    assert bench.run().outcome.status == "completed"
    (first,) = model(bench).requests[1]["messages"][-1]["content"]
    assert first["is_error"] and "raised ValueError: the bank closed the line" in first["content"]
    assert first["content"].endswith("It may have been performed; calling it again is safe.")
    (row,) = effects(bench)
    assert (row.state, row.sent, payments(bench)) == ("done", 2, 2), "each time as the agent said, one effect"


def test_a_handler_may_refuse_before_it_acts(tmp_path: Path) -> None:
    refused = pay(tmp_path, how="refuses")
    odd = "tool__pay", {"book": 7}
    bench = bench_of(tmp_path, [refused, odd], [refused], [pay(tmp_path)], "Paid.")
    assert bench.run().outcome.status == "completed"
    closed, wrong = model(bench).requests[1]["messages"][-1]["content"]
    assert closed["is_error"] and "raised Refused: the bank is closed" in closed["content"]
    assert wrong["is_error"] and wrong["content"].startswith("Wrong arguments")
    assert sorted(row.state for row in effects(bench)) == ["done", "refused", "refused"]
    assert payments(bench) == 1


# --- people who are asked by an agent ---

FORM = {"type": "object", "properties": {"limit": {"type": "integer"}}, "required": ["limit"]}


def test_an_agent_asks_a_person_and_goes_on_at_the_same_turn(tmp_path: Path) -> None:
    asks: Call = ("ask_person", {"question": "How much at most?", "form": FORM})
    bench = bench_of(tmp_path, [asks])
    for _ in range(2):
        ran = bench.run()
        assert ran.outcome.status == "waiting" and ran.outcome.exit_code == 3
        assert [w["ask"] for w in ran.outcome.waits] == ["How much at most?"]
        assert len(model(bench).requests) == 1, "nothing is asked of the model while nobody answered"
    wait = answer(bench, "ask_person", {"limit": 5})
    assert (wait.step_path, wait.form["required"]) == ("a", ["limit"])
    model(bench).turns = ["At most 5."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and bench.output(ran, "a") == "At most 5.\n"
    assert len(model(bench).requests) == 2
    (told,) = model(bench).told
    assert json.loads(told["content"]) == {"limit": 5} and "is_error" not in told
    step = ran.step("a")
    assert (step["usage"]["input_tokens"], step["attempts"]) == (20, 1), "no turn is paid again"


def test_a_form_that_nobody_can_fill_in_is_corrected_by_the_agent(tmp_path: Path) -> None:
    asks: list[list[Call]] = [
        [("ask_person", {"question": "How much at most?", "form": form})]
        for form in ({"type": "array"}, {"properties": {"limit": {"type": "money"}}}, FORM)
    ]
    bench = bench_of(tmp_path, *asks)
    assert bench.run().outcome.status == "waiting"
    assert len(model(bench).requests) == 3
    for index, why in (1, "its `type` is array"), (2, "properties.limit.type: 'money' is not"):
        (told,) = model(bench).requests[index]["messages"][-1]["content"]
        assert told["is_error"] and why in told["content"] and "Nobody was asked" in told["content"]
    answer(bench, "ask_person", {"limit": 5})
    model(bench).turns = ["At most 5."]
    assert bench.run().outcome.status == "completed"
    assert len(model(bench).requests) == 4


# --- certain people ---

THREE = {"assignees": ["ann", "bob", "cho"], "quorum": 2}
ASKS: Call = ("ask_person", {"question": "How much at most?"})


def rules(bench: Bench, **tools: dict[str, Any]) -> None:
    """What ann's tools-config.json says of her tools."""
    file = bench.catalog / "agents/ann/tools-config.json"
    file.write_text(json.dumps({"tools": {"ask_person": {}, **tools}}))


def vote(bench: Bench, voter: str, data: dict[str, Any] | None = None) -> WaitRow:
    with Ledger.open(bench.settings.database) as ledger:
        (wait,) = ledger.waits.list_open("default")
        return ledger.waits.vote("default", wait.wait_id, voter, "approve", data)


def late(bench: Bench) -> tuple[WaitRow, list[str]]:
    """The only question after its deadline, and the runs that go on by themselves then."""
    with Ledger.open(bench.settings.database) as ledger:
        return pass_deadline(ledger), ledger.steering.due_by_clock("default")


def asked(bench: Bench) -> WaitRow:
    with Ledger.open(bench.settings.database) as ledger:
        (wait,) = ledger.waits.list_open("default")
        return wait


def test_a_call_waits_for_two_of_three_and_is_made_once(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, [pay(tmp_path)])
    rules(bench, tool__pay={"approval": True, "people": THREE})
    assert bench.run().outcome.status == "waiting"
    with pytest.raises(UsageError, match="does not ask kim"):
        vote(bench, "kim")
    vote(bench, "bob")
    ran = bench.run()
    (told,) = ran.outcome.waits
    assert ran.outcome.status == "waiting" and payments(bench) == 0
    assert (told["kind"], told["assignees"], told["quorum"]) == ("action", THREE["assignees"], 2)
    vote(bench, "ann")
    model(bench).turns = ["Paid."]
    assert bench.run().outcome.status == "completed"
    assert bench.run().outcome.status == "completed"
    assert payments(bench) == 1 and len(model(bench).requests) == 2
    assert [row.sent for row in effects(bench)] == [1]


def test_a_call_that_nobody_approves_in_time_asks_others_and_then_fails_its_step(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, [pay(tmp_path)])
    people = {"assignees": "ann", "deadline": "1h", "on_timeout": "escalate", "escalate_to": "dee"}
    rules(bench, tool__pay={"approval": True, "people": people})
    assert bench.run().outcome.status == "waiting"
    escalated, due = late(bench)
    assert (escalated.state, escalated.assignees, due) == ("open", ("dee",), [])
    assert bench.run().outcome.status == "waiting"
    assert (asked(bench).assignees, asked(bench).wait_id) == (("dee",), escalated.wait_id)
    expired, due = late(bench)
    assert (expired.state, due) == ("expired", ["r"])
    for _ in range(2):
        error = bench.run().step("a")["error"]
        assert "nobody answered in time: May a call tool__pay" in error["message"]
        assert error["cure"] == "be asked again: phaseline resume r --from a"
        assert going_on_by(bench.row(), ()) == "phaseline resume r --from a", "a plain one fails again"
    assert payments(bench) == 0 and len(model(bench).requests) == 1

    model(bench).turns = [[pay(tmp_path)]]
    assert bench.run(redo=("a",)).outcome.status == "waiting"
    assert (asked(bench).assignees, asked(bench).wait_id != expired.wait_id) == (("ann",), True)
    late(bench)
    vote(bench, "dee")
    model(bench).turns = ["Paid."]
    assert bench.run().outcome.status == "completed" and payments(bench) == 1


def test_a_doubt_is_left_as_it_is_by_its_deadline(tmp_path: Path) -> None:
    call = pay(tmp_path, how="raises")
    bench = bench_of(tmp_path, [call])
    rules(bench, tool__pay={"people": {"assignees": "ann", "deadline": "1h", "on_timeout": "reject"}})
    assert bench.run().outcome.status == "waiting"
    assert late(bench)[0].state == "expired"
    ran = bench.run()
    assert ran.outcome.status == "failed" and "--from a" in ran.step("a")["error"]["cure"]
    assert [row.state for row in effects(bench)] == ["unknown"]
    model(bench).turns = [[call]]
    assert bench.run(redo=("a",)).outcome.status == "waiting"
    vote(bench, "ann", {"outcome": "done", "result": "receipt 7"})
    model(bench).turns = ["Paid."]
    assert bench.run().outcome.status == "completed"
    assert model(bench).told[0]["content"] == "receipt 7" and payments(bench) == 1


@pytest.mark.parametrize("panel", [False, True])
def test_an_agent_that_nobody_answers_in_time_goes_on(tmp_path: Path, panel: bool) -> None:
    """By itself: a deadline decided, and whoever waits for the clock is woken."""
    bench = bench_of(tmp_path, [ASKS])
    if panel:
        bench.write("w", steps('  - id: a\n    agents: [ann]\n    prompt: "[a] go"\n'))
    people = {"assignees": "ann", "deadline": "1h", "on_timeout": "reject"}
    rules(bench, ask_person={"people": people})
    assert bench.run().outcome.status == "waiting"
    wait, due = late(bench)
    assert (wait.state, due) == ("rejected", ["r"])
    model(bench).turns = ["Nobody knows."]
    assert bench.run().outcome.status == "completed"
    (told,) = model(bench).told
    assert told["content"].startswith("There was no answer in time") and "is_error" not in told


def test_who_is_asked_may_change_while_nothing_is_done_again(tmp_path: Path) -> None:
    """A finished step is reused, a paid turn is not paid again, and the open question has other people."""
    bench = bench_of(tmp_path, "First.", [ASKS])
    bench.write("w", steps(agent("a"), agent("b", after="a")))
    assert bench.run().outcome.status == "waiting"
    first = asked(bench)
    assert first.assignees == ()
    for people in (THREE, {**THREE, "deadline": "1h"}):
        rules(bench, ask_person={"people": people}, tool__pay={"people": people})
        ran = bench.run()
        assert ran.outcome.status == "waiting" and ran.reused == {"a": True, "b": False}
        wait = asked(bench)
        assert (wait.wait_id, wait.assignees, wait.quorum) == (first.wait_id, ("ann", "bob", "cho"), 2)
        assert (wait.deadline is not None) == ("deadline" in people)
    for voter in ("ann", "cho"):
        vote(bench, voter, {"text": "5"})
    model(bench).turns = ["At most 5."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and ran.reused["a"]
    assert len(model(bench).requests) == 3


# --- parallel calls ---


def test_parallel_calls_are_kept_one_by_one(tmp_path: Path) -> None:
    """Nothing but the journal keeps a call that only reads; the handler stands in for one that does."""
    stuck = pay(tmp_path, usd=2, until=str(tmp_path / "free"))
    bench = bench_of(tmp_path, [pay(tmp_path, usd=1), stuck], effect="none")

    def kept(name: str, data: dict[str, Any]) -> bool:
        return name == "tool.finished" and data["ordinal"] == 0

    assert bench.cancelled(kept).outcome.status == "cancelled"
    made = (tmp_path / "book").read_text().split()
    assert made.count("1") == 1
    (tmp_path / "free").touch()
    model(bench).turns = ["Paid."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and len(model(bench).requests) == 2
    assert (tmp_path / "book").read_text().split() == [*made, "2"], "the first is not called again"
    assert [json.loads(told["content"]) for told in model(bench).told] == [{"paid": 1}, {"paid": 2}]
    assert effects(bench) == []
