"""`phaseline resume`: continue a run where it stands."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from blocks.ledger import Ledger, Owner, RunRow
from blocks.ledger.database.access import run_order
from blocks.ledger.runs.interrupted import REVIVED, WOKEN, mark_woken
from blocks.ledger.runs.runs import held_run, taken_back_run
from blocks.ledger.waits.documents import wait_document
from blocks.run_request import RunRequest, catalog_of, request_of
from blocks.settings import Settings
from deployments.catalogs.opening import open_catalog
from deployments.commands.run import answers_offline
from deployments.runs.budget_raises import raise_budgets, raised_limits
from deployments.runs.drift import has_drifted, plan_now, preview_of, stored_plan
from deployments.runs.local_run import run_here
from deployments.runs.lookup import TENANT, find_run, open_ledger, settings_of
from deployments.runs.manifests import outputs_of
from deployments.runs.model_keys import say_keys
from deployments.runs.start import Start, is_parked
from deployments.runs.sweep import sweep
from deployments.terminal.display import Out
from deployments.terminal.next_commands import giving_again, places_for, resuming
from deployments.terminal.questions import print_lines, wait_lines
from flows.launch import refuse_ungiven
from flows.preview import dependants
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import PhaselineError, UsageError, did_you_mean
from workflows.core.plans.plan import Plan

WAITING = 3


@dataclass(frozen=True)
class _Found:
    """A run that may be continued: its row, where it is, and its definition then and now."""

    row: RunRow
    settings: Settings
    catalog: Catalog
    stored: Plan | None
    now: Plan
    drift: bool


def execute(args: argparse.Namespace, out: Out) -> int:
    """Continues the run, or says why not. Exit codes as in the contract."""
    with open_ledger(settings_of(args), decides=_decides(args)) as ledger:
        sweep(ledger, out, args.home, args.places, but=args.run_id)
        start = start_of(args, ledger, out)
    return start if isinstance(start, int) else run_here(start, out)


def _decides(args: argparse.Namespace) -> bool:
    """Whether a person asks for it: not what wakes by itself, which changes nothing of what was decided."""
    changes = args.step or args.raise_budget or args.repeat_effects or args.use == "new"
    return not args.plan and (not args.woken or bool(changes))


def start_of(args: argparse.Namespace, ledger: Ledger, out: Out) -> Start | int:
    """What is to be run; the exit code when nothing is."""
    row = find_run(ledger.reader, args.run_id, settings_of(args))
    raised = raised_limits(args.raise_budget)
    if row.holder is not None and not args.plan:
        raise held_run(row.run_id, row.holder.shown)
    if row.taken_back:
        raise taken_back_run(row)
    refuse_ungiven(row, (), giving_again(row))
    if args.woken and row.state == "cancelled":
        return _say_cancelled(row, out)
    if not args.plan and not args.step and args.use != "new":
        if row.state == "completed":
            return _say_completed(row, outputs_of(row, settings_of(args).storage, os.environ), out)
        if row.state == "waiting" and (code := _say_waiting(row, ledger, args.places, out)):
            return code
    found = _find_definition(args, row)
    plan = _chosen(found, args.use)
    redo = _redo(args.step, plan)
    if args.plan or (found.drift and args.use is None):
        shown = preview_of(ledger, found.settings, row, plan, drift=found.drift, redo=redo)
        shown.print(out)
        if args.plan:
            out.document(shown.to_document())
            return 0
        raise _refuse_drift(row, out, shown.to_document(), args.places)
    plan = raise_budgets(ledger, row.run_id, plan, raised)
    environ = dict(os.environ)
    offline = answers_offline(False, plan, environ, row, out)
    if not offline:
        say_keys(plan, found.catalog, environ, out)
    request = request_of(row.labels) or RunRequest(row.workflow, **args.named)
    settings, run_id = found.settings, row.run_id
    _note_who_asked(ledger, row, woken=args.woken)
    start = Start(plan, found.catalog, {}, settings, environ, run_id, offline, request)
    if row.state == "cancelled":
        out.note(f"the run {run_id}: it was cancelled; it goes on", "yellow")
    # Only a person knows whether the quota is there again: what goes on by itself keeps to the given time.
    lift = is_parked(row) and not args.woken
    start = replace(start, expect=row.seen, lift_parks=lift)
    return replace(start, redo=redo, repeat_effects=args.repeat_effects)


def _note_who_asked(ledger: Ledger, row: RunRow, *, woken: bool) -> None:
    """Killed from here on, a run that was woken is woken again, and one that a person continued is not."""
    if woken or WOKEN in row.labels or REVIVED in row.labels:
        note = partial(mark_woken, tenant=TENANT, run_id=row.run_id, viewer=Owner.current(), woken=woken)
        ledger.access.write_now(note, run_order(TENANT, row.run_id))


def _find_definition(args: argparse.Namespace, row: RunRow) -> _Found:
    """The run's catalog and storage: as given, else as it began."""
    given = "--catalog" in args.places
    folder = args.catalog if given else Path(catalog_of(row.labels) or args.catalog)
    catalog = open_catalog(folder)
    storage = row.storage or None if args.storage is None else args.storage
    environ = {**os.environ, "PHASELINE_HOME": str(args.home)}
    settings = Settings.read(environ, catalog=str(catalog.root), storage=storage)
    stored = stored_plan(settings, row)
    if args.use == "stored" and stored is not None:
        return _Found(row, settings, catalog, stored, stored, drift=False)
    now = plan_now(row, catalog, stored)
    return _Found(row, settings, catalog, stored, now, has_drifted(row, stored, now))


