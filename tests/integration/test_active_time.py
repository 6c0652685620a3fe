"""Active time: what counts as work, what is kept of it, and what happens when it is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.ledger import Ledger, RunStart
from flows.steps.active_time import ActiveTime
from tasks.budget import BudgetSpent
from tasks.durable import Durable
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import BudgetPlan

HOUR = BudgetPlan(time=3600)


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield ledger


async def begun(ledger: Ledger, clock: Clock) -> ActiveTime:
    """The time of a process that begins the run, or goes on with it."""
    lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
    return ActiveTime(Durable(ledger, lease), nobody, clock=clock)


def nobody(_: PhaselineError) -> None:
    """Is told what stopped the run."""


def spent(ledger: Ledger) -> dict[str, int]:
    """Seconds by scope."""
    return {row.scope: row.spent // 1_000_000 for row in ledger.time_budgets.of_run("default", "r")}


def test_time_runs_while_any_unit_below_works(ledger: Ledger, clock: Clock) -> None:
    async def work() -> None:
        time = await begun(ledger, clock)
        async with time.of_step("a", HOUR), time.of_step("b", HOUR):
            clock.now += 100  # it waits for a place
            with time.working("a/one"):
                clock.now += 1
                with time.working("a/two"):
                    clock.now += 10
                clock.now += 2
            clock.now += 100
            with time.working("ab"), time.working("a"):
                clock.now += 20
            with time.working("a/one/inner"), time.standing("a/one/inner"):
                clock.now += 100

    asyncio.run(work())
    assert spent(ledger) == {"a": 33, "b": 0}


def test_standing_in_a_queue_is_no_work_unless_another_works(ledger: Ledger, clock: Clock) -> None:
    async def work() -> None:
        time = await begun(ledger, clock)
        async with time.of_step("a", HOUR):
            with time.working("a/one"):
                with time.standing("a/one"), time.standing("a/one"):
                    clock.now += 100
                    with time.working("a/two"):
                        clock.now += 5
                clock.now += 1
                with time.standing("a/three"):  # nobody's: it counts
                    clock.now += 2

    asyncio.run(work())
    assert spent(ledger) == {"a": 8}


def test_inner_time_counts_for_the_outer_step_and_for_each_on_its_own(ledger: Ledger, clock: Clock) -> None:
    async def work() -> None:
        time = await begun(ledger, clock)
        async with time.of_step("x", HOUR):
            for item in ("x/1", "x/2"):
                async with time.of_step(item, HOUR, "/workflow"):
                    with time.working(f"{item}/a"):
                        clock.now += 7

    asyncio.run(work())
    assert spent(ledger) == {"x": 14, "x/1/workflow": 7, "x/2/workflow": 7}


def test_time_is_added_up_over_processes(ledger: Ledger, clock: Clock) -> None:
    async def work(seconds: float) -> BudgetSpent | None:
        lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
        time = ActiveTime(Durable(ledger, lease), nobody, clock=clock)
        async with time.of_step("a", BudgetPlan(time=100)):
            if (refused := time.spent_budget("a/one")) is None:
                with time.working("a/one"):
                    clock.now += seconds
        clock.now += 1000  # nobody works on it
        await ledger.finish_run(lease, "stopped")
        return refused

    assert asyncio.run(work(60)) is None
    assert asyncio.run(work(39)) is None
    assert asyncio.run(work(20)) is None, "a second was left"
    refused = asyncio.run(work(1))
    assert refused is not None and refused.exit_code == 4
    assert refused.message == "the budget of the step a is spent: 1m40s of active time"
    assert refused.cure == "phaseline resume r --raise-budget a.time=DURATION"
    assert spent(ledger) == {"a": 119}


def test_time_is_noted_while_the_step_works(tmp_path: Path) -> None:
    """What a process that is killed worked is not lost."""

    async def killed() -> None:
        async with Ledger.open(tmp_path / "ledger.db") as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            time = ActiveTime(Durable(ledger, lease), nobody, tick=0.01)
            async with time.of_step("a", HOUR):
                with time.working("a"):
                    noted = 0
                    while not noted:
                        (row,) = await asyncio.to_thread(ledger.time_budgets.of_run, "default", "r")
                        noted = row.spent

    asyncio.run(asyncio.wait_for(killed(), 60))


def test_what_is_spent_while_it_works_is_cut_off(ledger: Ledger) -> None:
    stopped: list[PhaselineError] = []

    async def work() -> None:
        lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
        time = ActiveTime(Durable(ledger, lease), stopped.append)
        with pytest.raises(BudgetSpent):
            async with time.of_step("x", BudgetPlan(time=0.05)):
                with time.working("x/1"):
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        # Before it is cut off it is known why, so that nothing more is begun.
                        assert len(stopped) == 1
                        raise
        async with time.of_step("x", BudgetPlan(time=0.05)):
            assert time.spent_budget("x/2") is not None and time.spent_budget("y") is None

    asyncio.run(asyncio.wait_for(work(), 60))
    assert spent(ledger) == {"x": 0}
    assert ledger.time_budgets.of_run("default", "r")[0].spent >= 50_000


def test_a_foreign_cancellation_stays_one(ledger: Ledger, clock: Clock) -> None:
    async def work() -> None:
        time = await begun(ledger, clock)
        works = asyncio.Event()

        async def step() -> None:
            async with time.of_step("a", HOUR):
                with time.working("a"):
                    clock.now += 5
                    works.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(step())
        await works.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert spent(ledger) == {"a": 5}


def test_the_whole_run_works_as_long_as_its_process(ledger: Ledger, clock: Clock) -> None:
    error = BudgetSpent("spent", "raise it")

    async def work() -> None:
        time = await begun(ledger, clock)
        async with time.of_run(100, 60, error):
            assert time.spent_budget("a") is None
            clock.now += 40
            assert time.spent_budget("a") is error
        async with time.of_run(100, 100, error):
            assert time.spent_budget("a/1") is error
        async with time.of_run(None, 100, error):
            assert time.spent_budget("a/1") is None

    asyncio.run(work())
    assert spent(ledger) == {}


def test_what_is_left_is_that_of_the_budget_that_ends_first(ledger: Ledger, clock: Clock) -> None:
    async def work() -> None:
        time = await begun(ledger, clock)
        assert time.time_left("a/one") is None
        async with time.of_step("a", HOUR), time.of_step("a/one", BudgetPlan(time=60)):
            with time.working("a/one"):
                clock.now += 45
                one, two = time.time_left("a/one"), time.time_left("a/two")
                assert one is not None and (one.seconds, one.share) == (15, 0.75)
                assert two is not None and two.seconds == 3555
                assert time.time_left("b") is None

    asyncio.run(work())
