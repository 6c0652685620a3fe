"""Ceilings of tokens, money and turns: reserved before a request, settled after it.

Up to three budgets hold one request: of the run ("run/<run_id>"), of the step ("run/<run_id>/step/<path>")
and of the agent on one day ("agent/<id>/<yyyy-mm-dd>"). The last is the one row shared between processes;
it sorts first, so that all take it first. A reservation is an upper bound. One that nobody settles is
forfeited when it expires: it stays charged, as its request may have been billed. What the request really
cost corrects that whenever it becomes known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

import blocks.ledger.budgets.reservations as reservations
from blocks.ledger.budgets.reservations import held_now, read_reservation
from blocks.ledger.budgets.rows import (
    Amount,
    BudgetRefusal,
    BudgetRow,
    ReservationRow,
    ReservationState,
    checked_amount,
    checked_limits,
    order_of,
    read_budgets,
    read_reservations,
)
from blocks.ledger.database.access import Access
from blocks.ledger.runs.runs import Values, fenced_error, insert
from blocks.ledger.tables.columns import checked_path, to_text
from blocks.ledger.tables.records import Lease
from blocks.ledger.tables.rows import now
from blocks.ledger.tables.schema import budget, reservation
from workflows.core.errors import UsageError

__all__ = [
    "Amount",
    "BudgetLedger",
    "BudgetRefusal",
    "BudgetRow",
    "ReservationRow",
    "ReservationState",
]


class BudgetLedger:
    """The budgets, as the ledger's attribute `budgets`. Methods that are no coroutines block."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._orders: dict[tuple[str, str], str] = {}
        """The order of each reservation under way here; others are looked up."""

    # --- limits ---

    async def set_limits(
        self, lease: Lease, budget_id: str, limits: Mapping[str, int | None], run_id: str = ""
    ) -> BudgetRow:
        """Make a budget, or change the limits that are given; None is no limit. What is spent stays.

        A limit that a person has raised (`raise_limits`) is not lowered again: the larger of both counts.
        `run_id` is the run under which `of_run` lists the budget. Raises Fenced; UsageError for an
        unknown resource or a negative limit.
        """
        given = checked_limits(limits)
        operation = partial(
            _limit_budget, lease=lease, budget_id=checked_path(budget_id), given=given, run_id=run_id
        )
        row: BudgetRow = await self._access.write(operation, order_of(lease.tenant, [budget_id]))
        return row

    def raise_limits(self, tenant: str, budget_id: str, limits: Mapping[str, int | None]) -> BudgetRow:
        """Raise limits to these totals, for good: also over a later `set_limits` with less.

        Raises UsageError for an unknown budget or resource, a resource without a limit, and a total below
        the present one.
        """
        operation = partial(_raise_limits, tenant=tenant, budget_id=budget_id, given=checked_limits(limits))
        raised = self._access.write_blocking(operation, order_of(tenant, [budget_id]))
        assert isinstance(raised, BudgetRow)  # a refusal is raised by the writer
        return raised

    # --- requests ---

    async def reserve(
        self,
        lease: Lease,
        reservation_id: str,
        budget_ids: Sequence[str],
        amount: Amount,
        step_path: str,
        ttl_us: int,
    ) -> BudgetRefusal | None:
        """Hold the most that a request may cost, from all budgets or from none; the reason of a refusal.

        The same id again changes nothing while it is held, and holds anew what was released. Raises
        Fenced; LedgerError for a budget without `set_limits`, and for an id that is settled, forfeited, or
        was left by an earlier holder of the run (`forfeit_left`): each request takes its own.
        """
        ids = sorted(set(budget_ids))
        if not ids:
            raise ValueError("a reservation from no budget")
        values = _reservation_values(lease, reservation_id, ids, checked_amount(amount), step_path, ttl_us)
        order = order_of(lease.tenant, ids)
        held = partial(reservations.reserve, lease=lease, values=values, budget_ids=ids, asked=amount)
        refusal: BudgetRefusal | None = await self._access.write(held, order)
        if refusal is None:
            self._orders[lease.tenant, reservation_id] = order
        return refusal

    async def settle(
        self, lease: Lease, reservation_id: str, actual: Amount, unpriced: bool = False
    ) -> Amount:
        """Charge what the request cost; the amount by which that exceeds what was held.

        `unpriced` counts a request whose dollars are unknown. Corrects a reservation that was forfeited
        meanwhile; harmless when repeated. Raises Fenced, LedgerError for an unknown id.
        """
        checked_amount(actual)
        over: Amount = await self._end_reservation(
            lease, reservation_id, reservations.settle, actual, unpriced
        )
        return over

    async def release(self, lease: Lease, reservation_id: str) -> None:
        """Give a reservation back: nothing was sent. Harmless when repeated, or settled. Raises Fenced,
        LedgerError for an unknown id."""
        await self._end_reservation(lease, reservation_id, reservations.release)

    async def forfeit(self, lease: Lease, reservation_id: str) -> None:
        """Charge a reservation in full: nobody knows what was billed. Harmless when repeated. Raises
        Fenced, LedgerError for an unknown id."""
        await self._end_reservation(lease, reservation_id, reservations.forfeit)

    async def forfeit_left(self, lease: Lease) -> list[ReservationRow]:
        """Forfeit what earlier holders of this run left held, without waiting for it to expire: their
        requests were under way when they ended. Those that this call forfeited. Raises Fenced."""
        mine = (reservation.c.run_id == lease.run_id, reservation.c.state == "held")
        left = (*mine, reservation.c.epoch < lease.epoch)
        found = await self._access.read(lambda c: read_reservations(c, lease.tenant, *left))
        ended = [self._end_reservation(lease, row.reservation_id, reservations.forfeit) for row in found]
        did = await asyncio.gather(*ended)
        return [row for row, forfeited in zip(found, did, strict=True) if forfeited]

    async def reap(self, tenant: str) -> list[ReservationRow]:
        """Forfeit what is held and has expired, of any run; those that this call forfeited."""
        found = await self._access.read(lambda c: _find_expired(c, tenant))
        found.sort(key=lambda row: row.budget_ids)
        ended = [
            self._access.write(
                partial(reservations.reap, tenant=tenant, reservation_id=row.reservation_id),
                order_of(tenant, row.budget_ids),
            )
            for row in found
        ]
        did = await asyncio.gather(*ended)
        return [row for row, forfeited in zip(found, did, strict=True) if forfeited]

    # --- reading ---

    def read(self, tenant: str, budget_ids: Sequence[str]) -> list[BudgetRow]:
        """These budgets as they stand; unknown ones are left out."""
        these = budget.c.budget_id.in_(list(budget_ids))
        return self._access.reader.read(lambda c: read_budgets(c, tenant, these))

    def get(self, tenant: str, budget_id: str) -> BudgetRow | None:
        """A budget as it stands, None when there is none."""
        found = self._access.reader.read(lambda c: read_budgets(c, tenant, budget.c.budget_id == budget_id))
        return found[0] if found else None

    def of_run(self, tenant: str, run_id: str) -> list[BudgetRow]:
        """The budgets of a run and its steps, by id."""
        return self._access.reader.read(lambda c: read_budgets(c, tenant, budget.c.run_id == run_id))

    def reservations(self, tenant: str, run_id: str) -> list[ReservationRow]:
        """What the requests of a run held and cost, the oldest first."""
        mine = reservation.c.run_id == run_id
        return self._access.reader.read(lambda c: read_reservations(c, tenant, mine))

    # --- within ---

    async def _end_reservation(self, lease: Lease, reservation_id: str, how: Any, *arguments: Any) -> Any:
        order = self._orders.get((lease.tenant, reservation_id))
        if order is None:
            order = await self._access.read(lambda c: _order(c, lease.tenant, reservation_id))

        def operation(connection: Connection) -> Any:
            return how(connection, lease, reservation_id, *arguments)

        ended = await self._access.write(operation, order)
        self._orders.pop((lease.tenant, reservation_id), None)
        return ended


