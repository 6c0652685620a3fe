"""How long each kind of fault is waited out, and what happens then: the one place that says so.

Time decides, not tries. A fault that passes by itself is waited out with growing pauses until patience is
over; then the run stops, to be continued. What parts meet and wait for at the same time is one outage.
docs/failures.md shows FAULTS as a table.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from blocks.current_time import now_utc
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.units import parse_duration, shown_duration

T = TypeVar("T")

VARIABLE = "PHASELINE_PATIENCE"
SECONDS = 600.0
"""How long a fault is waited out where nobody says otherwise."""
AT_START = 20
"""A twentieth is waited before a run has done anything, since what is wrong then is mostly an address, and
for one call of an agent, which can be told and may know another way."""
COMMAND = 10.0
"""How long a command that runs nothing waits."""
HURRY = 1.0
"""Seconds that what a cancelled run still has to write waits for a fault."""

_UNHURRIED = 30.0
"""Seconds of patience from which on pauses are as the table says; a shorter one has shorter pauses."""
_PAUSES = 10
"""No pause is longer than such a part of patience."""
_JITTER = 0.5
_LOOK = 0.1
"""Seconds between two looks at whether somebody is in a hurry."""
_MOMENT = 1.0
"""Seconds of waiting that are nobody's concern, be they the first or the last."""


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
    3.0,
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
        """What is waited where little depends on it."""
        return Patience(self.seconds / AT_START)

    def longest(self, fault: Fault) -> float:
        """Seconds that pauses grow to."""
        return min(fault.longest, self.seconds / _PAUSES)

    def pause(self, fault: Fault, tries: int, chance: float = 0.0, asked: float | None = None) -> float:
        """Seconds before the try after `tries` (from 1); `chance`, from 0 to 1, shortens it by up to half, so
        that those who wait spread. What the other side `asked` for is obeyed."""
        first = fault.first * min(1.0, self.seconds / _UNHURRIED)
        grown = min(self.longest(fault), first * 2.0 ** min(tries - 1, 60))
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
class Outage:
    """A part, or a provider's credential, as all that use it meet it: whose faults are one fault.

    Times are of the monotonic clock. From any thread.
    """

    since: float | None = None
    """When it began; None while it answers."""
    given_up: float | None = None
    """Seconds after which somebody gave up: who is not more patient does not begin to wait. None: nobody."""
    tried: float = 0.0
    """When it was found to be away last, after somebody gave up."""
    writing: bool = False
    """Whether something cannot be written: that something can be read does not end it."""

    def note(self, now: float, *, writing: bool = True) -> float:
        """There was no answer; gives since when there is none."""
        since = self.since
        if since is None:
            since = self.since = now
        self.writing = self.writing or writing
        return since

    def end(self, *, writing: bool = True) -> None:
        """There was an answer."""
        if writing or not self.writing:
            self.since, self.given_up, self.writing = None, None, False

    def give_up(self, patience: Patience, now: float) -> None:
        """Somebody's patience is over; it counts for all when nobody was answered all the while."""
        since = self.since
        if since is not None and now - since >= patience.seconds / 2:
            self.given_up, self.tried = max(self.given_up or 0.0, patience.seconds), now

    def lets_in(self, patience: Patience, fault: Fault, now: float) -> bool:
        """Whether it may be asked: not where as much was waited already, but for one that goes to see each
        time the longest pause has passed."""
        if self.given_up is None or patience.seconds > self.given_up:
            return True
        if now < self.tried + patience.longest(fault):
            return False
        self.tried = now
        return True


