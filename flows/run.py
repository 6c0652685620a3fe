"""One run from its row in the ledger to its end: inputs, walk, finally, outputs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.current_time import now_utc
from blocks.ledger import Lease, Ledger
from blocks.ledger.runs.interrupted import WOKEN
from blocks.ledger.tables.records import ANNOUNCED, DEPLOYED, UNGIVEN
from blocks.models import QuotaExhausted
from blocks.patience import PatienceOver, Tell, Vigil
from blocks.secrecy.plans import masked_plan
from blocks.secrecy.secrets import learn
from blocks.storage.artifacts import MANIFEST_VERSION, ArtifactStore
from blocks.storage.spilled import spill, spilled_ref
from flows.earlier import RESTORED, Earlier, earlier_start, kept_plan
from flows.holding import close_held, take_answers
from flows.launch import (
    Launch,
    LostRun,
    chosen_inputs,
    read_expected_state,
    refuse_other_storage,
    refuse_ungiven,
    run_start,
    woken_with,
)
from flows.outcome import RunOutcome, outcome_of
from flows.steady_heap import steady_heap
from flows.steps.execution import Execution
from flows.steps.inputs import bound_values, inputs_to_json
from flows.steps.keeper import Keeper, shown_error
from flows.steps.orchestration import outwait
from flows.steps.scope import Scope
from flows.steps.walk import TimeLimits, walk_to_end
from tasks import context as run_context
from tasks.budget import Budgets
from tasks.context import RunContext, count_failed_calls
from tasks.durable import Durable
from tasks.secrets import known_secrets
from tasks.values import Value
from workflows.core.compile.inputs import named_secrets
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan
from workflows.core.plans.stored import proved_document

RECENT_BYTES = 16 * 1024 * 1024
"""Of bodies that a run keeps in memory, for the steps that read them next."""
PARKED_SECONDS = 3600.0
"""After which a run is tried again whose provider does not say when its quota resets."""

WAKES = "wakes"
"""Label of a run: how often in a row it was woken after it had stopped, with nothing done each time."""
MOST_WAKES = 50
"""After so many nobody wakes it any more."""

RUN_OUTPUTS = "run-outputs"
"""Kind of the body that lists a run's outputs, where they are too many for its row."""

_LOG = logging.getLogger(__name__)

StorageOf = Callable[[ArtifactStore], Coroutine[Any, Any, Any]]
"""Gives Prefect's result storage for an artifact store."""


@dataclass
class _Walk:
    """Whether a start has changed anything of the run but its description."""

    begun: bool = False


@dataclass(frozen=True)
class _Held:
    """A run that is ours: its plan, and where it is written down."""

    plan: Plan
    launch: Launch
    store: ArtifactStore
    ledger: Ledger
    lease: Lease
    started: float
    unknown: Mapping[str, Any] | None
    """What the storage says of a run that the ledger did not know."""
    walk: _Walk = field(default_factory=_Walk)


async def run_plan(plan: Plan, given: Mapping[str, Any], launch: Launch, storage_of: StorageOf) -> RunOutcome:
    """Runs or continues a run. `storage_of` gives Prefect's result storage for a store.

    Raises PhaselineError for what keeps the run from starting (held by another process, unreachable
    storage, missing inputs) or breaks it off (a ledger that cannot be written); what goes wrong in steps
    is in the outcome. Raises CancelledError for a cancelled run, after `finally` and `on_outcome`.
    """
    launch.settings.prepare()
    learn(named_secrets(plan.inputs, given))
    plan, given = masked_plan(plan), known_secrets(launch.environ, launch.connections).values_of(given)
    where, environ = launch.settings.storage, launch.environ
    vigil = Vigil(launch.patience, _teller(launch), launch.hurry)
    with ArtifactStore.open(where, environ=environ, recent=RECENT_BYTES, vigil=vigil) as store:
        # Prefect's server is asked meanwhile: a tenth of a second before the first step otherwise.
        async with _meanwhile(storage_of(store)) as storage:
            outcome = await _held_run(plan, given, launch, store, storage, vigil)
    launch.on_event("run.finished", {"status": outcome.status, "seconds": outcome.seconds})
    launch.on_outcome(outcome)
    if outcome.status == "cancelled":
        raise asyncio.CancelledError
    return outcome


