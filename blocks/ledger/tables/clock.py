"""What time it is for a ledger, and when that is not believed.

A machine's clock that is days ahead would let deadlines approve, leases end and quotas come back, for good,
by any command. So a ledger of SQLite, which goes by its host's clock, remembers the latest time it has seen.
Where the clock is far ahead of it, and not because the machine ran on for as long, the ledger's own time goes
on from where it was: nothing is decided by the difference until a person says that the clock is right. Only
where nothing waits for a time at all, now or later, such a clock is believed without a word. A clock that is
behind what was seen takes that back: else whoever was ahead once could be ahead as far again.

A database that machines share goes by its own server's clock (server_clock.py).

Whatever decides by time asks `now_us` or the database, and never the host: tests/unit/test_asking_the_host.py
names who else may ask that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import Column, ColumnElement, Connection, func, select

from blocks import current_time
from blocks.current_time import day_of, passed_us
from blocks.ledger.tables.schema import budget, reservation, run, seen_time, wait
from workflows.core.errors import UsageError
from workflows.core.units import parse_duration

AHEAD = "PHASELINE_CLOCK_AHEAD"
"""How far a clock may be ahead of what the ledger has seen: a duration, 24h unless it is set."""
_AHEAD_S = 24 * 3600.0
_KEEP_EVERY_S = 60.0
_SEE_EVERY_US = 3600 * 1_000_000
_STEPPED_US = 60 * 1_000_000
"""How far a clock moves against the time since the machine's start where somebody has set it."""
_FOREVER = 2**62
_ROW = 1


@dataclass(frozen=True, slots=True)
class SeenTime:
    """A time that was seen: microseconds since 1970; and since the machine's start, which `boot` names."""

    latest: int
    boot: str = ""
    since_boot: int = 0

    @classmethod
    def now(cls) -> SeenTime:
        """As this machine has it."""
        return cls(current_time.wall_us(), current_time.boot(), current_time.since_boot_us())

    @property
    def expected(self) -> int:
        """What time it is at least: later by what passed since, where the machine was not started anew."""
        same = self.boot and self.boot == current_time.boot()
        return self.latest + max(0, current_time.since_boot_us() - self.since_boot) if same else self.latest


@dataclass(frozen=True, slots=True)
class Due:
    """What a clock that is far ahead would decide: waits by deadline, runs that wake, runs whose lease it
    ends, requests whose reservation it forfeits, and agents who may spend what they have a day once more."""

    waits: tuple[tuple[str, str], ...] = ()
    """(wait_id, what its deadline does)."""
    wakes: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    reservations: int = 0
    agents: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether it decides nothing."""
        return self == Due()


@dataclass(frozen=True, slots=True)
class ClockAhead:
    """A clock that is not believed: what it says, and what the ledger goes by, in microseconds since 1970."""

    clock: int
    latest: int
    due: Due

    @property
    def message(self) -> str:
        """For people: how far it is ahead."""
        days = (self.clock - self.latest) / 86_400_000_000
        return (
            f"this machine's clock says {_as_utc(self.clock)}, {days:.1f} days after anything that the "
            f"ledger has seen ({_as_utc(self.latest)}); nothing is decided by time"
        )

    def lines(self) -> list[str]:
        """What waits for it."""
        told = [f"{wait_id}: its deadline would have passed ({what})" for wait_id, what in self.due.waits]
        told += [f"{run_id}: it would go on by itself" for run_id in self.due.wakes]
        told += [f"{run_id}: it would be free for others to take over" for run_id in self.due.leases]
        if self.due.reservations:
            told.append(f"{self.due.reservations} requests would count as paid in full")
        told += [f"{agent}: its budget of the day would begin anew" for agent in self.due.agents]
        return told


class Clock(Protocol):
    """What a ledger goes by. `ahead`: the host's clock where that is not believed."""

    @property
    def ahead(self) -> ClockAhead | None: ...

    def look(self, connection: Connection) -> None: ...

    def keep(self, connection: Connection, *, confirmed: bool = False) -> None: ...

    def long_ago(self) -> bool: ...

    def now(self) -> int: ...


