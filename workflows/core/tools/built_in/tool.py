"""What the table of built-in tools says of one of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workflows.core.plans.plan import AgentPlan

GrantedBy = Literal["skills", "network", "name", "inputs"]
"""What of its configuration gives an agent a tool (see GRANTED_BY)."""

GRANTED_BY: Mapping[GrantedBy, str] = {
    "skills": "a skill of the step",
    "network": "`permissions.network_access` and `allowed_endpoints` of config.yaml",
    "name": "its name in `permissions.tools` of config.yaml, or below `tools` of tools-config.json",
    "inputs": "an input that is too long for the message",
}
"""The same for people."""


def say_definition(tool: BuiltInTool, agent: AgentPlan) -> dict[str, Any]:
    """What of a tool is in the content key of a step whose agent has it: all that the model is told."""
    return {f"tool:{tool.name}": [tool.description, tool.input_schema]}


def say_nothing(tool: BuiltInTool, agent: AgentPlan) -> dict[str, Any]:
    """Nothing of the tool is in the content key: what grants it is."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltInTool:
    """A tool of no skill and no server. Its executor is in `tasks.doers.built_in_tools`, by its name."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    """JSON Schema of the arguments; an executor may narrow it to what a step has (see `schema_with`)."""
    effect: Literal["none", "idempotent", "once"] | None
    """What a call does; None: it depends on the arguments."""
    granted_by: GrantedBy
    key_facts: Callable[[BuiltInTool, AgentPlan], dict[str, Any]] = say_definition
    """What of it is in the content key of a step whose agent has it, by names no other fact has."""
    ruled: bool = True
    """Whether a rule of tools-config.json can be about it."""
    gated: bool = True
    """Whether calls that act, or need approval, go through the effect gate; a question is a wait itself."""

    def schema_with(self, **narrowed: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the schema in which keywords of some properties are others."""
        made = copy.deepcopy(dict(self.input_schema))
        for name, keywords in narrowed.items():
            made["properties"][name].update(keywords)
        return made
