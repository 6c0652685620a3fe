"""`phaseline runs` and `phaseline show`: what has run, and one run in full."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from blocks.ledger import Ledger, LedgerReader, RunRow, StepRecord
from deployments.runs.lookup import TENANT, find_run, open_ledger, settings_of
from deployments.runs.manifests import outputs_of
from deployments.runs.step_order import steps_in_order
from deployments.runs.sweep import sweep
from deployments.terminal.closing import tokens_of
from deployments.terminal.display import Out
from deployments.terminal.next_commands import going_on_by, places_for
from deployments.terminal.run_details import Details
from workflows.core.errors import PhaselineError
from workflows.core.units import shown_duration


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists runs, or shows the one that is named."""
    settings = settings_of(args)
    with open_ledger(settings) as ledger:
        sweep(ledger, out, args.home, args.places, shown=getattr(args, "run_id", ""))
        if args.command == "show":
            _show(ledger, find_run(ledger.reader, args.run_id, settings), args, out)
        else:
            _list(ledger.reader, args.limit, out)
    return 0


def _list(reader: LedgerReader, limit: int, out: Out) -> None:
    rows = reader.list_runs(TENANT, limit)
    out.document({"runs": [_summary(r) for r in rows]})
    if not rows:
        out.line("nothing has run yet; begin with: phaseline run end-to-end-delivery --offline")
        return
    columns = ("run", "workflow", "state", "started", "active", "tokens", "cost")
    out.table(columns, [_cells(r) for r in rows])


def _cells(row: RunRow) -> tuple[Any, ...]:
    usage = row.usage or {}
    state = f"{row.state} (offline)" if row.offline else row.state
    return (
        row.run_id,
        row.workflow,
        state,
        _time(row.created),
        shown_duration(row.active_us / 1e6),
        tokens_of(usage),
        _dollars(usage.get("usd", 0.0)),
    )


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


def _show(ledger: Ledger, row: RunRow, args: argparse.Namespace, out: Out) -> None:
    steps = steps_in_order(row, ledger.reader.steps(TENANT, row.run_id))
    artifacts = ledger.reader.artifacts(TENANT, row.run_id)
    details = Details.read(ledger, row, steps, events=args.events)
    outputs = _outputs(row, args, out)
    out.document(
        {
            **_summary(row),
            "run_id": row.run_id,
            "inputs": row.inputs,
            "outputs": outputs,
            "models": row.models,
            "error": row.error,
            "steps": [_step(s) for s in steps],
            "artifacts": [{"name": a.name, **a.ref.model_dump(mode="json")} for a in artifacts],
            **details.to_document(cost=args.cost, events=args.events),
        }
    )
    _print(row, steps, outputs, out)
    details.print(out, places_for(row, args.places), cost=args.cost, events=args.events)
    if row.state in ("failed", "interrupted", "stopped", "cancelled", "waiting"):
        what = "taking it back" if row.taken_back else "it"
        out.line(f"continue {what} with: {going_on_by(row, args.places, [s.error for s in steps])}")


def _step(record: StepRecord) -> dict[str, Any]:
    result = record.result or {}
    return {
        "id": record.step_path,
        "status": record.state,
        "attempts": record.attempts,
        "agent": record.agent,
        "model": record.model,
        "usage": record.usage,
        "seconds": _seconds(record),
        "failed_tool_calls": result.get("failed_tool_calls", 0),
        "failed_parts": [
            {"id": p, "error": {"message": (result.get("part_errors") or {}).get(p, "")}}
            for p in result.get("failed_parts") or ()
        ],
        "output": result.get("output"),
        "error": record.error,
    }


def _seconds(record: StepRecord) -> float | None:
    if record.started is None or record.ended is None:
        return None
    return round((record.ended - record.started) / 1e6, 3)


def _outputs(row: RunRow, args: argparse.Namespace, out: Out) -> dict[str, Any]:
    """The run's outputs; where its storage cannot be read, what the ledger says of them."""
    try:
        return outputs_of(row, settings_of(args).storage, os.environ)
    except PhaselineError as fault:
        out.note(f"the outputs of {row.run_id} cannot be listed: {fault.message}", "yellow")
        return row.outputs


def _print(row: RunRow, steps: list[StepRecord], outputs: Mapping[str, Any], out: Out) -> None:
    state = f"{row.state}, offline" if row.offline else row.state
    out.line(f"{row.run_id}  {row.workflow}  {state}", "bold")
    held = f", held by {row.holder.shown}" if row.holder else ""
    out.line(f"started {_time(row.created)}, active {shown_duration(row.active_us / 1e6)}{held}")
    if row.wake_at:
        out.line(f"it goes on at {_time(row.wake_at)}: {row.wake_reason}", "yellow")
    if row.error and row.state != "waiting":
        out.line(f"error: {row.error.get('message', '')}", "red")
        if row.error.get("cure"):
            out.line(f"  cure: {row.error['cure']}")
    out.line()
    rows = [
        (
            s.step_path,
            s.state,
            s.agent,
            s.model,
            shown_duration(seconds) if (seconds := _seconds(s)) is not None else None,
            s.attempts,
            tokens_of(s.usage or {}),
            _dollars(s.usage.get("usd", 0.0)),
        )
        for s in steps
    ]
    out.table(("step", "state", "by", "model", "time", "tries", "tokens", "cost"), rows)
    for record in steps:
        if record.error and record.state != "waiting":
            out.line(f"{record.step_path}: {record.error.get('message', '')}", "red")
    for name, ref in outputs.items():
        out.line(f"  {name}  {ref.get('summary', '')[:80]}")


def _dollars(usd: float | None) -> str:
    return "unpriced" if usd is None else f"${usd:.4f}"


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6).astimezone().strftime("%Y-%m-%d %H:%M:%S")