async def _held_run(
    plan: Plan,
    given: Mapping[str, Any],
    launch: Launch,
    store: ArtifactStore,
    storage: Awaitable[Any],
    vigil: Vigil,
) -> RunOutcome:
    """The run under its lease."""
    started = time.monotonic()
    await store.probe()
    # In a thread, since a database that is away is waited for: signals are heard meanwhile.
    async with await asyncio.to_thread(Ledger.open, launch.settings.database, vigil=vigil) as ledger:
        row = await ledger.get_run(launch.tenant, launch.run_id)
        await refuse_other_storage(row, store, launch)
        manifest = None
        if row is None or launch.announced is not None:
            # Refused here, before the row says more than that the run was announced: else the next start
            # would not be held up any more.
            manifest = await store.read_manifest(launch.tenant, launch.run_id)
            earlier_start(plan, launch.run_id, launch.offline, None, manifest)
        launch = replace(launch, expect=await read_expected_state(ledger, launch))
        if launch.announced is not None:
            lease, launch.announced.taken = launch.announced.lease, True
            await ledger.change_run(lease, flow_run_id=launch.flow_run_id)
        else:
            lease = await ledger.begin_run(run_start(plan, launch, store, given))
        reach_boundary("run.begun")
        held = _Held(plan, launch, store, ledger, lease, started, manifest)
        try:
            return await _walk_run(held, given, storage)
        except BaseException as fault:
            if isinstance(fault, asyncio.CancelledError):
                launch.hurry.set()
            await _abandon(held, fault)
            raise


