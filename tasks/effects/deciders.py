"""Whom a question asks and until when, as a plan says it and the ledger keeps it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blocks.current_time import now_us
from blocks.ledger import WaitStart
from blocks.ledger.waits.changes import LENGTH
from workflows.core.plans.plan import ApprovalPlan, DecidersPlan

__all__ = ["LENGTH", "address_question", "deadline_in", "length_of"]


def address_question(start: WaitStart, people: ApprovalPlan | DecidersPlan | None) -> WaitStart:
    """The question with those it asks, from now on; as it is where the plan names none.

    A deadline decides nothing about a call in doubt: nobody knows more because it passed. It may only ask
    others; after the last one the question expires, and the doubt stays.
    """
    if people is None:
        return start
    decides = start.kind != "unknown" or people.on_timeout == "escalate"
    return replace(
        start,
        assignees=people.assignees,
        quorum=people.quorum,
        deadline=deadline_in(people.deadline),
        on_timeout=people.on_timeout if decides else "fail",
        escalate_to=people.escalate_to,
        detail={**start.detail, **length_of(people.deadline)},
    )


def deadline_in(seconds: float | None) -> int | None:
    """Microseconds since 1970 of a deadline that many seconds from now."""
    return None if seconds is None else now_us() + int(seconds * 1_000_000)


def length_of(seconds: float | None) -> dict[str, Any]:
    """What a wait's `detail` keeps of its deadline."""
    return {} if seconds is None else {LENGTH: seconds}
