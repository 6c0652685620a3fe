"""The one loop that asks a model again.

The SDK's own retries are off and Prefect retries steps, so whatever a request may be tried again for is
decided here. How long is blocks.patience's to say.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol

from blocks.models import (
    AGAIN,
    Answer,
    Malformed,
    ModelConnection,
    ModelError,
    ProviderAway,
    QuotaExhausted,
    Request,
    Retryable,
)
from blocks.patience import PROVIDER, Outage, Patience, Telling, shown_wait
from blocks.process.cut_off import take_in_hand
from workflows.core.usage import Usage

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called with an event's stable name and its JSON payload. Names used here:

- `request.started`: attempt (from 1)
- `request.progress`: kind (text, thinking, tool_use), characters (received so far in this request)
- `request.retry`: attempt, kind, reason, delay (seconds), since and until (ISO 8601): from when it is
  waited for, and for how long at most; due: whether people are to be told, which is not with every try
- `request.answered`: attempt, model, request_id, stop_reason, usage, seconds, offline

A gate tells its own before `request.started`; those of the governor are in tasks.limits.governor.
"""

MALFORMED = 3
"""Answers that are none, after which a request fails: each may have been paid for, and time mends none."""


class Gate(Protocol):
    """Stands between a request and the provider: a shared governor, a budget.

    `before` waits, reserves or raises; when it returns, exactly one of `after`, `failed` and `unsent` follows
    it in the same asyncio task, also when the request is cancelled. It is asked for every try. `unsent`:
    something else kept the request from being sent.
    """

    async def before(self, request: Request) -> None: ...

    async def after(self, answer: Answer) -> None: ...

    async def failed(self, error: BaseException) -> None: ...

    async def unsent(self) -> None: ...


def ignore_event(name: str, data: dict[str, Any]) -> None:
    """An `OnEvent` for callers that do not watch."""


async def ask(
    connection: ModelConnection,
    request: Request,
    patience: Patience | None = None,
    on_event: OnEvent = ignore_event,
    *,
    gate: Gate | None = None,
    outage: Outage | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    chance: Callable[[], float] = random.random,
) -> Answer:
    """Send `request` until it is answered, as long as there is patience.

    Requests with one `outage` share it: what one waits for, all wait for, and where one gives up nobody else
    begins to wait. Raises ProviderAway when patience is over, QuotaExhausted for a rate limit that lasts
    longer, Malformed after three answers that are none, and any other `ModelError` at once. `spent` of
    what is raised sums all tries, `lost` of an answer those before it.
    """
    asking = _Asking(patience or Patience(), outage or Outage(), on_event, chance)
    while True:
        asking.attempt += 1
        try:
            await asking.let_in(gate, request)
            answer = await _send(connection, request, gate, asking.attempt, on_event)
        except ModelError as error:
            await sleep(asking.pause(error))
        else:
            asking.outage.end()
            _tell_answer(on_event, asking.attempt, answer)
            return replace(answer, lost=_sum_spent(asking.failures))


