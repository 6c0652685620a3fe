"""How a wait begins: what is refused, and the operation under the lease of its run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from sqlalchemy import Connection

from blocks.ledger.runs.fence import held_at
from blocks.ledger.runs.runs import Values, fenced_error, insert
from blocks.ledger.tables.columns import checked_path, plain
from blocks.ledger.tables.errors import LedgerError
from blocks.ledger.tables.records import Document, Lease
from blocks.ledger.tables.schema import wait
from blocks.ledger.waits.changes import asked_again, replace_older
from blocks.ledger.waits.forms import checked_form, free_form
from blocks.ledger.waits.rows import (
    WaitKind,
    WaitRow,
    WaitStart,
    change,
    columns,
    half_way,
    read_wait,
    read_waits,
    tell,
)
from blocks.ledger.waits.signals import take_signal
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.refs import digest
from workflows.core.text.cut_text import cut

_KINDS = get_args(WaitKind)
_TIMEOUTS = ("approve", "reject", "fail", "escalate")
_EVENT_TIMEOUTS = ("fail", "continue")
_NEVER_APPROVED = ("action", "unknown")
"""Kinds where silence is no consent: something would be done, or taken for done."""
_KEY_LENGTH = 1000
_ID_LENGTHS = (10, 20, 64)


class UnfitWait(UsageError):
    """A wait is asked for that nobody could answer as it is meant."""


def checked_start(lease: Lease, start: WaitStart) -> Values:
    """The columns of a new wait, without its id and times. UsageError for what is wrong, LedgerError for
    what is too large."""
    if start.run_id != lease.run_id:
        raise ValueError(f"a wait of the run {start.run_id} under the lease of {lease.run_id}")
    for message, cure in _mistakes(start):
        raise UnfitWait(message, cure)
    return columns(
        {
            "tenant": lease.tenant,
            "run_id": start.run_id,
            "step_path": checked_path(start.step_path),
            "wait_key": start.wait_key,
            "kind": start.kind,
            "ask": plain(start.ask),
            "form": _form(start),
            "assignees": start.assignees,
            "quorum": start.quorum,
            "on_timeout": start.on_timeout or "fail",
            "deadline": start.deadline,
            "escalate_to": start.escalate_to,
            "subject": start.subject,
            "detail": start.detail,
            "evidence": start.evidence,
            "event_type": plain(start.event_type),
            "event_key": plain(start.event_key),
        }
    )


def open_wait(connection: Connection, lease: Lease, start: WaitStart, values: Values) -> Any:
    """The wait, new or known; else Fenced, or LedgerError when it is known to ask something else.

    `values` are the columns of `start`.
    """
    at = held_at(connection, lease)
    if at is None:
        return fenced_error(lease)
    key = (wait.c.run_id == lease.run_id, wait.c.wait_key == values["wait_key"])
    known = read_waits(connection, lease.tenant, *key)
    if known and known[0].subject != values["subject"]:
        return LedgerError(
            f"the wait {known[0].wait_id} of the run {lease.run_id} is about another subject",
            "changed arguments need an approval of their own: ask under another key",
        )
    row = known[0] if known else _add_wait(connection, lease, values, at)
    if row.state == "cancelled":
        row = _reopen_wait(connection, row, values["deadline"], at)
    if row.state == "open":
        row = asked_again(connection, row, start, at)
    replace_older(connection, row, at)
    if row.state == "open" and row.kind == "event":
        row = take_signal(connection, row, at) or row
    return row


def wait_ids(tenant: str, run_id: str, wait_key: str) -> Iterator[str]:
    """The id of a wait, and longer ones for the case that another wait has the same."""
    name = digest([tenant, run_id, wait_key])
    return (f"w-{name[:length]}" for length in _ID_LENGTHS)


def _add_wait(connection: Connection, lease: Lease, values: Values, at: int) -> WaitRow:
    times = {"state": "open", "created": at, "remind_at": half_way(at, values["deadline"])}
    for wait_id in wait_ids(lease.tenant, lease.run_id, values["wait_key"]):
        added = insert(connection.dialect.name, wait).values(**values, **times, wait_id=wait_id)
        if connection.execute(added.on_conflict_do_nothing().returning(wait.c.wait_id)).first() is None:
            continue
        row = read_wait(connection, lease.tenant, wait_id)
        assert row is not None
        tell(connection, row, "opened", assignees=list(row.assignees), deadline=row.deadline)
        return row
    raise AssertionError("unreachable: a whole digest is taken by another wait")


def _reopen_wait(connection: Connection, row: WaitRow, deadline: int | None, at: int) -> WaitRow:
    """A wait that was withdrawn, whose run goes on and asks it again. Votes that were given stay."""
    opened: Document = {"state": "open", "decided": None, "created": at, "deadline": deadline}
    changed = change(connection, row, **opened, remind_at=half_way(at, deadline))
    assert changed is not None  # the run is ours
    tell(connection, changed, "opened", assignees=list(row.assignees), deadline=deadline)
    return changed


def _form(start: WaitStart) -> Document:
    if start.form:
        return checked_form(start.form)
    if start.kind == "event":
        return {"type": "object"}
    return free_form(required=start.kind == "ask_person")


def _mistakes(start: WaitStart) -> Iterator[tuple[str, str]]:
    """What is wrong, and its cure."""
    if start.kind not in _KINDS:
        yield f"not a kind of wait: {start.kind!r}", did_you_mean(start.kind, _KINDS)
    if not 0 < len(start.wait_key) <= _KEY_LENGTH or not start.wait_key.isprintable():
        yield f"not the key of a wait: {cut(start.wait_key, 100)!r}", "use a short, printable text"
    if not isinstance(start.form, Mapping):
        checked_form(start.form)
    if start.kind == "event" and not start.event_type:
        yield "a wait for an event names no event", "give the type of the event"
    yield from _timeout_mistakes(start)
    yield from _people_mistakes("assignees", start.assignees, start.quorum)
    if start.on_timeout == "escalate":
        yield from _people_mistakes("escalate_to", start.escalate_to, start.quorum)


def _timeout_mistakes(start: WaitStart) -> Iterator[tuple[str, str]]:
    known = _EVENT_TIMEOUTS if start.kind == "event" else _TIMEOUTS
    if start.on_timeout and start.on_timeout not in known:
        what = "a wait for an event" if start.kind == "event" else "a wait"
        yield f"{what} has no on_timeout: {start.on_timeout}", f"choose {' or '.join(known)}"
    if start.on_timeout == "approve" and start.kind in _NEVER_APPROVED:
        what = "an action" if start.kind == "action" else "an unknown outcome"
        yield (
            f"on_timeout: approve is refused for {what}: silence is no consent",
            "choose reject, fail or escalate" if start.kind == "action" else "choose fail or escalate",
        )
    if start.on_timeout == "reject" and start.kind == "unknown":
        yield (
            "on_timeout: reject is refused for an unknown outcome: time tells nobody what happened",
            "choose fail or escalate",
        )
    if start.on_timeout == "escalate" and not start.escalate_to:
        yield "on_timeout: escalate names nobody", "name in escalate_to who is asked next"


def _people_mistakes(name: str, people: tuple[str, ...], quorum: int) -> Iterator[tuple[str, str]]:
    if isinstance(people, str) or not all(isinstance(item, str) and item for item in people):
        yield f"{name} is no list of identities: {people!r}", f"write {name}: [name, name]"
    elif len(set(people)) < len(people):
        yield f"{name} names somebody twice: {', '.join(people)}", "name each once"
    elif quorum < 1:
        yield f"a quorum of {quorum} is none", "ask for 1 or more"
    elif people and quorum > len(people):
        yield (
            f"a quorum of {quorum} can never be reached: {name} are {len(people)}",
            f"ask for {len(people)} at most, or name more people",
        )
