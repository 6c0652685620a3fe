"""Budgets of the ledger: what is held before a request and charged after it, on both databases."""

from __future__ import annotations

import asyncio

import pytest

from blocks.ledger import (
    Amount,
    BudgetRefusal,
    BudgetRow,
    Fenced,
    Lease,
    Ledger,
    LedgerError,
    RunStart,
)
from workflows.core.errors import UsageError

RUN, STEP, DAY = "run/r-1", "run/r-1/step/s", "agent/a/2025-01-01"
MINUTE = 60_000_000


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    return begin(ledger)


def begin(ledger: Ledger) -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id="r-1", workflow="w")))


def limit(ledger: Ledger, lease: Lease, budget_id: str = RUN, **limits: int | None) -> BudgetRow:
    run_id = "r-1" if budget_id.startswith("run/") else ""
    return asyncio.run(ledger.budgets.set_limits(lease, budget_id, limits, run_id))


def hold(
    ledger: Ledger, lease: Lease, name: str = "x", amount: Amount | None = None, *ids: str, ttl: int = MINUTE
) -> BudgetRefusal | None:
    asked = amount or Amount(tokens=40)
    return asyncio.run(ledger.budgets.reserve(lease, name, ids or (RUN,), asked, "s", ttl))


def settle(ledger: Ledger, lease: Lease, name: str = "x", **actual: int) -> Amount:
    return asyncio.run(ledger.budgets.settle(lease, name, Amount(**actual)))


def release(ledger: Ledger, lease: Lease, name: str = "x") -> None:
    asyncio.run(ledger.budgets.release(lease, name))


def forfeit(ledger: Ledger, lease: Lease, name: str = "x") -> None:
    asyncio.run(ledger.budgets.forfeit(lease, name))


def stands(ledger: Ledger, budget_id: str = RUN) -> tuple[int, int]:
    """What is spent and reserved of a budget, in tokens."""
    row = ledger.budgets.get("default", budget_id)
    assert row is not None
    return row.spent.tokens, row.reserved.tokens


def state(ledger: Ledger) -> str:
    (row,) = ledger.budgets.reservations("default", "r-1")
    return row.state


# --- limits ---


def test_a_budget_comes_back_as_it_was_set(ledger: Ledger, lease: Lease) -> None:
    row = limit(ledger, lease, tokens=100, usd=None)
    assert row.limits == {"tokens": 100, "usd": None, "turns": None}
    assert (row.spent, row.reserved, row.unpriced) == (Amount(), Amount(), 0)
    limit(ledger, lease, DAY, turns=5)
    assert ledger.budgets.of_run("default", "r-1") == [row] == [ledger.budgets.get("default", RUN)]
    assert ledger.budgets.get("default", "run/never") is None
    assert ledger.budgets.get("other", RUN) is None


def test_setting_limits_again_keeps_what_is_spent_and_what_is_not_named(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100, turns=7)
    hold(ledger, lease)
    settle(ledger, lease, tokens=30)
    row = limit(ledger, lease, tokens=50)
    assert row.limits == {"tokens": 50, "usd": None, "turns": 7} and row.spent.tokens == 30
    assert limit(ledger, lease, tokens=50) == row
    assert limit(ledger, lease, tokens=None).limits["tokens"] is None


def test_a_raised_limit_is_not_lowered_by_the_definition(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100, usd=10)
    assert ledger.budgets.raise_limits("default", RUN, {"tokens": 300}).limits["tokens"] == 300
    assert limit(ledger, lease, tokens=100, usd=5).limits == {"tokens": 300, "usd": 5, "turns": None}
    assert limit(ledger, lease, tokens=400).limits["tokens"] == 400
    assert limit(ledger, lease, tokens=100).limits["tokens"] == 300
    again = ledger.budgets.raise_limits("default", RUN, {"tokens": 300})
    assert again.raised == {"tokens": 300, "usd": None, "turns": None}


@pytest.mark.parametrize(
    ("budget_id", "limits", "said"),
    [
        (RUN, {"tokens": 99}, "would not raise"),
        (RUN, {"tokens": None}, "would not raise"),
        (RUN, {"usd": 5}, "has no limit of usd"),
        (RUN, {"tokns": 5}, "did you mean 'tokens'?"),
        (RUN, {"tokens": -1}, "write 0 or more"),
        ("run/never", {"tokens": 5}, "there is no budget run/never"),
    ],
)
def test_what_raises_nothing_is_refused(
    ledger: Ledger, lease: Lease, budget_id: str, limits: dict[str, int | None], said: str
) -> None:
    row = limit(ledger, lease, tokens=100)
    with pytest.raises(UsageError) as caught:
        ledger.budgets.raise_limits("default", budget_id, limits)
    assert said in str(caught.value) and caught.value.cure
    assert ledger.budgets.get("default", RUN) == row


# --- requests ---


