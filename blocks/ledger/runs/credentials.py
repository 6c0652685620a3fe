"""What a provider allows each credential at this moment, shared by all processes on the ledger's database.

A credential is known by a digest, never by its key. Its row is changed by a function of the state it has
and the ledger's clock (microseconds): who decides how a place is taken is tasks.limits.admission.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, select, update

from blocks.ledger.database.access import Access
from blocks.ledger.runs.runs import insert
from blocks.ledger.tables.columns import from_text, plain, to_text
from blocks.ledger.tables.records import Document
from blocks.ledger.tables.rows import now
from blocks.ledger.tables.schema import credential as table
from blocks.names import checked_tenant

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialState:
    """What is known of a credential.

    `limits` is a JSON object of whoever decides. A park has a reason; `parked_until` None means until a
    person lifts it. Times are whole microseconds since 1970 in UTC.
    """

    limits: Document = field(default_factory=dict)
    cooldown_until: int | None = None
    parked_until: int | None = None
    park_reason: str = ""

    def is_parked(self, at: int) -> bool:
        """Whether nothing may be sent at that time; a park whose time is over has lifted itself."""
        return bool(self.park_reason) and (self.parked_until is None or self.parked_until > at)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRow:
    """A credential as it stands at the time `at` of the ledger's clock."""

    tenant: str
    credential: str
    state: CredentialState
    version: int
    updated: int
    at: int


Decide = Callable[[CredentialState, int], tuple[CredentialState, T]]
"""The new state and a result, from the state and the ledger's clock. Runs in a transaction, maybe twice."""


class CredentialLedger:
    """The credentials of one ledger."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def change(self, tenant: str, credential: str, decide: Decide[T]) -> T:
        """What `decide` returned, once the state it made is committed. Nobody decides at the same time."""
        checked_tenant(tenant)
        operation = partial(_change_state, tenant=tenant, credential=credential, decide=decide)
        result: T = await self._access.write(operation, _order(tenant, credential))
        return result

    async def look(self, tenant: str, credential: str) -> CredentialRow | None:
        """`get` for callers in an event loop."""
        return await self._access.read(partial(_read_credential, tenant=tenant, credential=credential))

    def get(self, tenant: str, credential: str) -> CredentialRow | None:
        """A credential as it stands, None when nothing was ever sent with it."""
        return self._access.reader.read(partial(_read_credential, tenant=tenant, credential=credential))

    def list_parked(self, tenant: str) -> list[CredentialRow]:
        """Credentials with which nothing may be sent now."""
        rows = self._access.reader.read(partial(_read_all, tenant=tenant))
        return [row for row in rows if row.state.is_parked(row.at)]

    def unpark(self, tenant: str, credential: str) -> bool:
        """Lift a park before its time. False when there was none."""
        operation = partial(_change_state, tenant=tenant, credential=credential, decide=_lift_park)
        return bool(self._access.write_blocking(operation, _order(tenant, credential)))


def _order(tenant: str, credential: str) -> str:
    return f"credential/{tenant}/{credential}"


def _lift_park(state: CredentialState, at: int) -> tuple[CredentialState, bool]:
    if not state.is_parked(at):
        return state, False
    # As if its time were over, so that here too one request goes first to see whether that is true.
    lifted = CredentialState(
        limits=state.limits,
        cooldown_until=state.cooldown_until,
        parked_until=at,
        park_reason=state.park_reason,
    )
    return lifted, True


def _change_state(connection: Connection, tenant: str, credential: str, decide: Decide[T]) -> T:
    # Repeated after a commit in doubt, a place may be taken twice: that only waits longer.
    query = _query(connection, tenant).where(table.c.credential == credential).with_for_update()
    found = connection.execute(query).first()
    if found is None:
        at = now(connection)
        added = insert(connection.dialect.name, table).values(
            tenant=tenant, credential=credential, updated=at
        )
        connection.execute(added.on_conflict_do_nothing())
        found = connection.execute(query).one()
    before = _state(found)
    state, result = decide(before, found.at)
    if state != before:
        changed = update(table).where(table.c.tenant == tenant, table.c.credential == credential)
        connection.execute(changed.values(**_columns(state), version=found.version + 1, updated=found.at))
    return result


def _read_credential(connection: Connection, tenant: str, credential: str) -> CredentialRow | None:
    found = connection.execute(_query(connection, tenant).where(table.c.credential == credential)).first()
    return None if found is None else _row(found)


def _read_all(connection: Connection, tenant: str) -> list[CredentialRow]:
    query = _query(connection, tenant).order_by(table.c.credential)
    return [_row(found) for found in connection.execute(query)]


def _query(connection: Connection, tenant: str) -> Select[Any]:
    return select(table, now(connection).label("at")).where(table.c.tenant == tenant)


def _row(found: Row[Any]) -> CredentialRow:
    return CredentialRow(
        tenant=found.tenant,
        credential=found.credential,
        state=_state(found),
        version=found.version,
        updated=found.updated,
        at=int(found.at),
    )


def _state(found: Row[Any]) -> CredentialState:
    return CredentialState(
        limits=from_text(found.limits),
        cooldown_until=found.cooldown_until,
        parked_until=found.parked_until,
        park_reason=found.park_reason,
    )


def _columns(state: CredentialState) -> dict[str, Any]:
    return {
        "limits": to_text(state.limits, "the limits of a credential"),
        "cooldown_until": state.cooldown_until,
        "parked_until": state.parked_until,
        "park_reason": plain(state.park_reason),
    }
