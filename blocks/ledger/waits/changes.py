"""What asking again does to questions that are open: who is asked may have changed, or what is asked."""

from __future__ import annotations

from sqlalchemy import Connection

from blocks.ledger.tables.records import Document
from blocks.ledger.tables.schema import wait
from blocks.ledger.waits.rows import WaitRow, WaitStart, change, half_way, read_waits, tell
from blocks.ledger.waits.tally import ASKED_BEFORE, agreeing_votes, counting_votes, eligible_voters
from blocks.ledger.waits.votes import decision

LENGTH = "deadline_seconds"
"""Key of a wait's `detail`: how long it may stay open, as its definition says. What was written can be
compared; moments of two clocks cannot."""
ASKED_AT = "asked_at"
"""Key of a wait's `detail`: the moment from which its deadline counts, where that is not its creation."""

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

    Votes stay recorded; those of people who are named count, and may be enough for a smaller quorum, or too
    few for a larger one.
    """
    values = {**_people(row, start), **_times(row, start, at)}
    if all(getattr(row, name) == value for name, value in values.items()):
        return row
    changed = change(connection, row, **values)
    assert changed is not None  # the run is ours
    told = ("quorum", "deadline", "on_timeout")
    tell(
        connection,
        changed,
        "changed",
        assignees=list(changed.assignees),
        **{name: getattr(changed, name) for name in told},
    )
    return _settle_wait(connection, changed, at)


def _people(row: WaitRow, start: WaitStart) -> Document:
    stays = _stays(row, start)
    return {
        "quorum": start.quorum,
        "escalate_to": tuple(start.escalate_to),
        "assignees": _assignees(row, start),
        "on_timeout": row.on_timeout if stays else start.on_timeout or "fail",
    }


def _times(row: WaitRow, start: WaitStart, at: int) -> Document:
    """The deadline and what the wait notes of it.

    Where another length is written it counts from when the question was asked; for people who were not asked
    before, and where it would have passed by the change itself, from now. Who took over keeps the time given.
    """
    seconds, had = start.detail.get(LENGTH), row.detail.get(LENGTH)
    stays, newly = _stays(row, start), _asks_newcomer(row, _assignees(row, start))
    detail = {name: value for name, value in row.detail.items() if name != ASKED_BEFORE}
    if stays:
        detail[ASKED_BEFORE] = list(start.assignees)
    back = ASKED_BEFORE in row.detail and not stays
    same = seconds == had or stays
    if (seconds is None and had is None) or (same and not back and not newly):
        return {"detail": detail}
    detail = {name: value for name, value in detail.items() if name not in (LENGTH, ASKED_AT)}
    if seconds is None:
        return {"deadline": None, "remind_at": None, "detail": detail}
    since = at if newly else max(row.created, int(row.detail.get(ASKED_AT, 0)))
    length = int(seconds * 1_000_000)
    if since + length <= at:
        since = at
    detail |= {LENGTH: seconds, **({ASKED_AT: since} if since != row.created else {})}
    return {"deadline": since + length, "remind_at": half_way(since, since + length), "detail": detail}


def _stays(row: WaitRow, start: WaitStart) -> bool:
    """Whether others took over, and still would."""
    return ASKED_BEFORE in row.detail and start.on_timeout == "escalate"


def _assignees(row: WaitRow, start: WaitStart) -> tuple[str, ...]:
    return tuple(start.escalate_to if _stays(row, start) else start.assignees)


def _asks_newcomer(row: WaitRow, people: tuple[str, ...]) -> bool:
    """Whether somebody is asked who was not asked before."""
    known = eligible_voters(row)
    return known is not None and (not people or not known.issuperset(people))


def _settle_wait(connection: Connection, row: WaitRow, at: int) -> WaitRow:
    """The wait as its votes decide it now."""
    agreed = agreeing_votes(counting_votes(row))
    values = decision(row, row.decided_by, agreed[0].get("data") if agreed else None, at)
    if not values:
        return row
    decided = change(connection, row, **values)
    assert decided is not None  # the run is ours
    tell(connection, decided, decided.state, approved=decided.state == "answered")
    return decided
