"""Work that is cut off: what it has in hand is finished first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from blocks.process.cut_off import take_in_hand, uncut, using, watching


class Work:
    """Receives something, and keeps it once it may."""

    def __init__(self) -> None:
        self.received, self.may_keep, self.kept = asyncio.Event(), asyncio.Event(), False

    async def do(self, *, paid: bool = True) -> str:
        if paid:
            take_in_hand()
        self.received.set()
        await self.may_keep.wait()
        self.kept = True
        return "kept"


async def by_timeout(work: Work, cut: Coroutine[Any, Any, Any]) -> None:
    """As Prefect does: again and again."""
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().create_task(cancelled_at(work, scope.cancel))
        await cut
    assert scope.cancelled_caught


async def by_signal(work: Work, cut: Coroutine[Any, Any, Any]) -> None:
    task = asyncio.ensure_future(cut)
    await cancelled_at(work, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_at(work: Work, cancel: Callable[[], Any]) -> None:
    await work.received.wait()
    cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(0.05, work.may_keep.set)


@pytest.mark.parametrize("how", [by_timeout, by_signal])
def test_what_was_received_is_kept_before_the_cancellation_goes_on(how: Any) -> None:
    async def case() -> bool:
        work = Work()
        await how(work, uncut(work.do(), 30))
        return work.kept

    assert asyncio.run(case())


@pytest.mark.parametrize("how", [by_timeout, by_signal])
def test_what_has_nothing_in_hand_is_cut_off(how: Any) -> None:
    async def case() -> bool:
        work = Work()
        await how(work, uncut(work.do(paid=False), 30))
        return work.kept

    assert not asyncio.run(case())


def test_it_holds_nobody_for_longer_than_it_may() -> None:
    async def case() -> bool:
        work = Work()
        task = asyncio.ensure_future(uncut(work.do(), 0.01))
        await work.received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kept = work.kept
        work.may_keep.set()
        await asyncio.sleep(0)
        return kept

    assert not asyncio.run(case())


def test_without_a_cancellation_it_is_the_work_itself() -> None:
    async def case() -> str:
        work = Work()
        work.may_keep.set()
        return await uncut(work.do(), 30)

    async def broken() -> None:
        raise ValueError("broken")

    assert asyncio.run(case()) == "kept"
    with pytest.raises(ValueError, match="broken"):
        asyncio.run(uncut(broken(), 30))


@pytest.mark.parametrize(("seconds", "known"), [(0.6, True), (0.0, False)])
def test_what_was_waited_for_is_known_when_it_took_long(seconds: float, known: bool) -> None:
    async def case() -> str:
        started = asyncio.Event()

        async def use() -> None:
            with using("ledger"):
                started.set()
                await asyncio.Event().wait()

        with watching() as watch:
            task = asyncio.ensure_future(use())
            await started.wait()
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait({task})
        return watch.reason

    assert ("ledger" in asyncio.run(case())) == known
