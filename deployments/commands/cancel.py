"""`phaseline cancel`: end a run for good, and take back what it did."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blocks.ledger import Ledger, RunRow
from blocks.patience import Patience, Vigil
from blocks.run_request import catalog_of
from blocks.settings import Settings
from deployments.catalogs.opening import open_catalog
from deployments.runs.continuation import end_flow_run
from deployments.runs.drift import plan_now, stored_plan
from deployments.runs.lookup import TENANT, find_run, open_ledger, settings_of
from deployments.terminal.display import Out
from workflows.core.errors import PhaselineError, UsageError

if TYPE_CHECKING:
    from flows.undo import TakenBack

PATIENCE = 60.0
"""Seconds in which a run that was asked to end is waited for."""
_LOOK = 0.2


def execute(args: argparse.Namespace, out: Out) -> int:
    """Cancels the run; 1 when it did not end, or when something could not be taken back."""
    settings = settings_of(args)
    with open_ledger(settings, decides=True) as ledger:
        before = find_run(ledger.reader, args.run_id, settings)
        row = _await_end(ledger, before, out)
        if row.state == "completed" and not args.undo:
            raise UsageError(
                f"the run {row.run_id} is completed",
                f"take back what it did with: phaseline cancel {row.run_id} --undo",
            )
        back = _taken_back(args, ledger, row) if args.undo else None
        now = ledger.reader.get_run(TENANT, row.run_id) or row
    if before.state == "waiting" or before.wake_at is not None:
        end_flow_run(before, args.home, out)
    told: dict[str, Any] = {"run_id": now.run_id, "status": now.state, "workflow": now.workflow}
    undone, left = (back.undone, back.left) if back is not None else ((), ())
    told |= {"undone": [end.to_document() for end in undone]}
    out.document({**told, "not_taken_back": [one.to_document() for one in left]})
    out.line(f"the run {now.run_id} is {now.state}", "yellow")
    if back is not None:
        _print(back, out)
    return 0 if now.state == "cancelled" and (back is None or back.settled) else 1


def _await_end(ledger: Ledger, row: RunRow, out: Out) -> RunRow:
    """The run once nobody works on it. Raises PhaselineError when it does not end."""
    deadline, asked = time.monotonic() + PATIENCE, False
    while True:
        if row.holder is None:
            ledger.steering.request_cancel(TENANT, row.run_id)
        elif not asked:
            asked = ledger.steering.request_cancel(TENANT, row.run_id) == "requested"
            out.note(f"{row.holder.shown} works on it and is asked to end it")
        row = ledger.reader.get_run(TENANT, row.run_id) or row
        if row.holder is None and row.state in ("completed", "cancelled"):
            return row
        if time.monotonic() > deadline:
            who = row.holder.shown if row.holder else "its process"
            raise PhaselineError(
                f"the run {row.run_id} was asked to end, and {who} has not ended it yet",
                "its last steps may take long: run the command again, or end that process",
            )
        time.sleep(_LOOK)


def _taken_back(args: argparse.Namespace, ledger: Ledger, row: RunRow) -> TakenBack:
    from flows.undo import undo_run

    environ = {**os.environ, "PHASELINE_HOME": str(args.home)}
    catalog = str(args.catalog) if "--catalog" in args.places else catalog_of(row.labels)
    settings = Settings.read(environ, catalog=catalog or str(args.catalog), storage=row.storage or None)
    plan = stored_plan(settings, row)
    if plan is None:
        # Only the very same definition may say what takes back what was done.
        now = plan_now(row, open_catalog(settings.catalog), None)
        plan = now if now.definition == row.plan_digest else None
    if plan is None:
        raise UsageError(
            f"the definition of the run {row.run_id} is not in {settings.storage}, or was changed there",
            "restore its run.json there; or take back what it did by hand",
        )
    # Under the patience of a run: what is taken back half does more harm than a command that takes long.
    patience = _patience(settings, environ)
    with Ledger.open(settings.database, vigil=Vigil(patience)) as patient:
        return asyncio.run(undo_run(patient, row, plan, settings, environ, patience))


def _patience(settings: Settings, environ: Mapping[str, str]) -> Patience:
    """That of the catalog, as in the run itself. What was done can be taken back without the catalog."""
    catalog = None
    with contextlib.suppress(UsageError):
        catalog = open_catalog(settings.catalog)
    return Patience.read(environ, catalog.patience if catalog else None)


def _print(back: TakenBack, out: Out) -> None:
    for end in back.undone:
        out.line(f"  {end.step}: {end.message}", "" if end.done else "red")
        if end.cure:
            out.line(f"    cure: {end.cure}")
    for one in back.left:
        if one.in_doubt:
            out.line(f"  {one.step}: {one.tool} may have happened; it is not taken back", "red")
            out.line("    cure: look there whether it happened, and take it back by hand")
        else:
            out.line(f"  {one.step}: {one.tool} is not taken back; the step has no `undo`", "yellow")
