"""What asking again does to questions that are open: who is asked may have changed, or what is asked."""

from __future__ import annotations

from sqlalchemy import Connection

from blocks.ledger.records import Document
from blocks.ledger.schema import wait
from blocks.ledger.votes import decision, first_proposal, outcome
from blocks.ledger.wait_rows import WaitRow, WaitStart, change, half_way, read_waits, tell

LENGTH = "deadline_seconds"
"""Key of a wait's `detail`: how long it may stay open, as its definition says. What was written can be
compared; moments of two clocks cannot."""

_ONE_AT_A_TIME = ("approval", "event")
"""Kinds of which a step asks one question at a time: a newer one replaces those before it."""


def replace_older(connection: Connection, row: WaitRow, at: int) -> None:
    """Cancel what the step asked before under another key: an answer to it would change nothing."""
    if row.kind not in _ONE_AT_A_TIME:
        return
    same = (wait.c.run_id == row.run_id, wait.c.step_path == row.step_path, wait.c.kind == row.kind)
    older = (wait.c.wait_key != row.wait_key, wait.c.state == "open")
    for other in read_waits(connection, row.tenant, *same, *older):
        cancelled = change(connection, other, state="cancelled", decided=at)
        assert cancelled is not None  # the run is ours
        tell(connection, cancelled, "cancelled", replaced_by=row.wait_id)


def asked_again(connection: Connection, row: WaitRow, start: WaitStart, at: int) -> WaitRow:
    """An open wait with the people, quorum and deadline that its definition names now.

    Votes that were given stay, and may be enough for a smaller quorum, or too few for a larger one.
    """
    asked = {**_people(row, start), **_deadline(row, start)}
    if all(getattr(row, name) == value for name, value in asked.items()):
        return row
    changed = change(connection, row, **asked)
    assert changed is not None  # the run is ours
    told = ("quorum", "deadline", "on_timeout")
    tell(
        connection,
        changed,
        "changed",
        assignees=list(changed.assignees),
        **{name: getattr(changed, name) for name in told},
    )
    return _settled(connection, changed, at)


def _people(row: WaitRow, start: WaitStart) -> Document:
    escalate_to = tuple(start.escalate_to)
    asked: Document = {"quorum": start.quorum, "escalate_to": escalate_to}
    if _escalated(row) and start.on_timeout == "escalate":
        return {**asked, "assignees": escalate_to, "on_timeout": row.on_timeout}
    return {**asked, "assignees": tuple(start.assignees), "on_timeout": start.on_timeout or "fail"}


def _deadline(row: WaitRow, start: WaitStart) -> Document:
    """The time since it was asked, where another one is written; who took over keeps the time given them."""
    seconds = start.detail.get(LENGTH)
    if _escalated(row) or seconds == row.detail.get(LENGTH):
        return {}
    deadline = None if seconds is None else row.created + int(seconds * 1_000_000)
    detail = {name: value for name, value in row.detail.items() if name != LENGTH}
    if seconds is not None:
        detail[LENGTH] = seconds
    return {"deadline": deadline, "remind_at": half_way(row.created, deadline), "detail": detail}


def _escalated(row: WaitRow) -> bool:
    return bool(row.escalate_to) and row.assignees == row.escalate_to and row.on_timeout != "escalate"


def _settled(connection: Connection, row: WaitRow, at: int) -> WaitRow:
    """The wait as its votes decide it now."""
    agreed = first_proposal(row) if outcome(row, row.decided_by) == "answered" else None
    values = decision(row, row.decided_by, agreed["data"] if agreed else None, at)
    if not values:
        return row
    decided = change(connection, row, **values)
    assert decided is not None  # the run is ours
    tell(connection, decided, decided.state, approved=decided.state == "answered")
    return decided
