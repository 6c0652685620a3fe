"""The call of a handler that the plan names, not a model: of a skill step, and of what takes a step back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.context import RunContext
from tasks.doers.skill_arguments import WrongArguments, with_secrets
from tasks.effects.calls import Unsure
from tasks.handlers.faults import HandlerCrashed, HandlerTimeout
from tasks.handlers.toolbox import call_handler
from tasks.tools import ToolError
from tasks.values import Value
from workflows.core.plans.plan import HandlerPlan, SkillPlan


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call. `written` are the arguments as the plan has them, `filled` as they are kept and told."""

    skill: SkillPlan
    handler: HandlerPlan
    written: Mapping[str, Any]
    filled: Mapping[str, Any]
    values: Mapping[str, Value]
    context: RunContext
    cure: str
    """Of arguments that the handler cannot be called with."""

    @property
    def tool(self) -> str:
        """What its effect is recorded under."""
        return f"{self.skill.id}.{self.handler.handler}"

    async def run(self) -> Any:
        """The handler's result. Raises HandlerFault, WrongArguments."""
        given = with_secrets(self.written, self.filled, self.values, self.context)
        try:
            return await call_handler(self.skill, self.handler, given, self.values, self.context)
        except ToolError as fault:
            raise WrongArguments(str(fault), self.cure) from None

    async def run_acting(self) -> Any:
        """The same behind the effect gate. Raises Unsure where what it did before its end is not known."""
        try:
            return await self.run()
        except (HandlerTimeout, HandlerCrashed) as fault:
            raise Unsure(str(fault)) from None