def _teller(launch: Launch) -> Tell:
    """Who tells people, in the event loop, what a thread waits for."""
    loop = asyncio.get_running_loop()

    def tell(name: str, data: dict[str, Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run has ended
            loop.call_soon_threadsafe(launch.on_event, name, data)

    return tell


async def _abandon(held: _Held, fault: BaseException) -> None:
    """A run that broke off is not running for ever. Its fault is raised by the caller."""
    previous, launch = held.lease.previous, held.launch
    # What a person asked for goes on by itself later; but a run that was done, or steps that are to be done
    # again, have to be asked for anew.
    goes_on = isinstance(fault, PatienceOver) and not launch.woken and not launch.redo
    goes_on = goes_on and previous is not None and previous.state != "completed"
    kept = False
    with contextlib.suppress(PhaselineError):
        if previous is not None and isinstance(fault, Exception) and not held.walk.begun and not goes_on:
            # Nothing was done: what waited still waits, and what was due is due.
            await held.ledger.leave_run(held.lease)
            kept = launch.woken
        else:
            state = "cancelled" if isinstance(fault, asyncio.CancelledError) else "failed"
            wake: dict[str, Any] = {}
            if isinstance(fault, PatienceOver):
                fault.goes_on(launch.run_id)  # its row says so too
                state = "stopped"
                wake = {"wake_at": int(fault.wake_at.timestamp() * 1e6), "wake_reason": fault.message}
                wake["waited"] = fault.waited
            error = shown_error(fault)
            await held.ledger.finish_run(held.lease, state, error=error, **wake)  # type: ignore[arg-type]
            kept = True
    if isinstance(fault, PatienceOver):
        if kept:
            fault.goes_on(launch.run_id)
        else:
            fault.continued_by(f"phaseline resume {launch.run_id}")


async def _walk_run(held: _Held, given: Mapping[str, Any], storage: Awaitable[Any]) -> RunOutcome:
    plan, launch, lease = held.plan, held.launch, held.lease
    refuse_ungiven(lease.previous, chosen_inputs(plan, given))
    manifest = held.unknown
    if not lease.created:
        manifest = await held.store.read_manifest(launch.tenant, launch.run_id)
    if launch.use_stored and lease.previous is not None:
        plan = kept_plan(plan, manifest, lease.previous)
        held = replace(held, plan=plan)
    earlier = earlier_start(plan, launch.run_id, launch.offline, lease.previous, manifest)
    context = _context(held, earlier.offline, restored=earlier.restored)
    _tell_distrust(held, earlier, manifest)
    async with _enter_context(context):
        for agent in agents_of(plan):
            context.connection(agent)  # a missing key is told before anything starts
        known = {i.name for i in plan.inputs}
        before = {n: v for n, v in earlier.inputs.items() if n in known}
        values = await bound_values(plan, {**before, **given}, context)
        await _refuse_lost_inputs(held, {n: values[n] for n in before if n not in given})
        inputs = inputs_to_json(values)
        labels = _labels(held, restored=earlier.restored)
        await held.ledger.change_run(lease, inputs=inputs, plan_digest=plan.definition, labels=labels)
        reach_boundary("run.bound")
        manifest = _manifest(plan, launch.run_id, inputs, earlier.offline)
        await held.store.write_manifest(launch.tenant, launch.run_id, manifest)
        reach_boundary("run.described")
        keeper = Keeper(held.ledger, lease, context)
        await keeper.restore(failures=woken_with(launch, lease.previous))
        await _welcome_answers(held)
        held.walk.begun = bool(launch.redo)
        await keeper.redo(launch.redo, repeat=launch.repeat_effects)
        execution = Execution(context, keeper, await storage)
        told = {"run_id": launch.run_id, "workflow": plan.workflow, "offline": earlier.offline}
        if launch.lift_parks and lease.previous is not None:
            for credential in context.credentials():
                await asyncio.to_thread(held.ledger.credentials.unpark, launch.tenant, credential)
        if not lease.created:
            # What was under way when an earlier process died may have been billed: it stays charged.
            await held.ledger.budgets.forfeit_left(lease)
        context.budgets = Budgets(Durable(held.ledger, lease))
        await context.budgets.set_ceilings("", plan.budget)
        context.on_event("run.started", told)
        for path in _those_asking(plan, keeper.cut_off) if not earlier.offline else ():
            context.on_event("step.interrupted", {"step": path})
        held.walk.begun = True
        async with _keep_lease(held, execution):
            with steady_heap():
                return await _finish_run(held, Scope(plan, values, execution))


def _those_asking(plan: Plan, paths: Sequence[str]) -> Iterator[str]:
    """Those of units that may have been asking a model."""
    kinds = {step.id: step.kind for step in (*plan.steps, *plan.finally_)}
    return (path for path in paths if kinds.get(path.split("/")[0]) in ("agent", "panel", "workflow"))


def _labels(held: _Held, *, restored: bool) -> dict[str, Any] | None:
    """Labels keep how the run began, but for which worker has it now; None: they stay as they are.

    What is written with the inputs says no more that they are missing.
    """
    previous, launched = held.lease.previous, dict(held.launch.labels)
    before = launched if previous is None else dict(previous.labels)
    now = {name: value for name, value in before.items() if name not in (ANNOUNCED, UNGIVEN)}
    if DEPLOYED in launched:
        now[DEPLOYED] = launched[DEPLOYED]
    if restored:
        now[RESTORED] = True
    if previous is not None and woken_with(held.launch, previous):
        now[WAKES] = int(before.get(WAKES, 0)) + (previous.state == "stopped")
        now[WOKEN] = held.lease.epoch
    else:
        now.pop(WAKES, None)
    return None if previous is not None and now == before else now


def _tell_distrust(held: _Held, earlier: Earlier, manifest: Mapping[str, Any] | None) -> None:
    """People are told what nobody vouches for, and what was not believed."""
    previous, where = held.lease.previous, held.store.describe()
    if earlier.restored and (previous is None or ANNOUNCED in previous.labels):
        told = {"run_id": held.launch.run_id, "storage": where, "inputs": sorted(earlier.inputs)}
        held.launch.on_event("run.restored", told)
    elif previous and manifest and proved_document(manifest, previous.plan_digest) is None:
        reason = f"the definition in {where} is not the one that the ledger knows, and is not used"
        held.launch.on_event("storage.refused", {"step": "", "reason": reason})


async def _refuse_lost_inputs(held: _Held, kept: Mapping[str, Value]) -> None:
    """Inputs of an earlier start whose bodies are gone are asked for again before anything runs."""
    for name, value in kept.items():
        reason = await held.store.check(value.ref) if value.ref is not None else None
        if reason is not None:
            again = f"phaseline run {held.plan.workflow} --run-id {held.launch.run_id} -i {name}=@FILE"
            raise UsageError(
                f"the input '{name}' of the run {held.launch.run_id} is not there any more: {reason}",
                f"give it again: {again}",
            )


async def _welcome_answers(held: _Held) -> None:
    """What was answered in Prefect's form, and the flow run that asked: it does not wait any more."""
    previous = held.lease.previous
    if previous is None or previous.state != "waiting":
        return
    ledger = held.ledger.waits
    if ahead := await asyncio.to_thread(held.ledger.clock_ahead):
        _LOG.warning("%s; confirm it with: phaseline wake --confirm-clock", ahead.message)
    await asyncio.to_thread(ledger.expire_due, held.launch.tenant)
    waits = await ledger.of_run(held.launch.tenant, held.launch.run_id)
    known = known_secrets(held.launch.environ, held.launch.connections)
    await outwait(
        held.launch.vigil,
        lambda: take_answers(
            held.ledger,
            held.launch.tenant,
            [w for w in waits if w.state == "open"],
            held.launch.flow_run_id,
            known,
        ),
    )
    if previous.flow_run_id not in ("", held.launch.flow_run_id):
        await outwait(held.launch.vigil, lambda: close_held(previous.flow_run_id))


def _context(held: _Held, offline: bool, *, restored: bool) -> RunContext:
    launch, failed_calls = held.launch, Counter[str]()
    return RunContext(
        run_id=launch.run_id,
        catalog_root=launch.settings.catalog,
        store=held.store,
        durable=Durable(held.ledger, held.lease),
        environ=launch.environ,
        patience=launch.patience,
        offline=offline,
        tenant=launch.tenant,
        on_event=count_failed_calls(launch.on_event, failed_calls),
        failed_calls=failed_calls,
        prices=launch.prices,
        limits=launch.limits,
        allow_effects=launch.allow_effects,
        restored=restored,
        connections=dict(launch.connections),
    )


async def _finish_run(held: _Held, scope: Scope) -> RunOutcome:
    """The walk, then its end in the ledger."""
    active = held.lease.previous.active_us / 1e6 if held.lease.previous else 0.0
    error, cancelled = await walk_to_end(scope, _time_left(held.plan, active))
    outcome = await outcome_of(scope, error, cancelled)
    outcome = outcome.of_launch(held.launch.flow_run_id, time.monotonic() - held.started)
    outcome = _with_wake_time(outcome, scope.execution.held_up)
    outcome = await _end_vain_wakes(held, scope.execution, outcome)
    outputs = {n: r.model_dump(mode="json") for n, r in outcome.outputs.items()}
    of_run = {"tenant": held.launch.tenant, "run_id": held.launch.run_id}
    outputs = await spill(outputs, held.store, kind=RUN_OUTPUTS, **of_run)
    if (ref := spilled_ref(outputs)) is not None:
        await held.ledger.record_artifact(held.lease, ref)
    await held.ledger.finish_run(
        held.lease,
        outcome.status,  # type: ignore[arg-type]
        outputs=outputs,
        usage=outcome.usage.model_dump(),
        error=outcome.error,
        wake_at=None if outcome.wake_at is None else int(outcome.wake_at.timestamp() * 1_000_000),
        wake_reason=(outcome.error or {}).get("message", "") if outcome.wake_at else "",
        waited=_seconds_waited(scope.execution.held_up),
    )
    reach_boundary("run.finished", subject=outcome.status)
    return outcome


async def _end_vain_wakes(held: _Held, execution: Execution, outcome: RunOutcome) -> RunOutcome:
    """A run that was woken often and did nothing each time does not go on by itself any more."""
    previous = held.lease.previous
    if previous is None or outcome.wake_at is None:
        return outcome
    labels = _labels(held, restored=False) or dict(previous.labels)
    wakes = int(labels.get(WAKES, 0))
    paid = any(
        n != "usd" and n_of != previous.usage.get(n, 0) for n, n_of in outcome.usage.model_dump().items()
    )
    if wakes and (execution.completed or paid):
        await held.ledger.change_run(held.lease, labels={**labels, WAKES: 0})
    elif wakes >= MOST_WAKES and outcome.error is not None:
        cure = f"continue it with: phaseline resume {outcome.run_id}"
        message = f"{outcome.error['message']} (woken {wakes} times in vain)"
        error = {**outcome.error, "message": message, "cure": cure}
        return replace(outcome, wake_at=None, error=error)
    return outcome


def _with_wake_time(outcome: RunOutcome, stopped: PhaselineError | None) -> RunOutcome:
    """The end of a run with the time at which it goes on by itself, if it does, which its error says too."""
    wake_at = _wake_at(stopped, outcome.status)
    if wake_at is None or not isinstance(stopped, PatienceOver):
        return replace(outcome, wake_at=wake_at)
    stopped.goes_on(outcome.run_id)
    return replace(outcome, wake_at=wake_at, error=shown_error(stopped))


def _wake_at(stopped: PhaselineError | None, status: str) -> datetime | None:
    """When a run that a quota or a fault stopped goes on by itself; one that spent its budget does not."""
    if isinstance(stopped, PatienceOver):
        return stopped.wake_at if status == "stopped" else None
    if status != "stopped" or not isinstance(stopped, QuotaExhausted):
        return None
    return stopped.reset_at or now_utc() + timedelta(seconds=PARKED_SECONDS)


def _seconds_waited(stopped: PhaselineError | None) -> float:
    """Seconds that a run waited for what stopped it, and did not work."""
    return stopped.waited if isinstance(stopped, PatienceOver) else 0.0


def _time_left(plan: Plan, active: float) -> TimeLimits:
    """Active seconds the run still has, of those its timeout and its budget allow."""
    ceiling = plan.budget.time if plan.budget else None
    timeout = None if plan.total_timeout is None else max(0.001, plan.total_timeout - active)
    return TimeLimits(timeout=timeout, budget=ceiling, active=active)


def _manifest(plan: Plan, run_id: str, inputs: Mapping[str, Any], offline: bool) -> dict[str, Any]:
    return {
        "schema_version": MANIFEST_VERSION,
        "run_id": run_id,
        "workflow": plan.workflow,
        "offline": offline,
        "inputs": inputs,
        "plan": plan.model_dump(mode="json", by_alias=True),
    }


@contextlib.asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Work that goes on beside the body, which may await it; given up when the body does not."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        elif not task.cancelled():
            task.exception()  # the body has it, or does not need to know


@contextlib.asynccontextmanager
async def _enter_context(context: RunContext) -> AsyncIterator[None]:
    token = run_context.enter(context)
    try:
        yield
    except BaseException:
        # What broke the run off says more than that its last words could not be written either.
        with contextlib.suppress(PhaselineError):
            await context.close()
        raise
    else:
        await context.close()
    finally:
        run_context.leave(token)


@contextlib.asynccontextmanager
async def _keep_lease(held: _Held, execution: Execution) -> AsyncIterator[None]:
    """Keeps the lease; when it is lost, what runs here is stopped at once."""
    here = asyncio.current_task()
    assert here is not None

    def on_lost(error: PhaselineError) -> None:
        execution.lost = error
        here.cancel()

    try:
        async with held.ledger.keep_lease(held.lease, on_lost, held.launch.cancel or here.cancel):
            yield
    except asyncio.CancelledError:
        if isinstance(execution.lost, PatienceOver):
            raise execution.lost from None
        if execution.lost is not None:
            raise LostRun(execution.lost.message, execution.lost.cure) from None
        raise
