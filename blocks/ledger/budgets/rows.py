"""Budgets and reservations as values. Dollars are whole micro-dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, select

from blocks.ledger.tables.columns import from_text
from blocks.ledger.tables.records import Document
from blocks.ledger.tables.schema import budget, reservation
from workflows.core.errors import UsageError, did_you_mean

RESOURCES = ("tokens", "usd", "turns")
ReservationState = Literal["held", "settled", "released", "forfeited"]
"""`held`: its request is under way. `settled`: charged what it cost. `released`: nothing was sent.
`forfeited`: charged in full, as nobody knows what it cost."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, micro-dollars and turns. True when any of them is not 0."""

    tokens: int = 0
    usd: int = 0
    turns: int = 0

    def __bool__(self) -> bool:
        return any((self.tokens, self.usd, self.turns))

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.tokens + other.tokens, self.usd + other.usd, self.turns + other.turns)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.tokens - other.tokens, self.usd - other.usd, self.turns - other.turns)

    def over(self, other: Amount) -> Amount:
        """What this exceeds another by, nothing where it does not."""
        left = self - other
        return Amount(max(left.tokens, 0), max(left.usd, 0), max(left.turns, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRefusal:
    """Why a reservation is refused: `spent + reserved + asked` would exceed `limit`."""

    budget_id: str
    resource: str
    limit: int
    spent: int
    reserved: int
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    """A budget as it stands. `limits` and `raised` are by resource, None where there is none; `unpriced`
    counts the requests whose price is unknown, so that their dollars are missing here."""

    tenant: str
    budget_id: str
    run_id: str
    limits: dict[str, int | None]
    raised: dict[str, int | None]
    spent: Amount
    reserved: Amount
    unpriced: int
    version: int
    created: int
    updated: int

    def refusal(self, asked: Amount) -> BudgetRefusal | None:
        """Why `asked` cannot be reserved; None when it can."""
        for resource, limit in self.limits.items():
            spent, reserved = getattr(self.spent, resource), getattr(self.reserved, resource)
            more = getattr(asked, resource)
            if limit is not None and spent + reserved + more > limit:
                return BudgetRefusal(
                    budget_id=self.budget_id,
                    resource=resource,
                    limit=limit,
                    spent=spent,
                    reserved=reserved,
                    asked=more,
                )
        return None

    def allows(self, more: Amount) -> bool:
        """Whether no limit would be exceeded by spending that too; what is only held does not count."""
        return replace(self, reserved=Amount()).refusal(more) is None

    def shares(self) -> dict[str, float]:
        """What is spent as a share of each limit; more than 1 after an overrun."""
        return {
            resource: getattr(self.spent, resource) / limit if limit else 1.0
            for resource, limit in self.limits.items()
            if limit is not None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRow:
    """What one request holds, or held, of its budgets; `actual` is what it cost, once that is known."""

    reservation_id: str
    run_id: str
    step_path: str
    budget_ids: tuple[str, ...]
    amount: Amount
    state: ReservationState
    actual: Amount | None
    unpriced: bool
    epoch: int
    expires: int
    created: int
    settled: int | None


def read_budgets(connection: Connection, tenant: str, *conditions: ColumnElement[bool]) -> list[BudgetRow]:
    """The budgets that meet the conditions, by id."""
    query = select(budget).where(budget.c.tenant == tenant, *conditions).order_by(budget.c.budget_id)
    return [budget_row(found) for found in connection.execute(query)]


def read_reservations(
    connection: Connection, tenant: str, *conditions: ColumnElement[bool]
) -> list[ReservationRow]:
    """The reservations that meet the conditions, the oldest first."""
    query = select(reservation).where(reservation.c.tenant == tenant, *conditions)
    query = query.order_by(reservation.c.created, reservation.c.reservation_id)
    return [reservation_row(found) for found in connection.execute(query)]


def budget_row(found: Row[Any]) -> BudgetRow:
    """A row of the table `budget` as a value."""
    return BudgetRow(
        tenant=found.tenant,
        budget_id=found.budget_id,
        run_id=found.run_id,
        limits={name: getattr(found, f"{name}_limit") for name in RESOURCES},
        raised={name: getattr(found, f"{name}_raised") for name in RESOURCES},
        spent=Amount(found.tokens_spent, found.usd_spent, found.turns_spent),
        reserved=Amount(found.tokens_reserved, found.usd_reserved, found.turns_reserved),
        unpriced=found.unpriced,
        version=found.version,
        created=found.created,
        updated=found.updated,
    )


def reservation_row(found: Row[Any]) -> ReservationRow:
    """A row of the table `reservation` as a value."""
    actual: Document = from_text(found.actual)
    unpriced = bool(actual.pop("unpriced", False))
    return ReservationRow(
        reservation_id=found.reservation_id,
        run_id=found.run_id,
        step_path=found.step_path,
        budget_ids=tuple(from_text(found.budgets)),
        amount=Amount(found.tokens, found.usd, found.turns),
        state=found.state,
        actual=Amount(**actual) if actual else None,
        unpriced=unpriced,
        epoch=found.epoch,
        expires=found.expires,
        created=found.created,
        settled=found.settled,
    )


def order_of(tenant: str, budget_ids: Sequence[str]) -> str:
    """The order of an operation on these budgets: the first is the one that processes share."""
    return f"budget/{tenant}/{min(budget_ids)}"


def checked_amount(amount: Amount) -> Amount:
    """An amount itself; ValueError when one is negative."""
    if min(asdict(amount).values()) < 0:
        raise ValueError(f"a negative amount: {amount}")
    return amount


def checked_limits(limits: Mapping[str, int | None]) -> dict[str, int | None]:
    """Limits by resource; UsageError for an unknown resource or a limit below 0."""
    for name, limit in limits.items():
        if name not in RESOURCES:
            raise UsageError(f"not a budget's resource: {name!r}", did_you_mean(name, RESOURCES))
        if limit is not None and limit < 0:
            raise UsageError(f"a limit of {limit} {name}", "write 0 or more")
    return dict(limits)
