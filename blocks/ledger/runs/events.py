"""What happened in a run: a list without gaps, read by people and programs alike.

A run's numbers come from its own row (`last_seq`), in the transaction that writes the event. So whoever has
read up to one number misses nothing by asking for those after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from blocks.ledger.database.access import Access
from blocks.ledger.runs.fence import named_lease, named_run
from blocks.ledger.runs.runs import Values, fenced_error
from blocks.ledger.tables.columns import checked_path, from_text, to_text
from blocks.ledger.tables.errors import LedgerError
from blocks.ledger.tables.records import Document, Lease
from blocks.ledger.tables.rows import clock, this_run
from blocks.ledger.tables.schema import event, run
from workflows.core.text.cut_text import cut

Entry = tuple[str, str, Document]
"""An event's name, the path of its step ("" for one of the whole run), its data (at most 64 KB as JSON)."""

_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event. `seq` counts from 1 within the run; `created` is in microseconds."""

    run_id: str
    seq: int
    name: str
    step_path: str
    data: Document
    created: int


class EventLedger:
    """The events of runs, as the ledger's attribute `events`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def append(self, lease: Lease, entries: Sequence[Entry]) -> int:
        """Add events in this order, in one commit; the number of the last one.

        Without entries: the number of the run's last event so far. Raises Fenced, and LedgerError for
        data that is not JSON or too large; then none is added.
        """
        columns = [_event_values(lease.tenant, lease.run_id, *entry) for entry in entries]
        return await self._access.under(lease, _Append(lease, columns))

    def of_run(self, tenant: str, run_id: str, after: int = 0, limit: int = 1000) -> list[EventRow]:
        """The first `limit` events whose numbers are above `after`, in order. Blocks."""
        return self._access.reader.read(lambda c: read_events(c, tenant, run_id, after, limit))


def add_event(
    connection: Connection, tenant: str, run_id: str, name: str, step_path: str, data: Document
) -> None:
    """Add an event inside the operation of another part of the ledger, without a lease.

    Locks the run's row until the commit: give that operation the order `access.run_order(...)`, and let it
    lock this row before others of the run (`lock_run`), as writers under a lease do. Raises LedgerError
    when there is no such run.
    """
    columns = _event_values(tenant, run_id, name, step_path, data)
    counted = _count_events(connection, tenant, run_id, 1)
    if counted is None:
        raise LedgerError(f"there is no run {run_id}", "see the runs there are: phaseline runs")
    _write_events(connection, [columns], counted.last_seq, counted.updated)


def lock_run(connection: Connection, tenant: str, run_id: str) -> bool:
    """Hold the run's row until the commit; False when there is no such run."""
    # The strength of an ordinary update: asking for a stronger one later could meet somebody in between.
    query = select(run.c.run_id).where(this_run(tenant, run_id)).with_for_update(key_share=True)
    return connection.execute(query).first() is not None


def read_events(
    connection: Connection, tenant: str, run_id: str, after: int = 0, limit: int = 1000
) -> list[EventRow]:
    """The query of `EventLedger.of_run`."""
    query = select(event).where(event.c.tenant == tenant, event.c.run_id == run_id, event.c.seq > after)
    return [_event_row(found) for found in connection.execute(query.order_by(event.c.seq).limit(limit))]


@dataclass(slots=True)
class _Append:
    """An operation that knows its own rows again when its commit was in doubt: an event has no key of its
    own that would keep a repetition from adding it twice."""

    lease: Lease
    columns: list[Values]
    last: int = 0
    at: int = 0

    def __call__(self, connection: Connection) -> Any:
        """The number of the last event; or Fenced."""
        if self.last and self._is_there(connection):
            return self.last
        lease = self.lease
        counted = _count_events(connection, lease.tenant, lease.run_id, len(self.columns), lease.epoch)
        if counted is None:
            return fenced_error(lease)
        if self.columns:
            self.last, self.at = counted.last_seq, counted.updated
            _write_events(connection, self.columns, self.last, self.at)
        return counted.last_seq

    def _is_there(self, connection: Connection) -> bool:
        mine = {**self.columns[-1], "seq": self.last, "created": self.at}
        query = select(event.c.seq).filter_by(**mine)
        return connection.execute(query).first() is not None


def _event_values(tenant: str, run_id: str, name: str, step_path: str, data: Document) -> Values:
    if not 0 < len(name) <= _NAME_LENGTH or not name.isprintable():
        raise LedgerError(f"not an event's name: {cut(name, 100)!r}", "use a short, printable name")
    return {
        "tenant": tenant,
        "run_id": run_id,
        "name": name,
        "step_path": checked_path(step_path),
        "data": to_text(data, f"the data of event {name}"),
    }


def _count_events(
    connection: Connection, tenant: str, run_id: str, number: int, epoch: int | None = None
) -> Row[Any] | None:
    """The run's last_seq and updated with `number` more events; None when that epoch does not count.

    Its row is locked until the commit.
    """
    parameters = {"its_tenant": tenant, "its_run_id": run_id, "number": number}
    if epoch is not None:
        parameters["its_epoch"] = epoch
    statement = _counting_update(connection.dialect.name, epoch is not None)
    return connection.execute(statement, parameters).first()


@cache
def _counting_update(dialect: str, leased: bool) -> Any:
    counted = update(run).where(named_lease("its_") if leased else named_run("its_"))
    counted = counted.values(last_seq=run.c.last_seq + bindparam("number"), updated=clock(dialect))
    return counted.returning(run.c.last_seq, run.c.updated)


def _write_events(connection: Connection, columns: list[Values], last: int, at: int) -> None:
    first = last - len(columns) + 1
    rows = [{**values, "seq": seq, "created": at} for seq, values in enumerate(columns, first)]
    connection.execute(_INSERT, rows)


_INSERT = insert(event)


def _event_row(found: Row[Any]) -> EventRow:
    return EventRow(
        run_id=found.run_id,
        seq=found.seq,
        name=found.name,
        step_path=found.step_path,
        data=from_text(found.data),
        created=found.created,
    )
