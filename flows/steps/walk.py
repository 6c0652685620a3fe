"""Walks a plan: a step starts the moment its last dependency ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from blocks.ledger import Fenced, LedgerError
from blocks.patience import PatienceOver
from flows.steps.keeper import now, shown_error
from flows.steps.parts import has_parts, run_parts
from flows.steps.scope import Scope, StepEnd
from flows.steps.unit import Outcome, mark_skipped
from tasks.budget import BudgetSpent
from tasks.failures import ending
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import StepPlan, content_key
from workflows.core.step_paths import within
from workflows.core.units import shown_duration

_LOG = logging.getLogger(__name__)


class TimeIsUp(PhaselineError):
    """A workflow took longer than its total_timeout (seconds)."""

    def __init__(self, workflow: str, limit: float) -> None:
        super().__init__(
            f"'{workflow}' took longer than its total_timeout of {shown_duration(limit)}",
            "raise total_timeout, then continue with the same --run-id",
        )


@dataclass(frozen=True)
class TimeLimits:
    """Seconds a walk may still take until it fails (`timeout`). For the whole run also its budget of active
    seconds, which stops it, and what of that it was `active` before."""

    timeout: float | None = None
    budget: float | None = None
    active: float = 0.0


def _budget_of_time(scope: Scope, left: TimeLimits) -> AbstractAsyncContextManager[None]:
    """What stops the walk once its budget of time is spent: the run's, or of a workflow within it."""
    execution = scope.execution
    if scope.prefix:
        return execution.time.of_step(scope.prefix.removesuffix("/"), scope.plan.budget, "/workflow")
    limit = shown_duration(left.budget or 0.0)
    spent = BudgetSpent(
        f"the budget of '{scope.plan.workflow}' is spent: {limit} of active time",
        f"phaseline resume {execution.context.run_id} --raise-budget time=DURATION",
    )
    return execution.time.of_run(left.budget, left.active, spent)


async def walk_inner(scope: Scope) -> BaseException | None:
    """Walks a nested plan. Raises CancelledError when it is cut off, after its `finally` steps."""
    error, cancelled = await walk_to_end(scope, TimeLimits(scope.plan.total_timeout))
    if cancelled:
        raise asyncio.CancelledError
    return error


async def walk_to_end(scope: Scope, left: TimeLimits) -> tuple[BaseException | None, bool]:
    """Steps within the time that is left, then `finally` whatever happened, unless the run stopped or waits.

    Gives what ended the walk as a whole (its total time), and whether it was cancelled. Raises what is
    nobody's step: a ledger that cannot be written.
    """
    error: BaseException | None = None
    cancelled = False
    try:
        async with asyncio.timeout(left.timeout) as timer, _budget_of_time(scope, left):
            scope.timers.append(timer)
            await Walk(scope).run(scope.plan.steps)
    except BudgetSpent as spent:
        scope.execution.stop(spent)
    except TimeoutError:
        if not timer.expired():
            raise
        error = TimeIsUp(scope.plan.workflow, scope.plan.total_timeout or 0.0)
    except asyncio.CancelledError:
        _go_on(scope)
        cancelled = True
    execution = scope.execution
    away = _waited_for(scope) if scope.out_of_time else None
    if away is not None:
        execution.hold_up(away)
        scope.delayed, error = scope.delayed or away, None
    reason = "cancelled" if cancelled and away is None else _message_of(error or execution.held_up)
    await _complete(scope, scope.plan.steps, reason)
    held_up = execution.stopped or scope.delayed
    if held_up is None and (cancelled or error or scope.first_waiting() is None or scope.first_failed()):
        # A run that waits has not ended: its last steps come when it has.
        await _expire_last(scope)
        try:
            await Walk(scope, last=True).run(scope.plan.finally_)
        except asyncio.CancelledError:
            _go_on(scope)
            cancelled = True
    await _complete(scope, scope.plan.finally_, reason or "cancelled")
    return error, cancelled


def _waited_for(scope: Scope) -> PatienceOver | None:
    """What a walk waited for whose time was up then: that is no failure of it."""
    context = scope.execution.context
    below = [path for path in context.waited_for if path.startswith(scope.prefix)]
    if not below:
        return None
    first = min(below, key=lambda path: context.waiting_since[path])
    waited = time.monotonic() - context.waiting_since[first]
    cure = "raise `total_timeout`, or the step's `timeout`"
    return PatienceOver(context.waited_for[first], cure, waited, context.patience.seconds)


