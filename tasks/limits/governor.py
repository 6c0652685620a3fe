"""Keeps every request of one credential within its limits, together with all other processes on the ledger.

What is known of a credential is one row of the ledger (admission.py decides on it). Requests of this
process that ask at the same time share one operation; far from every limit most need none. A cool-down
that any process notes holds all of them, and a spent quota parks the credential: nothing more is sent
until it resets, a person lifts it, or its time is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from blocks.ledger import CredentialState, Ledger
from blocks.models import Answer, ModelError, ProviderHeaders, QuotaExhausted, Request, Retryable
from blocks.patience import PROVIDER, Patience
from tasks.limits import admission
from tasks.limits.admission import Leeway, Place
from tasks.limits.provider_limits import SECOND, Need
from tasks.limits.provider_queue import ProviderQueue, Standing
from tasks.limits.requests import OnEvent, ignore_event
from workflows.core.models.skill import ProviderLimits

_FRESH = 0.25  # seconds for which what was read of the row counts
_GATHER = 0.1  # seconds for which reports are gathered before they are written
_LOOK = 1.0  # seconds after which a waiting request looks again
_TOLD = 1.0  # seconds: a longer wait is told
_OF_ALL = ("rate_limit", "overloaded", "connection", "server")  # faults that meet every request
_REFUSED = ("rate_limit", "overloaded")  # nothing was read
OUT_OF_ORDER = "it is out of order, and one request at a time goes to see"
_SPREAD = 0.1  # of a cool-down, and at most two seconds: requests do not all come back at once


@dataclass(frozen=True, slots=True)
class _Report:
    """What came of one request. `park` and `cooldown` are seconds from now; `until` is a stated reset."""

    need: Need | None
    used: int
    headers: ProviderHeaders = field(default_factory=dict)
    cooldown: float = 0.0
    park: float = 0.0
    until: int = 0
    reason: str = ""
    away: bool = False
    """Whether the provider is out of order; `cooldown` is then what it asks for at least."""
    answered: int = 0
    """When the request was sent, by the ledger's clock, that an outage of before kept waiting and that was
    answered; 0 for all others."""

    @property
    def final(self) -> bool:
        """Whether it concerns everybody at once."""
        return bool(self.cooldown or self.park or self.away or self.answered)


@dataclass(frozen=True, slots=True)
class _Parked:
    until: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one operation on the row gave."""

    state: CredentialState
    at: int
    places: list[Place | _Parked]
    newly_parked: bool


class _View:
    """The row as this process saw it last."""

    def __init__(self, state: CredentialState, at: int) -> None:
        self.state = state
        self.leeways: dict[str, Leeway | None] = {}
        self._at, self._read = at, time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was read."""
        return time.monotonic() - self._read

    @property
    def now(self) -> int:
        """The ledger's clock, as far as this process knows it."""
        return self._at + round(self.age * SECOND)


