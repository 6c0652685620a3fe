"""One unit of work as a Prefect task: a step, a panel's member, an item, an iteration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed
from prefect.utilities.engine import link_state_to_task_run_result
from pydantic import ValidationError

from blocks.patience import PatienceOver
from blocks.process.cut_off import watching
from blocks.secrecy import secrets
from flows.steps.keeper import now, shown_error
from tasks.context import RunContext, current
from tasks.failures import TimedOut, ending
from tasks.options import (
    is_final,
    retries_left,
    retry_waits,
    task_name,
    task_options,
    with_options,
)
from tasks.results import StepResult
from tasks.secrets import without_secret, without_secrets
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import StepPlan


class NoResult(Exception):
    """What Prefect stored is no result: the empty one of a unit that was held up, or somebody's own text."""


Work = Callable[[], Awaitable[StepResult]]
OnRetry = Callable[[], Awaitable[None]]
"""Called before a unit is tried again."""


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
    started: int = 0
    """When its step began (microseconds since 1970), for one that collects parts; 0 for: when it runs."""

    @property
    def agent(self) -> str:
        """Who does it, for people."""
        return self.member or self.step.doer


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


def worst(ends: Sequence[Outcome]) -> Outcome | None:
    """The first that has no result: what stops the run before a failure, a failure before a wait."""
    failed = [e for e in ends if not e.done]
    order = {"stopped": 0, "failed": 1, "waiting": 2}
    return min(failed, key=lambda end: order[ending(end.error)], default=None)


@dataclass(frozen=True)
class _Doing:
    """A unit while its task runs, and what came of it here: what Prefect hands back is a text of that."""

    unit: Unit
    made: list[StepResult] = field(default_factory=list)


_DOING: ContextVar[Mapping[str, _Doing]] = ContextVar("phaseline_units")


@task(log_prints=False)
async def step_task(unit: list[Any]) -> Any:
    """Runs a unit of the current run: its path, then its edges in the graph.

    One parameter, since Prefect's graph draws the edges of a task once per parameter of the task before; and
    a flat one, since Prefect looks into it five times for every task run.
    """
    return await _run_work(unit[0])


async def _run_work(path: str) -> Any:
    """The result of a unit of the current run as text; what holds it up becomes the task run's state."""
    context = current()
    doing = _DOING.get()[path]
    recorded = context.finished.get(path)
    if recorded is not None and recorded.key == doing.unit.key:
        return recorded.model_dump_json()
    made = context.made.get(path)
    if made is not None and made.key == doing.unit.key:
        doing.made.append(made)  # it was cut off before its row was written
        return made.model_dump_json()
    try:
        with without_secrets(context.secrets):
            result = await attempt_unit(doing.unit, context)
    except PhaselineError as error:
        if ending(error) == "failed":
            raise
        # Neither a wait nor a spent budget is a failure of the step: people should not see it in red.
        context.held_up[path] = error
        name = "Waiting" if ending(error) == "waiting" else "Stopped"
        return Cancelled(name=name, message=error.message)
    except Exception as error:
        # Prefect keeps what a task raises, and its traceback.
        if (clean := without_secret(error, context.secrets)) is not error:
            raise clean from None
        raise
    doing.made.append(result)
    if not doing.unit.collects:
        context.made[path] = result
    # One text: Prefect would take every value of a mapping for something that other tasks may follow.
    return result.model_dump_json()


@task(log_prints=False)
async def skip_task(unit: dict[str, Any]) -> Any:
    """Marks a step as skipped in the graph, for a `reason`."""
    return Completed(name="Skipped", message=unit["reason"])


async def attempt_unit(unit: Unit, context: RunContext) -> StepResult:
    """One attempt at a unit's work: counted, told, and stamped with its key and time."""
    attempt = context.attempts[unit.path] = context.attempts.get(unit.path, 0) + 1
    context.keys[unit.path] = unit.key
    context.waited_for.pop(unit.path, None)
    if unit.step.patience is not None:
        context.patiences[unit.path] = unit.step.patience
    started = unit.started or now()
    if not unit.collects:
        context.on_event("step.started", {"step": unit.path, "agent": unit.agent, "attempt": attempt})
    limit = None if unit.collects else unit.step.timeout
    with watching(lambda: context.standing(unit.path)) as cut_off, context.bounded(unit.path, limit):
        try:
            result = await unit.work()
        except asyncio.CancelledError:
            if cut_off.reason:
                context.wait_for(unit.path, cut_off.reason, cut_off.seconds)
            raise
    seconds = (now() - started) / 1e6
    failed = context.failed_calls[unit.path]
    made = {"key": unit.key, "attempts": attempt, "seconds": seconds, "failed_tool_calls": failed}
    return result.model_copy(update=made)


async def run_unit(
    unit: Unit,
    follows: Mapping[str, Any],
    context: RunContext,
    storage: Any,
    *,
    on_retry: OnRetry,
    refresh: bool = False,
) -> Outcome:
    """Calls the Prefect task of a unit and waits for its end. `follows` maps names to upstream states.

    Never raises for a failed unit: the error is in the outcome. Cancellation passes through.
    """
    tried = context.tries.get(unit.path, 0)
    left = 0 if unit.collects else retries_left(unit.step.retries, tried)
    waits = retry_waits(unit.step.retries, tried) if left else []
    before = context.attempts.get(unit.path, 0)
    options = task_options(
        unit.step,
        unit.path,
        unit.key,
        context=context,
        storage=storage,
        refresh=refresh,
        waits=waits,
        retries=left,
        on_retry=lambda error: _prepare_retry(unit, context, error, waits, on_retry, tried),
        is_away=lambda error: _patience_over(unit, context, error) is not None,
        member=unit.member,
    )
    # Tasks run in this process and context: the unit is found by its path, so that what travels through
    # Prefect (and is shown in its UI) stays small.
    doing = _Doing(unit)
    token = _DOING.set({unit.path: doing})
    try:
        called = [unit.path, *edges_of(follows)]
        named: Any = with_options(step_task, options)  # Prefect types no awaited state
        state = await named(called, return_state=True)
    finally:
        _DOING.reset(token)
    return await _outcome(doing, state, context, before)


