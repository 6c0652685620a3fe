"""What a waiting run is in Prefect: suspended without a process when it is deployed, else paused.

The ledger alone decides what counts as an answer. Prefect's resume wakes the run; where exactly one question
is open to everybody, its form is offered there too, and what was filled in is given to the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, Pause, PrefectHTTPStatusError
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Cancelled, Paused, Suspended
from prefect.utilities.engine import propose_state

from blocks.ledger import DEFAULT_TENANT, Ledger, WaitRow
from blocks.ledger.waits.documents import wait_document
from blocks.settings import Settings
from flows.wakes import resume, schedule_wake
from tasks.secrets import Secrets, scrub_value
from workflows.core.errors import UsageError
from workflows.core.text.cut_text import cut

FROM_PREFECT = "prefect"
"""Who answered in Prefect's form: its server does not say more."""

_OF_PEOPLE = ("approval", "ask_person")
"""Kinds that Prefect's form can answer. It shows no arguments, so that calls are approved elsewhere."""


async def hold(run_id: str, waits: Sequence[Mapping[str, Any]]) -> None:
    """Shows the flow run as waiting, and ends it by raising Pause. `waits`: open ones as documents."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    deployed = run.deployment_id is not None
    # Nothing reads what is filled in for a flow run that no worker takes up again.
    only = question_for_form(waits) if deployed else None
    base = str(only["wait_id"]) if only else "waiting"
    state: State[Any] = (Suspended if deployed else Paused)(
        timeout_seconds=None,
        pause_key=f"{base}-{uuid.uuid4().hex[:8]}",
        message=cut("; ".join(str(w["ask"]) for w in waits), 1000) or "waiting",
    )
    # Before it is shown as suspended: killed in between, it would sleep through its deadline.
    deadlines = [d for w in waits if (d := _moment(w.get("deadline"))) is not None]
    if deployed and deadlines:
        await schedule_wake(run_id, min(deadlines))
    async with get_client() as client:
        if only is not None:
            keyset = {str(use): key for use, key in keyset_from_paused_state(state).items()}
            state.state_details.run_input_keyset = keyset
        try:
            held: State[Any] = await propose_state(client=client, state=state, flow_run_id=run.id)
        except Pause as before:  # it is shown already: an outage came after it, and all of this is repeated
            if before.state is None:
                raise
            held = before.state
        if not held.is_paused():
            return
        # After it: what was there before, Prefect takes for an earlier attempt's.
        if only is not None and held.state_details.run_input_keyset:
            await _save(client, run.id, held.state_details.run_input_keyset, only)
        # Who answered before it was suspended found it at work, and woke nobody.
        if deployed and await _is_due(run_id):
            await resume(client, run.id)
    raise Pause(state=held)


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
    state: State[Any] = Cancelled(name="Continued", message="the run went on in another flow run")
    async with get_client() as client:
        with contextlib.suppress(ObjectNotFound):  # of another server, or deleted
            await client.set_flow_run_state(uuid.UUID(flow_run_id), state, force=True)


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


def question_for_form(waits: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The one question that Prefect's form can answer."""
    for_people = [w for w in waits if w["kind"] in _OF_PEOPLE]
    if len(waits) != 1 or len(for_people) != 1 or for_people[0]["assignees"]:
        return None
    return for_people[0] if int(for_people[0].get("quorum") or 1) == 1 else None


async def _save(
    client: PrefectClient, flow_run_id: uuid.UUID, keyset: Mapping[str, str], wait: Mapping[str, Any]
) -> None:
    for use, value in (("schema", _schema(wait)), ("description", str(wait["ask"]))):
        try:
            await client.create_flow_run_input(
                flow_run_id=flow_run_id, key=keyset[use], value=json.dumps(value)
            )
        except PrefectHTTPStatusError as fault:
            if fault.response.status_code != HTTPStatus.CONFLICT:
                raise  # else it is there, from before an outage


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


async def open_waits(run_id: str) -> list[dict[str, Any]]:
    """What a run waits for, from the ledger that the environment names."""
    async with _ledger() as ledger:
        rows = await ledger.waits.of_run(DEFAULT_TENANT, run_id)
    return [wait_document(row) for row in rows if row.state == "open"]


async def _is_due(run_id: str) -> bool:
    async with _ledger() as ledger:
        return run_id in await asyncio.to_thread(ledger.steering.due, DEFAULT_TENANT)


def _ledger() -> Ledger:
    return Ledger.open(Settings.read(os.environ).database)
