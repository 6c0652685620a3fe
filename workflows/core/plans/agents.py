"""Everybody who takes part in a plan."""

from __future__ import annotations

from collections.abc import Iterator

from workflows.core.plans.plan import AgentPlan, Plan


def agents_of(plan: Plan) -> Iterator[AgentPlan]:
    """The agents of a plan: of its steps and its `finally`, merging ones and those of nested workflows too.

    One that does several steps comes several times.
    """
    for step in (*plan.steps, *plan.finally_):
        yield from step.staff
        if step.workflow is not None:
            yield from agents_of(step.workflow)
