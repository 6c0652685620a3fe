"""Ceilings of active time within a run: of a step ("<path>"), or of a workflow in it ("<path>/workflow").

What is spent is a total that only the run's holder writes, again and again while the step works, so that a
killed process takes no more with it than what passed since the last time. Times are whole microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, select, update

from blocks.ledger.database.access import Access, run_order
from blocks.ledger.runs.fence import held_at
from blocks.ledger.runs.runs import Values, fenced_error, insert
from blocks.ledger.tables.columns import checked_path
from blocks.ledger.tables.records import Lease
from blocks.ledger.tables.schema import time_budget as table
from workflows.core.errors import UsageError
from workflows.core.units import shown_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBudgetRow:
    """Active time that may be taken, and that was (microseconds); `raised` is a person's own ceiling."""

    scope: str
    limit: int
    raised: int | None
    spent: int


class TimeBudgetLedger:
    """The ceilings of active time, as the ledger's attribute `time_budgets`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def set_limit(self, lease: Lease, scope: str, limit: int) -> TimeBudgetRow:
        """Make a ceiling, or change it; what is spent stays. A limit that a person has raised is not
        lowered again: the larger of both counts. Raises Fenced."""
        made = {**_key(lease.tenant, lease.run_id, checked_path(scope)), "limit_us": limit}
        operation = partial(_set_limit, lease=lease, values=made)
        row: TimeBudgetRow = await self._access.under(lease, operation)
        return row

    async def spend(self, lease: Lease, scope: str, spent: int) -> None:
        """Note the total that is spent by now; it never becomes less. Raises Fenced."""
        operation = partial(_note_spent, lease=lease, scope=scope, spent=spent)
        await self._access.under(lease, operation)

    def raise_limit(self, tenant: str, run_id: str, scope: str, limit: int) -> TimeBudgetRow:
        """Raise a ceiling for good, blocking. UsageError when there is none, or it is higher already."""
        operation = partial(_raise_limit, key=_key(tenant, run_id, scope), limit=limit)
        row: TimeBudgetRow = self._access.write_blocking(operation, run_order(tenant, run_id))
        return row

    def of_run(self, tenant: str, run_id: str) -> list[TimeBudgetRow]:
        """The ceilings within a run, by scope."""
        query = select(table).where(table.c.tenant == tenant, table.c.run_id == run_id)
        query = query.order_by(table.c.scope)
        return self._access.reader.read(lambda c: [_row(found) for found in c.execute(query)])


def _key(tenant: str, run_id: str, scope: str) -> Values:
    return {"tenant": tenant, "run_id": run_id, "scope": scope}


def _set_limit(connection: Connection, lease: Lease, values: Values) -> Any:
    """The row with this limit; or Fenced."""
    if held_at(connection, lease) is None:
        return fenced_error(lease)
    connection.execute(insert(connection.dialect.name, table).values(**values).on_conflict_do_nothing())
    row = _find_budget(connection, values)
    assert row is not None
    limit = max(values["limit_us"], row.raised or 0)
    return row if row.limit == limit else _update_budget(connection, values, {"limit_us": limit})


def _note_spent(connection: Connection, lease: Lease, scope: str, spent: int) -> Any:
    """None when the total is noted; or Fenced."""
    if held_at(connection, lease) is None:
        return fenced_error(lease)
    more = _update_of(_key(lease.tenant, lease.run_id, scope)).where(table.c.spent_us < spent)
    connection.execute(more.values(spent_us=spent))
    return None


def _raise_limit(connection: Connection, key: Values, limit: int) -> Any:
    """The row with a raised limit; or UsageError."""
    row = _find_budget(connection, key)
    if row is None:
        return UsageError(
            f"'{key['scope']}' has no budget of time in the run {key['run_id']}",
            "name one that it has, as the message of the spent budget does",
        )
    if limit < row.limit:
        at = shown_duration(row.limit / 1e6)
        return UsageError(f"the budget of time of {key['scope']} is {at} already", "name a longer one")
    return _update_budget(connection, key, {"limit_us": limit, "raised_us": limit})


def _find_budget(connection: Connection, key: Values) -> TimeBudgetRow | None:
    same = (table.c[name] == key[name] for name in ("tenant", "run_id", "scope"))
    found = connection.execute(select(table).where(*same).with_for_update(key_share=True)).first()
    return None if found is None else _row(found)


def _update_budget(connection: Connection, key: Values, values: Values) -> TimeBudgetRow:
    connection.execute(_update_of(key).values(**values))
    row = _find_budget(connection, key)
    assert row is not None
    return row


def _update_of(key: Values) -> Any:
    return update(table).where(*(table.c[name] == key[name] for name in ("tenant", "run_id", "scope")))


def _row(found: Any) -> TimeBudgetRow:
    return TimeBudgetRow(
        scope=found.scope, limit=found.limit_us, raised=found.raised_us, spent=found.spent_us
    )
