"""The loop that retries requests: how long it waits, when it gives up, what it says."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.models import (
    Answer,
    AuthenticationFailed,
    Malformed,
    ModelError,
    OnProgress,
    ProviderAway,
    QuotaExhausted,
    Request,
    Retryable,
    Terminal,
    Truncated,
)
from blocks.patience import PROVIDER, Outage, Patience
from tasks.failures import OutputRejected, Refused
from tasks.limits.requests import Gate, ask
from workflows.core.usage import Usage

REQUEST: Request = {"model": "m", "max_tokens": 1, "messages": []}


class Scripted:
    """A connection that fails as listed, then answers."""

    name = "scripted"
    offline = False

    def __init__(self, *failures: ModelError) -> None:
        self.failures = list(failures)
        self.sent = 0

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        self.sent += 1
        if self.failures:
            raise self.failures.pop(0)
        if on_progress:
            on_progress("text", "four")
        return Answer({"content": [], "stop_reason": "end_turn"}, Usage(1, 1), "m")

    async def close(self) -> None: ...


class Gatekeeper:
    """A gate that writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def before(self, request: Request) -> None:
        self.seen.append("before")

    async def after(self, answer: Answer) -> None:
        self.seen.append("after")

    async def failed(self, error: BaseException) -> None:
        self.seen.append(type(error).__name__)

    async def unsent(self) -> None:
        self.seen.append("unsent")


def asked(
    connection: Scripted,
    patience: Patience | None = None,
    chance: Callable[[], float] = lambda: 0.0,
    *,
    slowly: bool = False,
    **more: Any,
) -> tuple[Answer | ModelError, list[float], list[tuple[str, dict[str, Any]]]]:
    """What `ask` came to, the waits it made, the events it told."""
    waits: list[float] = []
    events: list[tuple[str, dict[str, Any]]] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if slowly:
            await asyncio.sleep(seconds)

    async def run() -> Answer | ModelError:
        try:
            return await ask(
                connection, REQUEST, patience, lambda *e: events.append(e), sleep=sleep, chance=chance, **more
            )
        except ModelError as error:
            return error

    return asyncio.run(run()), waits, events


def test_pauses_double_up_to_the_longest_and_chance_shortens_them() -> None:
    patience = Patience(600)
    assert [patience.pause(PROVIDER, n) for n in (1, 2, 3, 6, 7, 90)] == [1, 2, 4, 30, 30, 30]
    assert patience.pause(PROVIDER, 3, 1.0) == 2
    assert patience.pause(PROVIDER, 1, 0.3, 7) == 7
    assert Patience(6).pause(PROVIDER, 1) == 0.2, "less patience has shorter pauses"


def test_who_waits_for_nothing_asks_once() -> None:
    answer, waits, _ = asked(Scripted(), Patience(0.0))
    assert isinstance(answer, Answer) and not waits
    busy = Scripted(Retryable("busy", "overloaded"))
    error, waits, _ = asked(busy, Patience(0.0))
    assert isinstance(error, ProviderAway) and error.message.startswith("busy")
    assert busy.sent == 1 and not waits


def test_an_overload_is_tried_again_until_it_passes() -> None:
    answer, waits, events = asked(Scripted(Retryable("busy", "overloaded"), Retryable("busy", "overloaded")))
    assert isinstance(answer, Answer)
    assert waits == [1, 2]
    assert [name for name, _ in events if name != "request.progress"] == [
        "request.started",
        "request.retry",
        "request.started",
        "request.retry",
        "request.started",
        "request.answered",
    ]
    assert ("request.progress", {"kind": "text", "characters": 4}) in events


def test_time_ends_the_tries_and_what_they_cost_is_summed() -> None:
    failures = [Truncated() for _ in range(99)]
    for failure in failures:
        failure.spent = Usage(10, 1)
    connection = Scripted(*failures)
    error, waits, events = asked(connection, Patience(0.3), slowly=True)
    assert isinstance(error, ProviderAway)
    assert (error.exit_code, error.final, error.kind) == (4, True, "cut")
    assert "cut off in the middle" in error.message and "waited 0." in error.message
    assert connection.sent == len(waits) + 1 > 4
    assert error.spent == Usage(10 * connection.sent, connection.sent)
    assert error.wake_at > datetime.now(UTC)
    retries = [data for name, data in events if name == "request.retry"]
    assert {(r["since"], r["until"]) for r in retries} and all(r["until"] >= r["since"] for r in retries)


def test_an_answer_tells_what_the_tries_before_it_cost() -> None:
    failures = [Truncated(), Truncated()]
    for failure in failures:
        failure.spent = Usage(10, 1)
    answer, _, _ = asked(Scripted(*failures))
    assert isinstance(answer, Answer)
    assert (answer.usage, answer.lost) == (Usage(1, 1), Usage(20, 2))


def test_malformed_answers_have_their_own_smaller_bound() -> None:
    connection = Scripted(*(Malformed() for _ in range(9)))
    error, _, _ = asked(connection)
    assert isinstance(error, Malformed)
    assert "given up after 3 tries" in error.message
    assert connection.sent == 3