def _go_on(scope: Scope) -> None:
    """After a cancellation there is something left to do, unless the run is not ours any more."""
    if scope.execution.lost is not None:
        raise asyncio.CancelledError
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _message_of(error: BaseException | None) -> str:
    return "" if error is None else shown_error(error)["message"]


async def _complete(scope: Scope, steps: tuple[StepPlan, ...], reason: str) -> None:
    """Steps that never came to it end as not started, so that everything has an end and a row."""
    for step in steps:
        if step.id not in scope.ends:
            await not_started(scope, step, reason)


async def _expire_last(scope: Scope) -> None:
    """`finally` steps are done again when anything before them was: they belong to this end of the run."""
    if all(end.reused or end.status == "skipped" for end in scope.ends.values()):
        return
    execution = scope.execution
    last = {scope.path(s) for s in scope.plan.finally_}
    expired = [path for path in execution.context.finished if any(within(path, p) for p in last)]
    if expired:
        # For good, as for `--from`: another end is another conversation.
        await execution.keeper.drop(expired)
    for path in expired:
        execution.forget(path, "the run went on since", stale=True)


async def not_started(scope: Scope, step: StepPlan, reason: str) -> StepEnd:
    """The end of a step that did not run; what an earlier attempt at the run finished stays recorded."""
    path, execution = scope.path(step), scope.execution
    if path not in execution.context.finished and path not in execution.written:
        await execution.record(path, "", "not_started", agent=step.doer)
    end = StepEnd(step, path, "not_started", reason=reason, usage=execution.context.usage_below(path))
    scope.publish(end)
    tell(scope, end)
    return end


def tell(scope: Scope, end: StepEnd) -> None:
    """The event of a step's end."""
    scope.execution.context.on_event(
        "step.finished",
        {
            "step": end.path,
            "agent": end.step.doer,
            "status": end.status,
            "reused": end.reused,
            "attempts": end.attempts,
            "seconds": end.seconds,
            "usage": end.usage.model_dump(),
            "failed_tool_calls": scope.execution.context.failed_calls_below(end.path),
            "model": end.result.model if end.result else "",
            "offline": end.result.offline if end.result else False,
            "error": shown_error(end.error)["message"] if end.error else "",
            "reason": end.reason,
        },
    )


