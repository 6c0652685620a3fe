"""The kinds of doers that there are. One more is one more file here, and one entry."""

from __future__ import annotations

from workflows.core.doers.agent import AGENT
from workflows.core.doers.approval import APPROVAL
from workflows.core.doers.await_event import AWAIT_EVENT
from workflows.core.doers.kind import Doer
from workflows.core.doers.nested_workflow import WORKFLOW
from workflows.core.doers.panel import PANEL
from workflows.core.doers.skill import SKILL
from workflows.core.errors import PhaselineError
from workflows.core.models.workflow import Step
from workflows.core.plans.plan import StepPlan

DOERS: dict[str, Doer] = {doer.kind: doer for doer in (AGENT, PANEL, SKILL, WORKFLOW, APPROVAL, AWAIT_EVENT)}
"""By what plans call them. A kind of the language that is not here is not available yet."""


class UnknownDoer(PhaselineError):
    """A plan names a kind of doer that this version does not have."""


def doer_of(step: StepPlan) -> Doer:
    """The kind of doer of a planned step. Raises UnknownDoer."""
    if step.kind not in DOERS:
        raise UnknownDoer(
            f"the step '{step.id}' is done by a '{step.kind}', which this version does not have",
            "use the version of phaseline that planned it",
        )
    return DOERS[step.kind]


def written_doers(step: Step) -> tuple[Doer, ...]:
    """The kinds that a written step names, those that are not available left out; a valid step has one."""
    return tuple(doer for doer in DOERS.values() if doer.key in step.doers)


def available_keys() -> frozenset[str]:
    """The doer keys of a step that do something."""
    return frozenset(doer.key for doer in DOERS.values())