class LedgerClock:
    """The time of one ledger. Harmless to use from several threads."""

    def __init__(self, ahead_s: float = _AHEAD_S) -> None:
        self._ahead_us = int(ahead_s * 1_000_000)
        self._seen: SeenTime | None = None
        self._kept = 0.0
        self._kept_offset = 0
        self.ahead: ClockAhead | None = None

    def look(self, connection: Connection) -> None:
        """Compare the clock with what the ledger has seen."""
        self._seen, self.ahead = self._compare(connection)

    def _compare(self, connection: Connection) -> tuple[SeenTime | None, ClockAhead | None]:
        """What the ledger goes on from, and the clock where it is not believed for that."""
        seen = _read_seen_time(connection)
        if seen is None or not self._too_far(seen):
            return seen, None
        clock, expected = current_time.wall_us(), seen.expected
        # Also what is due later must not wait for nothing: believed now, the clock would be near it then.
        if _find_due(connection, _FOREVER, expected).nothing:
            return SeenTime.now(), None
        return seen, ClockAhead(clock, expected, _find_due(connection, clock, expected))

    def long_ago(self) -> bool:
        """Whether what the ledger has seen is so old, or so far ahead, that it should see the time again."""
        if self._seen is None:
            return True
        passed = self.now() - self._seen.latest
        return passed > _SEE_EVERY_US or passed < -_STEPPED_US

    def now(self) -> int:
        """Microseconds since 1970: the clock's, or where it is too far ahead what has passed for certain."""
        clock, seen = current_time.wall_us(), self._seen
        if seen is None or not self._too_far(seen, clock):
            return clock
        return seen.expected

    def keep(self, connection: Connection, *, confirmed: bool = False) -> None:
        """Write down the time with whatever is being written: once a minute, and when the clock was set.

        confirmed: whatever the clock says; a person answers for it.
        """
        here = SeenTime.now()
        offset = here.latest - passed_us()
        stepped = abs(offset - self._kept_offset) > _STEPPED_US
        if not confirmed and not stepped and time.monotonic() - self._kept < _KEEP_EVERY_S:
            return
        self._kept, self._kept_offset = time.monotonic(), offset
        # Read anew: another process may have been told that the clock is right, or have seen it go back.
        self._seen, self.ahead = (here, None) if confirmed else self._compare(connection)
        self._seen = SeenTime(self.now(), here.boot, here.since_boot)
        values = {"latest": self._seen.latest, "boot": here.boot, "since_boot": here.since_boot}
        changed = connection.execute(seen_time.update().where(seen_time.c.number == _ROW).values(**values))
        if changed.rowcount == 0:
            connection.execute(seen_time.insert().values(number=_ROW, **values))

    def _too_far(self, seen: SeenTime, clock: int | None = None) -> bool:
        return (current_time.wall_us() if clock is None else clock) - seen.expected > self._ahead_us


def allowed_ahead(environ: Mapping[str, str]) -> float:
    """Seconds that a clock may be ahead. Raises UsageError."""
    written = environ.get(AHEAD)
    try:
        return parse_duration(written) if written else _AHEAD_S
    except ValueError as error:
        raise UsageError(f"{AHEAD} is '{written}': {error}", f"write it as in {AHEAD}=24h") from None


# ---------------------------------------------------------------- the ledger and the machine


def _read_seen_time(connection: Connection) -> SeenTime | None:
    """What was kept; where nothing is yet, the last sign of life of a run; None in an empty ledger."""
    found = connection.execute(select(seen_time).where(seen_time.c.number == _ROW)).first()
    if found is not None:
        return SeenTime(found.latest, found.boot, found.since_boot)
    latest = connection.execute(select(func.max(run.c.updated), func.max(run.c.heartbeat))).one()
    return SeenTime(max(filter(None, latest), default=0)) if any(latest) else None


def _find_due(connection: Connection, clock: int, latest: int) -> Due:
    """What that clock decides and the latest time that was seen does not."""

    def between(column: Column[int]) -> ColumnElement[bool]:
        return column.between(latest + 1, clock)

    open_waits = select(wait.c.wait_id, wait.c.on_timeout).where(wait.c.state == "open")
    waits = connection.execute(open_waits.where(between(wait.c.deadline)).order_by(wait.c.deadline))
    stopped = select(run.c.run_id).where(run.c.state == "stopped", between(run.c.wake_at))
    held = select(run.c.run_id).where(run.c.state == "running", between(run.c.lease_until))
    reserved = select(func.count()).where(reservation.c.state == "held", between(reservation.c.expires))
    used = select(budget.c.budget_id).where(
        budget.c.budget_id.like(f"agent/%/{day_of(latest)}"),
        budget.c.tokens_spent + budget.c.tokens_reserved > 0,
    )
    anew = clock == _FOREVER or day_of(clock) != day_of(latest)
    days = connection.execute(used.order_by(budget.c.budget_id)).scalars() if anew else ()
    return Due(
        tuple((row.wait_id, row.on_timeout) for row in waits),
        tuple(connection.execute(stopped.order_by(run.c.wake_at)).scalars()),
        tuple(connection.execute(held.order_by(run.c.run_id)).scalars()),
        int(connection.execute(reserved).scalar_one()),
        tuple(budget_id.split("/", 1)[1].rpartition("/")[0] for budget_id in days),
    )


def _as_utc(moment: int) -> str:
    return datetime.fromtimestamp(moment // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
