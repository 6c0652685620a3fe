"""What a ledger in a file believes of its machine's clock, as it is set and set back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blocks import current_time
from blocks.current_time import day_of, now_us
from blocks.ledger import Amount, Ledger, RunStart, StepRecord
from blocks.ledger.waits.waits import WaitStart
from tests.support.ledgers import DAY, new_address


class Machine:
    """A machine whose clock is set, and its ledger; each use is a command of its own."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.ahead = 0.0

    def wall(self) -> int:
        return time.time_ns() // 1000 + int(self.ahead * DAY)

    def command(self, work: Callable[[Ledger], object] = lambda ledger: None) -> bool:
        """What every command does with deadlines, and a write; whether it believes the clock."""
        with Ledger.open(self.file) as ledger:
            ahead = ledger.clock_ahead()
            ledger.note_time()
            ledger.waits.expire_due("default")
            work(ledger)
            ledger.access.write_blocking(lambda _: None, "test")
        return ahead is None

    def run_ends(self) -> None:
        self.command(lambda ledger: asyncio.run(_one_run(ledger)))

    def asks(self, days: float) -> None:
        """A question that goes through by itself after so many days."""
        self.command(lambda ledger: asyncio.run(_asked(ledger, now_us() + int(days * DAY))))

    @property
    def state(self) -> str:
        with Ledger.open(self.file) as ledger:
            return ledger.waits.of_run_blocking("default", "asked")[0].state


async def _spent_today(ledger: Ledger) -> None:
    """An agent has used some of what it may on one day."""
    lease = await ledger.begin_run(RunStart(run_id="earlier", workflow="w"))
    budget = f"agent/team/ann/{day_of(now_us())}"
    await ledger.budgets.set_limits(lease, budget, {"tokens": 1000})
    await ledger.budgets.reserve(lease, "request", [budget], Amount(tokens=500), "s", DAY)
    await ledger.budgets.settle(lease, "request", Amount(tokens=500))
    await ledger.finish_run(lease, "completed")


async def _one_run(ledger: Ledger) -> None:
    lease = await ledger.begin_run(RunStart(run_id="earlier", workflow="w"))
    await ledger.finish_run(lease, "completed")


async def _asked(ledger: Ledger, deadline: int) -> None:
    lease = await ledger.begin_run(RunStart(run_id="asked", workflow="w"))
    await ledger.record_step(lease, StepRecord(step_path="ask", state="waiting"))
    start = WaitStart(
        run_id="asked",
        step_path="ask",
        wait_key="k",
        kind="approval",
        ask="Ship?",
        assignees=("kim",),
        deadline=deadline,
        on_timeout="approve",
    )
    await ledger.waits.open(lease, start)
    await ledger.finish_run(lease, "waiting")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path / "ledger.db")
    monkeypatch.setattr(current_time, "wall_us", found.wall)
    found.command()
    return found


def test_a_run_under_a_wrong_clock_does_not_make_it_believed_later(machine: Machine) -> None:
    machine.ahead = 10
    machine.run_ends()
    machine.ahead = 0
    machine.asks(2)
    machine.ahead = 9
    assert not machine.command()
    assert machine.state == "open"
    machine.ahead = 0
    assert machine.command()
    machine.ahead = 2.1  # nobody has said that it is right, and it is not
    assert not machine.command()
    assert machine.state == "open"
    assert machine.command(Ledger.confirm_clock) is False
    machine.command()
    assert machine.state == "answered"


def test_steps_of_a_clock_do_not_add_up_to_a_deadline(machine: Machine) -> None:
    """Each of them decides nothing by itself: with a question open, none is believed."""
    machine.asks(20)
    for machine.ahead in (10, 19.5, 20.1):
        machine.command()
        assert machine.state == "open"


def test_a_clock_set_within_one_command_is_seen_at_its_next_write(machine: Machine) -> None:
    machine.ahead = 10
    with Ledger.open(machine.file) as ledger:
        asyncio.run(_one_run(ledger))
        machine.ahead = 0
        asyncio.run(_asked(ledger, now_us() + 2 * DAY))
    machine.ahead = 9
    assert not machine.command()
    assert machine.state == "open"


def test_a_machine_that_was_off_for_weeks_goes_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_time, "boot", lambda: "the next start")
    machine.ahead = 21
    assert machine.command(), "nothing waits for a time"
    machine.run_ends()
    machine.asks(2)
    machine.ahead = 21.5
    assert machine.command()
    assert machine.state == "open"
    machine.ahead = 22.4
    assert machine.command()
    machine.ahead = 23.1
    assert machine.command()
    assert machine.state == "answered"


def test_with_a_question_open_a_person_is_asked_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.asks(30)
    monkeypatch.setattr(current_time, "boot", lambda: "the next start")
    machine.ahead = 21
    assert not machine.command()
    machine.command(Ledger.confirm_clock)
    assert machine.command()
    assert machine.state == "open"


def test_what_an_agent_may_spend_a_day_does_not_begin_anew(machine: Machine) -> None:
    machine.command(lambda ledger: asyncio.run(_spent_today(ledger)))
    today = day_of(machine.wall())
    machine.ahead = 5
    with Ledger.open(machine.file) as ledger:
        found = ledger.clock_ahead()
        assert day_of(now_us()) == today
    assert found is not None and "team/ann: its budget of the day would begin anew" in found.lines()
    machine.command(Ledger.confirm_clock)
    assert machine.command(), "a person has said that it is right"
    assert day_of(now_us()) != today


def test_what_a_ledger_knew_of_the_clock_holds_after_it_was_closed(machine: Machine) -> None:
    """A deployed run says when it is to go on once its ledger is closed."""
    machine.asks(2)
    machine.ahead = 5
    machine.command()
    assert abs(now_us() - time.time_ns() // 1000) < DAY


@pytest.mark.cluster
@pytest.mark.parametrize("days", [-3, 5])
def test_a_shared_ledger_goes_by_its_server_and_by_no_host(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    """A host that was behind by more than a question's time had its deadline decide at once."""
    address = new_address(request, "postgresql", tmp_path)
    monkeypatch.setattr(current_time, "wall_us", lambda: time.time_ns() // 1000 + int(days * DAY))
    with Ledger.open(address, migrate=True) as ledger:
        assert abs(now_us() - time.time_ns() // 1000) < DAY // 100
        assert ledger.clock_ahead() is None
        asyncio.run(_asked(ledger, now_us() + 2 * DAY))
        ledger.waits.expire_due("default")
        assert [row.state for row in ledger.waits.of_run_blocking("default", "asked")] == ["open"]
