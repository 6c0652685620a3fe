"""What other processes may ask of a run, and which runs are due, on both databases."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.ledger import Fenced, Ledger, Owner, RunChanged, RunStart, RunTakenBack, StepRecord
from blocks.ledger.waits.waits import WaitStart
from tests.support.ledgers import DATABASES, new_address

TENANT = "default"


@pytest.fixture(params=DATABASES)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger.open(new_address(request, request.param, tmp_path), migrate=True) as opened:
        yield opened


def start(run_id: str = "r") -> RunStart:
    """A run."""
    return RunStart(run_id=run_id, workflow="w")


def asking(run_id: str = "r") -> WaitStart:
    """A question of a run."""
    return WaitStart(run_id=run_id, step_path="s", wait_key="k", kind="approval", ask="?")


def state(ledger: Ledger, run_id: str = "r") -> str:
    """Of the run."""
    row = ledger.reader.get_run(TENANT, run_id)
    assert row is not None
    return row.state


def test_a_run_that_nobody_works_on_is_cancelled_with_its_waits(ledger: Ledger) -> None:
    async def prepare() -> None:
        lease = await ledger.begin_run(start())
        await ledger.waits.open(lease, asking())
        await ledger.finish_run(lease, "waiting")

    asyncio.run(prepare())
    assert not ledger.steering.is_idle(TENANT)
    assert ledger.steering.request_cancel(TENANT, "r") == "cancelled"
    assert (state(ledger), [w.state for w in ledger.waits.of_run_blocking(TENANT, "r")]) == (
        "cancelled",
        ["cancelled"],
    )
    assert ledger.steering.is_idle(TENANT)
    assert ledger.steering.request_cancel(TENANT, "r") == "ended"
    assert ledger.steering.request_cancel(TENANT, "none") == "unknown"


def test_a_holder_is_asked_and_sees_it(ledger: Ledger) -> None:
    """Also that the request is over when the run goes on."""

    async def hold() -> None:
        lease = await ledger.begin_run(start())
        await ledger.waits.open(lease, asking())
        seen = asyncio.Event()
        async with ledger.keep_lease(lease, lambda error: None, seen.set):
            assert not await ledger.steering.asked_to_end(lease)
            assert ledger.steering.request_cancel(TENANT, "r") == "requested"
            async with asyncio.timeout(20):
                await seen.wait()
        await ledger.finish_run(lease, "cancelled")
        assert [w.state for w in ledger.waits.of_run_blocking(TENANT, "r")] == ["cancelled"]
        again = await ledger.begin_run(start())
        assert not await ledger.steering.asked_to_end(again)
        await ledger.finish_run(again, "completed")

    asyncio.run(hold())
    assert ledger.steering.request_cancel(TENANT, "r") == "ended"
    assert state(ledger) == "completed"


def test_a_holder_that_lost_touch_writes_nothing_after_a_cancel(ledger: Ledger) -> None:
    async def main() -> None:
        here = Owner.current()
        gone = Owner(here.host, here.boot, 2**22 + 1, here.started)
        lease = await ledger.begin_run(start(), gone)
        assert ledger.steering.request_cancel(TENANT, "r") == "cancelled"
        with pytest.raises(Fenced):
            await ledger.finish_run(lease, "completed")

    asyncio.run(main())
    assert state(ledger) == "cancelled"


def test_what_a_quota_stopped_is_due_from_its_time_on(ledger: Ledger) -> None:
    soon, past = time.time_ns() // 1000 + 3_600_000_000, time.time_ns() // 1000 - 1

    async def stop(run_id: str, wake_at: int | None) -> None:
        lease = await ledger.begin_run(start(run_id))
        await ledger.finish_run(lease, "stopped", wake_at=wake_at, wake_reason="quota")

    for run_id, wake_at in (("soon", soon), ("past", past), ("never", None)):
        asyncio.run(stop(run_id, wake_at))
    assert ledger.steering.due(TENANT) == ["past"]
    row = ledger.reader.get_run(TENANT, "soon")
    assert row is not None and (row.wake_at, row.wake_reason) == (soon, "quota")

    async def go_on() -> None:
        await ledger.finish_run(await ledger.begin_run(start("past")), "completed")

    asyncio.run(go_on())
    assert ledger.steering.due(TENANT) == []
    row = ledger.reader.get_run(TENANT, "past")
    assert row is not None and (row.wake_at, row.wake_reason) == (None, "")


def test_a_run_that_changed_since_it_was_seen_is_not_continued(ledger: Ledger) -> None:
    async def main() -> None:
        await ledger.finish_run(await ledger.begin_run(start()), "waiting")
        seen = ledger.reader.get_run(TENANT, "r")
        assert seen is not None
        assert ledger.steering.request_cancel(TENANT, "r") == "cancelled"
        with pytest.raises(RunChanged, match="was cancelled meanwhile"):
            await ledger.begin_run(replace(start(), expect=seen.seen))
        assert state(ledger) == "cancelled"
        now = ledger.reader.get_run(TENANT, "r")
        assert now is not None
        await ledger.finish_run(await ledger.begin_run(replace(start(), expect=now.seen)), "stopped")
        with pytest.raises(RunChanged, match="it is stopped now"):
            await ledger.begin_run(replace(start(), expect=now.seen))

    asyncio.run(main())


def test_only_undoing_goes_on_with_a_run_that_is_taken_back(ledger: Ledger) -> None:
    """Also where the process that undid it was killed; what it asked people stays open."""

    async def main() -> None:
        await ledger.finish_run(await ledger.begin_run(replace(start(), labels={"a": 1})), "completed")
        here = Owner.current()
        gone = Owner(here.host, here.boot, 2**22 + 1, here.started)
        lease = await ledger.begin_run(replace(start(), take_back=True), gone)
        await ledger.waits.open(lease, asking())
        with pytest.raises(RunTakenBack, match="was taken back"):
            await ledger.begin_run(start())
        assert ledger.steering.request_cancel(TENANT, "r") == "cancelled"
        assert [w.state for w in ledger.waits.of_run_blocking(TENANT, "r")] == ["open"]
        with pytest.raises(RunTakenBack):
            await ledger.begin_run(start())
        again = await ledger.begin_run(replace(start(), take_back=True))
        await ledger.finish_run(again, "cancelled", keep_waits=True)

    asyncio.run(main())
    row = ledger.reader.get_run(TENANT, "r")
    assert row is not None and row.taken_back and row.labels["a"] == 1
    assert ledger.steering.due(TENANT) == []


def test_what_the_clock_made_due_is_told_from_what_people_answered(ledger: Ledger) -> None:
    async def wait_for(run_id: str, **asked: object) -> None:
        lease = await ledger.begin_run(start(run_id))
        await ledger.waits.open(lease, replace(asking(run_id), **asked))
        await ledger.record_step(lease, StepRecord(step_path="s", state="waiting"))
        await ledger.finish_run(lease, "waiting")

    async def stop() -> None:
        await ledger.finish_run(
            await ledger.begin_run(start("quota")), "stopped", wake_at=1, wake_reason="quota"
        )

    form = {"type": "object", "properties": {"by_timeout": {"type": "boolean"}}}
    late = {"deadline": 1, "on_timeout": "reject"}
    for run_id, asked in (("late", late), ("said", {"form": form}), ("open", {})):
        asyncio.run(wait_for(run_id, **asked))
    asyncio.run(stop())
    ledger.waits.expire_due(TENANT)
    (said,) = ledger.waits.of_run_blocking(TENANT, "said")
    # What a person writes does not pass for the clock.
    ledger.waits.vote(TENANT, said.wait_id, "ann", "approve", {"by_timeout": True})
    assert ledger.steering.due(TENANT) == ["late", "said", "quota"]
    assert ledger.steering.due_by_clock(TENANT) == ["late", "quota"]
