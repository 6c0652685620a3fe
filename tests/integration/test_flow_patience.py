"""What is out of order for longer than patience holds up who needs it, and nothing else."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.models import ProviderAway, Retryable
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
    assert ran.outcome.error is not None and "phaseline resume r" in ran.outcome.error["cure"]
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


def test_a_fault_of_the_provider_is_no_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "retries: 0")))
    bench.model.replies["a"] = [*(Retryable("busy", "overloaded") for _ in range(3)), "At last."]
    ran = bench.run()
    assert ran.outcome.status == "completed" and ran.step("a")["attempts"] == 1
    told = ran.told("request.retry")
    assert len(told) == 3 and all(t["step"] == "a" and t["until"] > t["since"] for t in told)


def test_an_answer_that_the_ledger_cannot_take_yet_outlives_the_timeout(tmp_path: Path) -> None:
    """It was lost, paid once more by the retry, and one retry was used up."""
    bounded = agent("a", "timeout: 4", "retries: {max: 1, delay: 10ms}", "budget: {turns: 5}")
    bench = Bench(tmp_path, w=steps(bounded))

    async def answered_while_it_is_locked() -> str:
        held = sqlite3.connect(bench.settings.database, isolation_level=None, check_same_thread=False)
        held.execute("BEGIN IMMEDIATE")
        threading.Timer(9, held.close).start()
        return "Paid."

    bench.model.replies["a"] = [answered_while_it_is_locked, "Paid twice."]
    ran = bench.run()
    assert ran.outcome.status == "stopped" and not ran.told("step.attempt_failed")
    assert bench.row().state == "stopped" and bench.rows()["a"].tries == 0
    again = bench.run()
    assert again.outcome.status == "completed" and bench.output(again, "a") == "Paid.\n"
    assert bench.model.asked == ["a"] and again.step("a")["usage"]["input_tokens"] == 10
