"""When the next request may be sent: buckets of the catalog, windows of the provider, cool-downs, parks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.ledger import CredentialState
from blocks.models import ProviderHeaders, credential_id
from tasks.limits.admission import (
    COOL_DOWN,
    MINUTE,
    PROBE,
    Leeway,
    Place,
    admit,
    fail,
    learn,
    note,
    park,
    recover,
    settle,
    used_tokens,
)
from tasks.limits.provider_limits import SECOND, Need
from workflows.core.models.skill import ModelTable, ProviderLimits
from workflows.core.read.documents import parse_source
from workflows.core.read.validation import read_model
from workflows.core.usage import Usage

NOW = 1_800_000_000 * SECOND
NONE = ProviderLimits()
SMALL = Need("m", 10, 10)


def placed(
    state: CredentialState, count: int, limits: ProviderLimits = NONE, need: Need = SMALL, now: int = NOW
) -> tuple[CredentialState, list[float]]:
    """Seconds that so many requests wait which ask at one moment."""
    waits = []
    for _ in range(count):
        state, place = admit(state, now, need, limits)
        waits.append((place.at - now) / SECOND)
    return state, waits


def said(seen: int = NOW, **kinds: tuple[int, int, float]) -> ProviderHeaders:
    """Headers that came at `seen`: by kind its limit, what remains, and the seconds until the reset."""
    headers: dict[str, Any] = {"at": seen / SECOND}
    for kind, (limit, remaining, seconds) in kinds.items():
        reset = datetime.fromtimestamp(seen / SECOND + seconds, UTC).isoformat()
        name = kind.replace("_", "-")
        headers |= {f"{name}-limit": str(limit), f"{name}-remaining": str(remaining), f"{name}-reset": reset}
    return headers


# --- buckets ---


def test_nothing_waits_without_limits() -> None:
    _, waits = placed(CredentialState(), 300)
    assert set(waits) == {0.0}


def test_a_few_requests_go_at_once_and_the_rest_in_even_steps() -> None:
    _, waits = placed(CredentialState(), 8, ProviderLimits(requests_per_minute=60))
    assert waits[:5] == [0] * 5
    steps = [later - earlier for earlier, later in itertools.pairwise(waits[4:])]
    assert steps == pytest.approx([60 / 56] * 3, abs=1e-5)


@given(
    per_minute=st.integers(1, 200),
    gaps=st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=300),
)
def test_no_minute_has_more_requests_than_allowed(per_minute: int, gaps: list[int]) -> None:
    limits, state, now = ProviderLimits(requests_per_minute=per_minute), CredentialState(), NOW
    starts = []
    for gap in gaps:
        now += gap
        state, place = admit(state, now, SMALL, limits)
        starts.append(place.at)
    assert starts == sorted(starts)
    slack = len(starts)  # microseconds: each place is rounded to a whole one
    for first, beyond in zip(starts, starts[per_minute:], strict=False):
        assert beyond - first >= MINUTE - slack


def test_a_large_request_waits_for_its_place_and_is_not_passed() -> None:
    limits = ProviderLimits(tokens_per_minute=12_000)
    state, first = placed(CredentialState(), 3, limits, Need("m", 900, 100))
    state, large = placed(state, 1, limits, Need("m", 6_000, 3_000))
    _, small = placed(state, 2, limits, SMALL)
    assert first[0] == 0 and first == sorted(first)
    assert first[-1] < large[0] < 60, "it is larger than what may go at once, and comes all the same"
    assert large[0] + 40 < small[0] <= small[1]


def test_a_request_beyond_a_minutes_limit_goes_when_the_bucket_is_empty() -> None:
    limits = ProviderLimits(tokens_per_minute=1_000)
    _, waits = placed(CredentialState(), 2, limits, Need("m", 5_000, 5_000))
    assert waits[0] == 0 and 600 < waits[1] < 700


def test_tokens_that_were_not_used_are_given_back() -> None:
    limits, need = ProviderLimits(tokens_per_minute=12_000), Need("m", 1_000, 9_000)
    state, _ = placed(CredentialState(), 1, limits, need)
    _, late = placed(state, 1, limits, SMALL)
    _, early = placed(settle(state, need, 1_200, limits), 1, limits, SMALL)
    assert late[0] > 40 and early[0] < 5


def test_who_waits_for_tokens_moves_up_when_some_are_given_back() -> None:
    limits, need = ProviderLimits(tokens_per_minute=11_000), Need("m", 1_000, 9_000)
    state, _ = admit(CredentialState(), NOW, need, limits)
    state, place = admit(state, NOW, need, limits)
    assert place.at - NOW > 40 * SECOND
    state = settle(state, need, 5_000, limits)
    moved = place.moved_up(state)
    assert place.at - moved.at == pytest.approx(5_000 * MINUTE / (11_000 * 11 / 12), rel=0.01)
    assert moved.moved_up(state) == moved, "the same gift counts once"
    assert moved.moved_up(settle(state, need, 0, limits)).at == moved.firm == NOW


def test_who_waits_for_requests_does_not_move_up() -> None:
    place = Place(at=NOW + 5, firm=NOW + 5)
    assert place.moved_up(CredentialState(limits={"given_back": 10**9})) == place


def test_a_settlement_without_a_limit_changes_nothing() -> None:
    state = CredentialState(limits={"tokens": NOW})
    assert settle(state, SMALL, 0, NONE) is state


def test_what_the_cache_answered_does_not_count() -> None:
    assert used_tokens(Usage(10, 20, 4_000, 30)) == 60


def test_a_request_is_estimated_by_its_characters_and_its_max_tokens() -> None:
    request = {
        "model": "m",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": "x" * 3_600}],
        "system": "y" * 360,
    }
    need = Need.of(request)
    assert (need.model, need.output) == ("m", 500)
    assert 1_100 < need.input < 1_150
    assert Need.of({**request, "metadata": {"z": "z" * 9_999}}) == need


# --- windows ---


def test_nothing_left_means_waiting_for_the_reset() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 0, 20)))
    assert placed(state, 2)[1] == [20, 20]
    assert admit(state, NOW, SMALL, NONE)[1].reason == "the provider's limit of requests"


def test_what_remains_is_shared_and_then_the_next_window_is_filled() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(3, 2, 20)))
    assert placed(state, 9)[1] == [0, 0, 20, 20, 20, 80, 80, 80, 140]


def test_a_limit_of_one_model_does_not_hold_another() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 0, 20)))
    assert placed(state, 1, need=Need("other", 1, 1))[1] == [0]


@pytest.mark.parametrize("kind", ["tokens", "input_tokens", "output_tokens"])
def test_tokens_are_taken_from_their_window(kind: str) -> None:
    state = learn(CredentialState(), NOW, "m", said(**{kind: (10_000, 1_000, 30)}))
    _, waits = placed(state, 3, need=Need("m", 400, 400))
    assert waits[0] == 0 and waits[-1] == 30


def test_a_generous_max_tokens_takes_at_most_a_quarter() -> None:
    state = learn(CredentialState(), NOW, "m", said(output_tokens=(8_000, 7_900, 30)))
    assert placed(state, 4, need=Need("m", 1, 64_000))[1] == [0, 0, 0, 30]


def test_a_window_that_is_over_is_not_known_any_more() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 0, 20)))
    assert placed(state, 60, now=NOW + 20 * SECOND)[1] == [0] * 60


def test_old_news_is_passed_over() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 0, 20)))
    older = said(NOW - 5 * SECOND, requests=(50, 40, 60))
    assert learn(state, NOW, "m", older) == state
    over = said(NOW - 5 * SECOND, requests=(50, 0, 4))
    assert learn(CredentialState(), NOW, "m", over) == CredentialState()


def test_newer_news_replaces_what_is_known() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 1, 20)))
    state = learn(state, NOW + SECOND, "m", said(NOW + SECOND, requests=(50, 40, 20)))
    assert placed(state, 40, now=NOW + SECOND)[1] == [0] * 40


def test_what_was_sent_after_the_news_counts_against_it() -> None:
    state, _ = placed(CredentialState(), 3, now=NOW + SECOND)
    state = learn(state, NOW + 2 * SECOND, "m", said(requests=(50, 5, 20)))
    assert placed(state, 3, now=NOW + 2 * SECOND)[1] == [0, 0, 18]


def test_what_was_sent_before_the_news_is_in_it() -> None:
    state, _ = placed(CredentialState(), 3, now=NOW - SECOND)
    state = learn(state, NOW, "m", said(requests=(50, 5, 20)))
    assert placed(state, 5)[1] == [0] * 5


def test_who_waits_for_the_next_window_keeps_the_place_when_news_come() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(3, 0, 20)))
    state, _ = placed(state, 2)
    later = learn(state, NOW + SECOND, "m", said(NOW + SECOND, requests=(3, 0, 30)))
    assert placed(later, 1, now=NOW + SECOND)[1] == [30]
    again = learn(state, NOW + SECOND, "m", said(NOW + SECOND, requests=(3, 3, 30)))
    assert placed(again, 2, now=NOW + SECOND)[1] == [19, 79]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"at": NOW / SECOND, "requests-limit": "5"},
        {"at": NOW / SECOND, "requests-limit": "5", "requests-remaining": "0", "requests-reset": "soon"},
        {
            "at": NOW / SECOND,
            "requests-limit": "x",
            "requests-remaining": "0",
            "requests-reset": "2099-01-01",
        },
        {
            "at": NOW / SECOND,
            "requests-limit": "5",
            "requests-remaining": "0",
            "requests-reset": "2099-01-01",
        },
        {
            "at": NOW / SECOND,
            "requests-limit": "0",
            "requests-remaining": "0",
            "requests-reset": "2099-01-01T00:00:00Z",
        },
    ],
)
def test_unreadable_news_is_passed_over(headers: ProviderHeaders) -> None:
    assert learn(CredentialState(), NOW, "m", headers) == CredentialState()


def test_the_document_stays_small() -> None:
    state = CredentialState()
    for number in range(400):
        now = NOW + number * SECOND
        state, _ = placed(state, 3, now=now, need=Need(f"m{number % 3}", 10, 10))
        state = learn(state, now, "m0", said(now, requests=(50, 40, 20), tokens=(5_000, 4_000, 20)))
    assert len(str(state.limits)) < 15_000
    state = learn(state, NOW + 3_600 * SECOND, "m0", {})
    assert state.limits == {"models": {}}


# --- cool-downs and parks ---


def test_a_cool_down_holds_everybody() -> None:
    state = CredentialState(cooldown_until=NOW + 9 * SECOND)
    state, place = admit(state, NOW, SMALL, NONE)
    assert (place.at, place.reason) == (NOW + 9 * SECOND, COOL_DOWN)
    assert placed(state, 1, now=NOW + 9 * SECOND)[1] == [0]


def doubled(count: int) -> int:
    return SECOND * 2 ** (count - 1)


def test_many_that_fail_at_once_are_one_fault_and_pauses_grow_with_the_probes() -> None:
    state = CredentialState()
    for late in range(8):
        state = fail(state, NOW + late, doubled)
    assert state.cooldown_until == NOW + SECOND
    state, waits = placed(state, 3, now=NOW + SECOND)
    assert waits == [0, PROBE / SECOND, PROBE / SECOND], "one goes first, to see whether it is over"
    state = fail(state, NOW + 2 * SECOND, doubled)
    assert state.cooldown_until == NOW + 4 * SECOND
    state = fail(state, NOW + 2 * SECOND, doubled, asked=9 * SECOND)
    assert state.cooldown_until == NOW + 11 * SECOND, "what the provider asks for is obeyed all the same"


def test_an_answer_ends_an_outage_for_all_but_not_one_that_was_on_its_way_before() -> None:
    state = fail(CredentialState(), NOW, doubled)
    assert recover(state, NOW - 1) == state
    state, _ = placed(state, 1, now=NOW + SECOND)
    state = recover(state, NOW + SECOND)
    assert state.cooldown_until is None and placed(state, 5, now=NOW + SECOND)[1] == [0] * 5


def test_an_old_outage_is_none() -> None:
    state = fail(CredentialState(), NOW, doubled)
    assert placed(state, 3, now=NOW + 3600 * SECOND)[1] == [0, 0, 0]


def test_a_park_holds_until_its_time_and_a_longer_one_stays() -> None:
    state = park(CredentialState(), NOW, NOW + 9, "spent")
    assert state.is_parked(NOW) and state.is_parked(NOW + 8) and not state.is_parked(NOW + 9)
    assert park(state, NOW, NOW + 5, "again") == state
    assert park(state, NOW, NOW + 50, "again").parked_until == NOW + 50
    assert CredentialState(park_reason="no time stated").is_parked(NOW)


def test_after_a_park_one_request_goes_first() -> None:
    state = park(CredentialState(), NOW, NOW + SECOND, "spent")
    state, waits = placed(state, 3, now=NOW + SECOND)
    assert waits == [0, PROBE / SECOND, PROBE / SECOND]
    assert state.park_reason == "" and state.parked_until is None


# --- what a process may do by itself ---


def test_far_from_limits_a_process_need_not_ask() -> None:
    leeway = Leeway.of(CredentialState(), NOW, "m", NONE)
    assert leeway is not None and all(leeway.take(SMALL) for _ in range(500))


def test_near_a_limit_it_may_use_a_tenth_of_what_remains() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 40, 20)))
    leeway = Leeway.of(state, NOW, "m", NONE)
    assert leeway is not None and [leeway.take(SMALL) for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("state", "limits"),
    [
        (CredentialState(), ProviderLimits(requests_per_minute=1_000)),
        (CredentialState(), ProviderLimits(tokens_per_minute=1_000)),
        (CredentialState(cooldown_until=NOW + 1), NONE),
        (park(CredentialState(), NOW - 9, NOW - 5, "over"), NONE),
        (placed(learn(CredentialState(), NOW, "m", said(requests=(3, 0, 20))), 1)[0], NONE),
    ],
)
def test_it_must_ask_wherever_a_place_counts(state: CredentialState, limits: ProviderLimits) -> None:
    assert Leeway.of(state, NOW, "m", limits) is None


def test_what_went_without_asking_is_counted_afterwards() -> None:
    state = learn(CredentialState(), NOW, "m", said(requests=(50, 3, 20)))
    for _ in range(2):
        state = note(state, NOW + SECOND, NOW + SECOND // 2, SMALL)
    assert placed(state, 2, now=NOW + SECOND)[1] == [0, 19]


# --- credentials ---


def test_a_credential_is_named_without_its_key() -> None:
    name = credential_id("sk-secret", None)
    assert len(name) == 16 and int(name, 16) >= 0 and "secret" not in name
    assert name == credential_id("sk-secret", "https://api.anthropic.com/")
    assert name != credential_id("sk-secret", "https://elsewhere.example") != credential_id("other", None)


def test_a_catalog_writes_its_limits_by_the_credentials_variable() -> None:
    text = b"limits: {ANTHROPIC_API_KEY: {requests_per_minute: 50, park: 30m}, OTHER_KEY: {}}"
    table, mistakes = read_model(ModelTable, parse_source(text, "models.yaml"))
    assert table is not None and not mistakes
    assert table.limits["ANTHROPIC_API_KEY"] == ProviderLimits(requests_per_minute=50, park=1800.0)
    assert table.limits["OTHER_KEY"] == ProviderLimits(park=3600.0)


@pytest.mark.parametrize("written", ["{requests_per_minute: 0}", "{park: soon}", "{tokens_per_hour: 5}"])
def test_a_limit_that_cannot_be_is_a_mistake_of_the_file(written: str) -> None:
    text = f"limits: {{ANTHROPIC_API_KEY: {written}}}".encode()
    table, mistakes = read_model(ModelTable, parse_source(text, "models.yaml"))
    assert table is None and len(mistakes) == 1 and mistakes[0].line == 1
