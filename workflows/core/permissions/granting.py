"""What an agent's files grant it, as its plan carries it."""

from __future__ import annotations

from typing import Any

from workflows.core.models.agent import Permissions, ToolRule, ToolsConfig
from workflows.core.plans.plan import HttpPlan
from workflows.core.tools.built_in.ask_person import ASK_PERSON
from workflows.core.tools.built_in.http_request import HTTP_REQUEST
from workflows.core.tools.built_in.table import BUILT_IN
from workflows.core.tools.rules import rule_plans, server_plans


def compile_grants(permissions: Permissions, tools: ToolsConfig) -> dict[str, Any]:
    """The fields of an AgentPlan that say what the agent may call beside its skills."""
    named = [tool.name for tool in BUILT_IN.values() if tool.granted_by == "name"]
    granted = [name for name in named if _names_tool(name, permissions, tools)]
    return {
        "ask_person": ASK_PERSON.name in granted,
        "built_in": tuple(name for name in granted if name != ASK_PERSON.name),
        "servers": server_plans(tools),
        "tool_rules": rule_plans(tools),
        "http": _grant_http(permissions, tools),
    }


def _names_tool(name: str, permissions: Permissions, tools: ToolsConfig) -> bool:
    """Whether a tool is granted by its name; tools-config.json decides before the permissions."""
    rule = tools.tools.get(name)
    return rule.allow if rule is not None else name in permissions.tools


def _grant_http(permissions: Permissions, tools: ToolsConfig) -> HttpPlan | None:
    """Whom the agent may ask over HTTP, and how; None when nobody."""
    rule = tools.tools.get(HTTP_REQUEST.name, ToolRule())
    if not permissions.network_access or not permissions.allowed_endpoints or not rule.allow:
        return None
    acts = rule.effect not in (None, "none")
    return HttpPlan(endpoints=permissions.allowed_endpoints, methods=rule.methods, acts=acts)
