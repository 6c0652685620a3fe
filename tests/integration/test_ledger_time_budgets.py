"""Active time within a run: ceilings and what is spent of them, on both databases."""

from __future__ import annotations

import asyncio

import pytest

from blocks.ledger import Fenced, Lease, Ledger, RunStart, TimeBudgetRow
from workflows.core.errors import UsageError


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    return begin(ledger)


def begin(ledger: Ledger) -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id="r", workflow="w")))


def limit(ledger: Ledger, lease: Lease, most: int, scope: str = "a") -> TimeBudgetRow:
    return asyncio.run(ledger.time_budgets.set_limit(lease, scope, most))


def spend(ledger: Ledger, lease: Lease, spent: int, scope: str = "a") -> None:
    asyncio.run(ledger.time_budgets.spend(lease, scope, spent))


def test_what_is_spent_outlives_a_process_and_never_becomes_less(ledger: Ledger, lease: Lease) -> None:
    assert limit(ledger, lease, 90) == TimeBudgetRow(scope="a", limit=90, raised=None, spent=0)
    limit(ledger, lease, 10, "x/workflow")
    spend(ledger, lease, 40)
    spend(ledger, lease, 30)  # a note that came late
    asyncio.run(ledger.finish_run(lease, "stopped"))
    later = begin(ledger)
    assert limit(ledger, later, 50) == TimeBudgetRow(scope="a", limit=50, raised=None, spent=40)
    assert [(row.scope, row.spent) for row in ledger.time_budgets.of_run("default", "r")] == [
        ("a", 40),
        ("x/workflow", 0),
    ]
    assert ledger.time_budgets.of_run("default", "other") == []


def test_who_lost_the_run_notes_nothing(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, 90)
    asyncio.run(ledger.finish_run(lease, "stopped"))
    begin(ledger)
    with pytest.raises(Fenced):
        spend(ledger, lease, 40)
    with pytest.raises(Fenced):
        limit(ledger, lease, 10)
    assert ledger.time_budgets.of_run("default", "r")[0].spent == 0


def test_a_raised_limit_stays_raised(ledger: Ledger, lease: Lease) -> None:
    limit(ledger, lease, 60_000_000)
    raised = ledger.time_budgets.raise_limit("default", "r", "a", 120_000_000)
    assert (raised.limit, raised.raised) == (120_000_000, 120_000_000)
    assert limit(ledger, lease, 60_000_000).limit == 120_000_000
    assert limit(ledger, lease, 180_000_000).limit == 180_000_000
    with pytest.raises(UsageError, match="budget of time of a is 3m already"):
        ledger.time_budgets.raise_limit("default", "r", "a", 1_000_000)
    with pytest.raises(UsageError, match="'b' has no budget of time in the run r"):
        ledger.time_budgets.raise_limit("default", "r", "b", 1_000_000)
