"""What is out of order for longer than patience holds up who needs it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import update

from blocks.ledger import Ledger
from blocks.ledger.tables.schema import run
from blocks.models import ProviderAway, Retryable
from flows.run import MOST_WAKES, WAKES
from tasks.failures import Refused
from tests.support.flows import FLOW_MARKS, Bench, Script, agent, steps

pytestmark = FLOW_MARKS


def away() -> ProviderAway:
    return ProviderAway("overloaded", "", 600.0, 600.0, "overloaded")


@pytest.mark.parametrize(
    "held",
    [
        agent("a", "retries: {max: 3, delay: 10ms}"),
        agent("a", "on_failure: continue"),
        agent("a", "for_each: [1, 2, 3]", "max_concurrent: 1"),
        agent("a", "for_each: range(101) | list", "on_failure: continue"),
        '  - id: a\n    agents: [ann, bob]\n    prompt: "[a] go"\n',
        "  - id: a\n    workflow: inner\n    retries: {max: 2, delay: 10ms}\n",
    ],
    ids=["step", "continued", "items", "batches", "panel", "workflow"],
)
def test_who_needs_it_stops_and_the_others_go_on(tmp_path: Path, held: str) -> None:
    written = steps(held, agent("b", after="a"), agent("c"), agent("d", after="c"))
    bench = Bench(tmp_path, w=written + "finally:\n" + agent("last"))
    bench.write("inner", steps(agent("a")) + "finally:\n" + agent("inner-last"))
    bench.model.replies["a"] = [away()]
    ran = bench.run()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
    assert ran.statuses == {
        "a": "not_started",
        "b": "not_started",
        "c": "completed",
        "d": "completed",
        "last": "not_started",
    }
    assert ran.outcome.error is not None
    promise = (
        f"it goes on by itself after {ran.outcome.wake_at:%Y-%m-%d %H:%M} UTC; or now: phaseline resume r"
    )
    assert promise in ran.outcome.error["cure"]
    assert "by itself" not in json.dumps([row.error for row in bench.rows().values()]), "only the run does"
    assert ran.outcome.failed_steps == () and not ran.told("step.attempt_failed")
    assert ran.outcome.wake_at is not None and ran.outcome.wake_at > datetime.now(UTC)
    row = bench.row()
    assert row.state == "stopped" and row.wake_at is not None and "overloaded" in row.wake_reason
    assert not {"last", "inner-last"} & set(bench.model.asked)
    assert ran.state.name == "Stopped"
    bench.model = Script()
    again = bench.run()
    assert again.outcome.status == "completed"
    assert not {"c", "d"} & set(bench.model.asked) and "last" in bench.model.asked


def test_an_inner_workflow_beside_it_comes_to_its_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), "  - id: n\n    workflow: inner\n"))
    bench.write("inner", steps(agent("i")) + "finally:\n" + agent("inner-last"))
    bench.model.replies["a"] = [away()]
    ran = bench.run()
    assert ran.statuses == {"a": "not_started", "n": "completed"}
    assert "inner-last" in bench.model.asked


def test_a_failure_elsewhere_is_tried_again_when_the_run_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("c")))
    bench.model.replies.update(a=[away()], c=[RuntimeError("broken")])
    ran = bench.run()
    assert ran.outcome.status == "stopped"
    assert ran.statuses == {"a": "not_started", "c": "failed"}
    bench.model = Script()
    assert bench.run().outcome.status == "completed"


def test_a_wake_that_nobody_asked_for_tries_no_failure_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b"), agent("c", "on_failure: continue")))
    refused = Refused("the model refused")
    bench.model.replies.update(a=[refused], b=[away()], c=[Refused("not this either")])
    assert bench.run().outcome.status == "stopped"
    before = {path: (row.attempts, row.error) for path, row in bench.rows().items() if path != "b"}
    for _ in range(2):
        bench.model.asked.clear()
        ran = bench.run(woken=True)
        assert ran.outcome.status == "stopped" and ran.outcome.wake_at is not None
        assert set(bench.model.asked) == {"b"} and not ran.told("conversation.begun")
    bench.model = Script()
    ran = bench.run(woken=True)
    assert ran.statuses == {"a": "failed", "b": "completed", "c": "failed"} and bench.model.asked == ["b"]
    assert ran.outcome.status == "failed" and bench.row().wake_at is None
    assert ran.outcome.error is not None and ran.outcome.error["type"] == "Refused"
    after = {path: (row.attempts, row.error) for path, row in bench.rows().items() if path != "b"}
    assert after == before
    assert bench.run().outcome.status == "completed" and set(bench.model.asked) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "held",
    [
        agent("a", "for_each: [1, 2]"),
        '  - id: a\n    agents: [ann, bob]\n    prompt: "[a] go"\n',
        "  - id: a\n    workflow: inner\n",
    ],
    ids=["items", "panel", "workflow"],
)
def test_nor_one_of_a_part(tmp_path: Path, held: str) -> None:
    bench = Bench(tmp_path, w=steps(held, agent("b")))
    bench.write("inner", steps(agent("a")))
    bench.model.replies.update(a=[Refused("the model refused")], b=[away()])
    assert bench.run().outcome.status == "stopped"
    bench.model = Script()
    ran = bench.run(woken=True)
    assert ran.statuses == {"a": "failed", "b": "completed"} and bench.model.asked == ["b"]
    assert ran.outcome.status == "failed"
    assert bench.run().outcome.status == "completed"


def test_a_run_is_not_woken_in_vain_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", after="a")))
    bench.model.replies.update(a=[away()])
    bench.run()
    assert bench.run(woken=True).outcome.wake_at is not None
    assert bench.row().labels[WAKES] == 1
    wakes(bench, MOST_WAKES - 1)
    ran = bench.run(woken=True)
    assert ran.outcome.status == "stopped" and ran.outcome.wake_at is None and bench.row().wake_at is None
    assert ran.outcome.error is not None and "in vain" in ran.outcome.error["message"]
    assert ran.outcome.error["cure"] == "continue it with: phaseline resume r"
    wakes(bench, MOST_WAKES - 1)
    bench.model.replies.update(a=["Done."], b=[away()])
    assert bench.run(woken=True).outcome.wake_at is not None, "it got something done"
    assert bench.row().labels[WAKES] == 0
    bench.run()
    assert WAKES not in bench.row().labels, "a person asked"


def wakes(bench: Bench, count: int) -> None:
    """As if it had been woken so often."""
    labels = json.dumps({**bench.row().labels, WAKES: count})
    with Ledger.open(bench.settings.database) as ledger:
        ledger.access.write_blocking(lambda c: c.execute(update(run).values(labels=labels)), "run")


def test_a_fault_of_the_provider_is_no_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "retries: 0")))
    bench.model.replies["a"] = [*(Retryable("busy", "overloaded") for _ in range(3)), "At last."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and ran.step("a")["attempts"] == 1
    told = ran.told("request.retry")
    assert len(told) == 3 and all(t["step"] == "a" and t["until"] > t["since"] for t in told)


def test_waiting_for_the_ledger_is_no_time_of_the_step(tmp_path: Path) -> None:
    """Neither of its timeout, which stopped the run, nor of its budget."""
    bounded = agent("a", "timeout: 7", "retries: {max: 1, delay: 10ms}", "budget: {turns: 5, time: 8}")
    bench = Bench(tmp_path, w=steps(bounded))

    async def answered_while_it_is_locked() -> str:
        held = sqlite3.connect(bench.settings.database, isolation_level=None, check_same_thread=False)
        held.execute("BEGIN IMMEDIATE")
        threading.Timer(12, held.close).start()
        return "Paid."

    bench.model.replies["a"] = [answered_while_it_is_locked, "Paid twice."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and not ran.told("step.attempt_failed")
    assert bench.output(ran, "a") == "Paid.\n" and bench.model.asked == ["a"]
    assert ran.step("a")["attempts"] == 1 and ran.step("a")["usage"]["input_tokens"] == 10
    with Ledger.open(bench.settings.database) as ledger:
        (spent,) = ledger.time_budgets.of_run("default", "r")
    assert spent.spent < 8_000_000


def test_waiting_for_the_provider_is_no_time_of_a_timeout(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "timeout: 8", "retries: 0")))
    busy = [Retryable("busy", "overloaded", retry_after=5) for _ in range(2)]
    bench.model.replies["a"] = [*busy, "At last."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and ran.step("a")["attempts"] == 1


IN_TIME = {
    "run": (steps(agent("a"), also="total_timeout: 8s\n"), ""),
    "step": (steps("  - {id: n, workflow: inner, timeout: 3s, retries: {max: 1, delay: 10ms}}\n"), ""),
    "inner": (steps("  - {id: n, workflow: inner}\n"), "total_timeout: 3s\n"),
    "above": (steps("  - {id: n, workflow: inner}\n", also="total_timeout: 8s\n"), ""),
    "items": (steps("  - {id: n, workflow: inner, timeout: 3s, for_each: [1, 2]}\n"), ""),
}


@pytest.mark.parametrize("limit", IN_TIME)
def test_a_limit_of_time_makes_no_failure_of_what_is_waited_for(tmp_path: Path, limit: str) -> None:
    """The run had failed, and nothing woke it."""
    outer, head = IN_TIME[limit]
    bench = Bench(tmp_path, w=outer + "finally:\n" + agent("last"))
    bench.write("inner", steps(agent("a"), also=head) + "finally:\n" + agent("inner-last"))
    bench.model.replies["a"] = [Retryable("busy", "overloaded")]
    ran = bench.run()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4), ran.outcome.error
    assert not {"last", "inner-last"} & set(bench.model.asked), "what ends a run is not done before"
    assert not ran.told("step.attempt_failed") and ran.outcome.failed_steps == ()
    row = bench.row()
    assert row.state == "stopped" and row.wake_at is not None and "busy" in row.wake_reason
    assert ran.outcome.error is not None and "timeout" in ran.outcome.error["cure"]
    assert "failed" not in {row.state for row in bench.rows().values()}
    bench.model = Script()
    again = bench.run(woken=True)
    assert again.outcome.status == "completed", (again.outcome.error, row.active_us)
    assert "last" in bench.model.asked


def test_a_limit_of_time_that_work_takes_up_is_one(tmp_path: Path) -> None:
    """Also where something was waited for before."""
    bench = Bench(tmp_path, w=steps("  - {id: n, workflow: inner, timeout: 4s}\n"))
    bench.write("inner", steps(agent("a"), agent("b", after="a")))

    async def forever() -> str:
        await asyncio.sleep(600)
        return ""

    bench.model.replies.update(a=[Retryable("busy", "overloaded"), "At last."], b=[forever])
    ran = bench.run()
    assert ran.outcome.status == "failed" and ran.statuses == {"n": "failed"}
    assert "timeout of 4s" in ran.step("n")["error"]["message"]
