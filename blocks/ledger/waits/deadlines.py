"""What time does to waits: deadlines, escalations, reminders, and the end of their runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from blocks.ledger.runs.events import lock_run
from blocks.ledger.tables.columns import to_text
from blocks.ledger.tables.records import Document
from blocks.ledger.tables.rows import now
from blocks.ledger.tables.schema import run, step, wait
from blocks.ledger.waits.changes import LENGTH
from blocks.ledger.waits.rows import WaitRow, WaitState, change, clock, read_waits, tell
from blocks.ledger.waits.tally import ASKED_BEFORE, outcome

_OPEN = wait.c.state == "open"
_DECIDED = ("answered", "rejected", "expired")
"""States of what a step has an answer to; what was withdrawn says nothing."""
_DECISIONS: dict[str, tuple[WaitState, bool | None]] = {
    "approve": ("answered", True),
    "reject": ("rejected", False),
    "continue": ("answered", None),
}
_EXPIRED: tuple[WaitState, bool | None] = ("expired", None)


def is_overdue(connection: Connection) -> ColumnElement[bool]:
    """Open waits whose deadline has passed."""
    return and_(_OPEN, wait.c.deadline <= now(connection))


def is_reminder_due(connection: Connection, every_us: int) -> ColumnElement[bool]:
    """Open waits whose people are to be reminded, while there is time to answer."""
    at = now(connection)
    return and_(_OPEN, _first_reminder(every_us) <= at, or_(wait.c.deadline.is_(None), wait.c.deadline > at))


def next_due(connection: Connection, tenant: str, every_us: int | None) -> int | None:
    """When the next open wait is due: its deadline, or with `every_us` its reminder before that."""
    moment: ColumnElement[Any] = wait.c.deadline
    if every_us is not None:
        reminder = _first_reminder(every_us)
        moment = case((wait.c.deadline <= reminder, wait.c.deadline), else_=reminder)
    query = select(func.min(moment)).where(wait.c.tenant == tenant, _OPEN)
    return connection.execute(query).scalar()


def _first_reminder(every_us: int) -> ColumnElement[int]:
    """The first one at half of the time, or after `every_us` where that is earlier."""
    first = wait.c.created + every_us
    sooner = and_(wait.c.reminders == 0, first < wait.c.remind_at)
    return case((or_(wait.c.remind_at.is_(None), sooner), first), else_=wait.c.remind_at)


def expire(connection: Connection, row: WaitRow, at: int) -> WaitRow | None:
    """The wait after its deadline; None when it is not open, or has time again."""
    if row.state != "open" or row.deadline is None or row.deadline > at:
        return None
    if row.on_timeout == "escalate":
        return _escalate_wait(connection, row, at)
    state, approved = _DECISIONS.get(row.on_timeout, _EXPIRED)
    return _by_timeout(connection, row, at, state, approved)


def _by_timeout(
    connection: Connection, row: WaitRow, at: int, state: WaitState, approved: bool | None
) -> WaitRow | None:
    decided = change(connection, row, state=state, answer=_timed_out(approved), decided=at)
    if decided is not None:
        tell(connection, decided, state, approved=approved, by_timeout=True)
    return decided


def _timed_out(approved: bool | None) -> Document:
    """The answer of a deadline."""
    return {"approved": approved, "by_timeout": True}


def _escalate_wait(connection: Connection, row: WaitRow, at: int) -> WaitRow | None:
    """The same question to others, with as much time as the first had. Votes that were given still count;
    where those leave the quorum out of reach, the wait is rejected, or expires where a rejection would say
    what became of a call."""
    assert row.deadline is not None
    length = int(row.detail[LENGTH] * 1_000_000) if LENGTH in row.detail else row.deadline - row.created
    length = max(length, 0)
    detail = {**row.detail, ASKED_BEFORE: list(row.assignees)}
    asked: Document = {"assignees": row.escalate_to, "deadline": at + length, "on_timeout": "fail"}
    asked["detail"] = detail
    again = {"reminders": row.reminders + 1, "remind_at": at + length // 2}
    escalated = change(connection, row, **asked, **again)
    if escalated is None:
        return None
    people = list(escalated.assignees)
    tell(connection, escalated, "escalated", assignees=people, deadline=escalated.deadline)
    if outcome(escalated, escalated.decided_by) == "rejected":
        state, approved = _DECISIONS["reject"] if row.kind != "unknown" else _EXPIRED
        return _by_timeout(connection, escalated, at, state, approved)
    return escalated


def remind(connection: Connection, row: WaitRow, at: int, every_us: int) -> WaitRow | None:
    """The wait with its people reminded; None when that is not due, as another process was faster."""
    if row.state != "open" or (row.deadline is not None and row.deadline <= at):
        return None
    first = row.created + every_us
    due = first if row.remind_at is None else row.remind_at
    if (min(due, first) if row.reminders == 0 else due) > at:
        return None
    reminded = change(connection, row, reminders=row.reminders + 1, remind_at=at + every_us)
    if reminded is not None:
        data = {"reminders": reminded.reminders, "assignees": list(row.assignees), "deadline": row.deadline}
        tell(connection, reminded, "reminded", **data)
    return reminded


def cancel_of_run(connection: Connection, tenant: str, run_id: str) -> list[WaitRow]:
    """The open waits of a run, cancelled in the same transaction. Locks the run."""
    lock_run(connection, tenant, run_id)
    at = clock(connection)
    found = read_waits(connection, tenant, wait.c.run_id == run_id, _OPEN)
    cancelled = [change(connection, row, state="cancelled", decided=at) for row in found]
    ended = [row for row in cancelled if row is not None]
    for row in ended:
        tell(connection, row, "cancelled")
    return ended


def runs_to_resume(connection: Connection, tenant: str, by_timeout: bool = False) -> list[str]:
    """The waiting runs that can go on: no wait of theirs is open, or a step still waits that was answered.

    An answer counts as not yet seen from the start of the run that left its step waiting on, also when it
    came while that start worked on other steps. Waits of nested runs count for their root, which is what is
    resumed. The one that waits longest is first.
    by_timeout: only those with a wait that its deadline decided and that its step has not seen.
    """
    nested = run.alias("nested")
    joined = and_(nested.c.tenant == wait.c.tenant, nested.c.run_id == wait.c.run_id)
    inside = and_(nested.c.tenant == run.c.tenant, nested.c.root_run_id == run.c.run_id)
    of_run = select(wait.c.wait_id).join(nested, joined).where(inside).correlate(run)
    unseen = of_run.join(step, _still_waiting()).where(wait.c.state.in_(_DECIDED))
    query = select(run.c.run_id).where(
        run.c.tenant == tenant,
        run.c.state == "waiting",
        run.c.root_run_id == run.c.run_id,
        of_run.exists(),
        or_(~of_run.where(_OPEN).exists(), unseen.exists()),
    )
    if by_timeout:
        answers = [to_text(_timed_out(approved), "an answer") for approved in (None, True, False)]
        query = query.where(unseen.where(wait.c.answer.in_(answers)).exists())
    return list(connection.execute(query.order_by(run.c.ended, run.c.run_id)).scalars())


def _still_waiting() -> ColumnElement[bool]:
    """The row of a wait's step, where it waits since a start that began before the wait was decided."""
    return and_(
        step.c.tenant == wait.c.tenant,
        step.c.run_id == wait.c.run_id,
        step.c.step_path == wait.c.step_path,
        step.c.state == "waiting",
        step.c.epoch <= wait.c.decided_epoch,
    )
