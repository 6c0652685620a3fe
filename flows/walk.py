"""Walks a plan: a step starts the moment its last dependency ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect import allow_failure
from prefect.client.schemas.objects import State

from blocks.models import QuotaExhausted
from flows.keeper import Keeper, now, shown_error
from flows.unit import Outcome, Unit, agent_of, mark_skipped, run_directly, run_unit
from tasks.context import RunContext
from tasks.results import Status, StepResult, StepUsage
from tasks.values import Value, evaluate
from workflows.core.errors import PhaselineError
from workflows.core.plan import Plan, StepPlan, content_key
from workflows.core.refs import digest


@dataclass
class StepEnd:
    """How a step ended, for its followers and for people."""

    step: StepPlan
    path: str
    status: Status
    result: StepResult | None = None
    state: State[Any] | None = None
    error: BaseException | None = None
    reused: bool = False
    attempts: int = 0
    reason: str = ""
    usage: StepUsage = field(default_factory=StepUsage)

    @property
    def blocks(self) -> bool:
        """Whether followers cannot start."""
        failed = self.status == "failed" and self.step.on_failure == "fail"
        return failed or self.status == "not_started"

    @property
    def void(self) -> bool:
        """Whether it left no output but lets followers decide: skipped, or failed and continued."""
        return self.status == "skipped" or (self.status == "failed" and self.step.on_failure == "continue")


class Walk:
    """One walk over a plan's steps; nested walks share everything but plan, values and prefix."""

    def __init__(
        self,
        plan: Plan,
        values: dict[str, Value],
        context: RunContext,
        keeper: Keeper,
        storage: Any,
        *,
        prefix: str = "",
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self.plan = plan
        self.values = values
        self.context = context
        self.keeper = keeper
        self.storage = storage
        self.prefix = prefix
        self.slots = slots or asyncio.Semaphore(plan.max_concurrent)
        self.ends: dict[str, StepEnd] = {}
        self.stopped: QuotaExhausted | None = None

    async def run(self, steps: tuple[StepPlan, ...]) -> None:
        """Runs the steps; failures are in `ends`, cancellation and our own faults are raised."""
        running: dict[str, asyncio.Task[StepEnd]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    running[step.id] = group.create_task(
                        self._one(step, {d: running[d] for d in step.depends_on if d in running}), name=step.id
                    )
        except BaseExceptionGroup as faults:
            raise _first(faults) from None

    async def _one(self, step: StepPlan, before: Mapping[str, asyncio.Task[StepEnd]]) -> StepEnd:
        # Shielded: one cancelled follower must not cancel what others wait for as well.
        ups = {name: await asyncio.shield(end) for name, end in before.items()}
        for name in step.depends_on:
            if name not in ups and name in self.ends:
                ups[name] = self.ends[name]
        end = await self._decide(step, ups)
        self.ends[step.id] = end
        self._publish(end)
        self._tell(end)
        return end

    def path(self, step: StepPlan) -> str:
        """The step's path in the run."""
        return f"{self.prefix}{step.id}"

    async def _decide(self, step: StepPlan, ups: Mapping[str, StepEnd]) -> StepEnd:
        path = self.path(step)
        blocked = next((u for u in ups.values() if u.blocks), None)
        if blocked is not None and not self._is_last(step):
            return await self._not_started(step, ups, f"{blocked.step.id} {_why(blocked)}")
        if self.stopped is not None:
            return StepEnd(step, path, "not_started", reason="the provider's quota is spent")
        void = [u for u in ups.values() if u.void]
        if ups and step.requires == "all" and void:
            return await self._skip(step, ups, f"requires: all, and {void[0].step.id} left no output")
        if ups and len(void) == len(ups) and not self._is_last(step):
            return await self._skip(step, ups, "everything it follows left no output")
        try:
            if step.when is not None and not await self._holds(step.when):
                return await self._skip(step, ups, f"when: {step.when}")
            return await self._run(step, ups)
        except PhaselineError as error:
            return await self._failed(step, Outcome(path, error=error), content_key(step, {}))

    def _is_last(self, step: StepPlan) -> bool:
        return any(step.id == s.id for s in self.plan.finally_)

    async def _holds(self, condition: str) -> bool:
        return bool(await evaluate(condition, self.values, self.context.store, {"steps": self.statuses()}))

    def statuses(self) -> dict[str, dict[str, Any]]:
        """What `steps.<id>` gives in expressions."""
        return {
            name: {"status": e.status, "error": shown_error(e.error)["message"] if e.error else ""}
            for name, e in self.ends.items()
        }

    def digests(self, step: StepPlan) -> dict[str, str]:
        """sha256 by name of everything the step's result depends on."""
        out = {}
        for name in step.reads:
            if name.startswith("steps."):
                end = self.ends.get(name.removeprefix("steps."))
                out[name] = digest(end.status if end else None)
            elif name in self.values:
                out[name] = self.values[name].sha256
        return out

    async def _run(self, step: StepPlan, ups: Mapping[str, StepEnd]) -> StepEnd:
        from flows.parts import run_parts

        path = self.path(step)
        key = content_key(step, self.digests(step))
        outcome = await run_parts(self, step, path, key, edges(ups))
        if outcome.result is None:
            return await self._failed(step, outcome, key)
        return StepEnd(
            step,
            path,
            "completed",
            result=outcome.result,
            state=outcome.state,
            reused=outcome.reused,
            attempts=outcome.attempts,
            usage=self.context.usage_below(path),
        )

    async def unit(self, unit: Unit, follows: Mapping[str, Any]) -> Outcome:
        """Runs a unit with its ledger rows around it; what the ledger holds is not done again."""
        refresh = False
        known = self.context.finished.get(unit.path)
        if known is not None and known.key == unit.key:
            reason = await self.keeper.unreadable(known)
            if reason is not None:
                self._forget(unit.path, reason)
                known, refresh = None, True
        if known is not None and known.key != unit.key:
            self._forget(unit.path, "its definition or inputs changed")
            known = None
        async with self.slots:
            if self.stopped is not None:
                return Outcome(unit.path, error=self.stopped)
            return await self._call(unit, follows, known, refresh)

    async def _call(
        self, unit: Unit, follows: Mapping[str, Any], known: StepResult | None, refresh: bool
    ) -> Outcome:
        started = now()
        if known is None:
            await self.keeper.started(unit.path, unit.key, unit.member or agent_of(unit.step))
        outcome = await run_unit(unit, follows, self.context, self.storage, refresh=refresh)
        if outcome.reused and known is None and outcome.result is not None:
            # Prefect had a result that the ledger does not know: trust it only if its bodies are there.
            reason = await self.keeper.unreadable(outcome.result)
            if reason is not None:
                self._forget(unit.path, reason)
                outcome = await run_unit(unit, follows, self.context, self.storage, refresh=True)
        if outcome.result is not None and known is None:
            paid = self.context.spent.get(unit.path, outcome.result.usage)
            own = outcome.result.model_copy(update={"path": unit.path, "usage": paid})
            self.context.finished[unit.path] = own
            await self.keeper.completed(own, attempts=outcome.attempts, started=started)
        elif outcome.error is not None:
            await self._record_failure(unit, outcome, started)
        return outcome

    async def item(self, unit: Unit) -> Outcome:
        """One item of a batch: no task run of its own, but its own row, retries and reuse."""
        known = self.context.finished.get(unit.path)
        if known is not None and known.key == unit.key and await self.keeper.unreadable(known) is None:
            return Outcome(unit.path, result=known, reused=True)
        started = now()
        outcome = await run_directly(unit, self.context)
        if outcome.result is not None:
            paid = self.context.spent.get(unit.path, outcome.result.usage)
            own = outcome.result.model_copy(update={"usage": paid})
            self.context.finished[unit.path] = own
            await self.keeper.completed(own, attempts=outcome.attempts, started=started)
        else:
            await self._record_failure(unit, outcome, started)
        return outcome

    async def batch(self, unit: Unit, follows: Mapping[str, Any]) -> Outcome:
        """A task run around items; it always runs, since the items know what is finished."""
        return await run_unit(unit, follows, self.context, self.storage, refresh=True)

    def _forget(self, path: str, reason: str) -> None:
        self.context.finished.pop(path, None)
        self.context.on_event("step.rerun", {"step": path, "reason": reason})

    async def _record_failure(self, unit: Unit, outcome: Outcome, started: int) -> None:
        if isinstance(outcome.error, QuotaExhausted):
            self.stopped = outcome.error
        await self.keeper.ended(
            unit.path,
            unit.key,
            "failed",
            error=outcome.error,
            usage=self.context.spent.get(unit.path),
            attempts=outcome.attempts,
            started=started,
            agent=unit.member or agent_of(unit.step),
        )

    async def _failed(self, step: StepPlan, outcome: Outcome, key: str) -> StepEnd:
        path = self.path(step)
        error = outcome.error or RuntimeError("it ended without a result")
        if isinstance(error, QuotaExhausted):
            self.stopped = error
            return StepEnd(step, path, "not_started", reason=str(error), usage=self.context.usage_below(path))
        if outcome.state is None:
            await self.keeper.ended(path, key, "failed", error=error, agent=agent_of(step))
        return StepEnd(
            step,
            path,
            "failed",
            state=outcome.state,
            error=error,
            attempts=outcome.attempts,
            usage=self.context.usage_below(path),
        )

    async def _skip(self, step: StepPlan, ups: Mapping[str, StepEnd], reason: str) -> StepEnd:
        path = self.path(step)
        state = await mark_skipped(step, path, reason, edges(ups))
        await self.keeper.ended(path, "", "skipped")
        return StepEnd(step, path, "skipped", state=state, reason=reason)

    async def _not_started(self, step: StepPlan, ups: Mapping[str, StepEnd], reason: str) -> StepEnd:
        return StepEnd(step, self.path(step), "not_started", reason=reason)

    def _publish(self, end: StepEnd) -> None:
        name = end.step.output.name
        if end.result is not None and end.result.output is not None:
            self.values[name] = Value(name, ref=end.result.output)
        elif end.status != "not_started":
            self.values[name] = Value(name, plain=None)

    def _tell(self, end: StepEnd) -> None:
        self.context.on_event(
            "step.finished",
            {
                "step": end.path,
                "agent": agent_of(end.step),
                "status": end.status,
                "reused": end.reused,
                "seconds": end.result.seconds if end.result else 0.0,
                "usage": end.usage.model_dump(),
                "model": end.result.model if end.result else "",
                "offline": end.result.offline if end.result else False,
                "error": shown_error(end.error)["message"] if end.error else "",
                "reason": end.reason,
            },
        )


def edges(ups: Mapping[str, StepEnd]) -> dict[str, Any]:
    """Upstream states as a task's parameters: each is one edge of the graph."""
    out: dict[str, Any] = {}
    for name, end in ups.items():
        if end.state is not None:
            # A failed step that was allowed to fail would else keep its followers from running.
            out[name] = end.state if end.state.is_completed() else allow_failure(end.state)
    return out


def _why(end: StepEnd) -> str:
    return "failed" if end.status == "failed" else "did not start"


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that tells most: a group of one is that one."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