@dataclass
class Telling:
    """When people are told of a wait: not of a moment, and less and less often."""

    after: float = 0.0
    """Seconds of waiting from which on they are told again."""

    def due(self, waited: float, pause: float, patience: Patience) -> bool:
        """Whether they are told, of a wait that lasts and is about to pause."""
        ahead = waited + pause
        if patience.seconds - waited < _MOMENT or ahead < max(
            self.after, min(_MOMENT, patience.seconds / 10)
        ):
            return False
        self.after = max(2 * ahead, _MOMENT)
        return True


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
    """Like `hurry`, but for one part alone, which is closed."""
    outage: Outage = field(default_factory=Outage)
    """How those meet it who wait for the same part: what one waits for, all wait for."""
    writing: bool = True
    """Whether something is to be written."""

    @classmethod
    def of_command(cls) -> Vigil:
        """For what runs nothing: a moment's fault is nobody's concern, a longer one is told."""
        return cls(Patience(COMMAND), at_work=False)

    def at_start(self) -> Vigil:
        """The same where little depends on it."""
        return Vigil(self.patience.at_start, self.tell, self.hurry)

    def apart(self) -> Vigil:
        """The same for one part of the run, whose end or outage is that of no other."""
        return replace(self, over=threading.Event(), outage=Outage())

    def reading(self) -> Vigil:
        """The same for what only reads of the part."""
        return replace(self, writing=False)

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

    def outwait_blocking(
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
            except Exception as error:  # noqa: BLE001 - raised again, unless it passes
                pause = wait.after(error, passing, over)
            else:
                wait.end()
                return value
            self.rest(pause)

    async def outwait(
        self,
        fault: Fault,
        work: Callable[[], Awaitable[T]],
        passing: Callable[[Exception], str | None],
        over: Callable[[Exception, float, float], Exception],
    ) -> T:
        """The same in an event loop."""
        wait = Wait(self, fault)
        while True:
            try:
                value = await work()
            except Exception as error:  # noqa: BLE001 - raised again, unless it passes
                pause = wait.after(error, passing, over)
            else:
                wait.end()
                return value
            await asyncio.sleep(pause)


class Wait:
    """One fault while it is waited for."""

    def __init__(self, vigil: Vigil, fault: Fault) -> None:
        self._vigil = vigil
        self._fault = fault
        self._since: float | None = None
        self._tries = 0
        self._paused = 0.0
        self._hurried: float | None = None
        self._telling = Telling()

    @property
    def seconds(self) -> float:
        """How long it has been waited for, pauses that were given included."""
        return 0.0 if self._since is None else max(time.monotonic() - self._since, self._paused)

    def after(
        self,
        error: Exception,
        passing: Callable[[Exception], str | None],
        over: Callable[[Exception, float, float], Exception],
    ) -> float:
        """Seconds until the next try after an error; raises it, or what is `over`, where there is none."""
        reason = passing(error)
        if reason is None:
            self.end()  # it answers again, if only with another fault
            raise error
        pause = self.next(reason)
        if pause is None:
            last = over(error, self.seconds, self._vigil.patience.seconds)
            raise last from (error.__cause__ if last is error else error)
        return pause

    def next(self, reason: str) -> float | None:
        """Seconds until the next try, which people are told; None when patience is over."""
        now, vigil = time.monotonic(), self._vigil
        began = vigil.outage.note(now, writing=vigil.writing)
        self._since = min(began, now if self._since is None else self._since)
        self._tries += 1
        pause = vigil.patience.pause(self._fault, self._tries, random.random())  # noqa: S311 - no secret
        if vigil.hurried:
            self._hurried = now if self._hurried is None else self._hurried
            return pause if now < self._hurried + HURRY else None
        waited = self.seconds
        left = vigil.patience.seconds - waited
        if left <= 0:
            vigil.outage.give_up(vigil.patience, now)
            return None
        pause = min(pause, left)
        if self._telling.due(waited, pause, vigil.patience):
            told = shown_wait(now - waited, vigil.patience.seconds, now)
            vigil.tell(
                "fault.waiting",
                {"part": self._fault.name, "reason": reason, **told, "delay": round(pause, 3)},
            )
        self._paused += pause
        return pause

    def end(self) -> None:
        """It is over."""
        self._vigil.outage.end(writing=self._vigil.writing)
        if self._telling.after:
            self._vigil.tell("fault.passed", {"part": self._fault.name, "seconds": round(self.seconds, 1)})