def _order(connection: Connection, tenant: str, reservation_id: str) -> str:
    found = read_reservation(connection, tenant, reservation_id)
    return order_of(tenant, [reservation_id] if found is None else found.budget_ids)


def _find_expired(connection: Connection, tenant: str) -> list[ReservationRow]:
    over = (reservation.c.state == "held", reservation.c.expires <= now(connection))
    return read_reservations(connection, tenant, *over)


def _reservation_values(
    lease: Lease, reservation_id: str, budget_ids: list[str], amount: Amount, step_path: str, ttl_us: int
) -> Values:
    """The columns of a new reservation; `expires` still counts from its beginning."""
    return {
        "tenant": lease.tenant,
        "reservation_id": checked_path(reservation_id),
        "schema_version": 1,
        "run_id": lease.run_id,
        "step_path": checked_path(step_path),
        "budgets": to_text(budget_ids, "the budgets of a reservation"),
        "tokens": amount.tokens,
        "usd": amount.usd,
        "turns": amount.turns,
        "state": "held",
        "actual": "{}",
        "epoch": lease.epoch,
        "expires": ttl_us,
        "settled": None,
    }


def _limit_budget(
    connection: Connection, lease: Lease, budget_id: str, given: dict[str, int | None], run_id: str
) -> Any:
    """The budget with these limits; or Fenced."""
    at = held_now(connection, lease)
    if at is None:
        return fenced_error(lease)
    made = {"tenant": lease.tenant, "budget_id": budget_id, "run_id": run_id, "created": at, "updated": at}
    connection.execute(insert(connection.dialect.name, budget).values(**made).on_conflict_do_nothing())
    row = _lock_budget(connection, lease.tenant, budget_id)
    assert row is not None
    limits = {
        name: limit if limit is None else max(limit, row.raised[name] or 0) for name, limit in given.items()
    }
    changed = {f"{name}_limit": limit for name, limit in limits.items() if row.limits[name] != limit}
    return _update_budget(connection, row, changed) if changed else row


