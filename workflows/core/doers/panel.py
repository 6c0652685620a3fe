"""Several agents, whose answers become one output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workflows.core.catalog.prompts import merge_instruction
from workflows.core.doers.agent import count_agents, describe_agents
from workflows.core.doers.kind import Doer, Looks, Planner
from workflows.core.plans.plan import AgentPlan, MergePlan, StepPlan
from workflows.core.step_paths import member


def _plan(planner: Planner) -> dict[str, Any]:
    return {"agents": tuple(_plan_members(planner)), "merge": _plan_merge(planner)}


def _plan_members(planner: Planner) -> Iterator[AgentPlan]:
    panel = planner.step.agents or ()
    named: dict[str, str] = {}
    seen: set[str] = set()
    for index, agent_id in enumerate(panel):
        place = (*planner.at, "agents", index)
        same = named.setdefault(member("", agent_id), agent_id)
        if agent_id in seen:
            planner.findings.error(
                planner.source, place, f"'{agent_id}' is twice in the panel", "name it once"
            )
            continue
        seen.add(agent_id)
        if same != agent_id:
            message = f"'{agent_id}' and '{same}' are one part of the panel: '/' counts as '.'"
            planner.findings.error(planner.source, place, message, "rename one of the agents")
            continue
        agent = planner.bind_agent(agent_id, place, panel)
        if agent is not None:
            yield agent


def _plan_merge(planner: Planner) -> MergePlan:
    written = planner.step.merge
    if written is None or written.agent is None:
        return MergePlan()
    agent = planner.bind_merger(written.agent, (*planner.at, "merge", "agent"))
    name = planner.step.name or planner.step.id
    return MergePlan(agent=agent, prompt=merge_instruction(name, written.prompt))


def _draw_lines(step: StepPlan) -> tuple[str, ...]:
    merger = step.merge.agent.id if step.merge and step.merge.agent else ""
    return (f"panel of {len(step.agents)}" + (f", merged by {merger}" if merger else ""),)


PANEL = Doer(
    kind="panel",
    key="agents",
    looks=Looks(("#fbefff", "#8250df")),
    plan=_plan,
    describe=describe_agents,
    brief=count_agents,
    lines=_draw_lines,
    takes=frozenset(("prompt", "skills", "merge", "effect_key")),
    asks_model=True,
    output_type="markdown",
    members=lambda step: tuple(agent.id for agent in step.agents),
)
