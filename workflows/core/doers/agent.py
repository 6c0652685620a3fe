"""One agent."""

from __future__ import annotations

from typing import Any

from workflows.core.doers.kind import Doer, Looks, Planner
from workflows.core.plans.plan import StepPlan


def _plan(planner: Planner) -> dict[str, Any]:
    agent = planner.bind_agent(planner.step.agent or "", (*planner.at, "agent"))
    return {"agents": (agent,) if agent else ()}


def describe_agents(step: StepPlan) -> str:
    """The ids of a step's agents."""
    return ", ".join(agent.id for agent in step.agents)


def count_agents(step: StepPlan) -> str:
    """The first of a step's agents, and how many others there are: `agent-pm-002 +2`."""
    others = len(step.agents) - 1
    return "".join(agent.id for agent in step.agents[:1]) + (f" +{others}" if others > 0 else "")


AGENT = Doer(
    kind="agent",
    key="agent",
    looks=Looks(("#ffffff", "#0969da")),
    plan=_plan,
    describe=describe_agents,
    brief=count_agents,
    lines=lambda step: tuple(f"{agent.id} · {agent.model.id}" for agent in step.agents),
    takes=frozenset(("prompt", "skills", "effect_key")),
    asks_model=True,
    output_type="markdown",
)
