"""What has run, one run in full, and what people are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blocks.ledger import RunRow, StepRecord
from blocks.ledger.waits.documents import wait_document
from deployments.runs.caller import Caller
from deployments.runs.host import Host, Notice
from deployments.runs.lookup import find_run, open_ledger
from deployments.runs.manifests import outputs_of
from deployments.runs.next_commands import answering
from deployments.runs.step_order import steps_in_order
from deployments.runs.sweep import sweep
from deployments.services.run_details import Details
from workflows.core.errors import PhaselineError


@dataclass(frozen=True)
class RunsRequest:
    """The last runs, the latest first."""

    caller: Caller
    limit: int = 20


@dataclass(frozen=True)
class ShowRequest:
    """One run, with what it cost and what happened where that is wanted."""

    caller: Caller
    run_id: str
    cost: bool = False
    events: bool = False


@dataclass(frozen=True)
class WaitsRequest:
    """What is asked by one run, or by all."""

    caller: Caller
    run_id: str | None = None


@dataclass(frozen=True)
class RunList:
    """Runs as the ledger has them."""

    rows: Sequence[RunRow]

    @property
    def document(self) -> dict[str, Any]:
        """What `runs --json` prints."""
        return {"runs": [_summary(row) for row in self.rows]}


@dataclass(frozen=True)
class ShownRun:
    """Everything that is known of a run."""

    request: ShowRequest
    details: Details
    outputs: Mapping[str, Any]
    artifacts: Sequence[Mapping[str, Any]]

    @property
    def row(self) -> RunRow:
        """Its row in the ledger."""
        return self.details.row

    @property
    def document(self) -> dict[str, Any]:
        """What `show --json` prints."""
        row, request = self.row, self.request
        return {
            **_summary(row),
            "run_id": row.run_id,
            "inputs": row.inputs,
            "outputs": self.outputs,
            "models": row.models,
            "error": row.error,
            "steps": [_step(s) for s in self.details.steps],
            "artifacts": self.artifacts,
            **self.details.to_document(cost=request.cost, events=request.events),
        }


def list_runs(request: RunsRequest, host: Host) -> RunList:
    """The caller's last runs."""
    with open_ledger(request.caller) as ledger:
        sweep(ledger, request.caller, host.notify)
        return RunList(ledger.reader.list_runs(request.caller.tenant, request.limit))


def show_run(request: ShowRequest, host: Host) -> ShownRun:
    """One run in full. Raises UsageError when there is none of that id."""
    caller = request.caller
    with open_ledger(caller) as ledger:
        sweep(ledger, caller, host.notify, shown=request.run_id)
        row = find_run(ledger.reader, request.run_id, caller)
        steps = steps_in_order(row, ledger.reader.steps(row.tenant, row.run_id), caller.environ)
        artifacts = ledger.reader.artifacts(row.tenant, row.run_id)
        details = Details.read(ledger, row, steps, events=request.events)
        shown = [{"name": a.name, **a.ref.model_dump(mode="json")} for a in artifacts]
        return ShownRun(request, details, _outputs(row, caller, host), shown)


def list_waits(request: WaitsRequest, host: Host) -> list[dict[str, Any]]:
    """The documents of the open waits, each with the command that answers it (`answer_with`).

    Raises UsageError when there is no run of that id.
    """
    caller = request.caller
    with open_ledger(caller) as ledger:
        sweep(ledger, caller, host.notify)
        if request.run_id is not None:
            find_run(ledger.reader, request.run_id, caller)
        rows = [r for r in ledger.waits.list_open(caller.tenant) if request.run_id in (None, r.run_id)]
    waits = [wait_document(row) for row in rows]
    return [{**wait, "answer_with": answering(caller.places, wait)} for wait in waits]


def seconds_of(record: StepRecord) -> float | None:
    """How long a step took, where it has ended."""
    if record.started is None or record.ended is None:
        return None
    return round((record.ended - record.started) / 1e6, 3)


def _summary(row: RunRow) -> dict[str, Any]:
    return {
        "id": row.run_id,
        "workflow": row.workflow,
        "status": row.state,
        "offline": row.offline,
        "created": _iso(row.created),
        "updated": _iso(row.updated),
        "ended": _iso(row.ended) if row.ended else None,
        "active_seconds": round(row.active_us / 1e6, 3),
        "usage": row.usage,
        "storage": row.storage,
        "flow_run_id": row.flow_run_id,
        "held_by": row.holder.shown if row.holder else None,
        "wake_at": _iso(row.wake_at) if row.wake_at else None,
    }


def _step(record: StepRecord) -> dict[str, Any]:
    result = record.result or {}
    return {
        "id": record.step_path,
        "status": record.state,
        "attempts": record.attempts,
        "agent": record.agent,
        "model": record.model,
        "usage": record.usage,
        "seconds": seconds_of(record),
        "failed_tool_calls": result.get("failed_tool_calls", 0),
        "failed_parts": [
            {"id": p, "error": {"message": (result.get("part_errors") or {}).get(p, "")}}
            for p in result.get("failed_parts") or ()
        ],
        "output": result.get("output"),
        "error": record.error,
    }


def _outputs(row: RunRow, caller: Caller, host: Host) -> dict[str, Any]:
    """The run's outputs; where its storage cannot be read, what the ledger says of them."""
    try:
        return outputs_of(row, caller.settings().storage, caller.environ)
    except PhaselineError as fault:
        text = f"the outputs of {row.run_id} cannot be listed: {fault.message}"
        host.notify(Notice("outputs", text))
        return row.outputs


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")
