"""The turn journal: what a step has paid for is there again when it is continued."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Fenced, Ledger
from tests.support.flows import FLOW_MARKS, Bench, Script, agent, steps

pytestmark = FLOW_MARKS

REPAIRED = steps(agent("a", "output: {type: json, repair: 3}"))
"""A step of several turns: each reply that is no JSON is sent back."""


def turn(number: int) -> Any:
    return lambda name, data: name == "turn.started" and data["turn"] == number


async def stuck() -> str:
    """A request that is under way when the run is cancelled."""
    await asyncio.sleep(3600)
    return ""


def records(bench: Bench) -> int:
    with Ledger.open(bench.settings.database) as ledger:
        return len(ledger.reader.read(lambda c: c.exec_driver_sql("SELECT 1 FROM turn").fetchall()))


def test_a_step_goes_on_at_its_next_unpaid_turn(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=REPAIRED)
    bench.model.replies["a"] = ["no json", "no json either", stuck]
    first = bench.cancelled(turn(3))
    assert first.outcome.status == "cancelled"
    assert bench.model.asked == ["a", "a", "a"]
    bench.model = Script({"a": ['{"done": true}']})
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert bench.model.asked == ["a"], "the third turn alone"
    assert [d["turn"] for n, d in ran.events if n == "turn.replayed"] == [1, 2]
    step = ran.step("a")
    assert (step["usage"]["input_tokens"], step["usage"]["usd"]) == (30, 6.0), "each turn is counted once"
    assert step["attempts"] == 1, "it is the same attempt"


def test_it_goes_on_there_though_another_step_and_the_files_name_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "output: {type: json, repair: 3}"), agent("b", after="a")))
    bench.model.replies["a"] = ["no json", "no json either", stuck]
    bench.cancelled(turn(3))
    changed = steps(
        agent("first"), agent("a", "output: {type: json, repair: 3}"), agent("b", "timeout: 5m", after="a")
    )
    (bench.catalog / "w.yaml").unlink()
    (bench.catalog / "other name.yaml").write_text("workflow: w\n" + changed.replace("[b] go", "[b] go on"))
    bench.model = Script({"a": ['{"done": true}']})
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert sorted(bench.model.asked) == ["a", "b", "first"], "of a the third turn alone"
    assert ran.step("a")["usage"]["input_tokens"] == 30 and ran.step("a")["attempts"] == 1


def test_a_retry_goes_on_in_the_same_conversation(tmp_path: Path) -> None:
    text = steps(agent("a", "output: {type: json, repair: 3}", "retries: {max: 1, delay: 0.001}"))
    bench = Bench(tmp_path, w=text)
    bench.model.replies["a"] = ["no json", ValueError("broken"), "[1]"]
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert bench.model.asked == ["a", "a", "a"], "the first turn is not asked again"
    assert [d["turn"] for d in ran.told("turn.replayed")] == [1]
    assert ran.step("a")["attempts"] == 2
    assert ran.step("a")["usage"]["input_tokens"] == 20, "what failed cost nothing"


def test_what_a_failed_request_cost_stays_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", after="a")))
    lost = ValueError("broken")
    bench.model.replies["b"] = [lost]
    assert bench.run().outcome.status == "failed"
    bench.model = Script()
    ran = bench.run()
    assert ran.outcome.usage.input_tokens == 20
    assert ran.step("b")["attempts"] == 1, "what broke off goes on in its attempt"


def test_a_bad_end_is_not_replayed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "output: {type: json, repair: 1}")))
    bench.model.replies["a"] = ["no json"]
    assert bench.run().outcome.status == "failed"
    bench.model = Script({"a": ["[1]"]})
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert ran.step("a")["attempts"] == 2, "the same turns would lead to the same end"
    assert ran.step("a")["usage"]["input_tokens"] == 30


def test_another_definition_has_another_journal(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=REPAIRED)
    bench.model.replies["a"] = ["no json", stuck]
    bench.cancelled(turn(2))
    bench.write("w", REPAIRED.replace("[a] go", "[a] go on"))
    bench.model = Script({"a": ["[2]"]})
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert bench.model.asked == ["a"]
    assert ran.step("a")["usage"]["input_tokens"] == 20


def test_a_large_answer_is_kept_beside_the_ledger(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "output: {type: json, repair: 1}")))
    bench.model.replies["a"] = ["x" * 200_000, stuck]
    bench.cancelled(turn(2))
    assert records(bench) == 2, "what the tools say, and the answer"
    bench.model = Script({"a": ["[1]"]})
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert bench.model.asked == ["a"]


def test_who_lost_the_run_publishes_nothing(tmp_path: Path) -> None:
    """What people read stands in one place; the process that took over may have written there already."""
    bench = Bench(tmp_path, w=steps(agent("a")))

    def taken_over(name: str, data: dict[str, Any]) -> None:
        if name == "step.finished":
            with sqlite3.connect(bench.settings.database) as connection:
                connection.execute("UPDATE run SET lease_epoch = lease_epoch + 1")

    with pytest.raises(Fenced):
        bench.run(listen=taken_over)
    assert list((tmp_path / "storage").rglob("outputs/*")) == []