@dataclass
class _Asking:
    """One request while it is tried. Times are of the monotonic clock."""

    patience: Patience
    outage: Outage
    on_event: OnEvent
    chance: Callable[[], float]
    attempt: int = 0
    failures: list[ModelError] = field(default_factory=list)
    since: float | None = None
    """When it failed first."""
    telling: Telling = field(default_factory=Telling)

    async def let_in(self, gate: Gate | None, request: Request) -> None:
        """Passes the gate, within what is left of patience. Raises ProviderAway where nothing is."""
        now = time.monotonic()
        if not self.outage.lets_in(self.patience, PROVIDER, now):
            raise self._away_fault(self.failures[-1] if self.failures else None)
        if gate is None:
            return
        began = self._wait_start()
        left = None if began is None else max(0.0, began + self.patience.seconds - now)
        if left == 0.0 and self.outage.given_up is not None:
            left = self.patience.longest(PROVIDER)  # it is the one that goes to see
        try:
            async with asyncio.timeout(left) as timer:
                await gate.before(request)
        except TimeoutError:
            if not timer.expired():
                raise
            raise self._away_fault(self.failures[-1] if self.failures else None) from None

    def pause(self, error: ModelError) -> float:
        """Seconds before the next try, which is told; raises what there is instead of one."""
        self.failures.append(error)
        malformed = sum(isinstance(one, Malformed) for one in self.failures)
        if isinstance(error, ProviderAway) or not isinstance(error, Retryable) or malformed >= MALFORMED:
            raise self._with_all_costs(error)
        now = time.monotonic()
        self.since = now if self.since is None else self.since
        began = min(self.outage.note(now), self.since)
        delay = self.patience.pause(PROVIDER, len(self.failures), self.chance(), error.retry_after)
        left = began + self.patience.seconds - now
        if left <= 0 or (error.retry_after or 0.0) > left:
            self.outage.give_up(self.patience, now)
            raise self._with_all_costs(self._quota_fault(error) or self._away_fault(error)) from error
        delay = min(delay, left)
        told = {"attempt": self.attempt, "kind": error.kind, "reason": error.message, "delay": delay}
        told["due"] = self.telling.due(now - began, delay, self.patience)
        self.on_event("request.retry", {**told, **shown_wait(began, self.patience.seconds, now)})
        return delay

    def _wait_start(self) -> float | None:
        """When the wait began that this one is part of; None when nothing is waited for."""
        known = [moment for moment in (self.since, self.outage.since) if moment is not None]
        return min(known, default=None)

    def _quota_fault(self, error: Retryable) -> QuotaExhausted | None:
        """A rate limit that lasts longer than patience is no hiccup but a spent quota."""
        if error.kind != "rate_limit" or (error.retry_after or 0) <= self.patience.seconds:
            return None
        from blocks.current_time import now_utc

        return QuotaExhausted(error.message, now_utc() + timedelta(seconds=error.retry_after or 0))

    def _away_fault(self, error: ModelError | None) -> ProviderAway:
        began = self._wait_start()
        waited = (self.outage.given_up or 0.0) if began is None else time.monotonic() - began
        wake = max(self.patience.seconds, (getattr(error, "retry_after", None) or 0.0))
        message = "the provider does not answer yet" if error is None else error.message
        cure = error.cure if error is not None and error.cure != AGAIN else ""
        return ProviderAway(message, cure, waited, wake, getattr(error, "kind", ""))

    def _with_all_costs(self, error: ModelError) -> ModelError:
        """The error with the cost of all tries."""
        if isinstance(error, Malformed) and len(self.failures) > 1:
            error.message = f"{error.message} (given up after {len(self.failures)} tries)"
            error.args = (error.message,)
        error.spent = _sum_spent(self.failures)
        error.limits = error.limits or self.failures[-1].limits
        return error


async def _send(
    connection: ModelConnection, request: Request, gate: Gate | None, attempt: int, on_event: OnEvent
) -> Answer:
    try:
        on_event("request.started", {"attempt": attempt})
        answer = await connection.send(request, on_progress=_tell_progress(on_event))
    except BaseException as error:
        if gate is not None:
            await gate.failed(error)
        raise
    take_in_hand()
    if gate is not None:
        await gate.after(answer)
    return answer


def _sum_spent(failures: list[ModelError]) -> Usage:
    """What tries without an answer have cost together."""
    return sum((failure.spent for failure in failures), Usage())


def _tell_progress(on_event: OnEvent) -> Callable[[str, str], None]:
    received = 0

    def tell(kind: str, text: str) -> None:
        nonlocal received
        received += len(text)
        on_event("request.progress", {"kind": kind, "characters": received})

    return tell


def _tell_answer(on_event: OnEvent, attempt: int, answer: Answer) -> None:
    on_event(
        "request.answered",
        {
            "attempt": attempt,
            "model": answer.model,
            "request_id": answer.request_id,
            "stop_reason": answer.stop_reason,
            "usage": answer.usage.to_json(),
            "seconds": answer.seconds,
            "offline": answer.offline,
        },
    )
