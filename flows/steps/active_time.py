"""How long a run and its steps really work, where a budget bounds it: counted, kept, and stopped at its end.

A step's time runs while at least one unit of it works. A unit that stands in a queue (for a place among
`max_concurrent`, at the limits of the provider or of a budget), or waits for a part that is out of order
(provider, ledger, store), does not work, and neither does a finished one that is taken over as it is. A
step's `timeout` counts the same: patience bounds what is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator

from anyio import CancelScope, fail_after

from blocks.ledger import Fenced, LedgerError
from tasks.budget import BudgetSpent, TimeLeft
from tasks.durable import Durable
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import BudgetPlan
from workflows.core.step_paths import within
from workflows.core.units import shown_duration

TICK = 5.0
"""Seconds between two notes of a step's time: as much as a killed process may leave uncounted."""

_LEAST = 0.001
"""Seconds: with less left nothing is begun."""
_MICRO = 1_000_000


class Meter:
    """Seconds of work below a path. Once `limit` is reached while it runs, `ring` is called, in the loop."""

    def __init__(
        self,
        path: str,
        limit: float,
        spent: float,
        error: BudgetSpent,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.limit = limit
        self.error = error
        self.ring: Callable[[], None] = lambda: None
        self._clock = clock
        self._spent = spent
        self._working = 0
        self._since = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """What is spent by now."""
        return self._spent + (self._clock() - self._since if self._working else 0.0)

    @property
    def over(self) -> bool:
        """Whether nothing more may be begun."""
        return self.limit - self.seconds < _LEAST

    def covers(self, path: str) -> bool:
        """Whether work at a path counts."""
        return within(path, self.path)

    def enter(self) -> None:
        """One more works."""
        self._working += 1
        if self._working == 1:
            self._since = self._clock()
            if not self.over:
                loop = asyncio.get_running_loop()
                self._alarm = loop.call_later(self.limit - self._spent, self._ringing)

    def leave(self) -> None:
        """One less works."""
        self._working -= 1
        if self._working == 0:
            self._spent += self._clock() - self._since
            if self._alarm is not None:
                self._alarm.cancel()
                self._alarm = None

    def _ringing(self) -> None:
        # Rounding must not leave a rest that a later process would begin with.
        self._spent += max(0.0, self.limit - self.seconds)
        self.ring()


class ActiveTime:
    """The budgets of time of one run in this process. `stop` is told of the one that is spent, before what
    it bounds is cut off; `tick` and `clock` are seconds."""

    def __init__(
        self,
        durable: Durable,
        stop: Callable[[PhaselineError], None],
        *,
        tick: float = TICK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._durable = durable
        self._stop = stop
        self._tick = tick
        self._clock = clock
        self._meters: list[Meter] = []
        self._at_work: set[str] = set()
        self._standing: set[str] = set()
        self._timeouts: dict[str, CancelScope] = {}

    @contextlib.asynccontextmanager
    async def of_run(self, limit: float | None, spent: float, error: BudgetSpent) -> AsyncIterator[None]:
        """Bounds the whole run, which works as long as its process does; its lease keeps the time.

        Raises `error` when it cuts the body off.
        """
        if limit is None:
            yield
            return
        meter = Meter("", limit, spent, error, self._clock)
        async with self._enforce(meter):
            meter.enter()
            try:
                yield
            finally:
                meter.leave()

    @contextlib.asynccontextmanager
    async def of_step(self, path: str, budget: BudgetPlan | None, part: str = "") -> AsyncIterator[None]:
        """Bounds the units at a path and below, with what earlier processes spent; `part` tells two budgets
        of one path apart. Raises BudgetSpent when it cuts the body off."""
        if budget is None or budget.time is None:
            yield
            return
        scope, ledger, lease = f"{path}{part}", self._durable.ledger.time_budgets, self._durable.lease
        row = await ledger.set_limit(lease, scope, round(budget.time * _MICRO))
        limit = row.limit / _MICRO
        meter = Meter(path, limit, row.spent / _MICRO, _spent_error(scope, limit, lease.run_id), self._clock)
        noting = asyncio.create_task(self._note_regularly(meter, scope), name=f"active-time-{scope}")
        try:
            async with self._enforce(meter):
                yield
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)
            if _micro(meter) > row.spent:
                # Who took the run over counts on with what was noted last.
                with contextlib.suppress(Fenced):
                    await asyncio.shield(asyncio.ensure_future(self._note(meter, scope)))

    def spent_budget(self, path: str) -> BudgetSpent | None:
        """Why no work may be begun at a path; None when it may."""
        return next((m.error for m in self._meters if m.covers(path) and m.over), None)

    def time_left(self, path: str) -> TimeLeft | None:
        """What is left for work at a path of the budget that ends first; None where none bounds it."""
        left = [TimeLeft(max(0.0, m.limit - m.seconds), m.limit) for m in self._covering(path)]
        return min(left, key=lambda one: one.seconds, default=None)

    @contextlib.contextmanager
    def working(self, path: str) -> Iterator[None]:
        """A unit works."""
        meters = self._covering(path)
        self._at_work.add(path)
        for meter in meters:
            meter.enter()
        try:
            yield
        finally:
            for meter in meters:
                meter.leave()
            self._at_work.discard(path)

    @contextlib.contextmanager
    def limit_attempt(self, path: str, seconds: float | None) -> Iterator[None]:
        """An attempt of a unit, cut off with TimeoutError once it has worked for so long."""
        if seconds is None:
            yield
            return
        # It cancels again and again, as what was asked to end may not have heard it.
        with fail_after(seconds) as scope:
            self._timeouts[path] = scope
            try:
                yield
            finally:
                del self._timeouts[path]

    @contextlib.contextmanager
    def _pause_timeout(self, path: str) -> Iterator[None]:
        """The timeout of a unit does not go on."""
        scope = self._timeouts.get(path)
        if scope is None:
            yield
            return
        loop = asyncio.get_running_loop()
        left, scope.deadline = scope.deadline - loop.time(), math.inf
        try:
            yield
        finally:
            scope.deadline = loop.time() + left

    @contextlib.contextmanager
    def standing(self, path: str) -> Iterator[None]:
        """A unit at work stands in a queue, or waits for what is out of order: that is no work."""
        if path not in self._at_work or path in self._standing:
            yield
            return
        meters = self._covering(path)
        self._standing.add(path)
        for meter in meters:
            meter.leave()
        try:
            with self._pause_timeout(path):
                yield
        finally:
            for meter in meters:
                meter.enter()
            self._standing.discard(path)

    def _covering(self, path: str) -> list[Meter]:
        return [meter for meter in self._meters if meter.covers(path)]

    @contextlib.asynccontextmanager
    async def _enforce(self, meter: Meter) -> AsyncIterator[None]:
        self._meters.append(meter)
        try:
            async with asyncio.timeout(None) as timer:

                def ring() -> None:
                    self._stop(meter.error)
                    timer.reschedule(asyncio.get_running_loop().time())

                meter.ring = ring
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise meter.error from None
        finally:
            meter.ring = lambda: None
            self._meters.remove(meter)

    async def _note_regularly(self, meter: Meter, scope: str) -> None:
        noted = _micro(meter)
        while True:
            await asyncio.sleep(self._tick)
            if _micro(meter) == noted:
                continue
            # A ledger that does not answer, and a run that was taken over, are told by the heartbeat.
            with contextlib.suppress(LedgerError, Fenced):
                noted = await self._note(meter, scope)

    async def _note(self, meter: Meter, scope: str) -> int:
        total = _micro(meter)
        await self._durable.ledger.time_budgets.spend(self._durable.lease, scope, total)
        return total


def _micro(meter: Meter) -> int:
    return math.ceil(meter.seconds * _MICRO)


def _spent_error(scope: str, limit: float, run_id: str) -> BudgetSpent:
    return BudgetSpent(
        f"the budget of the step {scope} is spent: {shown_duration(limit)} of active time",
        f"phaseline resume {run_id} --raise-budget {shlex.quote(f'{scope}.time=DURATION')}",
    )
