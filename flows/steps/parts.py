"""How one step becomes units: alone, as a panel, again and again, once per item, or as a workflow."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from flows.steps.items import run_items
from flows.steps.keeper import now
from flows.steps.nested import Descend, run_nested
from flows.steps.scope import Scope
from flows.steps.unit import Outcome, Unit, worst
from tasks.doers.agent import run_agent
from tasks.doers.panel import merge_panel
from tasks.doers.people import run_approval, run_await_event
from tasks.doers.skill import run_skill
from tasks.results import StepResult
from tasks.values import Value, evaluate
from workflows.core.plans.plan import AgentPlan, StepPlan, content_key
from workflows.core.step_paths import member


async def run_parts(
    scope: Scope, step: StepPlan, path: str, key: str, follows: Mapping[str, Any], descend: Descend
) -> Outcome:
    """Does a step in its own way. The outcome's state is what followers get as their edge.

    `descend` walks the plan of an inner workflow.
    """

    async def once(place: str, part: str, extra: Mapping[str, Any], edges: Mapping[str, Any]) -> Outcome:
        if step.kind == "workflow":
            return await run_nested(scope, step, place, part, extra, edges, descend)
        return await scope.execution.do_unit(_unit(scope, step, place, part, extra), edges, scope.slots)

    if step.for_each is not None:
        direct = step.kind != "workflow"
        make = (lambda p, k, extra: _unit(scope, step, p, k, extra)) if direct else None
        return await run_items(scope, step, path, key, follows, once, make)
    if step.repeat is not None:
        return await _repeat(scope, step, path, follows)
    if step.kind == "panel":
        return await _panel(scope, step, path, key, follows)
    return await once(path, key, {}, follows)


def _unit(scope: Scope, step: StepPlan, path: str, key: str, extra: Mapping[str, Any]) -> Unit:
    """The unit that does the step's work once. `extra` holds item, index, previous, iteration."""
    names = {"steps": scope.statuses(), **extra}
    context = scope.execution.context

    async def work() -> StepResult:
        if step.kind == "skill":
            return await run_skill(step, scope.values, names, context, path)
        if step.kind == "approval":
            return await run_approval(step, scope.values, names, context, path)
        if step.kind == "await_event":
            return await run_await_event(step, scope.values, names, context, path)
        return await run_agent(step, step.agents[0], scope.values, names, context, path)

    return Unit(step, path, key, work)


async def _panel(scope: Scope, step: StepPlan, path: str, key: str, follows: Mapping[str, Any]) -> Outcome:
    started, execution = now(), scope.execution
    members = _members(scope, step, path)
    ends = await asyncio.gather(*(execution.do_unit(m, follows, scope.slots) for m in members))
    failed = worst(ends)
    if failed is not None:
        return Outcome(path, state=failed.state, error=failed.error, attempts=failed.attempts)
    answers = [
        e.result.model_copy(update={"agent": a.id})
        for e, a in zip(ends, step.agents, strict=True)
        if e.result is not None
    ]

    async def merge() -> StepResult:
        names = {"steps": scope.statuses()}
        return await merge_panel(step, answers, scope.values, names, execution.context, path)

    inner = {m.member: e.state for m, e in zip(members, ends, strict=True)}
    collecting = Unit(step, path, key, merge, collects=True, started=started)
    return await execution.do_unit(collecting, inner, scope.slots)


def _members(scope: Scope, step: StepPlan, path: str) -> Sequence[Unit]:
    names, values = {"steps": scope.statuses()}, scope.digests(step)

    def unit(agent: AgentPlan) -> Unit:
        own = member(path, agent.id)
        kind = f"{step.output.name}.{agent.id}"

        async def work() -> StepResult:
            return await run_agent(step, agent, scope.values, names, scope.execution.context, own, kind=kind)

        return Unit(step, own, content_key(step, values, {"member": agent.id}), work, member=agent.id)

    return [unit(agent) for agent in step.agents]


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
