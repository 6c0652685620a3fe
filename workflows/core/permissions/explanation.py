"""What an agent may call, for people: every tool that its plan speaks of, and why it is allowed or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from workflows.core.errors import UsageError
from workflows.core.permissions.grants import Grants
from workflows.core.permissions.ruling import Allowed
from workflows.core.tools.built_in.http_request import HTTP_REQUEST
from workflows.core.tools.built_in.table import BUILT_IN
from workflows.core.tools.names import nameable_tools


@dataclass(frozen=True, slots=True)
class ToolLine:
    """One tool. `effect` is what a call does as far as the files say; `because` allows or denies it."""

    tool: str
    allowed: bool
    because: str
    effect: str
    approval: bool


def explain_tools(grants: Grants) -> list[ToolLine]:
    """What tools there are for an agent: phaseline's own, its skills', those of servers that files name."""
    return [*_own_lines(grants), *_handler_lines(grants), *_server_lines(grants)]


def _own_lines(grants: Grants) -> Iterator[ToolLine]:
    for tool in grants.granted():
        if tool.granted_by != "inputs":  # nobody's configuration speaks of it
            effect = tool.effect or ("by its method" if tool is HTTP_REQUEST else "by its arguments")
            line = _line(grants, tool.name, tool.name, effect)
            if tool is HTTP_REQUEST and line.allowed and grants.http is not None:
                asking = f"{', '.join(grants.methods)} to {', '.join(grants.http.endpoints)}"
                line = ToolLine(line.tool, True, asking, line.effect, line.approval)
            yield line


def _handler_lines(grants: Grants) -> Iterator[ToolLine]:
    for skill in grants.skills:
        for handler in skill.handlers if skill.folder else ():
            if handler.name not in BUILT_IN:
                yield _line(grants, handler.name, handler.name, handler.effect)


def _server_lines(grants: Grants) -> Iterator[ToolLine]:
    for plan in grants.servers:
        effect = "as it says, or once" if plan.server.trust_annotations else "once"
        others = tuple(f"{o.name}{dot}" for o in grants.servers if o is not plan for dot in (".", "__"))
        ruled = {r.name for r in grants.rules if r.name not in grants.own_names}
        ruled = {name for name in ruled if not (others and name.startswith(others))}
        for tool in sorted({*plan.server.tools, *nameable_tools(ruled, plan.name)}):
            yield _line(grants, f"{plan.name}.{tool}", tool, effect, server=plan.name)
        if not plan.server.tools:
            yield ToolLine(f"{plan.name}.*", True, f"the MCP server {plan.name}", effect, False)


def _line(grants: Grants, shown: str, tool: str, effect: str, *, server: str = "") -> ToolLine:
    try:
        ruling, rule = grants.may_call(tool, server=server), grants.rule(tool, server=server)
    except UsageError as fault:  # its step would not begin
        return ToolLine(shown, False, fault.message, effect, False)
    because = ruling.by if isinstance(ruling, Allowed) else ruling.reason
    said = rule.effect if rule is not None and rule.effect else effect
    approval = rule is not None and rule.approval
    return ToolLine(shown, isinstance(ruling, Allowed), because, said, approval)
