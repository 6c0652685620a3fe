"""How one step becomes units: alone, as a panel, again and again, once per item, or as a workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flows.steps.items import run_items
from flows.steps.keeper import now
from flows.steps.nested import Descend, run_nested
from flows.steps.scope import Scope
from flows.steps.unit import Outcome, Unit, worst
from tasks.doers.panel import merge_panel, run_member
from tasks.doers.registry import DOERS
from tasks.doers.work import Work
from tasks.results import StepResult
from tasks.values import Value, evaluate
from workflows.core.plans.plan import AgentPlan, StepPlan, content_key
from workflows.core.step_paths import member


@dataclass(frozen=True, slots=True)
class Part:
    """A step, or one item of it, whose work is more than one unit.

    `extra` holds item and index; `follows` the states it follows; `descend` walks an inner plan.
    """

    scope: Scope
    step: StepPlan
    path: str
    key: str
    extra: Mapping[str, Any]
    follows: Mapping[str, Any]
    descend: Descend


async def run_parts(
    scope: Scope, step: StepPlan, path: str, key: str, follows: Mapping[str, Any], descend: Descend
) -> Outcome:
    """Does a step in its own way. The outcome's state is what followers get as their edge.

    `descend` walks the plan of an inner workflow.
    """
    in_units = IN_UNITS.get(step.kind)

    async def once(place: str, part: str, extra: Mapping[str, Any], edges: Mapping[str, Any]) -> Outcome:
        if in_units is not None:
            return await in_units(Part(scope, step, place, part, extra, edges, descend))
        return await scope.execution.do_unit(_unit(scope, step, place, part, extra), edges, scope.slots)

    if step.for_each is not None:
        make = (lambda p, k, extra: _unit(scope, step, p, k, extra)) if in_units is None else None
        return await run_items(scope, step, path, key, follows, once, make)
    if step.repeat is not None:
        return await _repeat(scope, step, path, follows)
    return await once(path, key, {}, follows)


def has_parts(step: StepPlan) -> bool:
    """Whether the step's own task, if it has one, only collects."""
    return step.kind in IN_UNITS or step.for_each is not None or step.repeat is not None


def _work(scope: Scope, step: StepPlan, path: str, extra: Mapping[str, Any]) -> Work:
    names = {"steps": scope.statuses(), **extra}
    return Work(step, path, scope.values, names, scope.execution.context)


def _unit(scope: Scope, step: StepPlan, path: str, key: str, extra: Mapping[str, Any]) -> Unit:
    """The unit that does the step's work once. `extra` holds item, index, previous, iteration."""
    return Unit(step, path, key, partial(DOERS[step.kind], _work(scope, step, path, extra)))


async def _nested(part: Part) -> Outcome:
    return await run_nested(
        part.scope, part.step, part.path, part.key, part.extra, part.follows, part.descend
    )


async def _panel(part: Part) -> Outcome:
    started, scope, step = now(), part.scope, part.step
    execution = scope.execution
    members = _members(scope, step, part.path)
    ends = await asyncio.gather(*(execution.do_unit(m, part.follows, scope.slots) for m in members))
    failed = worst(ends)
    if failed is not None:
        return Outcome(part.path, state=failed.state, error=failed.error, attempts=failed.attempts)
    answers = [
        e.result.model_copy(update={"agent": a.id})
        for e, a in zip(ends, step.agents, strict=True)
        if e.result is not None
    ]

    async def merge() -> StepResult:
        return await merge_panel(_work(scope, step, part.path, {}), answers)

    inner = {m.member: e.state for m, e in zip(members, ends, strict=True)}
    collecting = Unit(step, part.path, part.key, merge, collects=True, started=started)
    return await execution.do_unit(collecting, inner, scope.slots)


def _members(scope: Scope, step: StepPlan, path: str) -> Sequence[Unit]:
    values = scope.digests(step)

    def unit(agent: AgentPlan) -> Unit:
        own = member(path, agent.id)
        do = partial(run_member, _work(scope, step, own, {}), agent)
        return Unit(step, own, content_key(step, values, {"member": agent.id}), do, member=agent.id)

    return [unit(agent) for agent in step.agents]


IN_UNITS: dict[str, Callable[[Part], Awaitable[Outcome]]] = {"panel": _panel, "workflow": _nested}
"""Kinds whose steps are several units, by what plans call them; one unit of `tasks.doers` does the others."""


async def _repeat(scope: Scope, step: StepPlan, path: str, follows: Mapping[str, Any]) -> Outcome:
    assert step.repeat is not None
    values, store = scope.digests(step), scope.execution.context.store
    previous, earlier = None, None
    edges, attempts = dict(follows), 0
    outcome = Outcome(path)
    for iteration in range(1, step.repeat.max + 1):
        part = {"iteration": iteration, "previous": previous.sha256 if previous else None}
        extra = {"iteration": iteration, "previous": earlier}
        unit = _unit(scope, step, f"{path}/{iteration}", content_key(step, values, part), extra)
        outcome = await scope.execution.do_unit(unit, edges, scope.slots)
        attempts = max(attempts, outcome.attempts)
        if outcome.result is None or outcome.result.output is None:
            break
        previous = Value(step.output.name, ref=outcome.result.output)
        seen = {**scope.values, step.output.name: previous}
        if await evaluate(step.repeat.until, seen, store, {**extra, "steps": scope.statuses()}):
            break
        earlier = await previous.data(store)
        # The next iteration follows this one; what this one followed is behind it.
        edges = {f"iteration-{iteration}": outcome.state}
    return Outcome(
        path, outcome.result, outcome.state, outcome.error, reused=outcome.reused, attempts=attempts
    )