class Governor:
    """A `Gate` (tasks.limits.requests) for all requests that one run sends with one credential.

    Of one event loop. `after` and `failed` are called in the asyncio task that called `before`. Events, to
    `on_event`:

    - `provider.waiting`: waiting (how many requests do so for longer than one second), reason, seconds and
      until (ISO 8601 in UTC), of the one that waits longest: its place, or in an outage the end of patience
    - `provider.passed`: none does any more
    - `provider.parked`: until (ISO 8601 in UTC), reason
    """

    def __init__(
        self,
        ledger: Ledger,
        tenant: str,
        credential: str,
        limits: ProviderLimits | None = None,
        on_event: OnEvent = ignore_event,
        *,
        patience: Patience | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._patience = patience or Patience()
        self._ledger = ledger.credentials
        self._key = (tenant, credential)
        self._limits = limits or ProviderLimits()
        self._on_event = on_event
        self._chance = chance
        self._queue = ProviderQueue(on_event)
        self._view: _View | None = None
        self._asked: list[tuple[Need, asyncio.Future[Place | _Parked]]] = []
        self._unasked: list[tuple[int, Need]] = []
        self._reports: list[_Report] = []
        self._outdated = False  # what came last holds requests back, and the view does not know it yet
        self._fault: Exception | None = None
        self._hurry = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._needs: WeakKeyDictionary[asyncio.Task[Any], Need] = WeakKeyDictionary()
        self._sent: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()

    # --- the gate ---

    async def before(self, request: Request) -> None:
        """Wait until the request may be sent. Raises QuotaExhausted while the credential is parked."""
        need = Need.of(request)
        if not self._may_pass(need):
            await self._take_place(need)
        self._needs[_task()] = need
        if self._view is not None:
            self._sent[_task()] = self._view.now

    async def after(self, answer: Answer) -> None:
        """Note what the answer used and what its headers say. Written soon, at the latest by `close`."""
        need, sent = self._needs.pop(_task(), None), self._sent.pop(_task(), 0)
        used = admission.used_tokens(answer.usage)
        self._add_report(_Report(need, used, answer.limits, answered=sent if self._is_away else 0))

    async def failed(self, error: BaseException) -> None:
        """Note what a failure tells about limits; a cool-down or a park is known to all on return.

        A QuotaExhausted that states no reset gets the time until which the credential is parked.
        """
        report = self._describe_failure(error, self._needs.pop(_task(), None))
        self._add_report(report)
        if report.final:
            await self._flush_reports()
        if isinstance(error, QuotaExhausted) and error.reset_at is None and self._view is not None:
            error.wait_until(_moment(self._view.state.parked_until))

    async def unsent(self) -> None:
        """Give back the place of a request that was not sent."""
        self._add_report(_Report(self._needs.pop(_task(), None), used=0))

    async def close(self) -> None:
        """Write what is still to be written. Raises LedgerError when that is not possible."""
        self._queue.close()
        await self._flush_reports()
        if self._looking is not None:
            await asyncio.gather(self._looking, return_exceptions=True)

    # --- before ---

    def _may_pass(self, need: Need) -> bool:
        """Whether the request may go without asking: the row was read just now, and no limit is near."""
        view = self._view
        if view is None or view.age > _FRESH or self._outdated:
            return False
        if need.model not in view.leeways:
            view.leeways[need.model] = Leeway.of(view.state, view.now, need.model, self._limits)
        leeway = view.leeways[need.model]
        if leeway is None or not leeway.take(need):
            return False
        self._unasked.append((view.now, need))
        return True

    async def _take_place(self, need: Need) -> None:
        """Waits for a place, and behind an outage for another one: only the first that comes goes at once."""
        try:
            while True:
                place = await self._ask(need)
                try:
                    place = await self._wait(place)
                except BaseException:
                    self._add_report(_Report(need, used=0))
                    raise
                if place.reason != admission.COOL_DOWN or not self._is_away:
                    return
                self._add_report(_Report(need, used=0))
        finally:
            self._queue.leave(_task())

    @property
    def _is_away(self) -> bool:
        """Whether the provider is out of order, as far as is known here."""
        return self._view is not None and admission.OUTAGE in self._view.state.limits

    async def _ask(self, need: Need) -> Place:
        found: asyncio.Future[Place | _Parked] = asyncio.get_running_loop().create_future()
        self._asked.append((need, found))
        self._work(hurry=True)
        place = await found
        if isinstance(place, _Parked):
            raise _quota_fault(place.until, place.reason)
        return place

    async def _wait(self, place: Place) -> Place:
        """Sleep until the place comes, heeding what becomes known meanwhile; gives the place it was."""
        view = self._view
        away = self._is_away
        while view is not None:
            state, now = view.state, view.now
            if state.is_parked(now):
                raise _quota_fault(state.parked_until, state.park_reason)
            place = self._hold_back(place.moved_up(state), state, now)
            seconds = (place.at - now) / SECOND
            if seconds <= 0 or (away and place.reason == admission.COOL_DOWN and not self._is_away):
                return place
            away = self._is_away
            if seconds > _TOLD:
                self._queue.stand(_task(), self._standing(place, state, now))
            await asyncio.sleep(min(seconds, _LOOK))
            view = await self._fresh_view()
        return place

    def _standing(self, place: Place, state: CredentialState, now: int) -> Standing:
        """What people are told of a request at its place."""
        until, reason = place.at, place.reason
        if outage := state.limits.get(admission.OUTAGE):
            until, reason = outage[0] + round(self._patience.seconds * SECOND), OUT_OF_ORDER
        return Standing(reason, datetime.fromtimestamp(until / SECOND, UTC), (place.at - now) / SECOND)

    def _hold_back(self, place: Place, state: CredentialState, now: int) -> Place:
        """The place behind a cool-down that was noted since it was taken; spread a little."""
        until = state.cooldown_until or 0
        if until <= max(now, place.cooldown):
            return place
        spread = min(2 * SECOND, (until - now) * _SPREAD) * self._chance()
        at = max(place.at, until + round(spread))
        return replace(place, at=at, firm=at, cooldown=until, reason=admission.COOL_DOWN)

    async def _fresh_view(self) -> _View | None:
        if self._view is None or self._view.age > _FRESH:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._read_row(), name="provider-limits-look")
            await asyncio.shield(self._looking)
        return self._view

    async def _read_row(self) -> None:
        row = await self._ledger.look(*self._key)
        if row is not None:
            self._view = _View(row.state, row.at)

    # --- after ---

    def _describe_failure(self, error: BaseException, need: Need | None) -> _Report:
        if not isinstance(error, ModelError):
            return _Report(need, need.input if need else 0)
        used = admission.used_tokens(error.spent)
        refused = not isinstance(error, Retryable) or error.kind in _REFUSED
        if need is not None and not refused:
            used = max(used, need.input)  # it may have been read all the same
        report = _Report(need, used, error.limits, reason=error.message)
        if isinstance(error, QuotaExhausted):
            until = round(error.reset_at.timestamp() * SECOND) if error.reset_at else 0
            return replace(report, park=self._limits.park, until=until)
        if not isinstance(error, Retryable) or error.kind not in _OF_ALL:
            return report
        seconds = error.retry_after or 0.0
        if error.kind == "rate_limit" and seconds > self._patience.seconds:
            return replace(report, park=seconds)
        return replace(report, away=True, cooldown=min(seconds, self._patience.seconds))

    def _pause(self, count: int) -> float:
        """Seconds for which nothing is sent, while the provider is out of order."""
        return self._patience.pause(PROVIDER, count)

    def _add_report(self, report: _Report) -> None:
        counts = self._limits.tokens_per_minute is not None and report.need is not None
        if counts or report.headers or report.final:
            urgent = report.final or admission.is_scarce(report.headers)
            self._outdated = self._outdated or urgent
            self._reports.append(report)
            self._work(hurry=urgent)

    async def _flush_reports(self) -> None:
        """Return once all reports are in the row. Raises what prevents it."""
        if self._reports:
            self._work(hurry=True)
        if self._worker is not None:
            await asyncio.shield(self._worker)
        if self._reports and self._fault is not None:
            raise self._fault

    # --- one operation for all that ask or report at the same time ---

    def _work(self, *, hurry: bool) -> None:
        if hurry:
            self._hurry.set()
        if self._worker is None or self._worker.done():
            self._fault = None
            self._worker = asyncio.create_task(self._run(), name="provider-limits")

    async def _run(self) -> None:
        while self._asked or (self._reports and self._fault is None):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GATHER):
                    await self._hurry.wait()
            self._hurry.clear()
            await self._operate()

    async def _operate(self) -> None:
        asked = [(need, found) for need, found in self._asked if not found.done()]
        unasked, reports = self._unasked, self._reports
        self._asked, self._unasked, self._reports = [], [], []
        needs = [need for need, _ in asked]
        decide = partial(
            _decide, needs=needs, unasked=unasked, reports=reports, limits=self._limits, pause=self._pause
        )
        try:
            outcome = await self._ledger.change(*self._key, decide)
        except BaseException as error:
            # Nothing is lost: what was reported is written with the next operation, or `close` raises.
            self._unasked, self._reports = unasked + self._unasked, reports + self._reports
            for _, found in asked:
                _refuse(found, error)
            if not isinstance(error, Exception):
                raise
            self._fault = error
        else:
            self._fault = None
            self._use(outcome, asked)

    def _use(self, outcome: _Outcome, asked: list[tuple[Need, asyncio.Future[Place | _Parked]]]) -> None:
        self._view = _View(outcome.state, outcome.at)
        self._outdated = self._outdated and bool(self._reports)
        for (need, found), place in zip(asked, outcome.places, strict=True):
            if not found.done():
                found.set_result(place)
            elif isinstance(place, Place):  # cancelled while it asked
                self._add_report(_Report(need, used=0))
        if outcome.newly_parked:
            until = _moment(outcome.state.parked_until)
            told = {"until": until.isoformat() if until else None, "reason": outcome.state.park_reason}
            self._on_event("provider.parked", told)


