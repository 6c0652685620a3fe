"""How long each kind of fault is waited out, and what happens then: the one place that says so.

Time decides, not tries. A fault that passes by itself is waited out with growing pauses until patience is
over; then the run stops, to be continued. What parts meet and wait for at the same time is one outage.
docs/failures.md shows FAULTS as a table.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from workflows.core.errors import PhaselineError, UsageError
from workflows.core.units import parse_duration, shown_duration

T = TypeVar("T")

VARIABLE = "PHASELINE_PATIENCE"
SECONDS = 600.0
"""How long a fault is waited out where nobody says otherwise."""
AT_START = 20
"""Before a run has done anything a twentieth is waited: what is wrong then is mostly an address."""
COMMAND = 10.0
"""How long a command that runs nothing waits."""
HURRY = 1.0
"""Seconds that what a cancelled run still has to write waits for a fault."""

_UNHURRIED = 60.0
"""Seconds of patience from which on pauses are as the table says; a shorter one has shorter pauses."""
_PAUSES = 10
"""No pause is longer than such a part of patience."""
_JITTER = 0.5
_LOOK = 0.1
"""Seconds between two looks at whether somebody is in a hurry."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault that passes by itself.

    Pauses double from `first` to `longest` seconds. `over`: what happens when patience is over.
    """

    name: str
    counts: str
    """What counts as one, for people."""
    first: float
    longest: float
    over: str
    bound: str = "patience"
    """How long it is waited out."""


PROVIDER = Fault(
    "provider",
    "429, 408, 409, 5xx, 529, an overload in the middle of a stream, no connection, silence, a cut stream",
    1.0,
    30.0,
    "the run stops (exit 4), and goes on by itself",
)
LEDGER = Fault(
    "ledger",
    "PostgreSQL that cannot be reached or found, restarts, shuts down or has no time; a deadlock; "
    "a locked SQLite file",
    0.02,
    2.0,
    "the run ends here (exit 4) and says what could not be kept; continued, it goes on from what was",
)
STORE = Fault(
    "store",
    "a bucket that refuses connections or answers 5xx or SlowDown; a folder that is busy or stale",
    0.2,
    10.0,
    "the run stops (exit 4), and goes on by itself",
)
ORCHESTRATION = Fault(
    "Prefect server",
    "Prefect's server that cannot be reached or answers 408, 429, 500, 502, 503 or 504",
    0.5,
    30.0,
    "a run that has not begun stops (exit 4), and goes on by itself; another one ends as its steps did",
)
EFFECT = Fault(
    "effect",
    "an idempotent call without an outcome; a call, or an MCP server, whose connection could not be opened",
    0.5,
    30.0,
    "the agent is told, or the step fails; a `once` call in doubt is a question to a person at once",
    "a twentieth of patience",
)
SERVER = Fault(
    "kept server",
    "the local Prefect server's process ended by itself",
    0.5,
    60.0,
    "its supervisor ends too, and the next command starts both",
    "10 minutes",
)
FAULTS = (PROVIDER, LEDGER, STORE, ORCHESTRATION, EFFECT, SERVER)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a fault is waited out."""

    seconds: float = SECONDS

    @classmethod
    def read(cls, environ: Mapping[str, str], catalog: float | None = None) -> Patience:
        """PHASELINE_PATIENCE, else what the catalog says (seconds), else ten minutes. Raises UsageError."""
        written = environ.get(VARIABLE, "").strip()
        if not written:
            return cls(SECONDS if catalog is None else catalog)
        try:
            return cls(parse_duration(written))
        except ValueError as fault:
            raise UsageError(
                f"{VARIABLE} is '{written}': {fault}", f"write it as in {VARIABLE}=10m"
            ) from None

    @property
    def at_start(self) -> Patience:
        """What is waited before a run has done anything."""
        return Patience(self.seconds / AT_START)

    def pause(self, fault: Fault, tries: int, chance: float = 0.0, asked: float | None = None) -> float:
        """Seconds before the try after `tries` (from 1); `chance`, from 0 to 1, shortens it by up to half, so
        that those who wait spread. What the other side `asked` for is obeyed."""
        first, longest = fault.first * min(1.0, self.seconds / _UNHURRIED), self.seconds / _PAUSES
        grown = min(fault.longest, longest, first * 2.0 ** min(tries - 1, 60))
        return max(grown * (1 - _JITTER * chance), asked or 0.0)


