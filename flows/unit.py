"""One unit of work as a Prefect task: a step, a panel's member, an item, an iteration."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.context import RunContext, current
from tasks.options import task_options
from tasks.results import StepResult
from workflows.core.errors import PhaselineError
from workflows.core.plan import StepPlan

Work = Callable[[], Awaitable[StepResult]]


@dataclass(frozen=True)
class Unit:
    """What a Prefect task run does and is known by."""

    step: StepPlan
    path: str
    key: str
    work: Work
    member: str = ""
    """The agent, for a panel's member."""
    collects: bool = False
    """Only puts finished parts together: no retries and no timeout of its own."""


@dataclass(frozen=True)
class Outcome:
    """How a unit ended. `state` is what its followers get as their edge."""

    path: str
    result: StepResult | None = None
    state: State[Any] | None = None
    error: BaseException | None = None
    reused: bool = False
    attempts: int = 0

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.result is not None


_WORK: ContextVar[Mapping[str, Unit]] = ContextVar("phaseline_units")


@task(log_prints=False)
async def step_task(unit: str, inputs: dict[str, Any]) -> Any:
    """Runs a unit of the current run. `inputs` holds the results it follows: its edges in the graph."""
    context = current()
    doing = _WORK.get()[unit]
    attempt = context.attempts[unit] = context.attempts.get(unit, 0) + 1
    context.on_event(
        "step.started", {"step": unit, "agent": doing.member or agent_of(doing.step), "attempt": attempt}
    )
    recorded = context.finished.get(unit)
    if recorded is not None and recorded.key == doing.key:
        return recorded.model_dump(mode="json")
    started = time.monotonic()
    try:
        result = await doing.work()
    except BaseException as error:
        context.on_event(
            "step.attempt_failed", {"step": unit, "attempt": attempt, "reason": str(error) or type(error).__name__}
        )
        raise
    finished = result.model_copy(
        update={"key": doing.key, "attempts": attempt, "seconds": time.monotonic() - started}
    )
    return finished.model_dump(mode="json")


@task(log_prints=False)
async def skip_task(unit: str, reason: str, inputs: dict[str, Any]) -> Any:
    """Marks a step as skipped in the graph."""
    return Completed(name="Skipped", message=reason)


def agent_of(step: StepPlan) -> str:
    """Who does a step, for people."""
    if step.kind == "skill" and step.skill:
        return step.skill.id
    if step.kind == "workflow" and step.workflow:
        return step.workflow.workflow
    return ", ".join(a.id for a in step.agents)


async def run_unit(
    unit: Unit, follows: Mapping[str, Any], context: RunContext, storage: Any, *, refresh: bool = False
) -> Outcome:
    """Calls the Prefect task of a unit and waits for its end. `follows` maps names to upstream states.

    Never raises for a failed unit: the error is in the outcome. Cancellation passes through.
    """
    options = task_options(
        unit.step,
        unit.path,
        unit.key,
        tenant=context.tenant,
        run_id=context.run_id,
        storage=storage,
        refresh=refresh,
        retried=not unit.collects,
        member=unit.member,
    )
    # Tasks run in this process and context: the unit is found by its path, so that what travels through
    # Prefect (and is shown in its UI) stays small.
    token = _WORK.set({unit.path: unit})
    try:
        before = context.attempts.get(unit.path, 0)
        state = await step_task.with_options(**options)(unit.path, dict(follows), return_state=True)
    finally:
        _WORK.reset(token)
    return await _outcome(unit, state, context, before)


async def _outcome(unit: Unit, state: State[Any], context: RunContext, before: int) -> Outcome:
    attempts = context.attempts.get(unit.path, 0)
    if not state.is_final():
        return Outcome(unit.path, state=state, attempts=attempts)
    value = await state.aresult(raise_on_failure=False)
    if not state.is_completed() or isinstance(value, BaseException):
        error = value if isinstance(value, BaseException) else RuntimeError(state.message or state.name)
        return Outcome(unit.path, state=state, error=error, attempts=attempts)
    result = StepResult.model_validate(value)
    known = context.finished.get(unit.path)
    reused = attempts == before or (known is not None and known.key == result.key and result.key == unit.key)
    return Outcome(unit.path, result=result, state=state, reused=reused, attempts=attempts or result.attempts)


async def run_directly(unit: Unit, context: RunContext) -> Outcome:
    """Does a unit's work without a task run, with the step's retries and timeout."""
    plan, delays = unit.step.retries, unit.step.retries.delays()
    for attempt in range(1, plan.max + 2):
        started = time.monotonic()
        try:
            async with asyncio.timeout(unit.step.timeout):
                result = await unit.work()
        except Exception as error:  # the unit's own failure, whatever it is, is its outcome
            final = isinstance(error, PhaselineError) and error.final
            if final or attempt > plan.max:
                return Outcome(unit.path, error=error, attempts=attempt)
            reason = str(error) or type(error).__name__
            context.on_event("step.attempt_failed", {"step": unit.path, "attempt": attempt, "reason": reason})
            await asyncio.sleep(delays[attempt - 1] * (1 + plan.jitter * random.random()))
        else:
            seconds = time.monotonic() - started
            done = result.model_copy(update={"key": unit.key, "attempts": attempt, "seconds": seconds})
            return Outcome(unit.path, result=done, attempts=attempt)
    raise AssertionError("the last attempt returns")


async def mark_skipped(step: StepPlan, path: str, reason: str, follows: Mapping[str, Any]) -> State[Any]:
    """A Skipped task run with the step's edges."""
    named = skip_task.with_options(name=step.name, task_run_name=path.split("/")[-1], tags=[f"step:{step.id}"])
    return await named(path, reason, dict(follows), return_state=True)