def _refuse(found: asyncio.Future[Place | _Parked], error: BaseException) -> None:
    if isinstance(error, Exception) and not found.done():
        found.set_exception(error)
    else:
        found.cancel()


def _decide(
    state: CredentialState,
    now: int,
    needs: list[Need],
    unasked: list[tuple[int, Need]],
    reports: list[_Report],
    limits: ProviderLimits,
    pause: Callable[[int], float],
) -> tuple[CredentialState, _Outcome]:
    before = state
    for sent, need in unasked:
        state = admission.note(state, now, sent, need)
    for report in reports:
        state = _apply_report(state, now, report, limits, pause)
    places: list[Place | _Parked] = []
    for need in needs:
        if state.is_parked(now):
            places.append(_Parked(state.parked_until, state.park_reason))
        else:
            state, place = admission.admit(state, now, need, limits)
            places.append(place)
    newly = state.is_parked(now) and not before.is_parked(now)
    return state, _Outcome(state, now, places, newly)


def _apply_report(
    state: CredentialState, now: int, report: _Report, limits: ProviderLimits, pause: Callable[[int], float]
) -> CredentialState:
    if report.need is not None:
        state = admission.settle(state, report.need, report.used, limits)
        if report.headers:
            state = admission.learn(state, now, report.need.model, report.headers)
    if report.away:
        state = admission.fail(
            state, now, lambda count: round(pause(count) * SECOND), round(report.cooldown * SECOND)
        )
    if report.answered:
        state = admission.recover(state, report.answered)
    if report.park:
        until = report.until if report.until > now else now + round(report.park * SECOND)
        state = admission.park(state, now, until, report.reason)
    return state


def _quota_fault(until: int | None, reason: str) -> QuotaExhausted:
    return QuotaExhausted(reason, _moment(until))


def _moment(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at / SECOND, UTC)


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
