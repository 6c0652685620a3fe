"""Budgets of time in runs: only work counts, over all processes, and a spent one stops the run resumably."""

from __future__ import annotations

import asyncio
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from blocks.ledger import CredentialState, Ledger, RunStart
from deployments.runs.budget_raises import raise_budgets, raised_limits
from deployments.services.run_details import Details
from deployments.terminal.display import Out
from deployments.terminal.run_details import print_details
from tests.support.flows import FLOW_MARKS, Bench, Ran, Script, agent, steps
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan

pytestmark = FLOW_MARKS

HOUR = 3_600_000_000
OWN = "budget: {time: 1h}"


class Raised(Bench):
    """A bench whose workflow has what `resume --raise-budget` made of it."""

    raised: Plan | None = None

    def plan(self, name: str = "w") -> Plan:
        return self.raised or super().plan(name)

    def raise_by(self, *words: str) -> None:
        with Ledger.open(self.settings.database) as ledger:
            self.raised = raise_budgets(ledger, self.row(), self.plan(), raised_limits(words))


class Known(Script):
    """A script whose requests count towards the limits of a credential."""

    credential = "c-1"


class Seen:
    """When events happened, on the clock by which budgets go: the last of each name and step."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str], float] = {}

    def __call__(self, name: str, data: dict[str, Any]) -> None:
        self.at[name, str(data.get("step", ""))] = time.monotonic()


def spent(bench: Bench) -> dict[str, float]:
    """Seconds by scope."""
    with Ledger.open(bench.settings.database) as ledger:
        return {row.scope: row.spent / 1e6 for row in ledger.time_budgets.of_run("default", "r")}


def use_up(bench: Bench, scope: str, limit: int = HOUR, share: float = 1.0) -> None:
    """Has an earlier process of the run work for so long, or for a share of it."""

    async def work(ledger: Ledger) -> None:
        lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
        await ledger.time_budgets.set_limit(lease, scope, limit)
        await ledger.time_budgets.spend(lease, scope, round(limit * share))
        await ledger.finish_run(lease, "stopped")

    with Ledger.open(bench.settings.database, migrate=True) as ledger:
        asyncio.run(work(ledger))


def cure_of(ran: Ran) -> str:
    """What the cure says after --raise-budget; the run is stopped."""
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
    assert ran.outcome.error is not None
    words = shlex.split(ran.outcome.error["cure"])
    assert words[:3] == ["phaseline", "resume", "r"]
    return words[words.index("--raise-budget") + 1]


def test_waiting_for_a_place_is_not_counted(tmp_path: Path) -> None:
    both = [agent(name, OWN) for name in ("a", "b")]
    bench = Bench(tmp_path, w=f"max_concurrent: 1\n{steps(*both)}")
    ends: list[float] = []

    async def hold() -> str:
        await asyncio.sleep(0.2)
        ends.append(time.monotonic())
        return "done"

    bench.model.replies = {"a": [hold], "b": [hold]}
    seen = Seen()
    assert bench.run(listen=seen).outcome.status == "completed"
    second = bench.model.asked[1]
    after_the_first = seen.at["step.finished", second] - ends[0]
    # Who came second stood there while the first worked, and all the same took only what came after.
    assert 0.2 <= spent(bench)[second] <= after_the_first


def test_waiting_for_the_provider_is_not_counted(tmp_path: Path) -> None:
    """The credential cools down just before the step begins."""
    bench = Bench(tmp_path, w=steps(agent("b"), agent("a", OWN, after="b")))
    bench.model = Known()
    seen = Seen()

    def cool(state: CredentialState, at: int) -> tuple[CredentialState, None]:
        return replace(state, cooldown_until=at + 3_000_000), None

    with Ledger.open(bench.settings.database, migrate=True) as ledger:

        async def b() -> str:
            await ledger.credentials.change("default", "c-1", cool)
            await asyncio.sleep(0.3)  # what is known of a credential counts as fresh for less than that
            return "b"

        bench.model.replies["b"] = [b]
        assert bench.run(listen=seen).outcome.status == "completed"
    # Where this machine is so slow that it has cooled down before the step is there, nothing is shown.
    stood = seen.at["request.started", "a"] - seen.at.get(
        ("provider.waiting", ""), seen.at["request.started", "a"]
    )
    whole = seen.at["step.finished", "a"] - seen.at["step.finished", "b"]
    assert 0 < spent(bench)["a"] <= whole - stood


@pytest.mark.parametrize("where", ["step", "panel", "items", "inner step", "inner workflow", "item"])
def test_what_was_spent_before_stops_a_step_at_once(tmp_path: Path, where: str) -> None:
    """The words of the cure raise it; what was raised lasts."""
    panel = "  - {id: a, agents: [ann, bob], prompt: '[a]', budget: {time: 1h}}\n"
    inner, timed = "  - {id: x, workflow: inner, budget: {time: 1h}}\n", "budget: {time: 1h}\n"
    plain, own = steps(agent("a")), steps(agent("a", OWN))
    texts, scope = {
        "step": ({"w": own}, "a"),
        "panel": ({"w": steps(panel)}, "a"),
        "items": ({"w": steps(agent("a", OWN, "for_each: [1, 2]"))}, "a"),
        "inner step": ({"w": steps(inner), "inner": plain}, "x"),
        "inner workflow": (
            {"w": steps("  - {id: x, workflow: inner}\n"), "inner": timed + plain},
            "x/workflow",
        ),
        "item": ({"w": steps("  - {id: x, workflow: inner, for_each: [1]}\n"), "inner": own}, ""),
    }[where]
    bench = Raised(tmp_path, **texts)
    if where == "item":
        bench.model.replies["a"] = [ValueError("not yet"), "done"]
        assert bench.run().outcome.status == "failed"
        (scope,) = spent(bench)
        assert scope.startswith("x/") and scope.endswith("/a")
        bench.model = Script()
    use_up(bench, scope)
    for _ in range(2):
        ran = bench.run()
        assert cure_of(ran) == f"{scope}.time=DURATION"
        assert "1h of active time" in ran.outcome.error["message"]  # type: ignore[index]
    assert bench.model.asked == []
    bench.raise_by(f"{scope}.time=2h")
    assert bench.run().outcome.status == "completed"
    assert 3600 < spent(bench)[scope] < 7200


def test_a_finished_step_needs_no_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", OWN), agent("b", after="a")))
    bench.model.replies["b"] = [ValueError("not yet"), "done"]
    assert bench.run().outcome.status == "failed"
    use_up(bench, "a")
    ran = bench.run()
    assert ran.outcome.status == "completed" and ran.reused["a"]


def test_what_the_whole_run_spent_before_stops_it_at_once(tmp_path: Path) -> None:
    bench = Raised(tmp_path, w=f"budget: {{time: 1h}}\n{steps(agent('a'), agent('b', after='a'))}")
    bench.model.replies["b"] = [ValueError("not yet"), "done"]
    assert bench.run().outcome.status == "failed"
    with Ledger.open(bench.settings.database) as ledger:
        used = text("UPDATE run SET active_us = 3600000000")
        ledger.access.write_blocking(lambda connection: connection.execute(used), "test")
    asked = list(bench.model.asked)
    ran = bench.run()
    assert cure_of(ran) == "time=DURATION"
    assert bench.model.asked == asked and ran.reused["a"]
    bench.raise_by("time=2h")
    assert bench.run().outcome.status == "completed"


def test_a_spent_step_leaves_the_last_steps_of_its_workflow_for_later(tmp_path: Path) -> None:
    async def slow() -> str:
        await asyncio.sleep(60)
        return "late"

    bench = Raised(tmp_path, w=steps("  - {id: x, workflow: inner, budget: {time: 0.3}}\n"))
    bench.write("inner", f"{steps(agent('a'))}finally:\n{agent('z')}")
    bench.model.replies["a"] = [slow, "done"]
    assert cure_of(bench.run()) == "x.time=DURATION"
    assert bench.model.asked in (["a"], [])
    bench.raise_by("x.time=1h")
    bench.model.replies["a"] = ["done"]
    assert bench.run().outcome.status == "completed"
    assert bench.model.asked[-1] == "z"


def test_words_that_raise_no_time(tmp_path: Path) -> None:
    both = steps(agent("a", OWN), agent("b", OWN))
    bench = Raised(tmp_path, w=both)
    assert bench.run().outcome.status == "completed"
    with pytest.raises(UsageError, match="'c' has no budget of time") as fault:
        bench.raise_by("c.time=2h")
    assert fault.value.cure == "--raise-budget a.time=DURATION or --raise-budget b.time=DURATION"
    with pytest.raises(UsageError, match="as a whole has no limit of time"):
        bench.raise_by("time=2h")
    with pytest.raises(UsageError, match="of a is 1h already"):
        bench.raise_by("a.time=1m")
    bench.raise_by("a.time=2h", "b.time=3h")
    with Ledger.open(bench.settings.database) as ledger:
        raised = {row.scope: row.raised for row in ledger.time_budgets.of_run("default", "r")}
    assert raised == {"a": 2 * HOUR, "b": 3 * HOUR}


@pytest.mark.parametrize(("share", "told"), [(0.5, False), (0.95, True)])
def test_the_agent_is_told_to_come_to_an_end(tmp_path: Path, share: float, told: bool) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", OWN, "output: {type: json, repair: 1}")))
    use_up(bench, "a", share=share)
    bench.model.replies["a"] = ["no json", "[1]"]
    assert bench.run().outcome.status == "completed"
    said = ["of the time for this work is spent" in str(r["messages"][-1]) for r in bench.model.requests]
    assert said == [False, told]


def test_show_tells_the_time_beside_what_else_a_step_may_spend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "budget: {time: 1h, turns: 5}"), agent("b", OWN)))
    assert bench.run().outcome.status == "completed"
    with Ledger.open(bench.settings.database) as ledger:
        details = Details.read(ledger, bench.row(), [], events=False)
    capsys.readouterr()
    print_details(details, [], Out(), cost=True, events=False)
    assert capsys.readouterr().out.count("1h") == 2
    first, second = details.to_document(cost=True, events=False)["budgets"]
    assert first["id"].endswith("/step/a") and first["limits"]["time"] == 3600
    assert first["spent"]["turns"] == 1 and 0 < first["spent"]["time"] < 3600
    assert second["id"].endswith("/step/b") and second["limits"] == {"time": 3600}
