"""`http_request`: an agent with network access asks the hosts that its permissions name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from workflows.core.plans.plan import AgentPlan
from workflows.core.tools.built_in.tool import BuiltInTool

METHOD_EFFECTS: Mapping[str, Literal["none", "idempotent", "once"]] = {
    "GET": "none",
    "HEAD": "none",
    "PUT": "idempotent",
    "DELETE": "idempotent",
    "POST": "once",
    "PATCH": "once",
}
"""What a method does, by RFC 9110. Where a server does not keep to it, tools-config.json says so: the effect
it declares holds for every method."""


def _say_access(tool: BuiltInTool, agent: AgentPlan) -> dict[str, Any]:
    """Whom the agent may ask, and how."""
    http = agent.http.model_dump(mode="json", exclude_defaults=True) if agent.http else None
    return {"http": http} if http else {}


HTTP_REQUEST = BuiltInTool(
    name="http_request",
    description="Make an HTTP request. Gives status, headers and body.",
    input_schema={
        "type": "object",
        "properties": {
            "method": {
                "type": "string",
                "enum": list(METHOD_EFFECTS),
                "description": "GET and HEAD change nothing.",
            },
            "url": {
                "type": "string",
                "maxLength": 4000,
                "description": "Whole address, with http:// or https://.",
            },
            "headers": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Header fields by name.",
            },
            "body": {
                "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array"}],
                "description": "Text as it stands, or data that is sent as JSON.",
            },
        },
        "required": ["method", "url"],
        "additionalProperties": False,
    },
    effect=None,
    granted_by="network",
    key_facts=_say_access,
)
