"""What steps have paid for, written down before it is acted on.

A record stays as it was written first: who asks for the same thing again is given that one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from blocks.ledger.database.access import Access
from blocks.ledger.runs.fence import held_at, held_insert
from blocks.ledger.runs.runs import Values, fenced_error
from blocks.ledger.tables.columns import RUN_LIMIT, checked_path, from_text, plain, to_text
from blocks.ledger.tables.errors import LedgerAway, LedgerError
from blocks.ledger.tables.records import Document, Lease
from blocks.ledger.tables.schema import turn
from workflows.core.text.cut_text import cut

_PART = re.compile(r"answer|tool:[0-9]{1,9}|input:.{1,200}")
_KINDS = ("answer", "input", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One kept thing of one turn of a step: `part` is "answer", "input:<name>" or "tool:<ordinal>".

    `body` takes at most 1 MB as JSON; the caller makes an artifact of a larger one. `attempt` (which
    conversation of the step it is) and `turn` are numbers of the caller's counting.
    """

    step_path: str
    content_key: str
    attempt: int
    turn: int
    part: str
    request_digest: str
    body: Document
    usage: Document = field(default_factory=dict)
    model: str = ""
    created: int = field(default=0, compare=False)
    """When it was written down; set by the ledger."""


class JournalLedger:
    """The journal of turns, as the ledger's attribute `journal`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def read(self, tenant: str, run_id: str, step_path: str, content_key: str) -> list[TurnRecord]:
        """All conversations of one step, by attempt, turn and part: the answer, inputs, tools by number."""
        return await self._access.read(lambda c: read_turns(c, tenant, run_id, step_path, content_key))

    async def keep(self, lease: Lease, record: TurnRecord) -> None:
        """Write a record down unless it is there. Raises Fenced, and LedgerError for an unfit one."""
        await self.keep_many(lease, [record])

    async def keep_many(self, lease: Lease, records: Sequence[TurnRecord]) -> None:
        """The same for several, in one commit: all are written or none."""
        columns = [_turn_values(lease, record) for record in records]
        if columns:
            try:
                await self._access.under(lease, partial(_keep_records, lease=lease, columns=columns))
            except LedgerAway as over:
                raise over.losing(_describe_loss(records)) from None

    async def count(self, tenant: str, run_id: str) -> int:
        """How many records a run has."""
        return await self._access.read(lambda c: count_turns(c, tenant, run_id))

    async def costs(self, tenant: str, run_id: str) -> list[tuple[str, str, Document]]:
        """What a run has paid: step path, model and usage of every record that cost something."""
        return await self._access.read(lambda c: read_costs(c, tenant, run_id))


def _describe_loss(records: Sequence[TurnRecord]) -> str:
    """What is gone with records that could not be kept."""
    named = ", ".join(
        f"turn {r.turn} of {r.step_path} ({'its answer' if r.part == 'answer' else r.part})" for r in records
    )
    paid = any(record.usage for record in records)
    return f"{named} could not be kept" + (" and will be asked and paid again" if paid else "")


def read_turns(
    connection: Connection, tenant: str, run_id: str, step_path: str, content_key: str
) -> list[TurnRecord]:
    """The query of `JournalLedger.read`."""
    of_step = and_(turn.c.step_path == step_path, turn.c.content_key == content_key)
    query = select(turn).where(_of_run(tenant, run_id), of_step)
    return sorted((_turn_record(found) for found in connection.execute(query)), key=_sort_key)


def count_turns(connection: Connection, tenant: str, run_id: str) -> int:
    """The query of `JournalLedger.count`."""
    return connection.execute(select(func.count()).where(_of_run(tenant, run_id))).scalar_one()


def read_costs(connection: Connection, tenant: str, run_id: str) -> list[tuple[str, str, Document]]:
    """The query of `JournalLedger.costs`."""
    query = select(turn.c.step_path, turn.c.model, turn.c.usage)
    query = query.where(_of_run(tenant, run_id), turn.c.usage != "{}").order_by(turn.c.created)
    return [(path, model, from_text(usage)) for path, model, usage in connection.execute(query)]


def _keep_records(connection: Connection, lease: Lease, columns: list[Values]) -> Any:
    """None when every record is there; else Fenced, and none was written."""
    statement = held_insert(connection.dialect.name, turn, _COLUMNS, "created")
    if connection.execute(statement, columns).rowcount == len(columns):
        return None
    # Some were there before, or the lease does not count.
    return fenced_error(lease) if held_at(connection, lease) is None else None


def _turn_values(lease: Lease, record: TurnRecord) -> Values:
    what = f"{record.part} of turn {record.turn} in step {record.step_path}"
    return {
        "tenant": lease.tenant,
        "run_id": lease.run_id,
        "step_path": checked_path(record.step_path),
        "content_key": record.content_key,
        "attempt": record.attempt,
        "turn": record.turn,
        "part": _checked_part(record.part),
        "request_digest": record.request_digest,
        "body": to_text(record.body, what, RUN_LIMIT),
        "usage": to_text(record.usage, f"the usage of {what}"),
        "model": plain(record.model),
        "epoch": lease.epoch,
    }


_COLUMNS = (
    "tenant",
    "run_id",
    "step_path",
    "content_key",
    "attempt",
    "turn",
    "part",
    "request_digest",
    "body",
    "usage",
    "model",
    "epoch",
)


def _checked_part(part: str) -> str:
    if not _PART.fullmatch(part) or not part.isprintable():
        raise LedgerError(
            f"not a part of a turn: {cut(part, 100)!r}", "answer, input:<name> or tool:<number>"
        )
    return part


def _of_run(tenant: str, run_id: str) -> ColumnElement[bool]:
    return and_(turn.c.tenant == tenant, turn.c.run_id == run_id)


def _turn_record(found: Row[Any]) -> TurnRecord:
    return TurnRecord(
        step_path=found.step_path,
        content_key=found.content_key,
        attempt=found.attempt,
        turn=found.turn,
        part=found.part,
        request_digest=found.request_digest,
        body=from_text(found.body),
        usage=from_text(found.usage),
        model=found.model,
        created=found.created,
    )


def _sort_key(record: TurnRecord) -> tuple[int, int, int, int, str]:
    kind, _, name = record.part.partition(":")
    number = int(name) if kind == "tool" else 0
    return record.attempt, record.turn, _KINDS.index(kind), number, name