class PatienceOver(PhaselineError):
    """A fault lasted longer than it is waited for: what needed it stops, and can go on later.

    `waited` is in seconds; `wake_at` is when it is worth trying again. Its cure promises nothing: who writes
    down that a run goes on says so.
    """

    final = True
    exit_code = 4

    def __init__(
        self, message: str = "", cure: str = "", waited: float = 0.0, wake_after: float = SECONDS
    ) -> None:
        from blocks.ledger.clock import now_utc  # the ledger's modules wait with what is here

        self.waited = waited
        self.wake_at = now_utc() + timedelta(seconds=wake_after)
        self._mend = cure
        told = f"{message} (waited {shown_duration(round(waited, 1))})" if waited > 0 else message
        super().__init__(told)
        self._then("once it answers, run the command again")

    def _then(self, again: str) -> None:
        self.cure = f"{self._mend}; {again}" if self._mend else again

    def continued_by(self, command: str) -> None:
        """Say what a person has to run, once what was away answers: nothing is written down that would."""
        self._then(f"once it answers: {command}")

    def goes_on(self, run_id: str) -> None:
        """Say that the run goes on by itself. For who has written that down."""
        at = f"{self.wake_at:%Y-%m-%d %H:%M} UTC"
        self._then(f"it goes on by itself after {at}; or now: phaseline resume {run_id}")


class PrefectAway(PatienceOver):
    """Prefect's server was out of order for longer than it is waited for."""


Tell = Callable[[str, dict[str, Any]], None]
"""Called with an event, from any thread:

- `fault.waiting`: part, reason, since, until (ISO 8601 in UTC), delay (seconds)
- `fault.passed`: part, seconds
"""


def tell_nobody(name: str, data: dict[str, Any]) -> None:
    """A `Tell` for callers that do not watch."""


def shown_wait(since: float, seconds: float, now: float) -> dict[str, str]:
    """`since` and `until` for people, of a wait of `seconds` that began then on the monotonic clock."""
    began = datetime.now(UTC) - timedelta(seconds=now - since)
    until = began + timedelta(seconds=seconds)
    return {"since": began.isoformat(timespec="seconds"), "until": until.isoformat(timespec="seconds")}


