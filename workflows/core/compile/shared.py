"""What a result may not stand in for that is shared with other runs (`cache: always`)."""

from __future__ import annotations

from workflows.core.compile.effects import find_acts
from workflows.core.compile.people import find_questions
from workflows.core.plans.plan import StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


def check_shared(source: Source, at: Key, plan: StepPlan, findings: Findings) -> None:
    """A shared result stands in for doing the step, so nothing in it may be meant to act, or ask people."""
    if plan.cache != "always":
        return
    wrong = (
        ("leaves out what may act outside", find_acts(plan)),
        ("would give other runs what this one was told", find_questions(plan)),
    )
    for message, found in wrong:
        if (first := next(found, None)) is not None:
            what, cure = first
            findings.error(
                source,
                (*at, "cache"),
                f"`cache: always` {message}: {what}",
                f"{cure}; else drop `cache: always`" if cure else "drop `cache: always`",
            )