def _chosen(found: _Found, use: str | None) -> Plan:
    if use != "stored" or not found.drift:
        return found.stored if found.stored is not None and not found.drift else found.now
    raise UsageError(
        f"the definition that the run {found.row.run_id} has cannot be read from {found.settings.storage}",
        "continue it with the catalog's: --use new; or name the storage it is in: --storage URI",
    )


def _refuse_drift(
    row: RunRow, out: Out, document: Mapping[str, Any], places: Sequence[str]
) -> PhaselineError:
    again = resuming(places, row.run_id)
    fault = UsageError(
        f"the workflow '{row.workflow}' changed since the run {row.run_id} began; nothing was started",
        f"{again} --use stored (go on as it began) or --use new (as the preview says)",
    )
    error = {"message": fault.message, "cure": fault.cure}
    out.document({**document, "status": "invalid", "error": error})
    return fault


def _redo(step: str | None, plan: Plan) -> tuple[str, ...]:
    """The steps to be done again. Raises UsageError for one that the workflow does not have."""
    if step is None:
        return ()
    known = [s.id for s in (*plan.steps, *plan.finally_)]
    if step not in known:
        inner = step.split("/")[0]
        cure = f"name the step it is a part of: --from {inner}" if inner in known else ""
        raise UsageError(
            f"the workflow '{plan.workflow}' has no step '{step}'", cure or did_you_mean(step, known)
        )
    return dependants(plan, step)


def _say_cancelled(row: RunRow, out: Out) -> int:
    """It was due a moment ago; nobody asks for a cancelled run to go on but a person."""
    document = {"run_id": row.run_id, "status": row.state, "workflow": row.workflow}
    out.document({**document, "waits": [], "error": None})
    out.line(f"the run {row.run_id} was cancelled meanwhile; nothing was started", "yellow")
    return 0


def _say_completed(row: RunRow, outputs: Mapping[str, Any], out: Out) -> int:
    document = {"run_id": row.run_id, "status": row.state, "workflow": row.workflow}
    out.document({**document, "outputs": outputs, "usage": row.usage, "waits": [], "error": None})
    out.line(f"the run {row.run_id} is completed; nothing is left to do", "green")
    out.line(f"  do a step again: phaseline resume {row.run_id} --from STEP")
    return 0


def _say_waiting(row: RunRow, ledger: Ledger, places: Sequence[str], out: Out) -> int:
    """3 for a run that nobody has answered; 0 for one that can go on."""
    waits = [wait_document(w) for w in ledger.waits.of_run(TENANT, row.run_id) if w.state == "open"]
    if not waits or row.run_id in ledger.steering.due(TENANT):
        return 0
    message = "it waits for an answer" if len(waits) == 1 else f"it waits for one of {len(waits)} answers"
    error = {"message": message, "cure": "answer it, then resume"}
    document = {"run_id": row.run_id, "status": "waiting", "workflow": row.workflow}
    out.document({**document, "waits": waits, "error": error})
    out.line(f"the run {row.run_id} waits; nothing was started", "yellow")
    for wait in waits:
        print_lines(wait_lines(wait, places_for(row, places)), out)
    return WAITING
