"""Events of outside systems, and the waits they answer.

A signal is stored first and matched after that; a wait is committed and looks for signals after that. So
whichever comes last sees the other, without one lock over both; what a killed process left unmatched is
matched by the sweep (`find_unmatched`). A signal answers one wait, the oldest one that is open for its type
and key, or for its type and any key, and was not overdue when the signal came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, update

from blocks.ledger.runs.runs import Values, insert
from blocks.ledger.tables.columns import from_text, plain, to_text
from blocks.ledger.tables.records import Document
from blocks.ledger.tables.rows import now
from blocks.ledger.tables.schema import signal, wait
from blocks.ledger.waits.rows import WaitRow, change, tell
from workflows.core.errors import UsageError

_TEXT_LENGTH = 500


def signal_values(tenant: str, type_: str, key: str, event_id: str, payload: Document) -> Values:
    """The columns of a signal. UsageError for a name that cannot be kept, LedgerError for a payload that is
    no JSON or above 64 KB."""
    for name, value in (("type", type_), ("event_id", event_id)):
        if not value:
            raise UsageError(f"an event without {name}", f"give its {name}")
    for name, value in (("type", type_), ("key", key), ("event_id", event_id)):
        if len(value) > _TEXT_LENGTH:
            raise UsageError(f"the {name} of an event is longer than {_TEXT_LENGTH}: {value[:50]}...")
    if not isinstance(payload, dict):
        raise UsageError("the payload of an event is no object", "send a JSON object")
    return {
        "tenant": tenant,
        "type": plain(type_),
        "key": plain(key),
        "event_id": plain(event_id),
        "payload": to_text(payload, f"the payload of the event {event_id}"),
    }


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an event: the wait that it answers or has answered, None while it is only kept.

    `duplicate`: it had come before. `differs`: and said something else then, which stays.
    """

    wait: WaitRow | None
    duplicate: bool = False
    differs: bool = False


@dataclass(slots=True)
class StoreSignal:
    """The operation that keeps a signal once: whether it is new. What came first stays.

    It knows its own work again when its commit was in doubt.
    """

    values: Values
    added: bool = False

    def __call__(self, connection: Connection) -> bool:
        """Whether nothing was known under this type, key and id."""
        added = insert(connection.dialect.name, signal).values(**self.values, created=now(connection))
        added = added.on_conflict_do_nothing().returning(signal.c.event_id)
        self.added = connection.execute(added).first() is not None or self.added
        return self.added


def read_signal(connection: Connection, values: Values) -> Row[Any] | None:
    """The stored row of a signal with these values."""
    named = [signal.c[name] == values[name] for name in ("tenant", "type", "key", "event_id")]
    return connection.execute(select(signal).where(*named)).first()


def find_unmatched(
    connection: Connection, tenant: str, conditions: Sequence[ColumnElement[bool]] = ()
) -> list[Row[Any]]:
    """(run_id, wait_id) of open waits that an unused signal fits, the oldest first."""
    query = select(wait.c.run_id, wait.c.wait_id).distinct().add_columns(wait.c.created)
    query = query.join(signal, _signal_fits()).where(wait.c.tenant == tenant, *conditions)
    query = query.where(wait.c.kind == "event", wait.c.state == "open")
    return list(connection.execute(query.order_by(wait.c.created, wait.c.wait_id)))


def take_signal(connection: Connection, row: WaitRow, at: int) -> WaitRow | None:
    """The wait answered by the oldest unused signal that fits; None when it is not open or none does.

    The wait's run is locked by this transaction. A signal that another one is taking is passed over
    rather than waited for: that would hold two shared rows at once.
    """
    if row.state != "open":
        return None
    query = (
        select(signal)
        .join(wait, _signal_fits())
        .where(wait.c.tenant == row.tenant, wait.c.wait_id == row.wait_id)
    )
    query = query.order_by(signal.c.created, signal.c.event_id).limit(1)
    found = connection.execute(query.with_for_update(of=signal, skip_locked=True)).first()
    if found is None:
        return None
    entry = {"voter": f"event:{found.event_id}", "at": at, "decision": "approve", "note": ""}
    answer = {"approved": True, "data": from_text(found.payload), "event_id": found.event_id}
    decided: Document = {"state": "answered", "decided": at, "answer": answer}
    answered = change(connection, row, **decided, decided_by=[*row.decided_by, entry])
    if answered is None:
        return None
    connection.execute(update(signal).where(_same_signal(found)).values(wait_id=row.wait_id))
    tell(connection, answered, "answered", approved=True, event_id=found.event_id)
    return answered


def _signal_fits() -> ColumnElement[bool]:
    return and_(
        signal.c.tenant == wait.c.tenant,
        signal.c.type == wait.c.event_type,
        or_(wait.c.event_key == "", signal.c.key == wait.c.event_key),
        signal.c.wait_id == "",
        or_(wait.c.deadline.is_(None), signal.c.created < wait.c.deadline),
    )


def _same_signal(found: Row[Any]) -> ColumnElement[bool]:
    return and_(
        signal.c.tenant == found.tenant,
        signal.c.type == found.type,
        signal.c.key == found.key,
        signal.c.event_id == found.event_id,
    )
