"""Everything an agent may call in one step; what acts goes through the effect gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.context import RunContext
from tasks.conversation.documents import read_input_tool
from tasks.doers.people import ask_person_tool
from tasks.effects.earlier_work import EarlierWork
from tasks.effects.gate import EffectGate
from tasks.effects.tools import gate_of, guard_tools
from tasks.handlers.toolbox import skill_tools
from tasks.tools import Tool
from tasks.values import Value
from workflows.core.catalog.prompts import ASK_PERSON
from workflows.core.plans.plan import AgentPlan, StepPlan
from workflows.core.tools.rules import rule_of

if TYPE_CHECKING:
    from tasks.servers.client import McpServers


async def step_tools(
    step: StepPlan,
    agent: AgentPlan,
    readable: Mapping[str, Value],
    attached: Sequence[Value],
    cut: Sequence[str],
    context: RunContext,
    path: str,
    *,
    earlier: EarlierWork | None = None,
    continued: bool = False,
) -> list[Tool]:
    """The tools in the order they are shown. `cut` names documents of which only a part was attached.

    `earlier` as in EffectGate. `continued`: the conversation was told of its tools before, and goes on
    without those that are gone.

    Raises ServerUnavailable for an MCP server that cannot be opened, UsageError.
    """
    gate = gate_of(context, path, repeat=context.repeat(path), remote=context.reaches_out, earlier=earlier)
    tools = skill_tools(agent.skills, readable, context, path)
    if gate is not None:
        tools = guard_tools(tools, gate, agent.tool_rules, step.effect_key)
        tools += await _remote_tools(agent, context, gate, path, continued)
        if agent.ask_person:
            rule = rule_of(agent.tool_rules, ASK_PERSON)
            tools.append(ask_person_tool(context, path, rule.people if rule is not None else None))
    if cut:
        tools.append(read_input_tool(attached, cut, context.store))
    return tools


async def _remote_tools(
    agent: AgentPlan, context: RunContext, gate: EffectGate, path: str, continued: bool
) -> list[Tool]:
    """Tools of MCP servers, and HTTP requests. An offline run opens no server."""
    out: list[Tool] = []
    if agent.servers and not context.reaches_out:
        told = {"step": path, "servers": [plan.name for plan in agent.servers]}
        context.on_event("tools.left_out", told)
    elif agent.servers:
        from tasks.servers.tools import mcp_tools

        offered = await mcp_tools(agent, _servers(context), gate, continued=continued)
        out += [tool.through(gate) for tool in offered]
    if agent.http is not None:
        from tasks.web.http_request import http_tool

        http = http_tool(agent.http, agent.tool_rules)
        out += [http.through(gate)] if http is not None else []
    return out


def _servers(context: RunContext) -> McpServers:
    """The run's MCP servers: each is opened once per process."""
    from tasks.servers.client import McpServers

    known = next((service for service in context.services if isinstance(service, McpServers)), None)
    if known is None:
        known = McpServers(context.environ, context.secrets, context.catalog_root)
        context.services.append(known)
    return known