class Walk:
    """One walk over the steps of a scope, or over its `finally` steps (`last`)."""

    def __init__(self, scope: Scope, *, last: bool = False) -> None:
        self._scope = scope
        self._last = last

    async def run(self, steps: tuple[StepPlan, ...]) -> None:
        """Runs the steps; failures are in the scope's ends, cancellation and our own faults are raised."""
        running: dict[str, asyncio.Task[StepEnd]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    before = {d: running[d] for d in step.depends_on if d in running}
                    running[step.id] = group.create_task(self._walk_step(step, before), name=step.id)
        except BaseExceptionGroup as faults:
            raise _first(faults) from None

    async def _walk_step(self, step: StepPlan, before: Mapping[str, asyncio.Task[StepEnd]]) -> StepEnd:
        # Shielded: one cancelled follower must not cancel what others wait for as well.
        ups = {name: await asyncio.shield(end) for name, end in before.items()}
        for name in step.depends_on:
            if name not in ups and name in self._scope.ends:
                ups[name] = self._scope.ends[name]
        started = now()
        try:
            end = await self._decide(step, ups)
        except asyncio.CancelledError:
            await self._record_cut(step, started)
            raise
        if end.status != "not_started":
            end.seconds = (now() - started) / 1e6
            self._scope.publish(end)
            tell(self._scope, end)
        return end

    async def _decide(self, step: StepPlan, ups: Mapping[str, StepEnd]) -> StepEnd:
        blocked = next((u for u in ups.values() if u.blocks), None)
        if blocked is not None and not self._last:
            why = {"failed": "failed", "waiting": "waits"}.get(blocked.status, "did not start")
            return await not_started(self._scope, step, f"{blocked.step.id} {why}")
        if (halted := self._scope.execution.halted) is not None:
            return await self._fail_step(step, Outcome(self._scope.path(step), error=halted))
        if (refused := await self._rejected_guard(step)) is not None:
            return await self._skip(step, ups, f"{refused} was rejected")
        void = [u for u in ups.values() if u.void]
        if void and step.requires == "all":
            return await self._skip(step, ups, f"requires: all, and {void[0].step.id} left no output")
        if void and len(void) == len(ups) and not self._last:
            return await self._skip(step, ups, "everything it follows left no output")
        try:
            if step.when is not None and not await self._scope.evaluate(step.when):
                return await self._skip(step, ups, f"when: {step.when}")
            return await self._run(step, ups)
        except LedgerError:
            raise
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this step's and no other's
            # Mostly what is wrong with the step's own words: a condition, a list, an argument.
            if not isinstance(error, PhaselineError):
                _LOG.exception("step %s failed unexpectedly", self._scope.path(step))
            return await self._fail_step(step, Outcome(self._scope.path(step), error=error))

    async def _rejected_guard(self, step: StepPlan) -> str | None:
        """The approval that was rejected and that the step's own condition does not decide about."""
        for guard in step.guards:
            end = self._scope.ends.get(guard)
            if end is None or end.result is None or end.result.output is None:
                continue
            answer = await self._scope.values[end.step.output.name].data(self._scope.execution.context.store)
            if answer.get("approved") is False:
                return guard
        return None

    async def _run(self, step: StepPlan, ups: Mapping[str, StepEnd]) -> StepEnd:
        scope, path = self._scope, self._scope.path(step)
        context = scope.execution.context
        key = content_key(step, scope.digests(step))
        known = context.finished.get(path)
        if has_parts(step) and (known is None or known.key != key):
            context.on_event("step.started", {"step": path, "agent": step.doer, "attempt": 1})
        if context.budgets is not None:
            await context.budgets.set_ceilings(path, step.budget)
        try:
            async with scope.execution.time.of_step(path, step.budget):
                outcome = await run_parts(scope, step, path, key, edges(ups), walk_inner)
        except BudgetSpent as spent:
            scope.execution.stop(spent)
            return await not_started(scope, step, spent.message)
        if outcome.result is None:
            return await self._fail_step(step, outcome, key)
        return StepEnd(
            step,
            path,
            "completed",
            result=outcome.result,
            state=outcome.state,
            reused=outcome.reused,
            attempts=outcome.attempts,
            usage=context.usage_below(path),
        )

    async def _fail_step(self, step: StepPlan, outcome: Outcome, key: str = "") -> StepEnd:
        scope, path = self._scope, self._scope.path(step)
        error = outcome.error or RuntimeError("it ended without a result")
        kind = ending(error)
        if kind == "stopped" and isinstance(error, PhaselineError):
            scope.execution.hold_up(error)
            if isinstance(error, PatienceOver):
                scope.delayed = scope.delayed or error
            return await not_started(scope, step, error.message)
        if path not in scope.execution.written:
            await scope.execution.record(
                path, key, kind, error=error, attempts=outcome.attempts, agent=step.doer
            )
        return StepEnd(
            step,
            path,
            "waiting" if kind == "waiting" else "failed",
            state=outcome.state,
            error=error,
            attempts=outcome.attempts,
            usage=scope.execution.context.usage_below(path),
        )

    async def _skip(self, step: StepPlan, ups: Mapping[str, StepEnd], reason: str) -> StepEnd:
        path, execution = self._scope.path(step), self._scope.execution
        state = await mark_skipped(step, path, reason, edges(ups))
        await execution.record(path, "", "skipped", agent=step.doer)
        usage = execution.context.usage_below(path)
        return StepEnd(step, path, "skipped", state=state, reason=reason, usage=usage)

    async def _record_cut(self, step: StepPlan, started: int) -> None:
        """A step cut off in its work is cancelled; one that only waited for a place did not start."""
        scope, path = self._scope, self._scope.path(step)
        execution = scope.execution
        if execution.lost is not None or not any(within(p, path) for p in execution.begun):
            return
        # It, or a part of it, has begun.
        attempts = max(execution.context.attempts.get(path, 0), 1)
        if path not in execution.written:
            write = execution.record(
                path, "", "cancelled", attempts=attempts, started=started, agent=step.doer
            )
            await asyncio.shield(asyncio.ensure_future(write))
        end = StepEnd(
            step,
            path,
            "cancelled",
            reason="cut off while it ran",
            attempts=attempts,
            seconds=(now() - started) / 1e6,
            usage=execution.context.usage_below(path),
        )
        scope.publish(end)
        tell(scope, end)


def edges(ups: Mapping[str, StepEnd]) -> dict[str, Any]:
    """The states a step follows by step id."""
    return {name: end.state for name, end in ups.items() if end.state is not None}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that tells most: a group of one is that one."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
