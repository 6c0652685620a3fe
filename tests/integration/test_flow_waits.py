"""Runs that wait: other branches finish first, nothing is held, and the answer lets the run go on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, WaitRow
from deployments.runs.next_commands import going_on_by
from flows.holding import question_for_form
from tests.support.flows import FLOW_MARKS, Bench, Ran, agent, steps
from tests.support.gates import pass_deadline

pytestmark = FLOW_MARKS

APPROVAL = steps(
    agent("draft"),
    """\
  - id: agreed
    approval:
      ask: "Publish {{ draft | trim }}?"
      form: {type: object, properties: {amount: {type: integer, minimum: 1}}, required: [amount]}
    inputs: [draft]
""",
    agent("publish", "inputs: [agreed]"),
    agent("beside"),
)


def open_waits(bench: Bench) -> list[WaitRow]:
    with Ledger.open(bench.settings.database) as ledger:
        return ledger.waits.list_open("default")


def vote(bench: Bench, decision: str = "approve", data: Any = None, voter: str = "ann") -> WaitRow:
    """Answers the only open wait."""
    with Ledger.open(bench.settings.database) as ledger:
        (wait,) = ledger.waits.list_open("default")
        return ledger.waits.vote("default", wait.wait_id, voter, decision, data)  # type: ignore[arg-type]


def body(bench: Bench, ran: Ran, step: str) -> Any:
    (ref, *_) = ran.step(step)["artifacts"]
    sha = ref["sha256"]
    return json.loads((Path(bench.storage) / "default" / "blobs" / sha[:2] / sha).read_text())


def test_a_run_waits_and_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=APPROVAL)
    ran = bench.run()
    assert ran.outcome.status == "waiting" and ran.outcome.exit_code == 3
    assert ran.statuses == {
        "draft": "completed",
        "agreed": "waiting",
        "publish": "not_started",
        "beside": "completed",
    }
    assert ran.state.is_paused()
    (told,) = ran.outcome.waits
    assert told["ask"] == "Publish The answer to draft.?"
    assert [e["sha256"] for e in told["evidence"]] == [ran.step("draft")["artifacts"][0]["sha256"]]
    assert bench.run().outcome.status == "waiting", "nobody answered yet"
    assert len(open_waits(bench)) == 1, "it is the same question"
    vote(bench, data={"amount": 5})
    again = bench.run()
    assert again.outcome.status == "completed"
    assert bench.model.asked == ["draft", "beside", "publish"]
    answer = body(bench, again, "agreed")
    assert (answer["approved"], answer["data"], answer["by_timeout"]) == (True, {"amount": 5}, False)
    assert answer["votes"][0]["voter"] == "ann"


def test_a_rejection_skips_what_follows(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=APPROVAL)
    bench.run()
    vote(bench, "reject")
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert ran.statuses["publish"] == "skipped"
    assert "agreed was rejected" in ran.step("publish")["reason"]
    assert body(bench, ran, "agreed")["approved"] is False


def test_a_condition_may_read_the_decision(tmp_path: Path) -> None:
    text = APPROVAL + "".join(agent("apologise", 'when: "not agreed.approved"', "depends_on: agreed"))
    bench = Bench(tmp_path, w=text)
    bench.run()
    vote(bench, "reject")
    ran = bench.run()
    assert (ran.statuses["publish"], ran.statuses["apologise"]) == ("skipped", "completed")


def test_a_deadline_decides(tmp_path: Path) -> None:
    for on_timeout, status, follower in (
        ("reject", "completed", "skipped"),
        ("approve", "completed", "completed"),
        ("fail", "failed", "not_started"),
    ):
        bench = Bench(
            tmp_path / on_timeout,
            w=steps(
                f"  - id: agreed\n    approval: {{ask: Go?, deadline: 0.05, on_timeout: {on_timeout}}}\n",
                agent("publish", "depends_on: agreed"),
            ),
        )
        assert bench.run().outcome.status == "waiting"
        time.sleep(0.06)  # the deadline itself is what is waited for
        with Ledger.open(bench.settings.database) as ledger:
            assert len(ledger.waits.expire_due("default")) == 1
        ran = bench.run()
        assert (ran.outcome.status, ran.statuses["publish"]) == (status, follower)


def test_a_step_that_nobody_answered_in_time_asks_again_when_its_run_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps("  - {id: agreed, approval: {ask: Go?, deadline: 1h}}\n"))
    assert bench.run().outcome.status == "waiting"
    with Ledger.open(bench.settings.database) as ledger:
        assert pass_deadline(ledger).state == "expired"
    error = bench.run().step("agreed")["error"]
    assert error["cure"] == "ask again: phaseline resume r"
    assert going_on_by(bench.row(), ()) == "phaseline resume r"
    assert bench.run().outcome.status == "waiting"
    vote(bench)
    assert bench.run().outcome.status == "completed"


def test_finally_comes_after_the_wait(tmp_path: Path) -> None:
    last = "finally:\n" + agent("tidy")
    bench = Bench(tmp_path, w=APPROVAL + last)
    ran = bench.run()
    assert ran.statuses["tidy"] == "not_started"
    vote(bench, data={"amount": 1})
    assert bench.run().statuses["tidy"] == "completed"


@pytest.mark.parametrize("before", [True, False])
def test_an_event_from_outside(tmp_path: Path, before: bool) -> None:
    text = steps(
        agent("order"),
        '  - id: paid\n    await_event: {type: payment, key: "order-7"}\n    depends_on: order\n',
        agent("ship", "inputs: [paid]"),
    )
    bench = Bench(tmp_path, w=text)

    def deliver() -> None:
        with Ledger.open(bench.settings.database) as ledger:
            for key in ("order-8", "order-7", "order-7"):
                ledger.waits.signal("default", "payment", key, f"event of {key}", {"usd": 3})

    if before:
        deliver()
    else:
        assert bench.run().outcome.status == "waiting"
        deliver()
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert body(bench, ran, "paid") == {
        "payload": {"usd": 3},
        "event_id": "event of order-7",
        "by_timeout": False,
    }


def test_any_event_of_a_type_but_none_for_an_empty_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps("  - id: paid\n    await_event: {type: payment}\n"))
    bench.run()
    with Ledger.open(bench.settings.database) as ledger:
        assert ledger.waits.signal("default", "payment", "order-8", "e", {"usd": 3})
    assert body(bench, bench.run(), "paid")["event_id"] == "e"

    event = '  - id: paid\n    await_event: {type: payment, key: "{{ order }}"}\n'
    bench.write("w", steps(event, also="inputs: {order: {type: string, default: ' '}}\n"))
    ran = bench.run(run_id="empty")
    assert ran.outcome.status == "failed"
    assert "key of the event it awaits is empty" in str(ran.step("paid")["error"])


def test_calls_are_not_approved_in_prefects_form() -> None:
    asked = {"kind": "approval", "assignees": [], "quorum": 1}
    assert question_for_form([asked]) == asked
    assert question_for_form([{**asked, "kind": "action"}]) is None


def test_what_is_asked_of_somebody_is_not_answered_in_prefects_form() -> None:
    asked = {"kind": "ask_person", "assignees": [], "quorum": 1}
    assert question_for_form([asked]) == asked
    assert question_for_form([{**asked, "assignees": ["ann"]}]) is None
    assert question_for_form([{**asked, "quorum": 2}]) is None


def test_a_wait_inside_a_workflow(tmp_path: Path) -> None:
    inner = steps("  - id: agreed\n    approval: {ask: Go?}\n", agent("after", "depends_on: agreed"))
    outer = steps("  - id: part\n    workflow: inner\n", agent("end", "depends_on: part"), agent("beside"))
    bench = Bench(tmp_path, w=outer, inner=inner)
    ran = bench.run()
    assert ran.outcome.status == "waiting"
    assert ran.statuses == {"part": "waiting", "end": "not_started", "beside": "completed"}
    assert [w["step"] for w in ran.outcome.waits] == ["part/agreed"]
    vote(bench)
    assert bench.run().outcome.status == "completed"
    assert bench.model.asked == ["beside", "after", "end"]
