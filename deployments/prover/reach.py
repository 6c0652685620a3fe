"""What of a workflow reaches beyond this machine, so that nobody proves it by accident.

MCP servers count always: they are started or connected to for their list of tools. HTTP requests count where
an instruction asks for them, since the offline model calls no tool that its instruction does not name; any
other effect beyond this machine is refused by the effect gate, as in every offline run.
"""

from __future__ import annotations

from collections.abc import Iterator

from workflows.core.errors import UsageError
from workflows.core.plans.plan import AgentPlan, Plan, StepPlan
from workflows.core.tools.built_in.http_request import HTTP_REQUEST


def refuse_far_reaching(plan: Plan) -> None:
    """Raises UsageError that names every tool which may act on somebody else's machine."""
    found = list(dict.fromkeys(_far_reaching(plan)))
    if found:
        raise UsageError(
            f"'{plan.workflow}' uses what may reach beyond this machine: {', '.join(found)}; "
            "a proof runs it many times and calls it each time",
            "point it at something made for tests, then add --allow-effects",
        )


def _far_reaching(plan: Plan) -> Iterator[str]:
    for step in (*plan.steps, *plan.finally_):
        for agent, prompt in _agents(step):
            yield from (f"the MCP server '{s.name}' of {agent.id}" for s in agent.servers)
            if agent.http is not None and HTTP_REQUEST.name in prompt:
                yield f"HTTP requests of {agent.id} in the step '{step.id}'"
        if step.work is not None and step.work.effect != "none":
            yield f"{step.work.doer} in the step '{step.id}'"
        if step.workflow is not None:
            yield from _far_reaching(step.workflow)


def _agents(step: StepPlan) -> Iterator[tuple[AgentPlan, str]]:
    """The agents of a step with what they are told to do."""
    yield from ((agent, step.prompt) for agent in step.agents)
    if step.merge is not None and step.merge.agent is not None:
        yield step.merge.agent, step.merge.prompt
