"""How requests are held from budgets and charged to them: operations on one connection (see runs.py).

Each takes the reservation's row first and its budgets in the order of their ids. They check the lease
without locking the run's row, as the budget of an agent's day is the one row that they may share: what a
process writes that loses its run at that very moment is a reservation too many, which is forfeited.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, bindparam, select, update

from blocks.ledger.budgets.rows import (
    RESOURCES,
    Amount,
    ReservationRow,
    ReservationState,
    budget_row,
    reservation_row,
)
from blocks.ledger.runs.fence import named_lease
from blocks.ledger.runs.runs import Values, fenced_error, insert
from blocks.ledger.tables.columns import to_text
from blocks.ledger.tables.errors import LedgerError
from blocks.ledger.tables.records import Document, Lease
from blocks.ledger.tables.rows import clock, now
from blocks.ledger.tables.schema import budget, reservation, run

_NOTHING = Amount()


def reserve(
    connection: Connection, lease: Lease, values: Values, budget_ids: list[str], asked: Amount
) -> Any:
    """None when the amount is held from all budgets; a BudgetRefusal, and it is held from none; or Fenced,
    or LedgerError for an unknown budget or a reservation that is over."""
    at = held_now(connection, lease)
    if at is None:
        return fenced_error(lease)
    parameters = {"in_tenant": lease.tenant, "in_ids": budget_ids}
    rows = [budget_row(found) for found in connection.execute(_LOCKED_BUDGETS, parameters)]
    missing = set(budget_ids) - {row.budget_id for row in rows}
    if missing:
        return LedgerError(
            f"there is no budget {sorted(missing)[0]}", "set its limits before the first request"
        )
    refusal = next(filter(None, (row.refusal(asked) for row in rows)), None)
    if refusal is None:
        held = {**values, "created": at, "expires": at + values["expires"]}
        if connection.execute(_reserving_insert(connection.dialect.name), held).first() is not None:
            _charge_budgets(connection, lease.tenant, budget_ids, at, reserved=asked)
            return None
    known = read_reservation(connection, lease.tenant, values["reservation_id"])
    if known is None or known.state == "released":
        return refusal
    return None if known.state == "held" and known.epoch == lease.epoch else _over_error(known)


def settle(connection: Connection, lease: Lease, reservation_id: str, actual: Amount, unpriced: bool) -> Any:
    """The Amount by which the request cost more than was held; or Fenced, or LedgerError when unknown.

    The truth about the cost wins over whatever was assumed before: forfeited, or released.
    """
    at, found = _find_reservation(connection, lease, reservation_id)
    if not isinstance(found, ReservationRow):
        return found
    if found.state == "settled":
        return (found.actual or _NOTHING).over(found.amount)
    _end_reservation(connection, lease.tenant, found, "settled", actual, at, unpriced)
    return actual.over(found.amount)


def release(connection: Connection, lease: Lease, reservation_id: str) -> Any:
    """None; or Fenced, or LedgerError when unknown. Of a settled one nothing is given back."""
    at, found = _find_reservation(connection, lease, reservation_id)
    if not isinstance(found, ReservationRow):
        return found
    if found.state in ("held", "forfeited"):
        _end_reservation(connection, lease.tenant, found, "released", _NOTHING, at)
    return None


def forfeit(connection: Connection, lease: Lease, reservation_id: str) -> Any:
    """Whether this charged a held reservation in full; or Fenced, or LedgerError when unknown."""
    at, found = _find_reservation(connection, lease, reservation_id)
    if not isinstance(found, ReservationRow):
        return found
    if found.state != "held":
        return False
    _end_reservation(connection, lease.tenant, found, "forfeited", found.amount, at)
    return True


def reap(connection: Connection, tenant: str, reservation_id: str) -> bool:
    """Whether this charged a held reservation in full, as it has expired."""
    found = read_reservation(connection, tenant, reservation_id, lock=True)
    at = int(connection.execute(select(now(connection))).scalar_one())
    if found is None or found.state != "held" or found.expires > at:
        return False
    _end_reservation(connection, tenant, found, "forfeited", found.amount, at)
    return True


def read_reservation(
    connection: Connection, tenant: str, reservation_id: str, *, lock: bool = False
) -> ReservationRow | None:
    """A reservation as it stands, None when there is none; `lock` holds its row until the commit."""
    parameters = {"in_tenant": tenant, "in_id": reservation_id}
    found = connection.execute(_LOCKED_RESERVATION if lock else _RESERVATION, parameters).first()
    return None if found is None else reservation_row(found)


def _find_reservation(connection: Connection, lease: Lease, reservation_id: str) -> tuple[int, Any]:
    """The time, and the reservation or why there is none."""
    at = held_now(connection, lease)
    if at is None:
        return 0, fenced_error(lease)
    found = read_reservation(connection, lease.tenant, reservation_id, lock=True)
    if found is None:
        return 0, LedgerError(f"there is no reservation {reservation_id}", "reserve before you send")
    return at, found


def _over_error(known: ReservationRow) -> LedgerError:
    return LedgerError(
        f"the reservation {known.reservation_id} is over, or of another process ({known.state})",
        "take a new id for each request",
    )


def _end_reservation(
    connection: Connection,
    tenant: str,
    found: ReservationRow,
    state: ReservationState,
    cost: Amount,
    at: int,
    unpriced: bool = False,
) -> None:
    """Give back what is held or charged so far, and charge the cost."""
    known: Document = {}
    if state == "settled":
        known = {name: getattr(cost, name) for name in RESOURCES}
        known.update({"unpriced": True} if unpriced else {})
    ended = {"to_state": state, "to_actual": to_text(known, "a cost"), "to_settled": at}
    connection.execute(_ENDED, {"in_tenant": tenant, "in_id": found.reservation_id, **ended})
    held = found.amount if found.state == "held" else _NOTHING
    charged = found.amount if found.state == "forfeited" else _NOTHING
    change = {"spent": cost - charged, "reserved": _NOTHING - held}
    _charge_budgets(connection, tenant, sorted(found.budget_ids), at, **change, unpriced=int(unpriced))


def _charge_budgets(
    connection: Connection,
    tenant: str,
    budget_ids: list[str],
    at: int,
    spent: Amount = _NOTHING,
    reserved: Amount = _NOTHING,
    unpriced: int = 0,
) -> None:
    more = {f"more_{name}_spent": getattr(spent, name) for name in RESOURCES}
    more.update({f"more_{name}_reserved": getattr(reserved, name) for name in RESOURCES})
    more.update(in_tenant=tenant, to_updated=at, more_unpriced=unpriced)
    connection.execute(_CHARGED, [{**more, "in_id": budget_id} for budget_id in budget_ids])


# Statements that every request runs are put together once: that costs more than running them.


def held_now(connection: Connection, lease: Lease) -> int | None:
    """The time, while the lease counts; else None. Locks nothing."""
    parameters = {"tenant": lease.tenant, "run_id": lease.run_id, "epoch": lease.epoch}
    at: int | None = connection.execute(_clock_while_held(connection.dialect.name), parameters).scalar()
    return at


@cache
def _clock_while_held(dialect: str) -> Select[Any]:
    return select(clock(dialect)).select_from(run).where(named_lease())


@cache
def _reserving_insert(dialect: str) -> Any:
    """Adds a reservation; one that was released is made anew. A row only when it did."""
    added = insert(dialect, reservation)
    rest = {column.name: added.excluded[column.name] for column in reservation.c if not column.primary_key}
    again = added.on_conflict_do_update(
        index_elements=["tenant", "reservation_id"], set_=rest, where=reservation.c.state == "released"
    )
    return again.returning(reservation.c.reservation_id)


_LOCKED_BUDGETS = (
    select(budget)
    .where(
        budget.c.tenant == bindparam("in_tenant"),
        budget.c.budget_id.in_(bindparam("in_ids", expanding=True)),
    )
    .order_by(budget.c.budget_id)
    .with_for_update(key_share=True)
)
_THAT = (reservation.c.tenant == bindparam("in_tenant"), reservation.c.reservation_id == bindparam("in_id"))
_RESERVATION = select(reservation).where(*_THAT)
_LOCKED_RESERVATION = _RESERVATION.with_for_update(key_share=True)
_ENDED = (
    update(reservation)
    .where(*_THAT)
    .values(state=bindparam("to_state"), actual=bindparam("to_actual"), settled=bindparam("to_settled"))
)
_SUMS = [f"{name}_{part}" for name in RESOURCES for part in ("spent", "reserved")] + ["unpriced"]
_CHARGED = (
    update(budget)
    .where(budget.c.tenant == bindparam("in_tenant"), budget.c.budget_id == bindparam("in_id"))
    .values(
        {
            **{name: budget.c[name] + bindparam(f"more_{name}") for name in _SUMS},
            "version": budget.c.version + 1,
            "updated": bindparam("to_updated"),
        }
    )
)