def test_what_is_held_is_charged_with_what_it_cost(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100, usd=1000, turns=3)
    assert hold(ledger, lease, "x", Amount(tokens=60, usd=500, turns=1)) is None
    row = ledger.budgets.get("default", RUN)
    assert row is not None and row.reserved == Amount(60, 500, 1) and not row.spent
    assert not settle(ledger, lease, tokens=20, usd=100, turns=1)
    row = ledger.budgets.get("default", RUN)
    assert row is not None and row.spent == Amount(20, 100, 1) and not row.reserved
    (known,) = ledger.budgets.reservations("default", "r-1")
    assert (known.state, known.amount, known.actual) == ("settled", Amount(60, 500, 1), Amount(20, 100, 1))


def test_a_request_that_might_exceed_a_limit_is_refused_with_the_figures(
    ledger: Ledger, lease: Lease
) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease, "first", Amount(tokens=30))
    settle(ledger, lease, "first", tokens=25)
    hold(ledger, lease, "second", Amount(tokens=35))
    refusal = hold(ledger, lease, "third", Amount(tokens=41))
    assert refusal == BudgetRefusal(
        budget_id=RUN, resource="tokens", limit=100, spent=25, reserved=35, asked=41
    )
    assert hold(ledger, lease, "third", Amount(tokens=40)) is None
    assert stands(ledger) == (25, 75)


def test_all_budgets_hold_a_request_or_none_does(ledger: Ledger, lease: Lease) -> None:
    for budget_id, tokens in ((RUN, 100), (STEP, 50), (DAY, 30)):
        limit(ledger, lease, budget_id, tokens=tokens)
    refusal = hold(ledger, lease, "x", Amount(tokens=40), RUN, STEP, DAY)
    assert refusal is not None and refusal.budget_id == DAY
    assert [stands(ledger, budget_id) for budget_id in (RUN, STEP, DAY)] == [(0, 0)] * 3
    assert ledger.budgets.reservations("default", "r-1") == []
    assert hold(ledger, lease, "x", Amount(tokens=30), RUN, STEP, DAY, RUN) is None
    settle(ledger, lease, tokens=10)
    assert [stands(ledger, budget_id) for budget_id in (RUN, STEP, DAY)] == [(10, 0)] * 3


def test_a_spent_resource_stops_also_what_asks_none_of_it(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, usd=10)
    hold(ledger, lease, "x", Amount(usd=10))
    assert settle(ledger, lease, usd=15) == Amount(usd=5)
    refusal = hold(ledger, lease, "y", Amount(tokens=1))
    assert refusal is not None and (refusal.resource, refusal.spent, refusal.asked) == ("usd", 15, 0)


def test_no_limit_refuses_nothing_and_still_counts(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease)
    assert hold(ledger, lease, "x", Amount(tokens=2**50)) is None
    assert settle(ledger, lease, tokens=2**51) == Amount(tokens=2**50)
    assert stands(ledger) == (2**51, 0)


def test_an_overrun_is_recorded_and_told_again(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease, "x", Amount(tokens=40, usd=7))
    assert [settle(ledger, lease, tokens=55, usd=2) for _ in range(2)] == [Amount(tokens=15)] * 2
    assert stands(ledger) == (55, 0)


def test_requests_without_a_price_are_counted(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease)
    hold(ledger, lease)
    for _ in range(2):
        asyncio.run(ledger.budgets.settle(lease, "x", Amount(tokens=1), unpriced=True))
    row = ledger.budgets.get("default", RUN)
    assert row is not None and row.unpriced == 1
    assert ledger.budgets.reservations("default", "r-1")[0].unpriced


