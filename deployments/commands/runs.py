"""`phaseline runs` and `phaseline show`: what has run, and one run in full."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from blocks.ledger import Ledger, LedgerReader, RunRow, StepRecord
from blocks.settings import Settings
from deployments.again import continuing_of
from deployments.closing import tokens_of
from deployments.display import Out
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.units import shown_duration

TENANT = "default"


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists runs, or shows the one that is named."""
    settings = Settings.read({**os.environ, "PHASELINE_HOME": str(args.home)}, catalog=str(args.catalog))
    with _ledger(settings) as reader:
        if args.command == "show":
            _show(reader, args.run_id, settings, out)
        else:
            _list(reader, args.limit, out)
    return 0


@contextlib.contextmanager
def _ledger(settings: Settings) -> Iterator[LedgerReader]:
    """The ledger for reading; an empty one where nothing ran yet."""
    settings.prepare()
    with Ledger.open(settings.database) as ledger:
        yield ledger.reader


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
    }


def _show(reader: LedgerReader, run_id: str, settings: Settings, out: Out) -> None:
    row = reader.get_run(TENANT, run_id)
    if row is None:
        known = [r.run_id for r in reader.list_runs(TENANT, 200)]
        hint = did_you_mean(run_id, known)
        raise UsageError(
            f"there is no run '{run_id}'"
            + ("" if "://" in settings.database else f" in {settings.database}"),
            hint if hint.startswith("did you mean") else "list them with: phaseline runs",
        )
    steps = reader.steps(TENANT, run_id)
    artifacts = reader.artifacts(TENANT, run_id)
    out.document(
        {
            **_summary(row),
            "run_id": row.run_id,
            "inputs": row.inputs,
            "outputs": row.outputs,
            "models": row.models,
            "error": row.error,
            "steps": [_step(s) for s in steps],
            "artifacts": [{"name": a.name, **a.ref.model_dump(mode="json")} for a in artifacts],
        }
    )
    _print(row, steps, out)


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
        "output": result.get("output"),
        "error": record.error,
    }


def _seconds(record: StepRecord) -> float | None:
    if record.started is None or record.ended is None:
        return None
    return round((record.ended - record.started) / 1e6, 3)


def _print(row: RunRow, steps: list[StepRecord], out: Out) -> None:
    state = f"{row.state}, offline" if row.offline else row.state
    out.line(f"{row.run_id}  {row.workflow}  {state}", "bold")
    held = f", held by {row.holder.shown}" if row.holder else ""
    out.line(f"started {_time(row.created)}, active {shown_duration(row.active_us / 1e6)}{held}")
    if row.error:
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
        if record.error:
            out.line(f"{record.step_path}: {record.error.get('message', '')}", "red")
    for name, ref in row.outputs.items():
        out.line(f"  {name}  {ref.get('summary', '')[:80]}")
    if row.state in ("failed", "interrupted", "stopped", "cancelled"):
        out.line(f"continue it with: {continuing_of(row.labels, row.workflow, row.run_id)}")


def _dollars(usd: float | None) -> str:
    return "unpriced" if usd is None else f"${usd:.4f}"


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6).astimezone().strftime("%Y-%m-%d %H:%M:%S")
