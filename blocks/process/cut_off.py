"""Work that waits for ledger or store, which is none of its own time, and work that is cut off: what it has
in hand is finished first, and it is known what it was waiting for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from blocks.patience import PatienceOver

T = TypeVar("T")

LONG = 0.5
"""Seconds from which on ledger or store count as waited for: they take milliseconds."""
SETTLE_SECONDS = 10.0
"""How long what is in hand holds its caller, beyond patience or when that is cancelled once more."""

_LOG = logging.getLogger(__name__)


@dataclass
class CutOff:
    """What a unit's work waited for when it was cut off, in words; "" for nothing."""

    reason: str = ""
    standing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the time for which it waits."""
    seconds: float = 0.0
    """How long."""


@dataclass
class _Hand:
    full: bool = False


_WATCH: ContextVar[CutOff | None] = ContextVar("phaseline_cut_off", default=None)
_HAND: ContextVar[_Hand | None] = ContextVar("phaseline_in_hand", default=None)


@contextmanager
def watching(standing: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[CutOff]:
    """Within it is found out what the work waits for, and for how long: `standing` is entered then."""
    token = _WATCH.set(watch := CutOff(standing=standing))
    try:
        yield watch
    finally:
        _WATCH.reset(token)


@contextmanager
def using(part: str) -> Iterator[None]:
    """Around a use of the `part` (ledger, store) that takes long only while that is out of order."""
    began, watch, waiting = time.monotonic(), _WATCH.get(), ExitStack()
    timer = None
    if watch is not None:
        enter = waiting.enter_context
        timer = asyncio.get_running_loop().call_later(LONG, lambda: enter(watch.standing()))
    try:
        yield
    except asyncio.CancelledError:
        _note_wait(part, began)
        raise
    finally:
        if timer is not None:
            timer.cancel()
            waiting.close()


def take_in_hand() -> None:
    """From here on the work in `uncut` is not to be cut off any more: it has what cannot be had again."""
    hand = _HAND.get()
    if hand is not None:
        hand.full = True


async def uncut(work: Coroutine[Any, Any, T], seconds: float, *, at_once: bool = False) -> T:
    """The end of `work`. A cancellation cuts it off as long as it has nothing in hand; afterwards, or
    `at_once`, it is waited for, for so many `seconds`, and then followed."""
    hand = _Hand(at_once)
    token = _HAND.set(hand)
    try:
        task = asyncio.ensure_future(work)
    finally:
        _HAND.reset(token)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        if hand.full:
            await outlive({task}, seconds, "ledger or store")
        else:
            task.cancel()
            await outlive({task}, seconds)
        raise
    return task.result()


async def outlive(tasks: Collection[asyncio.Future[Any]], seconds: float, part: str = "") -> None:
    """Whoever was cancelled waits for the end of `tasks`, for so many seconds; one more cancellation leaves
    them SETTLE_SECONDS, and a third none.

    What they raise is told to the log. `part`: what is out of order if they take long.
    """
    # Prefect's timeout cancels again and again until its task has ended: a plain wait would not last.
    from anyio import CancelScope

    began = time.monotonic()
    for task in tasks:
        task.add_done_callback(_log_fault)
    try:
        with CancelScope(shield=True):
            try:
                await asyncio.wait(tasks, timeout=seconds)
            except asyncio.CancelledError:
                await asyncio.wait(tasks, timeout=min(seconds, SETTLE_SECONDS))
    finally:
        for task in tasks:
            fault = None if not task.done() or task.cancelled() else task.exception()
            if isinstance(fault, PatienceOver) and (watch := _WATCH.get()) is not None:
                watch.reason, watch.seconds = fault.message, fault.waited
        if part:
            _note_wait(part, began)


def _log_fault(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (fault := task.exception()) is not None:
        _LOG.warning("what was cut off could not be kept: %s", fault)


def _note_wait(part: str, began: float) -> None:
    watch, seconds = _WATCH.get(), time.monotonic() - began
    if watch is not None and seconds >= LONG and not watch.reason:
        watch.reason, watch.seconds = f"the {part} did not answer for {seconds:.1f} s", seconds
