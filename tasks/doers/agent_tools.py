"""Everything an agent may call in one step; what acts goes through the effect gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tasks.context import RunContext
from tasks.doers.built_in_tools import EXECUTORS, ToolUse
from tasks.effects.earlier_work import EarlierWork
from tasks.effects.gate import EffectGate
from tasks.effects.tools import ActingTool, gate_of, guard_tool
from tasks.handlers.toolbox import skill_tools
from tasks.tools import Tool, ToolResult
from tasks.values import Value
from workflows.core.permissions.grants import Grants
from workflows.core.permissions.ruling import Allowed, Denied
from workflows.core.plans.plan import AgentPlan, StepPlan
from workflows.core.tools.built_in.table import BUILT_IN

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
    grants = Grants.of(agent)
    use = ToolUse(agent, grants, context, path, readable, attached, cut)
    gate = gate_of(context, path, repeat=context.repeat(path), remote=context.reaches_out, earlier=earlier)
    handlers = [
        _guard(tool, grants, step, gate)
        for tool in skill_tools(agent.skills, readable, context, path)
        if isinstance(grants.may_call(tool.name), Allowed)
    ]
    servers = await _server_tools(agent, context, gate, path, continued) if gate is not None else []
    own = _built_in_tools(use, step, gate)
    # Skills' texts stand before their handlers, as what an agent looks at first.
    first = [tool for tool in own if BUILT_IN[tool.name].granted_by == "skills"]
    tools = [*first, *handlers, *servers, *(tool for tool in own if tool not in first)]
    return [_permit(tool, grants) if tool.name in BUILT_IN else tool for tool in tools]


def _built_in_tools(use: ToolUse, step: StepPlan, gate: EffectGate | None) -> list[Tool]:
    """Phaseline's own tools that the agent may call here, in the order of their table."""
    out: list[Tool] = []
    for entry in BUILT_IN.values():
        if isinstance(use.grants.may_call(entry.name), Denied):
            continue
        made = EXECUTORS[entry.name](use)
        if isinstance(made, ActingTool):
            out += [made.through(gate)] if gate is not None else []
        elif made is not None:
            out.append(_guard(made, use.grants, step, gate) if entry.gated else made)
    return out


def _guard(tool: Tool, grants: Grants, step: StepPlan, gate: EffectGate | None) -> Tool:
    """The tool with its calls through the gate; outside of a recorded run there is none."""
    return tool if gate is None else guard_tool(tool, gate, grants.rule(tool.name), step.effect_key)


def _permit(tool: Tool, grants: Grants) -> Tool:
    """The tool with each call held to what its arguments may be, before anybody is asked about it."""

    async def run(arguments: dict[str, Any]) -> ToolResult:
        ruling = grants.may_call(tool.name, arguments)
        if isinstance(ruling, Denied):
            return ToolResult(f"{ruling.reason}.", is_error=True)
        return await tool.run(arguments)

    return replace(tool, run=run)


async def _server_tools(
    agent: AgentPlan, context: RunContext, gate: EffectGate, path: str, continued: bool
) -> list[Tool]:
    """Tools of MCP servers. An offline run opens none."""
    if agent.servers and not context.reaches_out:
        told = {"step": path, "servers": [plan.name for plan in agent.servers]}
        context.on_event("tools.left_out", told)
    elif agent.servers:
        from tasks.servers.tools import mcp_tools

        offered = await mcp_tools(agent, _servers(context), gate, continued=continued)
        return [tool.through(gate) for tool in offered]
    return []


def _servers(context: RunContext) -> McpServers:
    """The run's MCP servers: each is opened once per process."""
    from tasks.servers.client import McpServers

    known = next((service for service in context.services if isinstance(service, McpServers)), None)
    if known is None:
        known = McpServers(context.environ, context.secrets, context.catalog_root)
        context.services.append(known)
    return known
