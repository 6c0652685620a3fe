"""What all walks of one run share: its services, its slots, and how a unit is done and written down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.ledger import Fenced
from blocks.ledger.tables.errors import LedgerAway
from blocks.models import QuotaExhausted
from blocks.patience import PatienceOver
from flows.steps.active_time import ActiveTime
from flows.steps.departures import Departures
from flows.steps.keeper import Keeper, now, shown_error
from flows.steps.stored_results import Unproved, made_elsewhere, may_be_stored, prove_result
from flows.steps.unit import NoResult, OnRetry, Outcome, Unit, run_directly, run_unit
from tasks.context import RunContext
from tasks.failures import CONVERSATION_ENDS, FailedBefore, ending
from tasks.options import result_path
from tasks.results import StepResult
from workflows.core.errors import PhaselineError

Slots = Sequence[asyncio.Semaphore]
"""What bounds how much runs at once: the workflow's own slots first, then those of the outer ones."""
Call = Callable[[OnRetry], Awaitable[Outcome]]
"""Does a unit; what it is given is to be called before another attempt."""


@dataclass
class Execution:
    """One run while it goes on in this process."""

    context: RunContext
    keeper: Keeper
    storage: Any
    """Prefect's result storage."""
    stopped: PhaselineError | None = None
    """Set once a budget or the provider's quota is spent: nothing more is started."""
    delayed: PatienceOver | None = None
    """Set once patience with something out of order is over for a step: what does not need it goes on, which
    of the store everything does."""
    unshown: bool = False
    """Whether Prefect's server was waited for in vain: nothing is shown there for now."""
    lost: PhaselineError | None = None
    """Set once another process may have taken the run over: nothing more is written."""
    begun: set[str] = field(default_factory=set)
    """Paths of units that were started here."""
    completed: int = 0
    """How many units came to a result here."""
    written: set[str] = field(default_factory=set)
    """Paths whose end was recorded here."""
    stale: set[str] = field(default_factory=set)
    """Paths of which Prefect's stored result must not be used either."""
    time: ActiveTime = field(init=False)
    departures: Departures = field(default_factory=Departures)

    def __post_init__(self) -> None:
        assert self.context.durable is not None
        self.time = ActiveTime(self.context.durable, self.stop)
        self.context.standing = self.time.standing
        self.context.bounded = self.time.limit_attempt
        self.context.time_left = self.time.time_left
        self.context.departed = self.departures.note_departure

    def stop(self, reason: PhaselineError) -> None:
        """Starts nothing more; what stopped the run first counts."""
        self.stopped = self.stopped or reason

    @property
    def held_up(self) -> PhaselineError | None:
        """Why the run has no end yet; None where it comes to one."""
        return self.stopped or self.delayed

    @property
    def halted(self) -> PhaselineError | None:
        """Why nothing more is started now: what it would be paid for could not be kept."""
        return self.stopped or (self.delayed if self.context.store.given_up else None)

    def hold_up(self, reason: PhaselineError) -> None:
        """Takes note that a unit cannot go on now: what is spent stops all, what is away only some."""
        if not isinstance(reason, PatienceOver):
            self.stop(reason)
            return
        reason.continued_by(f"phaseline resume {self.context.run_id}")
        self.delayed = self.delayed or reason

    async def do_unit(self, unit: Unit, follows: Mapping[str, Any], slots: Slots) -> Outcome:
        """Does a unit as a Prefect task; what the ledger holds is not done again."""
        known = await self._recall_result(unit)
        async with within(slots), self._departing(unit, known):
            if (halted := self.halted) is not None:
                return Outcome(unit.path, error=halted)
            if known is not None:
                return await self._show_reused(unit, follows, known)
            if (failed := self._take_earlier_failure(unit)) is not None:
                return failed
            return await self._work_within_time(
                unit, lambda retry: self._run_unless_proved(unit, follows, retry)
            )

    async def do_item(self, unit: Unit, slots: Slots) -> Outcome:
        """Does one item of a batch: no task run of its own, but its own row, retries and reuse."""
        known = await self._recall_result(unit)
        if known is not None:
            return Outcome(unit.path, result=known, reused=True)
        if (failed := self._take_earlier_failure(unit)) is not None:
            return failed
        async with within(slots), self._departing(unit, known):
            if (halted := self.halted) is not None:
                return Outcome(unit.path, error=halted)
            return await self._work_within_time(unit, lambda retry: run_directly(unit, self.context, retry))

    async def run_batch(self, unit: Unit, follows: Mapping[str, Any]) -> Outcome:
        """A task run around items; it always runs, since the items know what is finished."""

        async def never() -> None:
            raise AssertionError("what only collects is not retried")

        return await run_unit(unit, follows, self.context, self.storage, refresh=True, on_retry=never)

    def _departing(self, unit: Unit, known: StepResult | None) -> AbstractAsyncContextManager[None]:
        """In which a unit prepares its first request; others set out when they like."""
        asks = known is None and not unit.collects and bool(unit.step.agents)
        return self.departures.departing(unit.path) if asks else contextlib.nullcontext()

    def forget(self, path: str, reason: str, *, stale: bool = False) -> None:
        """Drops a recorded result; `stale` also drops what Prefect stored of it."""
        known = self.context.finished.pop(path)
        # What it cost stays paid.
        self.context.spent[path] = known.usage
        if stale:
            self.stale.add(path)
        self.context.on_event("step.rerun", {"step": path, "reason": reason})

    async def record(
        self,
        path: str,
        key: str,
        state: Any,
        *,
        error: BaseException | None = None,
        attempts: int = 0,
        started: int | None = None,
        agent: str = "",
    ) -> None:
        """Writes down an end without a result."""
        self.written.add(path)
        await self.keeper.record_ended(
            path,
            key,
            state,
            usage=self.context.usage_of(path),
            error=shown_error(error) if error else None,
            attempts=attempts,
            started=started,
            agent=agent,
        )

    async def _recall_result(self, unit: Unit) -> StepResult | None:
        """The recorded result, if it is of this very work and its bodies are there."""
        known = self.context.finished.get(unit.path)
        if known is None:
            return None
        if known.key != unit.key:
            self.forget(unit.path, "its definition or its inputs changed")
            return None
        reason = await self.keeper.why_unreadable(known)
        if reason is not None:
            self.forget(unit.path, reason, stale=True)
            return None
        return known

    def _take_earlier_failure(self, unit: Unit) -> Outcome | None:
        """How the unit failed in an earlier process, where nobody asked for another try of it since.

        Once: a workflow around it that has retries left has it done again.
        """
        key, error, attempts = self.context.failed_before.pop(unit.path, (None, None, 0))
        if key != unit.key:
            return None
        self.written.add(unit.path)  # its row says so already
        return Outcome(unit.path, error=FailedBefore.of(error), attempts=attempts)

    async def _show_reused(self, unit: Unit, follows: Mapping[str, Any], known: StepResult) -> Outcome:
        """A task run for what is finished, so that it is in the graph."""
        outcome = await self._run_unless_proved(unit, follows, _no_retry)
        # Whatever Prefect kept, the ledger's row is what counts.
        return replace(outcome, result=known, error=None, reused=True, attempts=known.attempts)

    async def _run_unless_proved(
        self, unit: Unit, follows: Mapping[str, Any], on_retry: Callable[[], Awaitable[None]]
    ) -> Outcome:
        """The unit's task run. What Prefect has stored for it, and the run's ledger has not, counts only
        where it is proved; elsewhere the task runs again.
        """
        # To look where nothing is believed would cost each step a read of the storage.
        refresh = unit.path in self.stale or not may_be_stored(unit, self.context)
        outcome = await self._run_task(unit, follows, on_retry, refresh=refresh)
        if isinstance(outcome.error, NoResult):
            outcome = await self._run_task(unit, follows, on_retry, refresh=True)
        if outcome.reused and unit.path not in self.context.finished:
            # Prefect had a result that the ledger's run does not have.
            try:
                return replace(
                    outcome, result=await prove_result(unit, outcome.result, self.context, self.keeper)
                )
            except Unproved as fault:
                self.context.on_event("step.rerun", {"step": unit.path, "reason": str(fault)})
                outcome = await self._run_task(unit, follows, on_retry, refresh=True)
        return outcome

    async def _run_task(
        self, unit: Unit, follows: Mapping[str, Any], on_retry: Callable[[], Awaitable[None]], refresh: bool
    ) -> Outcome:
        """One call of the unit's task; tells of a stored result that was not written by phaseline."""
        outcome = await run_unit(
            unit, follows, self.context, self.storage, refresh=refresh, on_retry=on_retry
        )
        place = result_path(unit.step, unit.path, unit.key, self.context)
        if (reason := self.storage.take_refusal(place)) != "":
            told = f"what is stored as its result was not written by phaseline: {reason}"
            self.context.on_event("storage.refused", {"step": unit.path, "reason": told})
        return outcome

    async def _work_within_time(self, unit: Unit, call: Call) -> Outcome:
        """The unit's work, counted as active time, unless that is spent."""
        spent = self.time.spent_budget(unit.path)
        if spent is not None:
            self.stop(spent)
            return Outcome(unit.path, error=spent)
        with self.time.working(unit.path):
            return await self._work_and_record(unit, call)

    async def _work_and_record(self, unit: Unit, call: Call) -> Outcome:
        """The unit's rows around its work: running, then how it ended, also when it is cut off."""
        started, attempt = unit.started or now(), 0

        async def record_running() -> None:
            # The row says which attempt is under way, so that a later process goes on in it.
            nonlocal attempt
            attempt = self.context.attempts.get(unit.path, 0) + 1
            await self.keeper.record_started(
                unit.path,
                unit.key,
                unit.agent,
                usage=self.context.usage_of(unit.path),
                attempts=attempt,
                started=started,
            )

        await record_running()
        self.begun.add(unit.path)
        try:
            outcome = await call(record_running)
        except asyncio.CancelledError:
            await self._record_cut(unit, attempt, started)
            raise
        if outcome.result is not None:
            reach_boundary("step.stored", unit.path)
            return await self._record_completed(unit, outcome, outcome.result, started)
        await self._record_failed(unit, outcome, started)
        return outcome

    async def _record_cut(self, unit: Unit, attempts: int, started: int) -> None:
        write = self.record(
            unit.path, unit.key, "cancelled", attempts=attempts, started=started, agent=unit.agent
        )
        # A run that was taken over is written to by its new holder; who is told so is the run itself.
        with contextlib.suppress(Fenced):
            await asyncio.shield(asyncio.ensure_future(write))

    async def _record_completed(
        self, unit: Unit, outcome: Outcome, result: StepResult, started: int
    ) -> Outcome:
        elsewhere = made_elsewhere(result, self.context) if outcome.reused else ""
        paid = self.context.usage_of(unit.path)
        if outcome.reused and not elsewhere and unit.path not in self.context.spent:
            # Restored from storage alone: nothing but the result says what it cost.
            paid = result.usage
        own = result.model_copy(update={"path": unit.path, "usage": paid})
        self.context.spent[unit.path] = paid
        self.context.finished[unit.path] = own
        self.context.made.pop(unit.path, None)
        self.written.add(unit.path)
        self.completed += 1
        await self.keeper.record_completed(
            own, attempts=outcome.attempts, started=started, reused_from=elsewhere
        )
        return replace(outcome, result=own)

    def _note_failure(self, path: str, error: BaseException | None) -> None:
        """What counts if the unit is done again: its retries given anew, and how its conversation ended."""
        self.context.tries.pop(path, None)
        if error is not None and type(error).__name__ in CONVERSATION_ENDS:
            self.context.ended[path] = shown_error(error)

    async def _record_failed(self, unit: Unit, outcome: Outcome, started: int) -> None:
        if isinstance(outcome.error, LedgerAway):
            raise outcome.error  # nothing can be written down: the run ends here, and says what is lost
        kind = ending(outcome.error)
        if isinstance(outcome.error, QuotaExhausted):
            outcome.error.of_run(self.context.run_id)
        if kind == "failed":
            self._note_failure(unit.path, outcome.error)
        if kind == "stopped" and isinstance(outcome.error, PhaselineError):
            self.hold_up(outcome.error)
        state = "not_started" if kind == "stopped" else kind
        await self.record(
            unit.path,
            unit.key,
            state,
            error=outcome.error,
            attempts=outcome.attempts,
            started=started,
            agent=unit.agent,
        )


async def _no_retry() -> None:
    raise AssertionError("a recorded result is not worked for")


@contextlib.asynccontextmanager
async def within(slots: Iterable[asyncio.Semaphore]) -> Any:
    """Holds a place of each; always taken in the same order, so that nobody waits in a circle."""
    async with contextlib.AsyncExitStack() as held:
        for slot in slots:
            await held.enter_async_context(slot)
        yield
