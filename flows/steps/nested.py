"""A workflow as one step of another: a Prefect subflow that walks the inner plan."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import TagsContext
from prefect.states import Cancelled, Failed

from blocks.patience import Patience, Vigil
from flows.steps.inputs import bound_values
from flows.steps.keeper import named_parts, now, shown_error
from flows.steps.orchestration import Body, await_flow_call, fault_of, outwait, probe
from flows.steps.scope import Scope
from flows.steps.unit import Outcome, Unit, edges_of
from tasks.failures import StepFailed, TimedOut, ending
from tasks.options import is_final, retries_left, retry_waits
from tasks.outputs.stored import store_output
from tasks.results import StepResult
from tasks.values import Value, fill_argument
from workflows.core.expressions.templates import lone_expression
from workflows.core.plans.plan import Plan, StepPlan

_LOG = logging.getLogger(__name__)

Descend = Callable[[Scope], Awaitable[BaseException | None]]
"""Walks a scope to its end; gives what made the walk fail as a whole, such as its total time."""


class InnerFailed(StepFailed):
    """A step of the inner workflow failed."""


async def run_nested(
    scope: Scope,
    step: StepPlan,
    path: str,
    key: str,
    extra: Mapping[str, Any],
    follows: Mapping[str, Any],
    descend: Descend,
) -> Outcome:
    """Walks the inner plan below `path`, then publishes its outputs as the step's."""
    assert step.workflow is not None
    started, plan, execution = now(), step.workflow, scope.execution

    async def record_running() -> None:
        await execution.keeper.record_started(
            path, key, plan.workflow, usage=execution.context.usage_of(path), attempts=0, started=started
        )

    if path not in execution.context.finished:
        await record_running()
    values = await _inner_values(scope, step, plan, extra)
    if execution.context.budgets is not None:
        await execution.context.budgets.set_ceilings(path, plan.budget, "/workflow")

    async def walk_once() -> tuple[Scope, State[Any] | None, BaseException | None]:
        inner = Scope(
            plan,
            dict(values),
            execution,
            prefix=f"{path}/",
            outer_slots=scope.slots,
            timers=[*scope.timers],
        )
        return inner, *await _walk_in_subflow(step, inner, follows, descend)

    inner, state, error, attempts = await _walk_with_retries(step, path, scope, walk_once, record_running)
    if error is not None:
        if execution.stopped is None:
            state_of = ending(error)
            await execution.record(
                path,
                key,
                "not_started" if state_of == "stopped" else state_of,
                error=error,
                attempts=attempts,
                started=started,
                agent=plan.workflow,
            )
        return Outcome(path, state=state, error=error, attempts=attempts)

    async def work() -> StepResult:
        return await _publish_outputs(step, plan, inner, path)

    # The collecting task gives followers one edge and the step its own result.
    collecting = Unit(step, path, key, work, collects=True, started=started)
    edges = follows if state is None else {"workflow": state}
    return await execution.do_unit(collecting, edges, scope.slots)


async def _walk_with_retries(
    step: StepPlan,
    path: str,
    scope: Scope,
    once: Callable[[], Awaitable[Any]],
    again: Callable[[], Awaitable[None]],
) -> tuple[Scope, State[Any] | None, BaseException | None, int]:
    """The inner walk with the step's retries: what is finished inside is not done again."""
    tries, before = scope.execution.context.tries, scope.execution.context.tries.get(path, 0)
    left, waits = retries_left(step.retries, before), retry_waits(step.retries, before)
    for attempt in range(1, left + 2):
        inner, state, error = await once()
        hopeless = error is None or is_final(error) or scope.execution.stopped is not None
        if hopeless or attempt > left:
            break
        tries[path] = tries.get(path, 0) + 1
        await again()
        delay = waits[min(attempt, len(waits)) - 1]
        told = {"attempt": attempt, "reason": shown_error(error)["message"], "delay": delay}
        scope.execution.context.on_event("step.attempt_failed", {"step": path, **told})
        await asyncio.sleep(delay)
    return inner, state, error, attempt


async def _walk_in_subflow(
    step: StepPlan, inner: Scope, follows: Mapping[str, Any], descend: Descend
) -> tuple[State[Any] | None, BaseException | None]:
    """The subflow's state, where Prefect's server shows one, and why the step fails if it does."""
    body, faults = Body(), []

    async def walk() -> Any:
        # The step's tag is for the graph of the outer flow; inside, each step has its own.
        with body.running(), TagsContext(current_tags=set()):
            fault = await _walk_within_timeout(step, inner, descend)
        if fault is None:
            return None
        faults.append(fault)
        return _state_of(fault)

    name = f"{step.id} · {inner.plan.workflow}"
    subflow = flow(name=inner.plan.workflow, flow_run_name=name, validate_parameters=False)(walk)

    async def show_subflow() -> State[Any] | None:
        await probe()
        with TagsContext(current_tags={f"step:{step.id}"}):
            call: Any = subflow(wait_for=edges_of(follows) or None, return_state=True)
            return await await_flow_call(call, body)

    state = await _outwait_server(inner, body, show_subflow)
    if not body.begun:
        await walk()
    if body.fault is not None:
        raise body.fault  # the walk itself broke, such as by an unreachable ledger
    return state, faults[-1] if faults else None


