"""What a step could change outside, as far as its skills, hooks and inner workflow declare it."""

from __future__ import annotations

from collections.abc import Iterator

from workflows.core.plan import AgentPlan, SkillPlan, StepPlan


def acting(step: StepPlan) -> Iterator[tuple[str, str]]:
    """What may act outside, and how to say that it does not: (description, cure), empty for a pure step."""
    if step.skill is not None and step.handler is not None:
        yield from _handlers(step.skill, step.handler.handler)
    merging = (step.merge.agent,) if step.merge is not None and step.merge.agent is not None else ()
    for agent in (*step.agents, *merging):
        yield from _agent(agent)
    if step.workflow is not None:
        for inner in (*step.workflow.steps, *step.workflow.finally_):
            for what, cure in acting(inner):
                yield f"{what}, in the step '{inner.id}' of '{step.workflow.workflow}'", cure


def _agent(agent: AgentPlan) -> Iterator[tuple[str, str]]:
    for hook in agent.hooks:
        yield f"{agent.id} has the hook {hook.file}:{hook.function}", ""
    for skill in agent.skills:
        yield from _handlers(skill)


def _handlers(skill: SkillPlan, only: str | None = None) -> Iterator[tuple[str, str]]:
    for handler in skill.handlers:
        if handler.effect != "none" and only in (None, handler.handler):
            cure = f"if it changes nothing outside, write `effect: none` for it in {skill.folder}/config.yaml"
            yield f"'{handler.handler}' of {skill.id} has the effect `{handler.effect}`", cure
