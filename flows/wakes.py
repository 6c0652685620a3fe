"""Flow runs that go on with a run: scheduled for its moment, resumed, or begun again. On workers only.

A run goes on by the flow run that is suspended for it; where that has ended, by another of its deployment.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed, Scheduled

from blocks.current_time import now_utc

WAKE_TAG = "phaseline-wake"
"""On a flow run that was scheduled to go on with a run. It revives nothing that was cancelled meanwhile."""

SOON = timedelta(seconds=5)
"""The least time until a flow run that wakes: a moment that has passed is not tried without a pause."""
GONE = timedelta(minutes=5)
"""After which a flow run is gone that a worker took, while nobody works on its run."""

Woken = Literal["", "on its way", "begun"]
"""Whether a worker goes on with a run: not; by a flow run that is there already; by one begun for it."""

ROOT: ContextVar[FlowRun | None] = ContextVar("phaseline_root_flow_run", default=None)
"""The flow run that began it all, where a flow is called by another: it is what waits and is woken."""

_ON_THE_WAY = (StateType.SCHEDULED, StateType.PENDING)
_ENDED = (StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED)


def own_flow_run() -> FlowRun | None:
    """The flow run that people see: the outermost one; None outside of a flow."""
    if (root := ROOT.get()) is not None:
        return root
    context = FlowRunContext.get()
    return context.flow_run if context else None


def is_woken() -> bool:
    """Whether this flow run was scheduled to go on with a run."""
    run = own_flow_run()
    return run is not None and WAKE_TAG in run.tags


async def schedule_wake(run_id: str, at: datetime) -> bool:
    """Schedules another flow run of this deployment that goes on with the run then; False without one.

    Where the run went on by itself before, that flow run finds everything finished.
    """
    run = own_flow_run()
    if run is None or run.deployment_id is None:
        return False
    # Prefect goes by its server's clock, and this by the ledger's: what both count is how long it is.
    ledger = now_utc()
    at = max(at, ledger + SOON)
    # With this flow run's id: woken at that moment and told the same moment again, it would find itself.
    key = f"wake-{run_id}-{run.id}-{int(at.timestamp())}"
    async with get_client() as client:
        await _create(client, run, run_id, datetime.now(UTC) + (at - ledger), key)
    return True


async def wake_flow_run(
    run_id: str, flow_run_id: str, ended: datetime | None = None, *, lost: bool = False
) -> Woken:
    """Lets a run that is due go on, on a worker; "" where Prefect knows of none that would do it.

    ended: when the run itself ended. lost: its process died, which Prefect does not know. What decides is in
    the ledger already, so that a form Prefect offers may be left empty.
    """
    async with get_client() as client:
        try:
            run = await client.read_flow_run(uuid.UUID(flow_run_id))
        except ObjectNotFound:
            return ""
        if run.state is None or run.deployment_id is None:
            return ""  # it would be shown as running, and nobody would run it
        if run.state.is_paused():
            resumed = run.state.state_details.pause_reschedule and await resume(client, run.id)
            return "on its way" if resumed else ""
        if run.state.type in _ON_THE_WAY and not _is_stuck(run):
            return "on its way"
        idle = lost or (ended is not None and now_utc() - ended > GONE)
        return await _begin_again(client, run, run_id, idle=idle) if _is_over(run, idle=idle) else ""


async def resume(client: PrefectClient, flow_run_id: uuid.UUID) -> bool:
    """Gives a suspended flow run back to the workers; False when somebody was faster."""
    resumed = await client.resume_flow_run(flow_run_id)
    if resumed.status == SetStateStatus.REJECT:  # it misses what the form asks for
        resumed = await client.set_flow_run_state(flow_run_id, Scheduled(name="Resuming"), force=True)
    return resumed.status == SetStateStatus.ACCEPT


async def end_held(run_id: str, flow_run_id: str) -> None:
    """Ends the flow run that waits or is about to go on, and those that would wake its cancelled run."""
    state: State[Any] = Cancelled(message="the run was cancelled")
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            run = await client.read_flow_run(uuid.UUID(flow_run_id))
            if run.state is not None and (run.state.is_paused() or run.state.type in _ON_THE_WAY):
                await client.set_flow_run_state(run.id, state, force=True)
        for run in await client.read_flow_runs(flow_run_filter=_waking(run_id, [StateType.SCHEDULED])):
            await client.set_flow_run_state(run.id, state)


def _is_over(run: FlowRun, *, idle: bool) -> bool:
    """Whether nothing comes of a flow run any more, and no person ended it in Prefect.

    idle: nobody has worked on its run for a while.
    """
    assert run.state is not None
    if run.state.is_cancelled():
        return run.state.name == "Waiting"  # one that could not be suspended
    if run.state.is_final() or _is_stuck(run):
        return True
    return run.state.is_running() and idle


def _is_stuck(run: FlowRun) -> bool:
    """Whether a worker took a flow run and did not begin it: it died before, and no other takes it up."""
    return run.state is not None and run.state.is_pending() and _is_old(run.state)


def _is_old(state: State[Any]) -> bool:
    """By the clock that Prefect's times are of."""
    return datetime.now(UTC) - state.timestamp > GONE


async def _begin_again(client: PrefectClient, run: FlowRun, run_id: str, *, idle: bool) -> Woken:
    """Another flow run of the deployment at once, unless there is one already."""
    now = datetime.now(UTC)
    await _close_dead(client, run)
    waking = await client.read_flow_runs(flow_run_filter=_waking(run_id, [*_ON_THE_WAY, StateType.RUNNING]))
    for other in waking:
        if other.id == run.id or other.state is None:
            continue
        # One that works on the run would hold it, and the run would not be due.
        if _is_stuck(other) or (other.state.is_running() and idle and _is_old(other.state)):
            await _close_dead(client, other)
        elif other.expected_start_time is None or other.expected_start_time <= now + 2 * SOON:
            return "on its way"
    last = await client.read_flow_runs(
        flow_run_filter=_waking(run_id, _ENDED), sort=FlowRunSort.END_TIME_DESC, limit=1
    )
    # Two that ask at once get the same one; after that has ended in vain, another one may be asked for.
    await _create(client, run, run_id, now, f"wake-{run_id}-after-{(*last, run)[0].id}")
    return "begun"


async def _close_dead(client: PrefectClient, run: FlowRun) -> None:
    """Shows a flow run as it is whose process died: else it would keep its place at the worker for ever."""
    if run.state is not None and (run.state.is_running() or run.state.is_pending()):
        state: State[Any] = Crashed(message="its process ended; the run goes on in another flow run")
        await client.set_flow_run_state(run.id, state, force=True)


async def _create(client: PrefectClient, run: FlowRun, run_id: str, at: datetime, key: str) -> None:
    assert run.deployment_id is not None
    await client.create_flow_run_from_deployment(
        run.deployment_id,
        parameters={**run.parameters, "run_id": run_id},
        state=Scheduled(scheduled_time=at),
        name=_name(run_id),
        tags=[*run.tags, WAKE_TAG] if WAKE_TAG not in run.tags else run.tags,
        idempotency_key=key,
    )


def _name(run_id: str) -> str:
    """The name of the flow runs that wake a run."""
    return f"{run_id} wakes"


def _waking(run_id: str, states: Sequence[StateType]) -> FlowRunFilter:
    return FlowRunFilter(
        name=FlowRunFilterName(any_=[_name(run_id)]),
        tags=FlowRunFilterTags(all_=[WAKE_TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
    )
