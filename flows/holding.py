"""What a waiting run is in Prefect: suspended without a process when it is deployed, else paused.

The ledger alone decides what counts as an answer. Prefect's resume wakes the run; where exactly one question
is open to everybody, its form is offered there too, and what was filled in is given to the ledger.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, Pause
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Cancelled, Paused, Scheduled, Suspended
from prefect.utilities.engine import propose_state

from blocks.ledger import Ledger, WaitRow
from blocks.ledger.wait_documents import wait_document
from blocks.settings import Settings
from tasks.secrets import Secrets, scrub_value
from workflows.core.errors import UsageError

FROM_PREFECT = "prefect"
"""Who answered in Prefect's form: its server does not say more."""

WAKE_TAG = "phaseline-wake"
"""On a flow run that was scheduled to go on with a run. It revives nothing that was cancelled meanwhile."""

_OF_PEOPLE = ("approval", "ask_person")
"""Kinds that Prefect's form can answer. It shows no arguments, so that calls are approved elsewhere."""


async def hold(waits: Sequence[Mapping[str, Any]]) -> None:
    """Shows the flow run as waiting, and ends it by raising Pause. `waits`: open ones as documents."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    make = Suspended if run.deployment_id is not None else Paused
    only = offered(waits)
    base = str(only["wait_id"]) if only else "waiting"
    state = make(
        timeout_seconds=None,
        pause_key=f"{base}-{uuid.uuid4().hex[:8]}",
        message="; ".join(str(w["ask"]) for w in waits)[:1000] or "waiting",
    )
    # Before it is shown as suspended: killed in between, it would sleep through its deadline.
    deadlines = [d for w in waits if (d := _moment(w.get("deadline"))) is not None]
    if deadlines:
        await schedule_wake(str(waits[0]["run_id"]), min(deadlines))
    async with get_client() as client:
        keyset = keyset_from_paused_state(state) if only else None
        if only is not None and keyset is not None:
            state.state_details.run_input_keyset = keyset
            await _save(client, run.id, keyset, only)
        held = await propose_state(client=client, state=state, flow_run_id=run.id)
    if held.is_paused():
        raise Pause(state=held)


async def schedule_wake(run_id: str, at: datetime) -> None:
    """Schedules another flow run of this deployment that goes on with the run then; without one, nothing.

    Where the run went on by itself before, that flow run finds everything finished.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return
    async with get_client() as client:
        await client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters={**run.parameters, "run_id": run_id},
            state=Scheduled(scheduled_time=at),
            name=_waking(run_id),
            tags=[*run.tags, WAKE_TAG] if WAKE_TAG not in run.tags else run.tags,
            idempotency_key=f"wake-{run_id}-{int(at.timestamp())}",
        )


def _waking(run_id: str) -> str:
    """The name of the flow runs that wake a run."""
    return f"{run_id} wakes"


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


async def take_answers(
    ledger: Ledger, tenant: str, waits: Sequence[WaitRow], flow_run_id: str, secrets: Secrets
) -> None:
    """Gives the ledger what was filled in in Prefect's form since that flow run was suspended, without the
    secrets."""
    possible = [wait for wait in waits if wait.kind in _OF_PEOPLE]
    if not flow_run_id or not possible:
        return
    async with get_client() as client:
        for wait in possible:
            found = await client.filter_flow_run_input(
                flow_run_id=uuid.UUID(flow_run_id),
                key_prefix=f"suspended-{wait.wait_id}",
                limit=20,
                exclude_keys=set(),
            )
            for kept in found:
                if kept.key.endswith("-response"):
                    _vote(ledger, tenant, wait, scrub_value(kept.decoded_value, secrets))


async def close_held(flow_run_id: str) -> None:
    """Ends a local flow run that was shown as paused, once another flow run goes on with its run."""
    state = Cancelled(name="Continued", message="the run went on in another flow run")
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):  # of another server, or deleted
            await client.set_flow_run_state(uuid.UUID(flow_run_id), state, force=True)


async def end_held(run_id: str, flow_run_id: str) -> None:
    """Ends the flow run that is shown as waiting, and those that would wake it: its run was cancelled."""
    state = Cancelled(message="the run was cancelled")
    waking = FlowRunFilter(
        name=FlowRunFilterName(any_=[_waking(run_id)]),
        tags=FlowRunFilterTags(all_=[WAKE_TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
    )
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):
            run = await client.read_flow_run(uuid.UUID(flow_run_id))
            if run.state is not None and run.state.is_paused():
                await client.set_flow_run_state(run.id, state, force=True)
        for run in await client.read_flow_runs(flow_run_filter=waking):
            await client.set_flow_run_state(run.id, state)


async def wake_flow_run(flow_run_id: str) -> bool:
    """Lets a suspended flow run go on, on a worker; False when it is not suspended (any more).

    What decides is in the ledger already, so that a form Prefect offers may be left empty.
    """
    async with get_client() as client:
        try:
            run = await client.read_flow_run(uuid.UUID(flow_run_id))
        except ObjectNotFound:
            return False
        if run.state is None or not run.state.is_paused():
            return False
        resumed = await client.resume_flow_run(run.id)
        if resumed.status == SetStateStatus.REJECT:  # it misses what the form asks for
            resumed = await client.set_flow_run_state(run.id, Scheduled(name="Resuming"), force=True)
    return resumed.status == SetStateStatus.ACCEPT


def _vote(ledger: Ledger, tenant: str, wait: WaitRow, filled: Any) -> None:
    data = filled if isinstance(filled, dict) else {}
    approved = bool(data.get("approved", True))
    given = data.get("data") if wait.kind != "ask_person" else dict(data)
    try:
        ledger.waits.vote(
            tenant, wait.wait_id, FROM_PREFECT, "approve" if approved else "reject", given, note=""
        )
    except UsageError:
        # Answered elsewhere meanwhile, or it does not fit: the question is as open as the ledger says.
        return


def offered(waits: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one question that Prefect's form can answer."""
    for_people = [w for w in waits if w["kind"] in _OF_PEOPLE]
    if len(waits) != 1 or len(for_people) != 1 or for_people[0]["assignees"]:
        return None
    return for_people[0] if int(for_people[0].get("quorum") or 1) == 1 else None


async def _save(
    client: PrefectClient, flow_run_id: uuid.UUID, keyset: Mapping[str, str], wait: Mapping[str, Any]
) -> None:
    await client.create_flow_run_input(
        flow_run_id=flow_run_id, key=keyset["schema"], value=json.dumps(_schema(wait))
    )
    await client.create_flow_run_input(
        flow_run_id=flow_run_id, key=keyset["description"], value=json.dumps(str(wait["ask"]))
    )


def _schema(wait: Mapping[str, Any]) -> dict[str, Any]:
    """What Prefect's form asks. A decision has no default, or it would be taken without being made."""
    form = dict(wait.get("form") or {})
    if wait["kind"] == "ask_person":
        return form or {
            "type": "object",
            "properties": {"text": {"type": "string", "title": "Answer"}},
            "required": ["text"],
        }
    properties: dict[str, Any] = {"approved": {"type": "boolean", "title": "Approve"}}
    if form:
        properties["data"] = form
    return {"type": "object", "properties": properties, "required": list(properties)}


async def open_waits(run_id: str, tenant: str = "default") -> list[dict[str, Any]]:
    """What a run waits for, from the ledger that the environment names."""
    async with Ledger.open(Settings.read(os.environ).database) as ledger:
        rows = await ledger.waits.of_run_async(tenant, run_id)
    return [wait_document(row) for row in rows if row.state == "open"]
