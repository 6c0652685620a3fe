"""Durable questions: to people, and to outside systems. No process waits for their answers.

Every write to a wait is a compare-and-set on its version, made while the row of its run is held. Only what
is written here decides a wait; whatever wakes its run comes to look.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

import blocks.ledger.waits.deadlines as deadlines
from blocks.ledger.database.access import Access, run_order
from blocks.ledger.runs.bystanders import read_holders, refuse_from_within
from blocks.ledger.tables.records import Document, Lease
from blocks.ledger.tables.schema import wait
from blocks.ledger.waits.opening import UnfitWait, checked_start, open_wait
from blocks.ledger.waits.rows import (
    Decision,
    OnWait,
    Rule,
    WaitKind,
    WaitRow,
    WaitStart,
    WaitState,
    clock,
    read_wait,
    read_waits,
)
from blocks.ledger.waits.signals import (
    Delivery,
    StoreSignal,
    find_unmatched,
    read_signal,
    signal_values,
    take_signal,
)
from blocks.ledger.waits.votes import (
    NotAsked,
    OtherProposal,
    UnknownWait,
    VotedAlready,
    WaitClosed,
    WaitOverdue,
    make_ballot,
    unknown_wait,
)

__all__ = [
    "Decision",
    "Delivery",
    "NotAsked",
    "OtherProposal",
    "UnfitWait",
    "UnknownWait",
    "VotedAlready",
    "WaitClosed",
    "WaitKind",
    "WaitLedger",
    "WaitOverdue",
    "WaitRow",
    "WaitStart",
    "WaitState",
    "cancel_of_run",
]

cancel_of_run = deadlines.cancel_of_run

_Place = tuple[str, str]
"""A wait as (run_id, wait_id)."""
_Query = Callable[[Connection], list[Row[Any]]]


class WaitLedger:
    """The waits of runs, as the ledger's attribute `waits`. Methods that are no coroutines block."""

    def __init__(self, access: Access) -> None:
        self._access = access

    # --- asking ---

    async def open(self, lease: Lease, start: WaitStart) -> WaitRow:
        """Ask, or find the question again by its key within the run: then as it stands, also decided.

        An open one then asks whom `start` names, within its deadline; votes stay. A wait that was cancelled
        is opened again. What the step asked before under another key is cancelled, where it asks one thing
        at a time (approval, event). A wait for an event takes a signal that has come before. Raises Fenced,
        UsageError for what nobody could answer (its form included), LedgerError for a known key with another
        `subject`.
        """
        values = checked_start(lease, start)
        opened = partial(open_wait, lease=lease, start=start, values=values)
        row: WaitRow = await self._access.under(lease, opened)
        if row.kind != "event" or row.state != "open":
            return row
        # Once more after the commit: a signal may have looked for this wait just before it (signals.py).
        looked = OnWait(
            row.tenant, row.run_id, row.wait_id, lambda c, row, at: take_signal(c, row, at) or row
        )
        return await self._access.under(lease, looked) or row

    # --- answering ---

    def vote(
        self,
        tenant: str,
        wait_id: str,
        voter: str,
        decision: Decision,
        data: Document | None = None,
        note: str = "",
        local_admin: bool = False,
        account: str = "",
    ) -> WaitRow:
        """Count the answer of one identity; the wait afterwards, which may still be open.

        `data` must fit the form, and may be absent in a rejection. Of a quorum all approve the same data;
        absent, it is what the first of them approved. `local_admin` records that an
        administrator of this ledger spoke for `voter`, who must be one of the assignees all the same.
        `account` is what stays of an identity whatever it is called, such as the user's number: a vote of the
        same account or name is one of the same person.
        Raises UsageError when it does not count: UnknownWait, WaitClosed, WaitOverdue, VotedAlready,
        NotAsked, UnfitAnswer, OtherProposal, AnsweredFromWithin.
        """
        read = self._access.reader.read
        refuse_from_within(read(read_holders))
        row, at = read(lambda c: (read_wait(c, tenant, wait_id), clock(c)))
        if row is None:
            raise unknown_wait(wait_id, [known.wait_id for known in self.list_open(tenant)])
        ballot = make_ballot(row, voter, decision, data, note, local_admin, at, account)
        counted = self._access.write_blocking(ballot, run_order(tenant, row.run_id))
        assert isinstance(counted, WaitRow)  # a refusal is raised by the writer
        return counted

    def signal(self, tenant: str, type: str, key: str, event_id: str, payload: Document) -> WaitRow | None:
        """The wait that an event of an outside system answers; see `deliver`."""
        return self.deliver(tenant, type, key, event_id, payload).wait

    def deliver(self, tenant: str, type: str, key: str, event_id: str, payload: Document) -> Delivery:
        """Keep an event of an outside system, and answer the oldest open wait for its type and key, or for
        its type and any key.

        While none waits, a later one takes it. The same (type, key, event_id) again is the same event,
        whatever else it says; under another key the same id is another one.
        """
        values = signal_values(tenant, type, key, event_id, payload)
        order = f"signal/{tenant}/{values['type']}/{values['key']}/{values['event_id']}"
        known = not self._access.write_blocking(StoreSignal(values), order)
        tried: list[_Place] = []
        while True:
            found = self._access.reader.read(lambda c: read_signal(c, values))
            assert found is not None
            told = partial(Delivery, differs=found.payload != values["payload"])
            if found.wait_id:
                return told(self.get_blocking(tenant, found.wait_id), duplicate=known)
            # A wait that names no key takes any event of the type.
            named = (wait.c.event_type == found.type, wait.c.event_key.in_(("", found.key)))
            places = self._read_places(partial(find_unmatched, tenant=tenant, conditions=named))
            # An older signal goes first, and another process may take this wait: one look is not enough.
            if self._apply(tenant, places[:1], take_signal):
                known = False  # it had come before, but answered nothing: it does so now
            elif places[:1] == tried:
                return told(None, duplicate=known)
            tried = places[:1]

    # --- time ---

    def expire_due(self, tenant: str) -> list[WaitRow]:
        """Do what `on_timeout` says with every overdue wait; those that this call changed.

        Signals that came in time and that a killed process left unmatched are matched before. Across
        processes each wait is changed by exactly one call.
        """
        matched = self._apply(tenant, self._read_places(lambda c: find_unmatched(c, tenant)), take_signal)
        overdue = self._read_places(lambda c: _places(c, tenant, deadlines.is_overdue(c)))
        return [*matched, *self._apply(tenant, overdue, deadlines.expire)]

    def remind_due(self, tenant: str, every_us: int) -> list[WaitRow]:
        """Mark the waits that people are to be reminded of now, each by exactly one call across processes.

        The first reminder is due at half of the time, or after `every_us` where that is earlier; further
        ones every `every_us` until the deadline.
        """
        due = self._read_places(lambda c: _places(c, tenant, deadlines.is_reminder_due(c, every_us)))
        return self._apply(tenant, due, partial(deadlines.remind, every_us=every_us))

    def next_due(self, tenant: str, every_us: int | None = None) -> int | None:
        """When `expire_due` has something to do next, or `remind_due` with this `every_us`; None: never."""
        return self._access.reader.read(lambda c: deadlines.next_due(c, tenant, every_us))

    def cancel_of_run(self, tenant: str, run_id: str) -> list[WaitRow]:
        """Cancel the open waits of a run; those that this call cancelled."""
        operation = partial(cancel_of_run, tenant=tenant, run_id=run_id)
        return self._access.write_blocking(operation, run_order(tenant, run_id))

    def runs_to_resume(self, tenant: str) -> list[str]:
        """The waiting runs that can go on: no wait of theirs is open, or a step waits that was answered.

        Waits of nested runs count for their root; a run without any wait is none of them.
        """
        return self._access.reader.read(lambda c: deadlines.runs_to_resume(c, tenant))

    # --- reading ---

    def list_open(self, tenant: str) -> list[WaitRow]:
        """The open waits, the oldest first."""
        return self._access.reader.read(lambda c: read_waits(c, tenant, wait.c.state == "open"))

    def get_blocking(self, tenant: str, wait_id: str) -> WaitRow | None:
        """A wait as it stands, None when there is none."""
        return self._access.reader.read(lambda c: read_wait(c, tenant, wait_id))

    def of_run_blocking(self, tenant: str, run_id: str) -> list[WaitRow]:
        """All waits of a run, the oldest first."""
        return self._access.reader.read(lambda c: read_waits(c, tenant, wait.c.run_id == run_id))

    async def get(self, tenant: str, wait_id: str) -> WaitRow | None:
        """`get` without blocking."""
        return await self._access.call(partial(self.get_blocking, tenant, wait_id))

    async def of_run(self, tenant: str, run_id: str) -> list[WaitRow]:
        """`of_run` without blocking."""
        return await self._access.call(partial(self.of_run_blocking, tenant, run_id))

    # --- within ---

    def _read_places(self, query: _Query) -> list[_Place]:
        return [(found.run_id, found.wait_id) for found in self._access.reader.read(query)]

    def _apply(self, tenant: str, places: list[_Place], rule: Rule) -> list[WaitRow]:
        """One commit per wait, so that a sweep of many holds no run for long."""
        applied = [
            self._access.write_blocking(OnWait(tenant, run_id, wait_id, rule), run_order(tenant, run_id))
            for run_id, wait_id in places
        ]
        return [row for row in applied if row is not None]


def _places(connection: Connection, tenant: str, condition: ColumnElement[bool]) -> list[Row[Any]]:
    query = select(wait.c.run_id, wait.c.wait_id).where(wait.c.tenant == tenant, condition)
    return list(connection.execute(query.order_by(wait.c.created, wait.c.wait_id)))
