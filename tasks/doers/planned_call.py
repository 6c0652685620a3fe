"""The call of a handler that the plan names, not a model: of a skill step, and of what takes a step back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.context import RunContext
from tasks.doers.skill_arguments import WrongArguments, with_secrets
from tasks.effects.calls import Unsure
from tasks.effects.tools import ActingTool
from tasks.handlers.faults import HandlerCrashed, HandlerTimeout
from tasks.handlers.toolbox import call_handler
from tasks.tools import Effect, ToolError, ToolResult
from tasks.values import Value
from workflows.core.plans.plan import DecidersPlan, HandlerPlan, SkillPlan


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

    async def run(self) -> Any:
        """The handler's result. Raises HandlerFault, WrongArguments."""
        given = with_secrets(self.written, self.filled, self.values, self.context)
        try:
            return await call_handler(self.skill, self.handler, given, self.values, self.context)
        except ToolError as fault:
            raise WrongArguments(str(fault), self.cure) from None

    def acting(
        self, effect: Effect, people: DecidersPlan | None, key_fields: tuple[str, ...] = ()
    ) -> ActingTool:
        """The call as what goes through the effect gate, which keeps the result as `{"value": ...}`."""

        async def send(_arguments: dict[str, Any], _key: str) -> ToolResult:
            try:
                made = await self.run()
            except (HandlerTimeout, HandlerCrashed) as fault:
                raise Unsure(str(fault)) from None  # what it did before its end is not known
            return ToolResult(json.dumps({"value": made}, ensure_ascii=False))

        return ActingTool(
            name=f"{self.skill.id}.{self.handler.handler}",
            description=self.handler.description,
            input_schema=self.handler.input_schema,
            kind="tool",
            send=send,
            effect=effect,
            key_fields=key_fields,
            people=people,
        )
