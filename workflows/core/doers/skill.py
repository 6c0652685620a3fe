"""A handler of a skill, without a model."""

from __future__ import annotations

from typing import Any

from workflows.core.doers.kind import Doer, Looks, Planner
from workflows.core.plans.plan import StepPlan


def _plan(planner: Planner) -> dict[str, Any]:
    found = planner.find_handler()
    return {"skill": found[0], "handler": found[1]} if found else {}


def _draw_lines(step: StepPlan) -> tuple[str, ...]:
    name = step.handler.name if step.handler else ""
    return tuple(text for text in (f"skill {step.skill.id}" if step.skill else "", name) if text)


SKILL = Doer(
    kind="skill",
    key="skill",
    looks=Looks(("#ffffff", "#1b7c83")),
    plan=_plan,
    describe=lambda step: step.handler.name if step.handler else "-",
    brief=lambda step: step.handler.handler if step.handler else "",
    lines=_draw_lines,
    takes=frozenset(("args", "handler", "effect_key", "people")),
    works_alone=True,
)