class _Edge:
    """Stands for an upstream task run in a parameter. Unlike its state it has nothing inside to be visited,
    and no result to be read again by a thread of Prefect."""

    __slots__ = ("__weakref__",)


def edges_of(follows: Mapping[str, Any]) -> list[_Edge]:
    """Upstream states as a task's parameter, or as what a flow waits for: each is one edge of the graph."""
    edges = []
    for state in follows.values():
        edges.append(edge := _Edge())
        link_state_to_task_run_result(state, edge)
    return edges


async def _prepare_retry(
    unit: Unit,
    context: RunContext,
    error: BaseException,
    waits: list[float],
    on_retry: OnRetry,
    before: int,
) -> None:
    """Before another attempt: that one failed, what it cost so far is kept, and people are told.

    `before`: how many had failed when this process began with the unit.
    """
    attempt = context.attempts.get(unit.path, 1)
    context.tries[unit.path] = context.tries.get(unit.path, 0) + 1
    tried = context.tries[unit.path] - before
    reason = shown_error(_timed_out(unit, error) or error)["message"]
    await on_retry()
    delay = waits[min(tried, len(waits)) - 1]
    context.on_event(
        "step.attempt_failed", {"step": unit.path, "attempt": attempt, "reason": reason, "delay": delay}
    )


def _patience_over(unit: Unit, context: RunContext, error: BaseException) -> PatienceOver | None:
    """The end of a unit whose timeout came while it waited for a fault that passes: no failure of its own."""
    limit, reason = unit.step.timeout, context.waited_for.get(unit.path)
    if reason is None or limit is None or not isinstance(error, TimeoutError):
        return None
    return PatienceOver(reason, "raise the step's `timeout`", limit, context.patience.seconds)


def _timed_out(unit: Unit, error: BaseException) -> TimedOut | None:
    """The step's own timeout, for an error that says no more than that time was up."""
    limit = unit.step.timeout
    return TimedOut(limit) if isinstance(error, TimeoutError) and limit is not None else None


async def _outcome(doing: _Doing, state: State[Any], context: RunContext, before: int) -> Outcome:
    unit = doing.unit
    attempts = context.attempts.get(unit.path, 0)
    worked = attempts > before
    # Prefect knows results by their address in memory: one that is given back, and used again for another
    # task's parameter, would become an edge that nobody declared.
    context.held.append(state)
    if (held_up := context.held_up.pop(unit.path, None)) is not None:
        return Outcome(unit.path, state=state, error=held_up, attempts=attempts)
    if doing.made and state.is_completed():
        return Outcome(unit.path, result=doing.made[-1], state=state, attempts=attempts)
    value = await state.aresult(raise_on_failure=False) if state.is_final() else None
    if isinstance(value, BaseException) or not state.is_completed():
        error = value if isinstance(value, BaseException) else RuntimeError(state.message or state.name)
        ended = _patience_over(unit, context, error) or _timed_out(unit, error) or error
        return Outcome(unit.path, state=state, error=ended, attempts=attempts)
    result = _parse_stored(value)
    if result is None:
        return Outcome(unit.path, state=state, error=NoResult(), attempts=attempts)
    count = attempts if worked else result.attempts
    return Outcome(unit.path, result=result, state=state, reused=not worked, attempts=count)


def _parse_stored(value: Any) -> StepResult | None:
    """What Prefect had stored; None when it is no result, as of a unit that was held up."""
    try:
        result = StepResult.model_validate_json(value)
        tuple(result.refs)  # those of inner outputs are looked at when they are asked for
    except ValidationError:
        return None
    return result


async def run_directly(unit: Unit, context: RunContext, on_retry: OnRetry) -> Outcome:
    """Does a unit's work without a task run, with the step's retries and timeout."""
    before = context.tries.get(unit.path, 0)
    left, waits = retries_left(unit.step.retries, before), retry_waits(unit.step.retries, before)
    for attempt in range(1, left + 2):
        try:
            result = await attempt_unit(unit, context)
        except Exception as error:  # noqa: BLE001 - whatever the unit fails with is its outcome
            away = _patience_over(unit, context, error)
            if away is not None or is_final(error) or attempt > left:
                ended = away or _timed_out(unit, error) or error
                return Outcome(unit.path, error=ended, attempts=_attempts_of(unit, context))
            await _prepare_retry(unit, context, error, waits, on_retry, before)
            await asyncio.sleep(waits[min(attempt, len(waits)) - 1])
        else:
            return Outcome(unit.path, result=result, attempts=_attempts_of(unit, context))
    raise AssertionError("the last attempt returns")


def _attempts_of(unit: Unit, context: RunContext) -> int:
    return context.attempts.get(unit.path, 0)


async def mark_skipped(step: StepPlan, path: str, reason: str, follows: Mapping[str, Any]) -> State[Any]:
    """A Skipped task run with the step's edges."""
    named: Any = skip_task.with_options(name=step.name, task_run_name=task_name(step, path))
    called = {"path": path, "reason": secrets.current_secrets().text(reason), "follows": edges_of(follows)}
    state: State[Any] = await named(called, return_state=True)
    return state
