"""What the work of one unit needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.context import RunContext
from tasks.results import StepResult
from tasks.values import Value, render
from workflows.core.plans.plan import StepPlan


@dataclass(frozen=True, slots=True)
class Work:
    """One unit of a step's work, at its path in the run.

    `values` are what the step reads, by name; `names` what expressions see beside them: `steps`, and of
    a part also item, index, previous and iteration.
    """

    step: StepPlan
    path: str
    values: Mapping[str, Value]
    names: Mapping[str, Any]
    context: RunContext

    async def render(self, template: str) -> str:
        """A template over the values and names."""
        return await render(template, self.values, self.context.store, self.names)


Do = Callable[[Work], Awaitable[StepResult]]
"""Does a unit of one kind of step. Raises Waiting, StepFailed, BudgetSpent, faults of the storage."""
