"""One run from its row in the ledger to its end: inputs, walk, finally, outputs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.ledger import Lease, Ledger, RunStart
from blocks.models import ModelConnection
from blocks.settings import Settings
from blocks.storage import ArtifactStore
from flows.earlier import earlier_start
from flows.execution import Execution
from flows.inputs import bound_values, recorded
from flows.keeper import Keeper, shown_error
from flows.outcome import RunOutcome, outcome_of
from flows.scope import Scope
from flows.walk import walk_to_end
from tasks import context as run_context
from tasks.context import OnEvent, RunContext
from workflows.core.errors import PhaselineError
from workflows.core.plan import Plan, StepPlan

StorageOf = Callable[[ArtifactStore], Awaitable[Any]]
"""Gives Prefect's result storage for an artifact store."""


class LostRun(PhaselineError):
    """Another process took the run over."""


@dataclass(frozen=True)
class Launch:
    """How a run is started: by whom, where, and who listens.

    `connections` are model connections to use in place of those that the environment asks for, by the
    name of their key's variable (`ANTHROPIC_API_KEY` is the default agent's); the run closes them.
    """

    settings: Settings
    environ: Mapping[str, str]
    run_id: str
    offline: bool = False
    tenant: str = "default"
    flow_run_id: str = ""
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    connections: Mapping[str, ModelConnection] = field(default_factory=dict)
    on_event: OnEvent = lambda name, data: None
    on_outcome: Callable[[RunOutcome], None] = lambda outcome: None
    cancel: Callable[[], object] | None = None
    """What SIGTERM does while the flow runs; default: cancel its task."""


@dataclass(frozen=True)
class _Held:
    """A run that is ours: its plan, and where it is written down."""

    plan: Plan
    launch: Launch
    store: ArtifactStore
    ledger: Ledger
    lease: Lease
    started: float


async def run_plan(plan: Plan, given: Mapping[str, Any], launch: Launch, storage_of: StorageOf) -> RunOutcome:
    """Runs or continues a run. `storage_of` gives Prefect's result storage for a store.

    Raises PhaselineError for what keeps the run from starting (held by another process, unreachable
    storage, missing inputs) or breaks it off (a ledger that cannot be written); what goes wrong in steps
    is in the outcome. Raises CancelledError for a cancelled run, after `finally` and `on_outcome`.
    """
    started = time.monotonic()
    launch.settings.prepare()
    with ArtifactStore.open(launch.settings.storage, environ=launch.environ) as store:
        await store.probe()
        async with Ledger.open(launch.settings.database) as ledger:
            lease = await ledger.begin_run(_start(plan, launch, store))
            held = _Held(plan, launch, store, ledger, lease, started)
            try:
                outcome = await _walked(held, given, storage_of)
            except BaseException as fault:
                await _abandon(held, fault)
                raise
    launch.on_event("run.finished", {"status": outcome.status, "seconds": outcome.seconds})
    launch.on_outcome(outcome)
    if outcome.status == "cancelled":
        raise asyncio.CancelledError
    return outcome


async def _abandon(held: _Held, fault: BaseException) -> None:
    """A run that broke off is not running for ever. Its fault is raised by the caller."""
    state = "cancelled" if isinstance(fault, asyncio.CancelledError) else "failed"
    with contextlib.suppress(PhaselineError):
        await held.ledger.finish_run(held.lease, state, error=shown_error(fault))  # type: ignore[arg-type]


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
        labels=dict(launch.labels),
    )


async def _walked(held: _Held, given: Mapping[str, Any], storage_of: StorageOf) -> RunOutcome:
    plan, launch, lease = held.plan, held.launch, held.lease
    manifest = await held.store.read_manifest(launch.tenant, launch.run_id)
    earlier = earlier_start(plan, launch.run_id, launch.offline, lease.previous, manifest)
    context = _context(held, earlier.offline)
    async with _current(context):
        for step in (*plan.steps, *plan.finally_):
            _connect(step, context)
        known = {i.name for i in plan.inputs}
        before = {n: v for n, v in earlier.inputs.items() if n in known}
        values = await bound_values(plan, {**before, **given}, context)
        inputs = recorded(values)
        await held.ledger.change_run(lease, inputs=inputs)
        manifest = _manifest(plan, launch.run_id, inputs, earlier.offline)
        await held.store.write_manifest(launch.tenant, launch.run_id, manifest)
        keeper = Keeper(held.ledger, lease, held.store)
        context.finished, context.spent = await keeper.recorded()
        execution = Execution(context, keeper, await storage_of(held.store))
        told = {"run_id": launch.run_id, "workflow": plan.workflow, "offline": earlier.offline}
        context.on_event("run.started", told)
        async with _guarded(held, execution):
            return await _ended(held, Scope(plan, values, execution))


def _context(held: _Held, offline: bool) -> RunContext:
    launch = held.launch
    return RunContext(
        run_id=launch.run_id,
        catalog_root=launch.settings.catalog,
        store=held.store,
        environ=launch.environ,
        offline=offline,
        tenant=launch.tenant,
        on_event=launch.on_event,
        prices=launch.prices,
        connections=dict(launch.connections),
    )


def _connect(step: StepPlan, context: RunContext) -> None:
    """Every model connection of the plan, so that a missing key is told before anything starts."""
    merging = [step.merge.agent] if step.merge and step.merge.agent else []
    for agent in (*step.agents, *merging):
        context.connection(agent)
    inner = step.workflow
    for below in (*inner.steps, *inner.finally_) if inner else ():
        _connect(below, context)


async def _ended(held: _Held, scope: Scope) -> RunOutcome:
    """The walk, then its end in the ledger."""
    total = held.plan.total_timeout
    active = held.lease.previous.active_us / 1e6 if held.lease.previous else 0.0
    rest = None if total is None else max(0.001, total - active)
    error, cancelled = await walk_to_end(scope, rest)
    outcome = await outcome_of(scope, error, cancelled)
    outcome = outcome.of_launch(held.launch.flow_run_id, time.monotonic() - held.started)
    await held.ledger.finish_run(
        held.lease,
        outcome.status,  # type: ignore[arg-type]
        outputs={n: r.model_dump(mode="json") for n, r in outcome.outputs.items()},
        usage=outcome.usage.model_dump(),
        error=outcome.error,
    )
    return outcome


def _manifest(plan: Plan, run_id: str, inputs: Mapping[str, Any], offline: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "run_id": run_id,
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
async def _guarded(held: _Held, execution: Execution) -> AsyncIterator[None]:
    """Keeps the lease; when it is lost, what runs here is stopped at once."""
    here = asyncio.current_task()

    def on_lost(error: PhaselineError) -> None:
        execution.lost = error
        if here is not None:
            here.cancel()

    try:
        async with held.ledger.kept(held.lease, on_lost):
            yield
    except asyncio.CancelledError:
        if execution.lost is not None:
            raise LostRun(execution.lost.message, execution.lost.cure) from None
        raise
