"""The governor before a provider's wire: the real SDK, the stand-in, and one ledger between processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import CredentialRow, Ledger, LedgerError
from blocks.models import Answer, ModelError, QuotaExhausted, Request
from blocks.patience import Patience
from blocks.providers.anthropic_api import AnthropicConnection
from tasks.limits.admission import COOL_DOWN, OUTAGE
from tasks.limits.governor import OUT_OF_ORDER, Governor
from tasks.limits.requests import ask
from tests.support.ledgers import DATABASES, new_address
from tests.support.messages_api import MessagesApi
from tests.support.prefect_server import finished, run_python, wait_until
from workflows.core.models.skill import ProviderLimits
from workflows.core.usage import Usage

KEY = "sk-test-4711-very-secret"
MODEL = "claude-opus-5-5"
REQUEST: Request = {
    "model": MODEL,
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Say hello."}],
}
ONCE = Patience(1e-6)


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi() as running:
        yield running


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    with Ledger.open(address) as opened:
        yield opened


class Client:
    """A governed connection, as a run has one; `events` is what it was told."""

    def __init__(self, api: MessagesApi, ledger: Ledger, limits: ProviderLimits | None) -> None:
        self.connection = AnthropicConnection(KEY, api.base_url)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.waits = asyncio.Event()
        self.governor = Governor(ledger, "default", self.connection.credential, limits, self._hear)

    async def ask(self, patience: Patience = ONCE) -> Answer:
        return await ask(self.connection, REQUEST, patience, gate=self.governor)

    def _hear(self, name: str, data: dict[str, Any]) -> None:
        self.events.append((name, data))
        if name == "provider.waiting":
            self.waits.set()

    async def failure(self) -> ModelError:
        with pytest.raises(ModelError) as caught:
            await self.ask()
        return caught.value

    def told(self, name: str) -> list[dict[str, Any]]:
        return [data for told, data in self.events if told == name]


@contextlib.asynccontextmanager
async def client(
    api: MessagesApi, ledger: Ledger, limits: ProviderLimits | None = None
) -> AsyncIterator[Client]:
    made = Client(api, ledger, limits)
    try:
        yield made
    finally:
        await made.governor.close()
        await made.connection.close()


def run(use: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(use())


def row_of(ledger: Ledger, api: MessagesApi) -> CredentialRow:
    row = ledger.credentials.get("default", AnthropicConnection(KEY, api.base_url).credential)
    assert row is not None
    return row


def arrivals(api: MessagesApi) -> list[float]:
    """When requests reached the provider, in microseconds since 1970."""
    return sorted(record["at"] * 1e6 for record in api.asked)


# --- what the provider says ---


def test_an_answer_carries_what_the_provider_said_of_its_limits_but_a_journal_does_not_keep_it(
    api: MessagesApi, ledger: Ledger
) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue({"limits": {"requests": [50, 49, 1], "input-tokens": [9000, 8000, 30]}})
            answer = await one.ask()
            assert answer.limits["requests-remaining"] == "49"
            assert answer.limits["input-tokens-limit"] == "9000"
            assert datetime.fromisoformat(answer.limits["requests-reset"]) > datetime(2026, 1, 1, tzinfo=UTC)
            assert abs(answer.limits["at"] - time.time()) < 600
            assert "limits" not in answer.to_json()
            assert Answer.from_json(answer.to_json()) == answer
            assert (await one.ask()).limits == {}

    run(use)


@pytest.mark.parametrize("fault", ["rate_limit", "overloaded", "credit", "bad_request", "sse_error", "cut"])
def test_failures_carry_it_too(api: MessagesApi, fault: str) -> None:
    async def use() -> None:
        connection = AnthropicConnection(KEY, api.base_url)
        api.queue({"fault": fault, "limits": {"requests": [50, 0, 9]}})
        with pytest.raises(ModelError) as caught:
            await connection.send(REQUEST)
        assert caught.value.limits["requests-remaining"] == "0"
        await connection.close()

    run(use)


def test_nothing_left_delays_the_next_request_until_the_reset(api: MessagesApi, ledger: Ledger) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue({"limits": {"requests": [50, 0, 1.7]}})
            answer = await one.ask()
            await one.ask()
            reset = datetime.fromisoformat(answer.limits["requests-reset"]).timestamp() * 1e6
            assert arrivals(api)[1] >= reset

    run(use)


def test_what_a_failure_said_counts_as_well(api: MessagesApi, ledger: Ledger) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue({"fault": "rate_limit", "retry_after": 0.2, "limits": {"requests": [50, 0, 1.2]}})
            error = await one.failure()
            await one.ask()
            reset = datetime.fromisoformat(error.limits["requests-reset"]).timestamp() * 1e6
            assert arrivals(api)[1] >= reset

    run(use)


def test_far_from_its_limits_nothing_waits_and_little_is_written(api: MessagesApi, ledger: Ledger) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.default = {"text": "ok", "limits": {"requests": [5000, 4900, 60]}}
            await asyncio.gather(*(one.ask() for _ in range(20)))
            assert one.told("provider.waiting") == []

    run(use)
    assert api.count == 20
    assert row_of(ledger, api).version <= 20


# --- the catalog's limits ---

SENDER = """if 1:
    import asyncio, sys, time
    from pathlib import Path
    from blocks.providers.anthropic_api import AnthropicConnection
    from blocks.ledger import Ledger
    from blocks.models import ModelError
    from tasks.limits.governor import Governor
    from blocks.patience import Patience
    from tasks.limits.requests import ask
    from workflows.core.models.skill import ProviderLimits
    import anthropic
    address, url, key, folder, name, count, others, per_minute = sys.argv[1:]
    folder, others = Path(folder), int(others)
    request = {"model": "claude-opus-5-5", "max_tokens": 1000,
               "messages": [{"role": "user", "content": "Say hello."}]}

    async def send():
        connection = AnthropicConnection(key, url)
        limits = ProviderLimits(requests_per_minute=int(per_minute) or None)
        async with Ledger.open(address) as ledger:
            governor = Governor(ledger, "default", connection.credential, limits)
            (folder / f"ready-{name}").touch()
            while len(list(folder.glob("ready-*"))) < others:
                await asyncio.sleep(0.01)
            asked = (ask(connection, request, Patience(60), gate=governor)
                     for _ in range(int(count)))
            for result in await asyncio.gather(*asked, return_exceptions=True):
                print(type(result).__name__)
            await governor.close()
            await connection.close()

    asyncio.run(send())
