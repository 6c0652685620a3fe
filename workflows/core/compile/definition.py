"""The definition of a step: digest of what reaches a request or decides whether an answer is accepted."""

from __future__ import annotations

from typing import Any

from workflows.core.permissions.grants import Grants
from workflows.core.plans.plan import AgentPlan, OutputPlan, Plan, StepPlan, ToolRulePlan
from workflows.core.refs import digest
from workflows.core.tools.names import overlaps

_REPAIR = OutputPlan.model_fields["repair"].default
"""How often a wrong answer is sent back is a limit: here it stands for any number."""


def definition(plan: StepPlan, known: dict[int, str] | None = None) -> str:
    """Digest of what reaches a request or decides acceptance: no limits, no retries, no names of files.

    `known` remembers the digests of agents that many steps share, by identity.
    """
    facts = _AgentDigests({} if known is None else known)
    return digest(
        _question_facts(plan)
        | {
            "kind": plan.kind,
            "agents": [facts.of(a) for a in plan.agents],
            "skill": {"id": plan.skill.id, "digest": plan.skill.digest} if plan.skill else None,
            "handler": plan.handler.handler if plan.handler else None,
            "workflow": _nested_facts(plan.workflow) if plan.workflow else None,
            "prompt": plan.prompt,
            "args": plan.args,
            "inputs": list(plan.inputs),
            "output": {**plan.output.model_dump(mode="json", by_alias=True), "repair": _REPAIR},
            "merge": {"agent": facts.of(plan.merge.agent), "prompt": plan.merge.prompt}
            if plan.merge and plan.merge.agent
            else None,
            "repeat": plan.repeat.until if plan.repeat else None,
        }
    )


def _question_facts(plan: StepPlan) -> dict[str, Any]:
    """What a wait is about, or what another kind of doer does.

    Who is asked, and until when, is not part of the question.
    """
    if plan.approval is not None:
        return {"approval": {"ask": plan.approval.ask, "form": plan.approval.form}}
    if plan.work is not None:
        return {"work": plan.work.facts}
    if plan.await_event is not None:
        return {"await_event": {"type": plan.await_event.type, "key": plan.await_event.key}}
    return {}


def _nested_facts(plan: Plan) -> dict[str, Any]:
    """What decides the outputs of a workflow that is one step of another."""
    return {
        "inputs": [[i.name, i.type, i.default, i.default_file] for i in plan.inputs],
        "steps": [
            [s.id, s.definition, s.output.name, s.when, s.for_each.items if s.for_each else None, *_guards(s)]
            for s in (*plan.steps, *plan.finally_)
        ],
        "outputs": list(plan.outputs),
    }


def _guards(step: StepPlan) -> list[list[str]]:
    return [list(step.guards)] if step.guards else []


class _AgentDigests:
    """Digests of agents, each made once."""

    def __init__(self, known: dict[int, str]) -> None:
        self.known = known

    def of(self, agent: AgentPlan) -> str:
        if id(agent) not in self.known:
            self.known[id(agent)] = digest(_agent_facts(agent))
        return self.known[id(agent)]


def _agent_facts(agent: AgentPlan) -> dict[str, Any]:
    return {
        "model": agent.model.id,
        "effort": agent.model.effort,
        "max_tokens": agent.model.max_tokens,
        "system": agent.system,
        "skills": [{"id": s.id, "digest": s.digest} for s in agent.skills],
        "tools": [[h.name, h.description, h.input_schema] for s in agent.skills for h in s.handlers],
        "hooks": [[h.event, h.function, h.sha256] for h in agent.hooks],
        **_outside_facts(agent),
        **_built_in_facts(agent),
    }


def _outside_facts(agent: AgentPlan) -> dict[str, Any]:
    """Servers and rules; an agent without them has a digest that does not speak of them.

    Values of variables are not in it: a new credential is no new definition.
    """
    facts: dict[str, Any] = {
        "servers": [[s.name, s.server.model_dump(mode="json", exclude={"timeout"})] for s in agent.servers],
        "rules": [rule.model_dump(mode="json", exclude={"people"}) for rule in _counting_rules(agent)],
    }
    return {name: value for name, value in facts.items() if value}


def _built_in_facts(agent: AgentPlan) -> dict[str, Any]:
    """What the built-in tools that the agent has say of themselves; rules about them are said above."""
    facts: dict[str, Any] = {"built_in": list(agent.built_in)} if agent.built_in else {}
    for tool in Grants.of(agent).granted():
        facts |= tool.key_facts(tool, agent)
    return facts


def _counting_rules(agent: AgentPlan) -> list[ToolRulePlan]:
    """The rules that say more than who answers, if only that one behind them does not count."""
    own = {rule.name for rule in agent.tool_rules if _rule_counts(rule)}
    served = {server.name: server.server.tools for server in agent.servers}
    names = {rule.name for rule in agent.tool_rules}
    hiding = {pair.first for pair in overlaps(names, served) if pair.behind in own}
    return [rule for rule in agent.tool_rules if rule.name in own | hiding]


def _rule_counts(rule: ToolRulePlan) -> bool:
    return rule.model_copy(update={"people": None}) != ToolRulePlan(name=rule.name)
