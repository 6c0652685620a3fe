"""Tells people how many requests of a run stand in a queue at its provider, for what, and until when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.limits.requests import OnEvent

_EVERY_S = 0.5
"""Seconds between two events at least: many come and go together."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a request waits, and until when, in UTC: its place, or the end of patience."""

    reason: str
    until: datetime
    seconds: float


class ProviderQueue:
    """Of one event loop. Events: `provider.waiting` whenever the number changes, `provider.passed` when
    nobody waits any more."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._standing: dict[asyncio.Task[Any], Standing] = {}
        self._told = 0
        self._timer: asyncio.TimerHandle | None = None

    def stand(self, task: asyncio.Task[Any], standing: Standing) -> None:
        """A request waits."""
        self._standing[task] = standing
        self._note()

    def leave(self, task: asyncio.Task[Any]) -> None:
        """It does not any more. Harmless when repeated."""
        if self._standing.pop(task, None) is not None:
            self._note()

    def close(self) -> None:
        """Nothing more is told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self) -> None:
        if self._timer is None:
            self._say()

    def _say(self) -> None:
        self._timer, count = None, len(self._standing)
        if count == self._told:
            return
        self._told = count
        if count:
            last = max(self._standing.values(), key=lambda one: one.until)
            told = {"waiting": count, "seconds": round(last.seconds, 1), "reason": last.reason}
            self._on_event("provider.waiting", {**told, "until": last.until.isoformat(timespec="seconds")})
        else:
            self._on_event("provider.passed", {})
        self._timer = asyncio.get_running_loop().call_later(_EVERY_S, self._say)
