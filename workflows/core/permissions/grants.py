"""What an agent may call in a step: one answer for what is offered, for each call, and for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.core.errors import UsageError
from workflows.core.permissions.hosts import match_endpoint
from workflows.core.permissions.ruling import Allowed, Denied, Ruling
from workflows.core.plans.plan import AgentPlan, HttpPlan, ServerPlan, SkillPlan, ToolRulePlan
from workflows.core.tools.built_in.ask_person import ASK_PERSON
from workflows.core.tools.built_in.http_request import HTTP_REQUEST, METHOD_EFFECTS
from workflows.core.tools.built_in.table import BUILT_IN
from workflows.core.tools.built_in.tool import GRANTED_BY, BuiltInTool, GrantedBy
from workflows.core.tools.names import rule_names
from workflows.core.tools.rules import rule_of


@dataclass(frozen=True, slots=True)
class Grants:
    """What an agent's plan lets it call, and how tools-config.json wants it done."""

    skills: tuple[SkillPlan, ...] = ()
    servers: tuple[ServerPlan, ...] = ()
    rules: tuple[ToolRulePlan, ...] = ()
    http: HttpPlan | None = None
    names: frozenset[str] = frozenset()
    """The built-in tools that are granted by name."""
    folder: str = ""
    """The agent's, for messages."""

    @classmethod
    def of(cls, agent: AgentPlan) -> Grants:
        """What this agent may call."""
        asking = {ASK_PERSON.name} if agent.ask_person else set()
        names = frozenset({*agent.built_in, *asking})
        return cls(agent.skills, agent.servers, agent.tool_rules, agent.http, names, agent.folder)

    def may_call(self, tool: str, arguments: Mapping[str, Any] | None = None, *, server: str = "") -> Ruling:
        """Whether the agent may call a tool, with these arguments if they are given.

        `tool` is its name in a request; of a server, the server's own name for it. Which hosts
        `http_request` may ask is said by `may_request`, of an address as it is asked.
        """
        rule = self.rule(tool, server=server) if server or _is_ruled(tool) else None
        if rule is not None and not rule.allow:
            return Denied(
                f"{self._file} does not allow '{rule.name}'", f"remove `\"allow\": false` of '{rule.name}'"
            )
        if server:
            return self._rule_on_server(server, tool)
        if tool in BUILT_IN:
            return self._rule_on_built_in(BUILT_IN[tool], arguments)
        skill = next((s for s in self.skills if s.folder and tool in {h.name for h in s.handlers}), None)
        if skill is None:
            return Denied(f"no skill of the step has the tool '{tool}'", "add the skill to the step")
        return Allowed(f"the skill {skill.id}")

    def may_request(self, method: str, scheme: str, host: str, port: int) -> Ruling:
        """Whether `http_request` may ask a host; allowed by the first pattern that fits it."""
        if self.http is None:
            return self._ungranted(HTTP_REQUEST)
        if method not in self.methods:
            return self._wrong_method(method)
        pattern = match_endpoint(scheme, host, port, self.http.endpoints)
        if pattern is None:
            return Denied(
                f"{host} is not an allowed host. Allowed: {', '.join(sorted(self.http.endpoints))}",
                f"add it to `permissions.allowed_endpoints` in {self.folder}/config.yaml",
            )
        return Allowed(pattern)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that `http_request` may use."""
        if self.http is None:
            return ()
        return self.http.methods or tuple(METHOD_EFFECTS)

    def rule(self, tool: str, *, server: str = "") -> ToolRulePlan | None:
        """The rule of a tool.

        One for a tool of ours, or of a skill, restricts a server's tool of the same name, and grants it
        nothing: a server chooses its tools' names. Raises UsageError where it leaves open what it restricts.
        """
        if not server:
            return rule_of(self.rules, tool)
        rule = rule_of(self.rules, *rule_names(server, tool))
        if rule is None or rule.name != tool or tool not in self.own_names:
            return rule
        if tool == HTTP_REQUEST.name and self.http is not None and self.http.methods:
            raise UsageError(
                f"{self._file}: `methods` of '{tool}' says nothing of the tool of that "
                f"name of the MCP server '{server}'",
                f"write a rule for '{server}.{tool}' too",
            )
        return rule.model_copy(update={"effect": None, "effect_key": ()})

    @property
    def own_names(self) -> frozenset[str]:
        """The names of tools that are no server's, and that rules can be about."""
        ruled = (tool.name for tool in BUILT_IN.values() if tool.ruled)
        return frozenset((*ruled, *(handler.name for skill in self.skills for handler in skill.handlers)))

    def granted(self) -> Iterator[BuiltInTool]:
        """The built-in tools that the agent was granted, in the order of the table, whatever rules say."""
        return (tool for tool in BUILT_IN.values() if self._holds(tool))

    @property
    def _file(self) -> str:
        return f"{self.folder}/tools-config.json"

    def _rule_on_server(self, server: str, tool: str) -> Ruling:
        plan = next((plan for plan in self.servers if plan.name == server), None)
        if plan is None:
            return Denied(f"the agent has no MCP server '{server}'", f"add it to {self._file}")
        if plan.server.tools and tool not in plan.server.tools:
            return Denied(
                f"'{tool}' is not among the tools of '{server}'", f"add it to its `tools` in {self._file}"
            )
        return Allowed(f"the MCP server {server}")

    def _rule_on_built_in(self, tool: BuiltInTool, arguments: Mapping[str, Any] | None) -> Ruling:
        if not self._holds(tool):
            return self._ungranted(tool)
        method = (arguments or {}).get("method") if tool.granted_by == "network" else None
        if method is not None and method not in self.methods:
            return self._wrong_method(method)
        return Allowed(GRANTED_BY[tool.granted_by])

    def _ungranted(self, tool: BuiltInTool) -> Denied:
        return Denied(
            f"nothing grants '{tool.name}' to the agent", f"it is granted by {GRANTED_BY[tool.granted_by]}"
        )

    def _holds(self, tool: BuiltInTool) -> bool:
        held: dict[GrantedBy, bool] = {
            "skills": any(skill.folder for skill in self.skills),
            "network": self.http is not None,
            "name": tool.name in self.names,
            "inputs": True,
        }
        return held[tool.granted_by]

    def _wrong_method(self, method: str) -> Denied:
        return Denied(
            f"{method} is not an allowed method. Allowed: {', '.join(self.methods)}",
            f"add it to `methods` of '{HTTP_REQUEST.name}' in {self._file}",
        )


def _is_ruled(tool: str) -> bool:
    return tool not in BUILT_IN or BUILT_IN[tool].ruled
