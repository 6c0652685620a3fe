"""The one loop that retries model requests.

The SDK's own retries are off and Prefect retries steps, so whatever a request may be tried again for is
decided here: how often, how long to wait, and when to give up in which way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from blocks.models import Answer, Malformed, ModelConnection, ModelError, QuotaExhausted, Request, Retryable
from workflows.core.usage import Usage

OnEvent = Callable[[str, dict[str, Any]], None]
"""Called with an event's stable name and its JSON payload. Names used here:

- `request.started`: attempt (from 1)
- `request.progress`: kind (text, thinking, tool_use), characters (received so far in this request)
- `request.retry`: attempt, kind, reason, delay (seconds)
- `request.answered`: attempt, model, request_id, stop_reason, usage, seconds, offline

A gate tells its own before `request.started`; those of the governor are in tasks.governor.
"""

RETRY_AFTER_CAP = 60.0
"""Seconds: a rate limit that lasts longer is no hiccup but a spent quota."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a request is tried again. Times in seconds.

    Waits double from `base` up to `cap`, shortened by up to `jitter` (a share) so that parallel steps
    spread. The provider's `retry-after` is obeyed up to `retry_after_cap`; a longer one gives up. `budget`
    bounds all tries and waits of one request together, but not how long it stands at a gate; a try that
    runs is not interrupted by it.
    """

    max_attempts: int = 6
    base: float = 1.0
    cap: float = 30.0
    jitter: float = 0.5
    retry_after_cap: float = RETRY_AFTER_CAP
    budget: float = 600.0
    max_malformed: int = 2

    def delay(self, attempt: int, retry_after: float | None, chance: float) -> float:
        """Seconds before the try after `attempt` (from 1); `chance` is a random number from 0 to 1."""
        backoff = min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)) * (1 - self.jitter * chance)
        return max(backoff, retry_after or 0.0)


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
    policy: RetryPolicy | None = None,
    on_event: OnEvent = ignore_event,
    *,
    gate: Gate | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    chance: Callable[[], float] = random.random,
) -> Answer:
    """Send `request` until it is answered, as far as `policy` goes.

    Raises the last `Retryable` when the tries or the time are used up (the step may be tried again),
    `QuotaExhausted` for a rate limit that lasts longer than the policy waits, and any other `ModelError`
    at once. `spent` of what is raised sums all tries, `lost` of an answer those before it.
    """
    policy = policy or RetryPolicy()
    deadline, malformed, failures = time.monotonic() + policy.budget, 0, []
    for attempt in range(1, policy.max_attempts + 1):
        try:
            deadline += await _let_in(gate, request)
            answer = await _send(connection, request, gate, attempt, on_event)
        except ModelError as error:
            failures.append(error)
            malformed += isinstance(error, Malformed)
            last = attempt == policy.max_attempts or malformed > policy.max_malformed
            delay = _wait(error, attempt, policy, chance())
            if last or delay is None or time.monotonic() + delay > deadline:
                raise _given_up(error, failures, policy) from error
            _tell_retry(on_event, attempt, error, delay)
            await sleep(delay)
        else:
            _tell_answer(on_event, attempt, answer)
            return replace(answer, lost=_spent(failures))
    raise ValueError("a retry policy needs at least one attempt")


async def _let_in(gate: Gate | None, request: Request) -> float:
    """Seconds the request stood at the gate."""
    if gate is None:
        return 0.0
    began = time.monotonic()
    await gate.before(request)
    return time.monotonic() - began


async def _send(
    connection: ModelConnection, request: Request, gate: Gate | None, attempt: int, on_event: OnEvent
) -> Answer:
    try:
        on_event("request.started", {"attempt": attempt})
        answer = await connection.send(request, on_progress=_progress(on_event))
    except BaseException as error:
        if gate is not None:
            await gate.failed(error)
        raise
    if gate is not None:
        await gate.after(answer)
    return answer


def _wait(error: ModelError, attempt: int, policy: RetryPolicy, chance: float) -> float | None:
    """Seconds to wait before the next try; None when there must be none."""
    if not isinstance(error, Retryable) or (error.retry_after or 0) > policy.retry_after_cap:
        return None
    return policy.delay(attempt, error.retry_after, chance)


def _given_up(error: ModelError, failures: list[ModelError], policy: RetryPolicy) -> ModelError:
    """What to raise after the last failure: the failure itself, with the costs of all of them."""
    final = error
    if isinstance(error, Retryable):
        long = error.retry_after if (error.retry_after or 0) > policy.retry_after_cap else None
        if long and error.kind == "rate_limit":
            final = QuotaExhausted(error.message, datetime.now(UTC) + timedelta(seconds=long))
        elif len(failures) > 1:
            final.message = f"{error.message} (given up after {len(failures)} tries)"
            final.args = (final.message,)
    final.spent = _spent(failures)
    return final


def _spent(failures: list[ModelError]) -> Usage:
    """What tries without an answer have cost together."""
    return sum((failure.spent for failure in failures), Usage())


def _progress(on_event: OnEvent) -> Callable[[str, str], None]:
    received = 0

    def tell(kind: str, text: str) -> None:
        nonlocal received
        received += len(text)
        on_event("request.progress", {"kind": kind, "characters": received})

    return tell


def _tell_retry(on_event: OnEvent, attempt: int, error: ModelError, delay: float) -> None:
    kind = error.kind if isinstance(error, Retryable) else ""
    on_event("request.retry", {"attempt": attempt, "kind": kind, "reason": error.message, "delay": delay})


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
