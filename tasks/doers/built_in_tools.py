"""Who executes phaseline's own tools: an executor by the name of each entry of their table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.context import RunContext
from tasks.conversation.documents import read_input_tool
from tasks.doers.people import ask_person_tool
from tasks.effects.tools import ActingTool
from tasks.handlers.toolbox import read_skill_tool
from tasks.tools import Tool
from tasks.values import Value
from tasks.web.http_request import http_tool
from workflows.core.permissions.grants import Grants
from workflows.core.plans.plan import AgentPlan
from workflows.core.tools.built_in.ask_person import ASK_PERSON
from workflows.core.tools.built_in.http_request import HTTP_REQUEST
from workflows.core.tools.built_in.read_input import READ_INPUT
from workflows.core.tools.built_in.read_skill import READ_SKILL


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What an executor works with: one agent in one unit."""

    agent: AgentPlan
    grants: Grants
    context: RunContext
    path: str
    readable: Mapping[str, Value]
    """What the step reads, by name."""
    attached: Sequence[Value]
    """What the message holds, or begins with."""
    cut: Sequence[str]
    """The names of those that it only begins with."""


Executor = Callable[[ToolUse], Tool | ActingTool | None]
"""Makes the tool as this unit's agent gets it; None where there is nothing to call. One that needs an
idempotency key, or acts by its arguments, gives an ActingTool."""


def _read_skill(use: ToolUse) -> Tool:
    return read_skill_tool([s for s in use.agent.skills if s.folder], use.context.catalog_root)


def _http_request(use: ToolUse) -> ActingTool:
    return http_tool(use.grants)


def _ask_person(use: ToolUse) -> Tool | None:
    if use.context.durable is None:
        return None  # outside of a recorded run nobody could answer
    rule = use.grants.rule(ASK_PERSON.name)
    return ask_person_tool(use.context, use.path, rule.people if rule is not None else None)


def _read_input(use: ToolUse) -> Tool | None:
    return read_input_tool(use.attached, use.cut, use.context.store) if use.cut else None


EXECUTORS: dict[str, Executor] = {
    READ_SKILL.name: _read_skill,
    HTTP_REQUEST.name: _http_request,
    ASK_PERSON.name: _ask_person,
    READ_INPUT.name: _read_input,
}
"""By the tool's name."""
