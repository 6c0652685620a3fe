"""Units set out a few at a time, so that the first requests of a wide fan-out leave at once.

All steps that become ready together would otherwise take each small step of their preparation in turn, and
the first request would leave only when the last one is ready: nothing would overlap with the provider's
latency, and all answers would come back together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

LANES = 12
"""How many units prepare their first request at once."""
LONGEST = 0.05
"""Seconds after which a unit that prepares longer, or sends no request at all, makes room for the next: it
waits for something else then (a store, a tool's process), and others need not wait with it."""


class Departures:
    """Of one event loop, in which everything of it is called. Holds nobody for long, so that nothing can wait
    for it in a circle."""

    def __init__(self, lanes: int = LANES, longest: float = LONGEST) -> None:
        self._lanes = asyncio.Semaphore(lanes)
        self._longest = longest
        self._leaving: dict[str, list[asyncio.TimerHandle]] = {}

    @property
    def leaving(self) -> Collection[str]:
        """Paths of the units that prepare their first request now."""
        return self._leaving.keys()

    @contextlib.asynccontextmanager
    async def departing(self, path: str) -> AsyncIterator[None]:
        """Around the work of the unit at a path; waits for its turn. `note_departure` is called once it is on
        its way."""
        await self._lanes.acquire()
        timer: asyncio.TimerHandle = asyncio.get_running_loop().call_later(
            self._longest, lambda: self._end(path, timer)
        )
        self._leaving.setdefault(path, []).append(timer)
        try:
            yield
        finally:
            self._end(path, timer)

    def note_departure(self, path: str) -> None:
        """The unit is on its way: the next may set out. Harmless when repeated."""
        for timer in self._leaving.get(path, [])[:1]:
            self._end(path, timer)

    def _end(self, path: str, timer: asyncio.TimerHandle) -> None:
        leaving = self._leaving.get(path, [])
        if timer not in leaving:
            return
        timer.cancel()
        leaving.remove(timer)
        if not leaving:
            del self._leaving[path]
        self._lanes.release()
