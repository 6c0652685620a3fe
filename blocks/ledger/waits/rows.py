"""Waits as values: what a question starts with, how it stands, and how both are kept in the table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, select, update

from blocks.ledger.runs.events import add_event, lock_run
from blocks.ledger.runs.runs import Values
from blocks.ledger.tables.columns import RUN_LIMIT, from_text, to_text_or_none
from blocks.ledger.tables.records import Document
from blocks.ledger.tables.rows import now, this_run
from blocks.ledger.tables.schema import run, wait

WaitState = Literal["open", "answered", "rejected", "expired", "cancelled"]
WaitKind = Literal["approval", "ask_person", "action", "unknown", "event", "mcp"]
Decision = Literal["approve", "reject"]

_DOCUMENTS = frozenset({"form", "assignees", "escalate_to", "detail", "evidence", "answer", "decided_by"})
_TUPLES = ("assignees", "escalate_to")


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStart:
    """What is asked, of whom, and until when.

    `wait_key` names the question within its run: the same key again is the same wait. `form` is the JSON
    Schema of an object; an empty one means a single free field `text`. `subject` is the digest of what is
    approved; a wait with another one needs another key. `on_timeout` is approve, reject, fail, escalate or
    (for events) continue; empty means fail.
    """

    run_id: str
    step_path: str
    wait_key: str
    kind: WaitKind
    ask: str
    form: Document = field(default_factory=dict)
    assignees: tuple[str, ...] = ()
    quorum: int = 1
    deadline: int | None = None
    on_timeout: str = ""
    escalate_to: tuple[str, ...] = ()
    subject: str = ""
    detail: Document = field(default_factory=dict)
    evidence: list[Document] = field(default_factory=list)
    event_type: str = ""
    event_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitRow:
    """A wait as it stands. `form` is always a whole JSON Schema.

    `answer` is {"approved", "data", "votes"} by people, {"approved", "data", "event_id"} by a signal,
    {"approved", "by_timeout"} when the deadline decided, None while open or when cancelled. `decided_by`
    holds every vote so far: {"voter", "at", "decision", "note", "data"}, with "by_admin" where a local
    administrator spoke for the voter, and "account" where the voter is a user of the system; `data` is what
    this voter filled in. tally.py says which count.
    """

    tenant: str
    wait_id: str
    run_id: str
    step_path: str
    wait_key: str
    kind: WaitKind
    ask: str
    form: Document
    assignees: tuple[str, ...]
    quorum: int
    deadline: int | None
    on_timeout: str
    escalate_to: tuple[str, ...]
    subject: str
    detail: Document
    evidence: list[Document]
    event_type: str
    event_key: str
    state: WaitState
    answer: Document | None
    decided_by: list[Document]
    decided: int | None
    remind_at: int | None
    reminders: int
    created: int
    version: int


_FIELDS = tuple(item.name for item in fields(WaitRow))


def wait_row(found: Row[Any]) -> WaitRow:
    """A row of the table as a value."""
    values = {name: getattr(found, name) for name in _FIELDS}
    values.update({name: from_text(values[name]) for name in _DOCUMENTS})
    values.update({name: tuple(values[name]) for name in _TUPLES})
    return WaitRow(**values)


def columns(values: Mapping[str, Any]) -> Values:
    """Fields of a wait as its columns hold them. LedgerError when one is too large or no JSON."""
    return {
        name: to_text_or_none(value, f"the {name.replace('_', ' ')} of a wait", RUN_LIMIT)
        if name in _DOCUMENTS
        else value
        for name, value in values.items()
    }


def this_wait(tenant: str, wait_id: str) -> ColumnElement[bool]:
    """The row of that wait."""
    return and_(wait.c.tenant == tenant, wait.c.wait_id == wait_id)


def read_wait(connection: Connection, tenant: str, wait_id: str) -> WaitRow | None:
    """A wait as it stands, None when there is none."""
    found = connection.execute(select(wait).where(this_wait(tenant, wait_id))).first()
    return None if found is None else wait_row(found)


def read_waits(connection: Connection, tenant: str, *conditions: ColumnElement[bool]) -> list[WaitRow]:
    """The waits that meet the conditions, the oldest first."""
    query = select(wait).where(wait.c.tenant == tenant, *conditions)
    query = query.order_by(wait.c.created, wait.c.wait_id)
    return [wait_row(found) for found in connection.execute(query)]


def lock_wait(connection: Connection, tenant: str, run_id: str, wait_id: str) -> WaitRow | None:
    """A wait that nobody else can change before this transaction ends.

    Every write to a wait takes the row of its run first: the one row of it that processes share.
    """
    lock_run(connection, tenant, run_id)
    return read_wait(connection, tenant, wait_id)


def change(connection: Connection, row: WaitRow, **values: Any) -> WaitRow | None:
    """The wait with other values, if it still is the version that `row` shows; else None."""
    changed = update(wait).where(this_wait(row.tenant, row.wait_id), wait.c.version == row.version)
    written = columns(values)
    if "decided" in values:
        # Which start of the run may not have seen it: clocks of several machines would not tell.
        start = select(run.c.lease_epoch).where(this_run(row.tenant, row.run_id))
        written["decided_epoch"] = start.scalar_subquery()
    done = connection.execute(changed.values(**written, version=row.version + 1))
    return dataclasses.replace(row, **values, version=row.version + 1) if done.rowcount else None


Rule = Callable[[Connection, WaitRow, int], WaitRow | None]
"""Changes a wait at a moment, if it applies: the wait afterwards, None when it does not."""


@dataclass(slots=True)
class OnWait:
    """The operation that applies a rule to one wait, and gives what became of it.

    It knows its own work again when its commit was in doubt, where the rule would not apply any more.
    """

    tenant: str
    run_id: str
    wait_id: str
    rule: Rule
    made: WaitRow | None = None

    def __call__(self, connection: Connection) -> WaitRow | None:
        """The wait afterwards; None when the rule did not apply."""
        row = lock_wait(connection, self.tenant, self.run_id, self.wait_id)
        if row is None or row == self.made:
            return row
        self.made = self.rule(connection, row, clock(connection))
        return self.made


def tell(connection: Connection, row: WaitRow, what: str, **data: Any) -> None:
    """Add the event `wait.<what>` of this wait to its run."""
    known = {"wait_id": row.wait_id, "kind": row.kind, **data}
    add_event(connection, row.tenant, row.run_id, f"wait.{what}", row.step_path, known)


def clock(connection: Connection) -> int:
    """The ledger's time now."""
    return int(connection.execute(select(now(connection))).scalar_one())


def half_way(at: int, deadline: int | None) -> int | None:
    """When people are reminded first."""
    return None if deadline is None else at + max(deadline - at, 0) // 2


def shown_time(moment: int) -> str:
    """A moment for people."""
    return datetime.fromtimestamp(moment // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
