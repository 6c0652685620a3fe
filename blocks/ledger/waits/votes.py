"""How people answer a wait: one vote per identity, counted exactly once across processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert

from blocks.ledger.tables.columns import plain, to_text, to_text_or_none
from blocks.ledger.tables.errors import LedgerError
from blocks.ledger.tables.records import Document
from blocks.ledger.tables.schema import vote
from blocks.ledger.waits.forms import UnfitAnswer, check_answer
from blocks.ledger.waits.rows import WaitRow, change, clock, lock_wait, shown_time, tell
from blocks.ledger.waits.tally import counting_votes, first_proposal, outcome
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.refs import digest
from workflows.core.text.cut_text import cut

_VOTER_LENGTH = 200
_NOTE_LENGTH = 4000
_SHOWN_LENGTH = 500
_CLOSED = {
    "answered": "is answered already",
    "rejected": "is rejected already",
    "expired": "got no answer in time",
    "cancelled": "was withdrawn",
}
SAID = {"approve": "approved", "reject": "rejected"}
"""What a decision is called once somebody made it."""


class UnknownWait(UsageError):
    """No wait has that id."""


class WaitClosed(UsageError):
    """The wait is decided, or was withdrawn: its run has ended, or its step asks something else by now."""


class WaitOverdue(UsageError):
    """The deadline of the wait has passed."""


class VotedAlready(UsageError):
    """This identity has answered the wait before."""


class NotAsked(UsageError):
    """The wait is assigned to others."""


class OtherProposal(UsageError):
    """Others of the quorum approved something else."""


def unknown_wait(wait_id: str, known: Sequence[str]) -> UnknownWait:
    """The refusal of an id; `known` are those of open waits."""
    cure = did_you_mean(wait_id, known) if known else "nothing waits for an answer: phaseline inbox"
    return UnknownWait(f"there is no wait {cut(plain(wait_id), 100)!r}", cure)


def refusal(row: WaitRow, voter: str, at: int, account: str = "") -> UsageError | None:
    """Why this identity cannot answer the wait at that moment; None when it can."""
    mine = [entry for entry in row.decided_by if _same_person(entry, voter, account)]
    if row.state != "open":
        return WaitClosed(f"the wait {row.wait_id} {_CLOSED[row.state]}", f"{_history(row)}{_see_run(row)}")
    if mine:
        return VotedAlready(
            f"{voter} has answered the wait {row.wait_id} already",
            f"{_history(row)}; one answer per person counts, and it stays: let another one answer",
        )
    if row.assignees and voter not in row.assignees:
        people = ", ".join(row.assignees)
        return NotAsked(
            f"the wait {row.wait_id} does not ask {voter}",
            f"it asks {people}; one of them answers, or an administrator for one of them with --as NAME",
        )
    if row.deadline is not None and at >= row.deadline:
        return WaitOverdue(
            f"the deadline of the wait {row.wait_id} passed at {shown_time(row.deadline)}",
            f"{_history(row)}; now `on_timeout: {row.on_timeout}` decides{_see_run(row)}",
        )
    return None


def _same_person(entry: Document, voter: str, account: str) -> bool:
    """Whether a vote is by this identity: a user who meanwhile got a name, or another one, is one voter."""
    known = {entry["voter"], entry.get("account", "")} - {""}
    return not known.isdisjoint((voter, account))


@dataclass(slots=True, kw_only=True)
class Ballot:
    """One vote on one wait, as an operation: the wait afterwards, or why it does not count."""

    tenant: str
    run_id: str
    wait_id: str
    voter: str
    decision: str
    data: Document | None
    note: str
    by_admin: bool
    account: str = ""
    entry: Document = field(default_factory=dict)
    """What the operation wrote, by which it knows its own vote again when its commit was in doubt."""

    def __call__(self, connection: Connection) -> WaitRow | Exception:
        """Counts the vote."""
        row = lock_wait(connection, self.tenant, self.run_id, self.wait_id)
        if row is None:
            return unknown_wait(self.wait_id, ())
        if self.entry and self.entry in row.decided_by:
            return row
        at = clock(connection)
        refused = refusal(row, self.voter, at, self.account) or other_proposal(row, self.decision, self.data)
        return refused or self._count_vote(connection, row, at)

    def _count_vote(self, connection: Connection, row: WaitRow, at: int) -> WaitRow | Exception:
        self.entry = {"voter": self.voter, "at": at, "decision": self.decision, "note": self.note}
        self.entry["data"] = self.data
        if self.by_admin:
            self.entry["by_admin"] = True
        if self.account:
            self.entry["account"] = self.account
        votes = [*row.decided_by, self.entry]
        counted = change(connection, row, decided_by=votes, **decision(row, votes, self.data, at))
        if counted is None:
            return LedgerError(f"the wait {row.wait_id} was changed just now", "answer it again")
        self._write_vote(connection, counted, at)
        return counted

    def _write_vote(self, connection: Connection, row: WaitRow, at: int) -> None:
        connection.execute(
            insert(vote).values(
                tenant=self.tenant,
                wait_id=self.wait_id,
                voter=self.voter,
                decision=self.decision,
                data=to_text_or_none(self.data, "the answer"),
                note=self.note,
                created=at,
            )
        )
        tell(connection, row, "voted", voter=self.voter, decision=self.decision)
        if row.state != "open":
            tell(connection, row, row.state, approved=row.state == "answered", voter=self.voter)


def make_ballot(
    row: WaitRow,
    voter: str,
    decided: str,
    data: Any,
    note: str,
    local_admin: bool,
    at: int,
    account: str = "",
) -> Ballot:
    """A vote that may count. UsageError for what is wrong with it; LedgerError for data that is too large."""
    if not 0 < len(voter) <= _VOTER_LENGTH or not voter.isprintable():
        raise UsageError(f"not an identity: {cut(plain(voter), 100)!r}", "give a name with --as")
    if decided not in SAID:
        raise UsageError(f"not a decision: {decided!r}", did_you_mean(decided, SAID))
    if len(note) > _NOTE_LENGTH:
        raise UsageError(f"the note is longer than {_NOTE_LENGTH} characters", "shorten it")
    refused = refusal(row, voter, at, account)
    if refused is not None:
        raise refused
    given = _proposed_data(row) if data is None and decided == "approve" else data
    if row.kind == "event" and data is None and decided == "approve" and first_proposal(row) is None:
        raise missing_payload(row)
    if given is not None:
        check_answer(row.form, given)
        to_text(given, "the answer")
    refused = other_proposal(row, decided, given)
    if refused is not None:
        raise refused
    return Ballot(
        tenant=row.tenant,
        run_id=row.run_id,
        wait_id=row.wait_id,
        voter=voter,
        decision=decided,
        data=given,
        note=plain(note),
        by_admin=local_admin,
        account=account,
    )


def missing_payload(row: WaitRow) -> UnfitAnswer:
    """The refusal of a plain yes in the place of an event: what follows works with what the event says."""
    of = f" for {row.event_key}" if row.event_key else ""
    return UnfitAnswer(
        f"the wait {row.wait_id} awaits the event {row.event_type}{of}, and the answer says nothing of it",
        f"give what the event says: phaseline answer {row.wait_id} --data JSON "
        "(--data '{}' where it says nothing), or say no with --reject",
    )


def other_proposal(row: WaitRow, decided: str, data: Document | None) -> OtherProposal | None:
    """Why an approval of this data does not count beside the ones there are; None when it does."""
    first = first_proposal(row)
    if decided != "approve" or first is None or digest(first["data"]) == digest(data):
        return None
    shown = json.dumps(first["data"], ensure_ascii=False)
    shown = shown if len(shown) <= _SHOWN_LENGTH else shown[:_SHOWN_LENGTH] + "..."
    return OtherProposal(
        f"others approved {shown} ({first['voter']} was the first)",
        f"approve the same, or reject: `phaseline answer {row.wait_id}` without data approves the same",
    )


def _proposed_data(row: WaitRow) -> Document:
    first = first_proposal(row)
    return {} if first is None else first["data"]


def decision(row: WaitRow, votes: Sequence[Document], data: Document | None, at: int) -> Document:
    """What these votes change of the wait beside themselves; nothing while it stays open."""
    state = outcome(row, votes)
    if state == "open":
        return {}
    answer = {"approved": state == "answered", "data": data, "votes": counting_votes(row, votes)}
    return {"state": state, "answer": answer, "decided": at}


def _history(row: WaitRow) -> str:
    said = [
        f"{entry['voter']} {SAID[entry['decision']]} it at {shown_time(entry['at'])}"
        for entry in row.decided_by
    ]
    if row.decided is not None and (row.answer or {}).get("by_timeout"):
        said.append(f"its deadline decided at {shown_time(row.decided)}")
    elif row.decided is not None and row.state == "cancelled":
        said.append(f"withdrawn at {shown_time(row.decided)}")
    return ", ".join(said) or "nobody has answered it"


def _see_run(row: WaitRow) -> str:
    return f"; see the run: phaseline show {row.run_id}"