"""


@pytest.mark.parametrize("database", DATABASES)
def test_two_processes_keep_one_limit_together(
    request: pytest.FixtureRequest, database: str, api: MessagesApi, tmp_path: Path
) -> None:
    where = new_address(request, database, tmp_path)
    Ledger.open(where, migrate=True).close()
    given = (where, api.base_url, KEY, str(tmp_path))
    senders = [run_python(SENDER, *given, name, "4", "2", "60") for name in "ab"]
    for sender in senders:
        assert finished(sender).split() == ["Answer"] * 4
    with Ledger.open(where) as ledger:
        sent = row_of(ledger, api).state.limits["models"][MODEL]["sent"]
    places = sorted(slot * 100_000 for slot, count, *_ in sent for _ in range(count))
    came = arrivals(api)
    assert len(places) == len(came) == 8
    # Sixty in a minute: five at once, then one every 60/56 s. Places are known to a tenth of a second.
    for number in range(5, 8):
        assert places[number] - places[0] >= (number - 4) * 60e6 / 56 - 100_000
    assert all(arrival >= place for arrival, place in zip(came, places, strict=True))


def test_many_requests_at_once_share_a_few_operations(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger, ProviderLimits(requests_per_minute=100_000)) as one:
            await asyncio.gather(*(one.governor.before(REQUEST) for _ in range(300)))

    run(use)
    assert row_of(ledger, api).version <= 10


def test_tokens_an_answer_did_not_use_are_given_back(ledger: Ledger, api: MessagesApi) -> None:
    limits = ProviderLimits(tokens_per_minute=10_000)

    async def use() -> None:
        async with client(api, ledger, limits) as one:
            await one.governor.before({**REQUEST, "max_tokens": 9_000})
            reserved = row_of(ledger, api).state.limits["tokens"]
            await one.governor.after(Answer({"content": []}, Usage(10, 100), MODEL))
            await one.governor.close()
            back = reserved - row_of(ledger, api).state.limits["tokens"]
            assert 57e6 < back < 60e6  # 8,900 tokens and the input's estimate, at 9,167 a minute

    run(use)


def test_who_is_cancelled_while_waiting_gives_the_place_back(ledger: Ledger, api: MessagesApi) -> None:
    limits = ProviderLimits(tokens_per_minute=10_000)
    large = {**REQUEST, "max_tokens": 9_000}

    async def use() -> None:
        async with client(api, ledger, limits) as one:
            await one.governor.before(large)
            reserved = row_of(ledger, api).state.limits["tokens"]
            waiting = asyncio.create_task(one.governor.before(large))
            await one.waits.wait()
            told = one.told("provider.waiting")[0]
            assert told["seconds"] > 10 and told["reason"] == "the limit of tokens per minute"
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await one.governor.close()
            assert row_of(ledger, api).state.limits["tokens"] == pytest.approx(reserved, abs=10)

    run(use)


# --- cool-downs ---


def test_a_rate_limit_that_one_process_meets_holds_the_other(
    ledger: Ledger, address: str, api: MessagesApi, tmp_path: Path
) -> None:
    other = run_python(SENDER, address, api.base_url, KEY, str(tmp_path), "b", "3", "2", "0")
    try:
        wait_until((tmp_path / "ready-b").exists)

        async def use() -> None:
            async with client(api, ledger) as one:
                api.queue({"fault": "rate_limit", "retry_after": 2})
                assert (await one.failure()).exit_code == 4
            (tmp_path / "ready-a").touch()

        run(use)
        until = row_of(ledger, api).state.cooldown_until
        assert finished(other).split() == ["Answer"] * 3
    finally:
        other.kill()
        other.communicate()
    assert until is not None and until >= arrivals(api)[0] + 2e6
    assert len(arrivals(api)) == 4 and arrivals(api)[1] >= until


def test_an_overload_holds_all_for_a_moment_and_the_request_then_succeeds(
    ledger: Ledger, api: MessagesApi
) -> None:
    async def use() -> None:
        async with client(api, ledger) as one, client(api, ledger) as another:
            api.queue({"fault": "overloaded"})
            assert (await one.ask(Patience(30.0))).text
            await one.governor.close()
            await another.ask()
            first, second, third = arrivals(api)
            assert second - first >= 0.9e6, "the pause of a governor whose run has all its patience"
            assert third - second < 5e6

    run(use)
    state = row_of(ledger, api).state
    assert OUTAGE not in state.limits and state.cooldown_until is None


def test_one_request_goes_to_see_whether_an_overload_is_over(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.rule("", {"fault": "overloaded"}, times=9)
            began = datetime.now(UTC)
            await asyncio.gather(*(one.ask(Patience(30.0)) for _ in range(8)))
            told = one.told("provider.waiting")
            assert max(event["waiting"] for event in told) > 1, told
            assert {event["reason"] for event in told} <= {OUT_OF_ORDER, COOL_DOWN}
            until = max(datetime.fromisoformat(event["until"]) for event in told)
            assert until < began + timedelta(minutes=12), "as long as there is patience"
            names = [name for name, _ in one.events]
            assert names.count("provider.waiting") > names.count("provider.passed")

    run(use)
    # Eight met it at once; then a single one looked, found it still so, and another one found it over.
    assert api.count == 9 + 8
    times = arrivals(api)
    assert times[8] - times[7] > 0.5e6 and times[9] - times[8] > 0.5e6


# --- parks ---


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "credit"},
        {"fault": "spend_limit"},
        {"fault": "rate_limit", "retry_after": 7200},
        {"fault": "bad_request", "message": "Your credit balance is too low to access the API."},
        {"fault": "sse_error", "type": "billing_error", "message": "No credit."},
    ],
    ids=lambda fault: fault["fault"],
)
def test_a_spent_quota_parks_the_credential_for_every_process(
    fault: dict[str, Any], ledger: Ledger, address: str, api: MessagesApi
) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue(fault)
            error = await one.failure()
            assert isinstance(error, QuotaExhausted) and error.exit_code == 4
            assert error.reset_at is not None and error.reset_at.strftime("%H:%M") in error.cure
            again = await asyncio.gather(*(one.failure() for _ in range(20)))
            assert {type(e) for e in again} == {QuotaExhausted}
            [told] = one.told("provider.parked")
            assert datetime.fromisoformat(told["until"]) > datetime.now(UTC)
            assert KEY not in told["reason"]
        with Ledger.open(address) as elsewhere:
            async with client(api, elsewhere) as another:
                refused = await another.failure()
                assert isinstance(refused, QuotaExhausted)
                assert refused.reset_at == datetime.fromisoformat(told["until"])
                assert another.told("provider.parked") == []

    run(use)
    assert api.count == 1
    state = row_of(ledger, api).state
    seconds = (state.parked_until or 0) / 1e6 - time.time()
    assert 0 < seconds <= (7200 if "retry_after" in fault else 3600)


def test_a_stated_reset_is_kept(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue({"fault": "quota_text"})
            assert isinstance(await one.failure(), QuotaExhausted)
            refused = await one.failure()
            assert isinstance(refused, QuotaExhausted)
            assert refused.reset_at == datetime(2031, 2, 1, tzinfo=UTC)

    run(use)
    assert api.count == 1


def test_the_reset_lifts_a_park(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger, ProviderLimits(park=1.0)) as one:
            api.queue({"fault": "credit"})
            await one.failure()
            until = row_of(ledger, api).state.parked_until
            assert until is not None
            while api.count == 1:
                with contextlib.suppress(QuotaExhausted):
                    await one.ask()
                await asyncio.sleep(0.02)
            assert arrivals(api)[1] >= until

    run(use)
    assert row_of(ledger, api).state.park_reason == ""


def test_a_person_lifts_a_park_and_one_request_goes_first(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue({"fault": "credit"}, {"fault": "credit"})
            await one.failure()
            credential = one.connection.credential
            assert await asyncio.to_thread(ledger.credentials.unpark, "default", credential)
            failures = await asyncio.gather(*(one.failure() for _ in range(9)))
            assert {type(e) for e in failures} == {QuotaExhausted}
            assert api.count == 2, "the first one found the quota still spent, and no other was sent"
            assert len(one.told("provider.parked")) == 2

    run(use)


def test_a_park_ends_the_wait_of_those_who_have_a_place_already(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger, ProviderLimits(requests_per_minute=1)) as one:
            await one.ask()
            waiting = asyncio.create_task(one.failure())
            await one.waits.wait()
            async with client(api, ledger) as another:
                await another.governor.failed(QuotaExhausted("spent elsewhere"))
            error = await waiting
            assert isinstance(error, QuotaExhausted) and error.message == "spent elsewhere"

    run(use)
    assert api.count == 1


# --- nothing is lost ---


def test_what_is_not_written_yet_is_written_at_the_end(ledger: Ledger, api: MessagesApi) -> None:
    async def use() -> None:
        async with client(api, ledger) as one:
            api.queue({"limits": {"requests": [50, 40, 600]}})
            await one.ask()

    run(use)
    windows = row_of(ledger, api).state.limits["models"][MODEL]["windows"]
    assert windows["requests"][:2] == [50, 40]


def test_a_ledger_that_fails_is_told_and_not_passed_over(address: str, api: MessagesApi) -> None:
    async def use() -> None:
        ledger = Ledger.open(address)
        one = Client(api, ledger, None)
        api.queue({"limits": {"requests": [50, 0, 600]}})
        await one.ask()
        await one.governor.close()
        ledger.close()
        await one.governor.after(Answer({"content": []}, Usage(), MODEL))
        with pytest.raises(LedgerError):
            await one.ask()
        with pytest.raises(LedgerError):
            await one.governor.failed(QuotaExhausted("spent"))
        with pytest.raises(LedgerError):
            await one.governor.close()
        await one.connection.close()

    run(use)
    assert api.count == 1