def _raise_limits(connection: Connection, tenant: str, budget_id: str, given: dict[str, int | None]) -> Any:
    """The budget with raised limits; or UsageError."""
    row = _lock_budget(connection, tenant, budget_id)
    if row is None:
        return UsageError(
            f"there is no budget {budget_id}", "`phaseline show` with --cost lists those of a run"
        )
    for name, limit in given.items():
        now_at = row.limits[name]
        if now_at is None:
            return UsageError(f"the budget {budget_id} has no limit of {name}", "raise one that it has")
        if limit is None or limit < now_at:
            return UsageError(
                f"the budget {budget_id} has {now_at} {name}, which {limit} would not raise",
                f"name more than {now_at}",
            )
    changed = {f"{name}_{part}": limit for name, limit in given.items() for part in ("limit", "raised")}
    return _update_budget(connection, row, changed)


def _lock_budget(connection: Connection, tenant: str, budget_id: str) -> BudgetRow | None:
    query = select(budget.c.budget_id).where(budget.c.tenant == tenant, budget.c.budget_id == budget_id)
    connection.execute(query.with_for_update(key_share=True))
    found = read_budgets(connection, tenant, budget.c.budget_id == budget_id)
    return found[0] if found else None


def _update_budget(connection: Connection, row: BudgetRow, values: Values) -> BudgetRow:
    same = (budget.c.tenant == row.tenant, budget.c.budget_id == row.budget_id)
    changed = update(budget).where(*same).values(**values, version=row.version + 1, updated=now(connection))
    connection.execute(changed)
    return read_budgets(connection, row.tenant, budget.c.budget_id == row.budget_id)[0]