async def _outwait_server(
    inner: Scope, body: Body, show: Callable[[], Coroutine[Any, Any, State[Any] | None]]
) -> State[Any] | None:
    """Walks within a subflow, once Prefect's server is there; without one, where it stays away.

    That is waited for once a run as long as what is looked for at its start, and told.
    """
    execution = inner.execution
    patience = Patience(0.0) if execution.unshown else execution.context.patience.at_start
    vigil = Vigil(patience, execution.context.on_event)
    try:
        state = await outwait(vigil, show, begun=lambda: body.begun, looking=lambda: not body.begun)
    except Exception as fault:
        if body.begun or fault_of(fault) is None:
            raise
        execution.unshown = True
        _LOG.debug("Prefect shows no subflow of %s", inner.prefix, exc_info=fault)
        return None
    execution.unshown = False
    return state


async def _walk_within_timeout(step: StepPlan, inner: Scope, descend: Descend) -> BaseException | None:
    """Walks the inner plan within the step's timeout; why the step is not completed by it."""
    fault: BaseException | None = None
    try:
        async with asyncio.timeout(step.timeout) as timer:
            inner.timers.append(timer)
            fault = await descend(inner)
    except TimeoutError:
        if not timer.expired() or step.timeout is None:
            raise
        fault = TimedOut(step.timeout)
    if (held_up := inner.execution.stopped or inner.delayed) is not None:
        return held_up
    failed, waiting = inner.first_failed(), inner.first_waiting()
    if isinstance(fault, TimedOut) or (fault is None and failed is None):
        return fault or (waiting.error if waiting is not None else None)
    return _inner_error(inner.plan, fault, failed)


def _state_of(fault: BaseException) -> State[Any]:
    """How the subflow of a step that is not completed is shown."""
    message, kind = shown_error(fault)["message"], ending(fault)
    if kind == "failed":
        return Failed(message=message)
    return Cancelled(name="Waiting" if kind == "waiting" else "Stopped", message=message)


def _inner_error(plan: Plan, fault: BaseException | None, failed: Any) -> InnerFailed:
    error = fault or failed.error
    told = shown_error(error)
    where = plan.workflow if fault is not None else f"{plan.workflow}: step '{failed.step.id}' failed"
    return InnerFailed(f"{where}: {told['message']}", told["cure"])


async def _inner_values(
    scope: Scope, step: StepPlan, plan: Plan, extra: Mapping[str, Any]
) -> dict[str, Value]:
    """The inner workflow's inputs: arguments, then defaults. `{{ name }}` alone hands a ref on as it is."""
    context, given = scope.execution.context, {}
    names = {"steps": scope.statuses(), **extra}
    for name, written in step.args.items():
        lone = lone_expression(written) if isinstance(written, str) else None
        if lone is not None and lone not in names and lone in scope.values:
            handed = scope.values[lone]
            given[name] = handed.ref if handed.ref is not None else handed.plain
        else:
            given[name] = await fill_argument(written, scope.values, context.store, names)
    return await bound_values(plan, given, context)


async def _publish_outputs(step: StepPlan, plan: Plan, inner: Scope, path: str) -> StepResult:
    """One published output is the step's own; several become a JSON object of their values by name."""
    context = inner.execution.context
    refs = {n: inner.values[n].ref for n in plan.outputs if n in inner.values}
    ends = [e.result for e in inner.ends.values() if e.result]
    failures = named_parts(inner.failures())
    if len(refs) == 1 and (only := next(iter(refs.values()))) is not None:
        output = only
    else:
        data = {n: await inner.values[n].data(context.store) for n in refs}
        shape = step.output.model_copy(update={"type": "json"})
        output = await store_output("", data, shape, context, path)
    return StepResult(
        step=step.id,
        path=path,
        output=output,
        nested={n: r.model_dump(mode="json") if r else None for n, r in refs.items()},
        agent=plan.workflow,
        model=next((e.model for e in ends if e.model), ""),
        offline=any(e.offline for e in ends),
        failed_parts=tuple(failures),
        part_errors=failures,
    )
