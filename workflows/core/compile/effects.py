"""What a step could change outside, as far as its skills, hooks and inner workflow declare it."""

from __future__ import annotations

from collections.abc import Iterator

from workflows.core.models.workflow import Step
from workflows.core.permissions.grants import Grants
from workflows.core.plans.plan import AgentPlan, SkillPlan, StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


def find_acts(step: StepPlan) -> Iterator[tuple[str, str]]:
    """What may act outside, and how to say that it does not: (description, cure), empty for a pure step."""
    if step.skill is not None and step.handler is not None:
        yield from _handlers(step.skill, step.handler.handler)
    for agent in step.staff:
        yield from _agent(agent)
    if step.work is not None and step.work.effect != "none":
        yield f"{step.work.doer} has the effect `{step.work.effect}`", ""
    if step.workflow is not None:
        for inner in (*step.workflow.steps, *step.workflow.finally_):
            for what, cure in find_acts(inner):
                yield f"{what}, in the step '{inner.id}' of '{step.workflow.workflow}'", cure


def _agent(agent: AgentPlan) -> Iterator[tuple[str, str]]:
    for hook in agent.hooks:
        yield f"{agent.id} has the hook {hook.file}:{hook.function}", ""
    for skill in agent.skills:
        yield from _handlers(skill)
    for entry in agent.servers:
        yield f"{agent.id} has the MCP server '{entry.name}'", ""
    if agent.http is not None and not agent.http.reads_only:
        yield f"{agent.id} may make HTTP requests", ""
    for tool in Grants.of(agent).granted():
        if tool.effect not in (None, "none"):
            yield f"{agent.id} has the tool '{tool.name}' with the effect `{tool.effect}`", ""


def _handlers(skill: SkillPlan, only: str | None = None) -> Iterator[tuple[str, str]]:
    for handler in skill.handlers:
        if handler.effect != "none" and only in (None, handler.handler):
            cure = f"if it changes nothing outside, write `effect: none` for it in {skill.folder}/config.yaml"
            yield f"'{handler.handler}' of {skill.id} has the effect `{handler.effect}`", cure


def check_effect_key(source: Source, at: Key, step: Step, plan: StepPlan, findings: Findings) -> None:
    """Records names of `effect_key` that are no arguments of what the step can call.

    What tools of servers take is known when they are connected, so that no name is wrong where there are any.
    """
    if not step.effect_key or plan.kind not in ("skill", "agent", "panel"):
        return
    handler = plan.handler
    if handler is not None and handler.effect == "none":
        message = f"'{handler.handler}' changes nothing outside, so that `effect_key` does nothing"
        findings.warn(source, (*at, "effect_key"), message, "remove it, or declare the handler's effect")
    known = _arguments(plan)
    elsewhere = handler is None and any(agent.servers or agent.http for agent in plan.agents)
    for index, name in enumerate(step.effect_key):
        listed = isinstance(source.value((*at, "effect_key")), list)
        place = (*at, "effect_key", index) if listed else (*at, "effect_key")
        whose = f"'{handler.handler}'" if handler is not None else "no tool of this step"
        if name in step.effect_key[:index]:
            findings.error(source, place, f"'{name}' is named twice", "name it once")
        elif name not in known and not elsewhere:
            wrong = f"{whose} takes no argument '{name}'" if handler else f"{whose} takes '{name}'"
            findings.error(source, place, wrong, findings.near(name, known))


def _arguments(plan: StepPlan) -> set[str]:
    """The names of arguments that the handlers and built-in tools of a step take."""
    handlers = [h for agent in plan.agents for skill in agent.skills for h in skill.handlers]
    found = handlers if plan.handler is None else [plan.handler]
    granted = [tool for agent in plan.agents for tool in Grants.of(agent).granted()]
    acting = [tool.input_schema for tool in granted if tool.effect not in (None, "none")]
    schemas = [*(handler.input_schema for handler in found), *acting]
    return {name for schema in schemas for name in schema["properties"]}
