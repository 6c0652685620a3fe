"""Which votes of a wait count, and what they decide."""

from __future__ import annotations

from collections.abc import Sequence

from blocks.ledger.tables.records import Document
from blocks.ledger.waits.rows import WaitRow, WaitState
from workflows.core.refs import digest

ASKED_BEFORE = "asked_before"
"""Key of the `detail` of an escalated wait: whom its definition asks first, [] for anybody."""


def eligible_voters(row: WaitRow) -> frozenset[str] | None:
    """Whose votes count: who is asked now and, of an escalated wait, who was before; None: anybody's."""
    before = row.detail.get(ASKED_BEFORE)
    if not row.assignees or before == []:
        return None
    return frozenset((*row.assignees, *(before or ())))


def counting_votes(row: WaitRow, votes: Sequence[Document] | None = None) -> list[Document]:
    """The votes that count, of these or of all: not those of people whom the definition no longer names."""
    people = eligible_voters(row)
    votes = row.decided_by if votes is None else votes
    return [entry for entry in votes if people is None or entry["voter"] in people]


def told_votes(row: WaitRow) -> list[Document]:
    """All votes for people and programs; those that do not count hold `"counts": False`."""
    count = counting_votes(row)
    return [entry if entry in count else {**entry, "counts": False} for entry in row.decided_by]


def first_proposal(row: WaitRow) -> Document | None:
    """The first approval, whose data the others of a quorum approve as well; None before there is one."""
    approvals = (entry for entry in counting_votes(row) if entry["decision"] == "approve" and "data" in entry)
    return next(approvals, None)


def agreeing_votes(votes: Sequence[Document]) -> list[Document]:
    """The most approvals of the same data: people who were named again may have approved different ones."""
    groups: dict[str, list[Document]] = {}
    for entry in votes:
        if entry["decision"] == "approve":
            groups.setdefault(digest(entry.get("data")), []).append(entry)
    return max(groups.values(), key=len, default=[])


def outcome(row: WaitRow, votes: Sequence[Document]) -> WaitState:
    """What these votes make of the wait.

    Answered when the quorum has approved. Rejected by the first rejection that leaves too few assignees
    for the quorum; where anybody may answer, by the first one.
    """
    votes = counting_votes(row, votes)
    approvals = len(agreeing_votes(votes))
    if approvals >= row.quorum:
        return "answered"
    voted = {entry["voter"] for entry in votes}
    left = sum(person not in voted for person in row.assignees)
    if approvals + left >= row.quorum:
        return "open"
    rejected = any(entry["decision"] != "approve" for entry in votes)
    return "rejected" if rejected or row.assignees else "open"