def test_repetitions_change_nothing(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    for _ in range(3):
        assert hold(ledger, lease) is None
    assert stands(ledger) == (0, 40)
    for _ in range(3):
        settle(ledger, lease, tokens=10)
    assert stands(ledger) == (10, 0)
    release(ledger, lease)
    forfeit(ledger, lease)
    assert stands(ledger) == (10, 0) and state(ledger) == "settled"


def test_a_release_gives_all_back_and_the_id_may_be_held_anew(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease)
    for _ in range(2):
        release(ledger, lease)
    assert stands(ledger) == (0, 0) and state(ledger) == "released"
    assert hold(ledger, lease, "x", Amount(tokens=100)) is None
    assert stands(ledger) == (0, 100) and state(ledger) == "held"
    release(ledger, lease)
    refusal = hold(ledger, lease, "x", Amount(tokens=101))
    assert refusal is not None and state(ledger) == "released"


def test_a_forfeit_stays_charged_until_the_cost_is_known(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease)
    for _ in range(2):
        forfeit(ledger, lease)
    assert stands(ledger) == (40, 0) and state(ledger) == "forfeited"
    assert not settle(ledger, lease, tokens=15)
    assert stands(ledger) == (15, 0) and state(ledger) == "settled"


def test_a_forfeit_that_was_never_sent_is_given_back(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease)
    forfeit(ledger, lease)
    release(ledger, lease)
    assert stands(ledger) == (0, 0)
    settle(ledger, lease, tokens=5)  # it was sent after all
    assert stands(ledger) == (5, 0)


def test_an_id_that_is_over_is_not_held_again(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    for name, end in (("settled", settle), ("forfeited", forfeit)):
        hold(ledger, lease, name)
        end(ledger, lease, name)
        with pytest.raises(LedgerError, match=name) as caught:
            hold(ledger, lease, name)
        assert caught.value.cure


def test_odd_requests_are_refused(ledger: Ledger, lease: Lease) -> None:
    with pytest.raises(LedgerError, match="there is no budget run/r-1"):
        hold(ledger, lease)
    with pytest.raises(LedgerError, match="there is no reservation x"):
        settle(ledger, lease)
    with pytest.raises(ValueError, match="negative"):
        hold(ledger, lease, "x", Amount(tokens=-1))
    with pytest.raises(ValueError, match="no budget"):
        asyncio.run(ledger.budgets.reserve(lease, "x", (), Amount(), "s", MINUTE))


def test_only_the_holder_of_the_run_spends(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease)
    asyncio.run(ledger.finish_run(lease, "stopped"))
    for attempt in (
        ledger.budgets.set_limits(lease, RUN, {"tokens": 1}),
        ledger.budgets.reserve(lease, "y", [RUN], Amount(1), "s", MINUTE),
        ledger.budgets.settle(lease, "x", Amount()),
        ledger.budgets.release(lease, "x"),
        ledger.budgets.forfeit(lease, "x"),
    ):
        with pytest.raises(Fenced):
            asyncio.run(attempt)
    assert stands(ledger) == (0, 40)


# --- what nobody settles ---


def test_what_has_expired_is_forfeited_and_late_news_correct_it(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    limit(ledger, lease, DAY, tokens=100)
    hold(ledger, lease, "gone", Amount(tokens=40), RUN, DAY, ttl=0)
    hold(ledger, lease, "under way", Amount(tokens=20), RUN)
    reaped = asyncio.run(ledger.budgets.reap("default"))
    assert [row.reservation_id for row in reaped] == ["gone"]
    assert stands(ledger) == (40, 20) and stands(ledger, DAY) == (40, 0)
    assert asyncio.run(ledger.budgets.reap("default")) == []
    settle(ledger, lease, "gone", tokens=10)
    assert stands(ledger) == (10, 20) and stands(ledger, DAY) == (10, 0)


def test_the_next_holder_forfeits_what_the_last_one_left(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=100)
    hold(ledger, lease, "left")
    asyncio.run(ledger.finish_run(lease, "interrupted"))
    now = begin(ledger)
    with pytest.raises(LedgerError, match="of another process"):
        hold(ledger, now, "left")
    hold(ledger, now, "mine", Amount(tokens=5))
    (left,) = asyncio.run(ledger.budgets.forfeit_left(now))
    assert left.reservation_id == "left" and stands(ledger) == (40, 5)
    assert asyncio.run(ledger.budgets.forfeit_left(now)) == []


def test_the_share_of_each_limit_that_is_spent(ledger: Ledger, lease: Lease) -> None:
    def shares(*ids: str) -> dict[str, dict[str, float]]:
        return {row.budget_id: row.shares() for row in ledger.budgets.read("default", ids)}

    limit(ledger, lease, RUN, tokens=100, usd=1000)
    limit(ledger, lease, STEP, tokens=50)
    limit(ledger, lease, DAY, turns=0)
    hold(ledger, lease, "x", Amount(tokens=45, usd=100), RUN, STEP)
    assert shares(RUN) == {RUN: {"tokens": 0.0, "usd": 0.0}}
    settle(ledger, lease, tokens=45, usd=100)
    assert shares(RUN, STEP) == {RUN: {"tokens": 0.45, "usd": 0.1}, STEP: {"tokens": 0.9}}
    assert shares(DAY, "run/never") == {DAY: {"turns": 1.0}}


def test_what_a_budget_still_allows_leaves_out_what_is_only_held(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, RUN, tokens=100)
    hold(ledger, lease, "x", Amount(tokens=60))
    (row,) = ledger.budgets.read("default", [RUN])
    assert row.allows(Amount(tokens=100)) and not row.allows(Amount(tokens=101))
    assert row.allows(Amount(usd=10**9, turns=10**6)), "without a limit there is none"


def test_many_requests_at_once_never_exceed_a_limit(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, tokens=1000)
    limit(ledger, lease, DAY, tokens=400)

    async def request(number: int) -> bool:
        budgets = ledger.budgets
        name = f"x-{number}"
        if await budgets.reserve(lease, name, [RUN, DAY], Amount(tokens=50), "s", MINUTE) is not None:
            return False
        await budgets.settle(lease, name, Amount(tokens=50))
        return True

    async def all_at_once() -> list[bool]:
        return await asyncio.gather(*(request(number) for number in range(40)))

    assert sum(asyncio.run(all_at_once())) == 8
    assert stands(ledger) == (400, 0) == stands(ledger, DAY)
