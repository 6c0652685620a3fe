"""JSON Schemas of the written files, made from their models, for editors and other programs.

A schema accepts every spelling the loader accepts, `depends_on: step-1` as well as a list. It cannot say
what a reader of several files finds (unknown agents, cycles): that is `phaseline check`'s part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from workflows.core.errors import UsageError, did_you_mean
from workflows.core.models.agent import AgentFile, AgentYml, Manifest, ToolsConfig
from workflows.core.models.registry import AgentRegistry, RoutingRules
from workflows.core.models.robot import Robot
from workflows.core.models.skill import Frontmatter, ModelTable, SkillConfig, SkillRegistry
from workflows.core.models.workflow import Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Kind(NamedTuple):
    """A kind of written file: its model, and where such files lie in a catalog."""

    model: type[BaseModel]
    file: str


KINDS = {
    "workflow": Kind(Workflow, "<name>.yaml"),
    "agent": Kind(AgentFile, "agents/<name>/config.yaml"),
    "manifest": Kind(Manifest, "agents/<name>/package.yao"),
    "tools": Kind(ToolsConfig, "agents/<name>/tools-config.json"),
    "skill": Kind(Frontmatter, "skills/<name>/SKILL.md (the frontmatter)"),
    "skill-config": Kind(SkillConfig, "skills/<name>/config.yaml"),
    "skill-registry": Kind(SkillRegistry, "orchestrator/skill-registry.yaml"),
    "agent-registry": Kind(AgentRegistry, "orchestrator/agent-registry.yaml"),
    "routing-rules": Kind(RoutingRules, "orchestrator/routing-rules.yaml"),
    "models": Kind(ModelTable, "models.yaml"),
    "robot": Kind(Robot, "robots/<name>.yaml"),
    "agent-yml": Kind(AgentYml, "orchestrator/agent.yml"),
}
"""Every kind of written file by the name `phaseline schema` knows it by."""


def schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a kind of file. Raises UsageError for an unknown kind."""
    found = KINDS.get(kind)
    if found is None:
        raise UsageError(f"there is no kind of file '{kind}'", did_you_mean(kind, KINDS))
    made = _add_short_spellings(found.model.model_json_schema(schema_generator=_Generator))
    made.pop("title", None)
    about = " ".join(str(made.pop("description", "")).split())
    return {"$schema": DIALECT, "title": f"phaseline {kind}: {found.file}", "description": about, **made}


class _Generator(GenerateJsonSchema):
    """Ids and names may look like numbers: `step: 2`, `version: 1.5` without quotes."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        made = super().function_before_schema(schema)
        text = made.get("type") == "string" and "enum" not in made
        return {**made, "type": ["string", "number"]} if text else made


def _add_short_spellings(made: dict[str, Any]) -> dict[str, Any]:
    """The schema with the short spellings that the models read before pydantic sees them."""
    definitions = made.get("$defs", {})
    for name, shorten in _SHORT.items():
        if name in definitions:
            definitions[name] = shorten(definitions[name])
    return made


def _permissions(made: dict[str, Any]) -> dict[str, Any]:
    """A map, or the documents' list of one-key maps."""
    return {"title": "Permissions", "anyOf": [made, {"type": "array", "items": made}]}


def _input_spec(made: dict[str, Any]) -> dict[str, Any]:
    """A map, or only the type, or nothing at all."""
    types = made["properties"]["type"].get("enum", [])
    return {"title": "InputSpec", "anyOf": [made, {"enum": types}, {"type": "null"}]}


_SHORT = {"Permissions": _permissions, "InputSpec": _input_spec}
"""Models by name in `$defs`, and how people write them shorter."""
