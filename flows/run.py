"""One run from its row in the ledger to its end: inputs, walk, finally, outputs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.ledger import Ledger, Lease, RunStart
from blocks.settings import Settings
from blocks.storage import ArtifactStore
from flows.keeper import Keeper, shown_error
from flows.nested import default_ref
from flows.outcome import RunOutcome, step_documents, total_usage
from flows.walk import Walk
from tasks import context as run_context
from tasks.context import OnEvent, RunContext
from tasks.values import Value
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.inputs import bind_inputs
from workflows.core.plan import InputPlan, Plan, StepPlan
from workflows.core.refs import Ref


class LostRun(PhaselineError):
    """Another process took the run over."""


class Unrestorable(UsageError):
    """A run that is only in storage, and cannot be continued from there alone."""


class TimeIsUp(PhaselineError):
    """The run took longer than total_timeout."""


@dataclass(frozen=True)
class Launch:
    """How a run is started: by whom, where, and who listens."""

    settings: Settings
    environ: Mapping[str, str]
    run_id: str
    offline: bool = False
    tenant: str = "default"
    flow_run_id: str = ""
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    on_event: OnEvent = lambda name, data: None
    on_outcome: Callable[[RunOutcome], None] = lambda outcome: None


async def run_plan(plan: Plan, given: Mapping[str, Any], launch: Launch, storage_of: Any) -> RunOutcome:
    """Runs or continues a run. `storage_of` gives Prefect's result storage for a store.

    Raises PhaselineError for what keeps the run from starting (held by another process, unreachable
    storage, missing inputs); what goes wrong in steps is in the outcome.
    """
    started = time.monotonic()
    launch.settings.prepare()
    with ArtifactStore.open(launch.settings.storage, environ=launch.environ) as store:
        await store.probe()
        async with Ledger.open(launch.settings.database) as ledger:
            lease = await ledger.begin_run(_start(plan, launch, store))
            outcome = None
            try:
                outcome = await _held(plan, given, launch, store, ledger, lease, storage_of, started)
                return outcome
            finally:
                if outcome is None:
                    await _abandon(ledger, lease)


async def _abandon(ledger: Ledger, lease: Lease) -> None:
    """A run that could not even start is failed, not running for ever."""
    with contextlib.suppress(PhaselineError):
        await ledger.finish_run(lease, "failed", error={"message": "the run did not start", "cure": ""})


def _start(plan: Plan, launch: Launch, store: ArtifactStore) -> RunStart:
    agents = [a for s in (*plan.steps, *plan.finally_) for a in s.agents]
    return RunStart(
        run_id=launch.run_id,
        workflow=plan.workflow,
        tenant=launch.tenant,
        offline=launch.offline,
        storage=store.root,
        plan_digest=plan.definition,
        models={a.id: a.model.id for a in agents},
        flow_run_id=launch.flow_run_id,
    )


async def _held(
    plan: Plan,
    given: Mapping[str, Any],
    launch: Launch,
    store: ArtifactStore,
    ledger: Ledger,
    lease: Lease,
    storage_of: Any,
    started: float,
) -> RunOutcome:
    manifest = await store.read_manifest(launch.tenant, launch.run_id)
    earlier = _earlier(plan, launch, lease, manifest)
    offline = bool(earlier.get("offline", launch.offline))
    context = RunContext(
        run_id=launch.run_id,
        catalog_root=launch.settings.catalog,
        store=store,
        environ=launch.environ,
        offline=offline,
        tenant=launch.tenant,
        on_event=launch.on_event,
        prices=launch.prices,
    )
    for step in (*plan.steps, *plan.finally_):
        _connect(step, context)
    values = await _inputs(plan, given, earlier.get("inputs", {}), context)
    recorded = {n: _recorded(v) for n, v in values.items()}
    await ledger.change_run(lease, inputs=recorded)
    await store.write_manifest(launch.tenant, launch.run_id, _manifest(plan, launch, recorded, offline))
    keeper = Keeper(ledger, lease, store)
    context.finished, context.spent = await keeper.recorded()
    context.on_event("run.started", {"run_id": launch.run_id, "workflow": plan.workflow, "offline": offline})
    walk = Walk(plan, values, context, keeper, await storage_of(store))
    active = lease.previous.active_us / 1e6 if lease.previous else 0.0
    async with _guarded(ledger, lease), _current(context):
        error, cancelled = await _walk(plan, walk, active)
        outcome = await _finish(plan, walk, launch, error, cancelled, started)
        await ledger.finish_run(
            lease,
            outcome.status,  # type: ignore[arg-type]
            outputs={n: r.model_dump(mode="json") for n, r in outcome.outputs.items()},
            usage=outcome.usage.model_dump(),
            error=outcome.error,
        )
    context.on_event("run.finished", {"status": outcome.status, "seconds": outcome.seconds})
    launch.on_outcome(outcome)
    if cancelled:
        raise asyncio.CancelledError
    return outcome


def _earlier(plan: Plan, launch: Launch, lease: Lease, manifest: dict[str, Any] | None) -> dict[str, Any]:
    """What an earlier start of this run fixed: its inputs and whether it is offline."""
    if lease.previous is not None:
        row = lease.previous
        if launch.offline and not row.offline:
            raise UsageError(
                f"the run {launch.run_id} began with a real model", "leave --offline out, or choose another --run-id"
            )
        return {"inputs": row.inputs, "offline": row.offline}
    if manifest is None:
        return {}
    if manifest.get("workflow") != plan.workflow:
        raise Unrestorable(
            f"the storage holds a run {launch.run_id} of another workflow ({manifest.get('workflow')})",
            "choose another --run-id",
        )
    acting = next((h for s in (*plan.steps, *plan.finally_) for h in _effects(s)), None)
    if acting is not None:
        raise Unrestorable(
            f"the run {launch.run_id} is in the storage but not in this ledger, and '{acting}' may have acted",
            "use the ledger it ran with (PHASELINE_DATABASE_URL), or choose another --run-id",
        )
    return {"inputs": manifest.get("inputs", {}), "offline": manifest.get("offline", launch.offline)}


def _effects(step: StepPlan) -> list[str]:
    """Names of what the step could change outside."""
    handlers = [h for a in step.agents for s in a.skills for h in s.handlers]
    handlers += [step.handler] if step.handler else []
    inner = [e for s in step.workflow.steps for e in _effects(s)] if step.workflow else []
    return [h.name for h in handlers if h.effect != "none"] + inner


def _connect(step: StepPlan, context: RunContext) -> None:
    """Every model connection of the plan, so that a missing key is told before anything starts."""
    for agent in step.agents:
        context.connection(agent)
    for inner in step.workflow.steps if step.workflow else ():
        _connect(inner, context)


async def _inputs(
    plan: Plan, given: Mapping[str, Any], earlier: Mapping[str, Any], context: RunContext
) -> dict[str, Value]:
    """Values of the inputs: given now, else as the run began, else defaults."""
    known = {i.name for i in plan.inputs}
    before = {n: _restored(v) for n, v in earlier.items() if n in known and n not in given}
    bound = bind_inputs(plan, {**before, **given})
    out = {}
    for spec in plan.inputs:
        value = bound.get(spec.name)
        if value is None and spec.default_file:
            out[spec.name] = Value(spec.name, ref=await default_ref(spec, context))
        else:
            out[spec.name] = await _input(spec, value, context)
    return out


async def _input(spec: InputPlan, value: Any, context: RunContext) -> Value:
    if isinstance(value, Ref):
        if value.tenant != context.tenant:
            raise UsageError(f"the input '{spec.name}' belongs to another tenant", "give a document of your own")
        return Value(spec.name, ref=value)
    if spec.type != "file" or value is None:
        return Value(spec.name, plain=value)
    media_type = "text/markdown" if isinstance(value, str) else "application/json"
    from tasks.toolbox import plain_json

    body = value.encode("utf-8", "replace") if isinstance(value, str) else plain_json(value)
    ref = await context.keep(body, media_type=media_type, kind="input", summary=spec.name, step="")
    return Value(spec.name, ref=ref)


def _recorded(value: Value) -> dict[str, Any]:
    return {"ref": value.ref.model_dump(mode="json")} if value.ref else {"value": value.plain}


def _restored(recorded: Mapping[str, Any]) -> Any:
    return Ref.model_validate(recorded["ref"]) if "ref" in recorded else recorded.get("value")


def _manifest(plan: Plan, launch: Launch, inputs: Mapping[str, Any], offline: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run_id": launch.run_id,
        "workflow": plan.workflow,
        "offline": offline,
        "inputs": inputs,
        "plan": plan.model_dump(mode="json", by_alias=True),
    }


@contextlib.asynccontextmanager
async def _current(context: RunContext) -> AsyncIterator[None]:
    token = run_context.enter(context)
    try:
        yield
    finally:
        run_context.leave(token)
        await context.close()


@contextlib.asynccontextmanager
async def _guarded(ledger: Ledger, lease: Lease) -> AsyncIterator[None]:
    """Keeps the lease; when it is lost, what runs here is stopped at once."""
    here = asyncio.current_task()
    lost: list[PhaselineError] = []

    def on_lost(error: PhaselineError) -> None:
        lost.append(error)
        if here is not None:
            here.cancel()

    try:
        async with ledger.kept(lease, on_lost):
            yield
    except asyncio.CancelledError:
        if lost:
            raise LostRun(lost[0].message, lost[0].cure) from None
        raise


async def _walk(plan: Plan, walk: Walk, active: float) -> tuple[BaseException | None, bool]:
    """Steps within the total time, then `finally` whatever happened: the error, and whether it was cancelled."""
    error: BaseException | None = None
    cancelled = False
    rest = None if plan.total_timeout is None else max(0.001, plan.total_timeout - active)
    try:
        async with asyncio.timeout(rest):
            await walk.run(plan.steps)
    except TimeoutError:
        error = TimeIsUp(
            f"the run took longer than its total_timeout of {plan.total_timeout:g} s",
            "raise total_timeout, then continue with the same --run-id",
        )
    except asyncio.CancelledError:
        cancelled = True
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
    if walk.stopped is None:
        await walk.run(plan.finally_)
    return error, cancelled


async def _finish(
    plan: Plan, walk: Walk, launch: Launch, error: BaseException | None, cancelled: bool, started: float
) -> RunOutcome:
    ends = list(walk.ends.values())
    failed = next((e for e in ends if e.status == "failed" and e.blocks), None)
    status = "completed"
    if cancelled:
        status = "cancelled"
    elif walk.stopped is not None:
        status, error = "stopped", walk.stopped
    elif error is not None:
        status = "failed"
    elif failed is not None:
        status, error = "failed", failed.error
    refs = {n: v.ref for n in plan.outputs if (v := walk.values.get(n)) and v.ref}
    places = {n: await walk.context.store.publish(r, run_id=launch.run_id, name=n) for n, r in refs.items()}
    why = "cancelled" if cancelled else str(error or "")
    shown = shown_error(error) if error else None
    if shown is not None and failed is not None and error is failed.error:
        shown = {**shown, "step": failed.path}
    return RunOutcome(
        run_id=launch.run_id,
        status=status,
        workflow=plan.workflow,
        offline=walk.context.offline,
        steps=step_documents(plan, walk.ends, why),
        outputs=refs,
        places=places,
        usage=total_usage(ends),
        error=shown,
        failed_steps=tuple(e.path for e in ends if e.status == "failed"),
        seconds=time.monotonic() - started,
        flow_run_id=launch.flow_run_id,
    )
