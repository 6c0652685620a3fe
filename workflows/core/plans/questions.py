"""Whom a planned question asks, and until when, in words."""

from __future__ import annotations

from workflows.core.plans.plan import ApprovalPlan, AskedPlan, AwaitEventPlan, DecidersPlan
from workflows.core.units import shown_duration


def shown_people(asked: AskedPlan) -> str:
    """Who decides: `anybody`, `any 2 people`, `alice`, `2 of alice, bob, carol`."""
    people = asked.assignees
    if not people:
        return "anybody" if asked.quorum == 1 else f"any {asked.quorum} people"
    return people[0] if len(people) == 1 else f"{asked.quorum} of {', '.join(people)}"


def shown_deadline(wait: ApprovalPlan | DecidersPlan | AwaitEventPlan) -> str:
    """What happens when nobody answers: `2d, then escalate to boss`; empty without a deadline."""
    if wait.deadline is None:
        return ""
    people = "" if isinstance(wait, AwaitEventPlan) else ", ".join(wait.escalate_to)
    target = f" to {people}" if people else ""
    return f"{shown_duration(wait.deadline)}, then {wait.on_timeout}{target}"
