"""What time it is for this process: what its ledger goes by, else what its host says.

Whatever decides by time asks `now_us` or the database, and never the host: blocks/ledger/tables/clock.py says
when a host's clock is not believed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Protocol


class HasTime(Protocol):
    """A clock that a process goes by. `now`: microseconds since 1970."""

    def now(self) -> int: ...


_of_thread = threading.local()
_of_process: list[HasTime] = []
_closed: list[HasTime] = []
"""That of the ledger which was closed last: what it knew still holds for what is decided afterwards."""


@contextlib.contextmanager
def use_clock(clock: HasTime) -> Iterator[None]:
    """Within it, in this thread, that clock is the ledger's."""
    before = getattr(_of_thread, "clock", None)
    _of_thread.clock = clock
    try:
        yield
    finally:
        _of_thread.clock = before


def add_clock(clock: HasTime) -> None:
    """The clock of a ledger that this process has opened: for moments that are made outside of a query."""
    _of_process.append(clock)


def remove_clock(clock: HasTime) -> None:
    """As it was before `add_clock`; where that was the only one, it goes on counting."""
    with contextlib.suppress(ValueError):
        _of_process.remove(clock)
        _closed[:] = [clock]


def now_us() -> int:
    """Microseconds since 1970, as the ledger of this process has it."""
    clock = getattr(_of_thread, "clock", None) or next(reversed(_of_process or _closed), None)
    return clock.now() if clock is not None else wall_us()


def now_utc() -> datetime:
    """The same as a date."""
    return datetime.fromtimestamp(now_us() / 1_000_000, UTC)


def day_of(moment: int) -> str:
    """The day (UTC) of a moment, as budgets by day are named."""
    return datetime.fromtimestamp(moment // 1_000_000, UTC).strftime("%Y-%m-%d")


def wall_us() -> int:
    """Microseconds since 1970 as this host has it: for a clock to begin with, and for no decision."""
    return time.time_ns() // 1000


def passed_us() -> int:
    """Microseconds that this machine has counted, whatever its clock was set to; only differences say
    something."""
    return since_boot_us() or time.monotonic_ns() // 1000


def since_boot_us() -> int:
    """Microseconds since the machine's start, time asleep included; 0 where the system does not tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return 0 if clock is None else time.clock_gettime_ns(clock) // 1000


@cache
def boot() -> str:
    """Which start of which machine it is; "" where the system does not tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return ""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