@dataclass
class Vigil:
    """Waits faults out for the parts of one run, or of one command: with how much patience, and who is told.

    Once `hurry` is set (the run is cancelled) nothing is waited for longer than a moment.
    """

    patience: Patience = field(default_factory=Patience)
    tell: Tell = field(default=tell_nobody, repr=False)
    hurry: threading.Event = field(default_factory=threading.Event)
    at_work: bool = True
    """Whether a run waits, and not a command that only looks or answers."""
    over: threading.Event = field(default_factory=threading.Event)
    """Like `hurry`, but for one part alone: it is closed, or was waited for in vain."""

    @classmethod
    def of_command(cls) -> Vigil:
        """For what runs nothing: a moment's fault is nobody's concern, a longer one is told."""
        return cls(Patience(COMMAND), at_work=False)

    def at_start(self) -> Vigil:
        """The same before anything of a run was done."""
        return Vigil(self.patience.at_start, self.tell, self.hurry)

    def apart(self) -> Vigil:
        """The same for one part of the run, whose end hurries no other."""
        return replace(self, over=threading.Event())

    @property
    def hurried(self) -> bool:
        """Whether nothing is waited for longer than a moment."""
        return self.hurry.is_set() or self.over.is_set()

    def rest(self, seconds: float) -> None:
        """Blocks the thread for so long; less once it is in a hurry."""
        until = time.monotonic() + seconds
        if self.hurried:
            time.sleep(min(seconds, _LOOK))
        while not self.hurried and (left := until - time.monotonic()) > 0:
            self.hurry.wait(min(left, _LOOK))

    def outwait(
        self,
        fault: Fault,
        work: Callable[[], T],
        passing: Callable[[Exception], str | None],
        over: Callable[[Exception, float, float], Exception],
    ) -> T:
        """What `work` gives; where it meets a fault that passes, the same again, blocking the thread.

        `passing` gives the reason of one that does, None for any other. `over` makes what is raised in
        the end, of the last fault, the seconds that were waited, and those after which to try again.
        """
        wait = Wait(self, fault)
        while True:
            try:
                value = work()
            except Exception as error:
                reason = passing(error)
                if reason is None:
                    wait.end()  # it answers again, if only with another fault
                    raise
                pause = wait.next(reason)
                if pause is None:
                    raise over(error, wait.seconds, self.patience.seconds) from error
                self.rest(pause)
            else:
                wait.end()
                return value


class Wait:
    """One fault while it is waited for."""

    def __init__(self, vigil: Vigil, fault: Fault) -> None:
        self._vigil = vigil
        self._fault = fault
        self._since: float | None = None
        self._tries = 0
        self._hurried: float | None = None
        self._told = 0.0

    @property
    def seconds(self) -> float:
        """How long it has been waited for."""
        return 0.0 if self._since is None else time.monotonic() - self._since

    def next(self, reason: str) -> float | None:
        """Seconds until the next try, which people are told; None when patience is over."""
        now, vigil = time.monotonic(), self._vigil
        self._since = now if self._since is None else self._since
        self._tries += 1
        pause = vigil.patience.pause(self._fault, self._tries, random.random())  # noqa: S311 - no secret
        if vigil.hurried:
            self._hurried = now if self._hurried is None else self._hurried
            return pause if now < self._hurried + HURRY else None
        left = self._since + vigil.patience.seconds - now
        if left <= 0:
            return None
        pause = min(pause, left)
        # Short ones are nobody's concern, and long ones are not told with every try.
        waited = now - self._since
        if waited >= min(1.0, vigil.patience.seconds / 10) and waited >= self._told:
            self._told = max(2 * waited, 1.0)
            told = shown_wait(self._since, vigil.patience.seconds, now)
            vigil.tell(
                "fault.waiting",
                {"part": self._fault.name, "reason": reason, **told, "delay": round(pause, 3)},
            )
        return pause

    def end(self) -> None:
        """It is over."""
        if self._told:
            self._vigil.tell("fault.passed", {"part": self._fault.name, "seconds": round(self.seconds, 1)})


@dataclass
class Outage:
    """A provider's credential as the requests of one run meet it: whose faults are one fault.

    Times are of the monotonic clock. Of one event loop.
    """

    since: float | None = None
    """When it began; None while requests are answered."""
    given_up: float | None = None
    """Seconds after which somebody gave up: who is not more patient does not begin to wait. None: nobody."""

    def note(self, now: float) -> float:
        """A request was not answered; gives since when none is."""
        if self.since is None:
            self.since = now
        return self.since

    def end(self) -> None:
        """A request was answered."""
        self.since, self.given_up = None, None

    def give_up(self, patience: Patience, now: float) -> None:
        """Somebody's patience is over; it counts for all when nobody was answered all the while."""
        if self.since is not None and now - self.since >= patience.seconds / 2:
            self.given_up = max(self.given_up or 0.0, patience.seconds)

    def hopeless(self, patience: Patience) -> bool:
        """Whether as much was waited already."""
        return self.given_up is not None and patience.seconds <= self.given_up