def test_retry_after_is_obeyed() -> None:
    _, waits, _ = asked(Scripted(Retryable("limit", "rate_limit", 20.0), Retryable("", "overloaded", 99.0)))
    assert waits == [20, 99]


def test_a_long_rate_limit_parks_the_run_until_it_is_over() -> None:
    connection = Scripted(Retryable("limit", "rate_limit", 3600.0))
    error, waits, _ = asked(connection)
    assert isinstance(error, QuotaExhausted)
    assert error.reset_at is not None
    assert 3500 < (error.reset_at - datetime.now(UTC)).total_seconds() <= 3600
    assert (connection.sent, waits, error.exit_code) == (1, [], 4)


def test_an_overload_that_asks_for_longer_than_patience_stops_until_then() -> None:
    error, waits, _ = asked(Scripted(Retryable("busy", "overloaded", 3600.0)))
    assert isinstance(error, ProviderAway)
    assert 3500 < (error.wake_at - datetime.now(UTC)).total_seconds() <= 3600
    assert waits == []


def test_who_gives_up_gives_up_for_all_who_are_no_more_patient() -> None:
    outage = Outage()
    first, _, _ = asked(
        Scripted(*[Retryable("busy", "overloaded")] * 99), Patience(0.2), outage=outage, slowly=True
    )
    assert isinstance(first, ProviderAway)
    later = Scripted(Retryable("busy", "overloaded"))
    second, waits, _ = asked(later, Patience(0.2), outage=outage)
    assert isinstance(second, ProviderAway) and (later.sent, waits) == (0, [])
    patient = Scripted()
    third, _, _ = asked(patient, Patience(60), outage=outage)
    assert isinstance(third, Answer)
    fourth, _, _ = asked(Scripted(), Patience(0.2), outage=outage)
    assert isinstance(fourth, Answer), "once one is answered the outage is over"


class SlowGate(Gatekeeper):
    """A gate that takes its time."""

    async def before(self, request: Request) -> None:
        await asyncio.sleep(0.01)
        await super().before(request)


@pytest.mark.parametrize("gate", [None, SlowGate()])
def test_one_goes_to_see_whether_a_provider_that_was_given_up_is_back(gate: Gate | None) -> None:
    now = time.monotonic()
    outage, patience = Outage(), Patience(60)
    outage.note(now - 90)
    outage.give_up(patience, now - 5.9)
    busy = Scripted(*[Retryable("busy", "overloaded")] * 99)
    assert isinstance(asked(busy, patience, outage=outage, gate=gate)[0], ProviderAway) and not busy.sent
    outage.tried -= patience.longest(PROVIDER)
    for _ in range(3):
        seen, waits, _ = asked(busy, patience, outage=outage, gate=gate)
        assert isinstance(seen, ProviderAway) and (busy.sent, waits) == (1, []), "one, and it does not wait"
    outage.tried -= patience.longest(PROVIDER)
    for _ in range(3):
        assert isinstance(asked(Scripted(), patience, outage=outage, gate=gate)[0], Answer), "it is back"


def test_people_are_told_of_a_long_wait_and_not_with_every_try() -> None:
    _, _, events = asked(Scripted(*[Retryable("busy", "overloaded")] * 7), Patience(5.0), slowly=True)
    due = [data["due"] for name, data in events if name == "request.retry"]
    assert len(due) == 7 and not due[0] and 0 < sum(due) < 4


@pytest.mark.parametrize("final", [Terminal("no"), AuthenticationFailed("no"), QuotaExhausted("no")])
def test_what_is_final_is_not_tried_again(final: ModelError) -> None:
    connection = Scripted(final)
    error, waits, _ = asked(connection)
    assert error is final
    assert (connection.sent, waits) == (1, [])


def test_the_gate_stands_before_and_after_every_try() -> None:
    gate = Gatekeeper()
    asked(Scripted(Retryable()), gate=gate)
    assert gate.seen == ["before", "Retryable", "before", "after"]


def test_the_gate_learns_of_a_cancelled_try() -> None:
    gate = Gatekeeper()

    async def run() -> None:
        begun = asyncio.Event()

        class Silent(Scripted):
            async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
                begun.set()
                await asyncio.Event().wait()
                raise AssertionError("the wait has no end")

        task = asyncio.create_task(ask(Silent(), REQUEST, gate=gate))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert gate.seen == ["before", "CancelledError"]


@pytest.mark.parametrize(
    "error",
    [
        Retryable("m", "rate_limit", 3.0),
        Truncated(),
        Malformed("m"),
        QuotaExhausted("m", datetime(2030, 1, 1, tzinfo=UTC)),
        AuthenticationFailed("m", "c"),
        ProviderAway("m", "c", 3.0, 60.0, "overloaded"),
        Refused(category="bio"),
        OutputRejected("m", ["p"]),
    ],
)
def test_errors_travel_between_processes_whole(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert str(copy) == str(error)
