"""Continuing a run where it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from blocks.ledger import Ledger, Owner, RunRow
from blocks.ledger.database.access import run_order
from blocks.ledger.runs.interrupted import REVIVED, WOKEN, mark_woken
from blocks.ledger.runs.runs import held_run, taken_back_run
from blocks.ledger.waits.documents import wait_document
from blocks.run_request import RunRequest, catalog_of, request_of
from blocks.settings import Settings
from deployments.catalogs.opening import open_catalog
from deployments.runs.budget_raises import Raised, raise_budgets, raised_limits
from deployments.runs.caller import Caller
from deployments.runs.drift import Preview, has_drifted, plan_now, preview_of, stored_plan
from deployments.runs.host import Host, Notice, RunEnd
from deployments.runs.local_run import run_here
from deployments.runs.lookup import find_run, open_ledger
from deployments.runs.manifests import outputs_of
from deployments.runs.model_keys import answers_offline, say_keys
from deployments.runs.next_commands import giving_again, places_for, resuming
from deployments.runs.start import Start, is_parked
from deployments.runs.sweep import sweep
from flows.launch import refuse_ungiven
from flows.preview import dependants
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.plans.plan import Plan

WAITING = 3
"""The exit code of a run that waits for a person."""


@dataclass(frozen=True)
class ResumeRequest:
    """A run that is to go on, and what changes by that."""

    caller: Caller
    run_id: str
    step: str | None = None
    """A step that is done again, with what depends on it."""
    use: Literal["stored", "new"] | None = None
    """Where the workflow changed: as the run began, or as the catalog has it. None: then nothing starts."""
    raise_budget: Sequence[str] = ()
    """`NAME=TOTAL`, each."""
    repeat_effects: bool = False
    woken: bool = False
    """Whether nobody asked for it just now: what a person alone may decide stays as it is."""
    storage: str | None = None
    """None: where the run has been so far."""

    @property
    def decides(self) -> bool:
        """Whether a person asks for it: what wakes by itself changes nothing of what was decided."""
        changes = self.step or self.raise_budget or self.repeat_effects or self.use == "new"
        return not self.woken or bool(changes)


@dataclass(frozen=True)
class NotResumed:
    """Why nothing was started, though nothing is wrong."""

    why: Literal["cancelled", "completed", "waiting"]
    run_id: str
    document: Mapping[str, Any]
    exit_code: int
    places: Sequence[str] = ()
    """The options of commands that say where the run's things are."""


class Drifted(UsageError):
    """The workflow changed since the run began, and nobody said which one goes on."""

    def __init__(self, row: RunRow, preview: Preview, places: Sequence[str]) -> None:
        again = resuming(places, row.run_id)
        super().__init__(
            f"the workflow '{row.workflow}' changed since the run {row.run_id} began; nothing was started",
            f"{again} --use stored (go on as it began) or --use new (as the preview says)",
        )
        self.preview = preview

    def to_document(self) -> dict[str, Any]:
        """The preview, with the error in it."""
        error = {"message": self.message, "cure": self.cure}
        return {**self.preview.to_document(), "status": "invalid", "error": error}


@dataclass(frozen=True)
class _Found:
    """A run that may be continued: its row, where it is, and its definition then and now."""

    row: RunRow
    settings: Settings
    catalog: Catalog
    stored: Plan | None
    now: Plan
    drift: bool
    use: Literal["stored", "new"] | None

    @property
    def plan(self) -> Plan:
        """The definition that goes on. Raises UsageError where the one that is wanted cannot be read."""
        if self.use != "stored" or not self.drift:
            return self.stored if self.stored is not None and not self.drift else self.now
        raise UsageError(
            f"the definition that the run {self.row.run_id} has cannot be read from {self.settings.storage}",
            "continue it with the catalog's: --use new; or name the storage it is in: --storage URI",
        )


def resume_run(request: ResumeRequest, host: Host) -> RunEnd | NotResumed:
    """Continues the run in this process until it ends or waits. Raises PhaselineError, of it Drifted."""
    with open_ledger(request.caller, decides=request.decides) as ledger:
        sweep(ledger, request.caller, host.notify, but=request.run_id)
        start = prepare_resume(request, ledger, host)
    return start if isinstance(start, NotResumed) else run_here(start, host)


def preview_resume(request: ResumeRequest, host: Host) -> Preview:
    """What continuing it would do; nothing is started. Raises PhaselineError."""
    with open_ledger(request.caller) as ledger:
        sweep(ledger, request.caller, host.notify, but=request.run_id)
        row, _ = _find_run(request, ledger)
        found = _find_definition(request, row)
        return _preview(found, ledger, request)


def preview_plan(caller: Caller, run_id: str, plan: Plan) -> Preview:
    """What the run would reuse of this plan. Raises UsageError where it is one of another workflow."""
    with open_ledger(caller) as ledger:
        row = find_run(ledger.reader, run_id, caller)
        if row.workflow != plan.workflow:
            raise UsageError(
                f"the run {row.run_id} is one of the workflow '{row.workflow}'",
                f"phaseline show {row.run_id}",
            )
        settings = caller.settings()
        settings = replace(settings, storage=row.storage or settings.storage)
        drift = has_drifted(row, stored_plan(settings, row, caller.environ), plan)
        return preview_of(ledger, settings, row, plan, environ=caller.environ, drift=drift)


def prepare_resume(request: ResumeRequest, ledger: Ledger, host: Host) -> Start | NotResumed:
    """What is to be run, or why there is nothing to run. Raises PhaselineError, of it Drifted."""
    caller, environ = request.caller, request.caller.environ
    row, raised = _find_run(request, ledger, at_work=False)
    if done := _nothing_to_do(request, row, ledger):
        return done
    found = _find_definition(request, row)
    plan = found.plan
    redo = _steps_again(request.step, plan)
    if found.drift and request.use is None:
        raise Drifted(row, _preview(found, ledger, request), caller.places)
    plan = raise_budgets(ledger, row, plan, raised)
    offline = answers_offline(False, plan, environ, row, host.notify)
    if not offline:
        say_keys(plan, found.catalog, environ, host.notify)
    asked = request_of(row.labels) or RunRequest(
        row.workflow, catalog=caller.named.get("catalog", ""), home=caller.named.get("home", "")
    )
    _note_who_asked(ledger, row, woken=request.woken)
    if row.state == "cancelled":
        host.notify(Notice("cancelled", f"the run {row.run_id}: it was cancelled; it goes on"))
    return Start(
        plan,
        found.catalog,
        {},
        found.settings,
        environ,
        row.run_id,
        offline,
        asked,
        caller.tenant,
        redo=redo,
        repeat_effects=request.repeat_effects,
        expect=row.seen,
        # Only a person knows whether the quota is there again: what goes on by itself keeps to its time.
        lift_parks=is_parked(row) and not request.woken,
    )


def _find_run(request: ResumeRequest, ledger: Ledger, *, at_work: bool = True) -> tuple[RunRow, list[Raised]]:
    """The run and its new limits. Raises UsageError; where it may not be `at_work` also for one that is."""
    row = find_run(ledger.reader, request.run_id, request.caller)
    raised = raised_limits(request.raise_budget)
    if row.holder is not None and not at_work:
        raise held_run(row.run_id, row.holder.shown)
    if row.taken_back:
        raise taken_back_run(row)
    refuse_ungiven(row, (), giving_again(row))
    return row, raised


def _nothing_to_do(request: ResumeRequest, row: RunRow, ledger: Ledger) -> NotResumed | None:
    known: dict[str, Any] = {"run_id": row.run_id, "status": row.state, "workflow": row.workflow}
    if request.woken and row.state == "cancelled":
        # It was due a moment ago; nobody asks for a cancelled run to go on but a person.
        return NotResumed("cancelled", row.run_id, {**known, "waits": [], "error": None}, 0)
    if request.step or request.use == "new":
        return None
    if row.state == "completed":
        caller = request.caller
        outputs = outputs_of(row, caller.settings().storage, caller.environ)
        document = {**known, "outputs": outputs, "usage": row.usage, "waits": [], "error": None}
        return NotResumed("completed", row.run_id, document, 0)
    return _still_waiting(request, row, ledger) if row.state == "waiting" else None


def _still_waiting(request: ResumeRequest, row: RunRow, ledger: Ledger) -> NotResumed | None:
    """A run that nobody has answered; None for one that can go on."""
    waits = [
        wait_document(w) for w in ledger.waits.of_run_blocking(row.tenant, row.run_id) if w.state == "open"
    ]
    if not waits or row.run_id in ledger.steering.due(row.tenant):
        return None
    message = "it waits for an answer" if len(waits) == 1 else f"it waits for one of {len(waits)} answers"
    error = {"message": message, "cure": "answer it, then resume"}
    document: dict[str, Any] = {"run_id": row.run_id, "status": "waiting", "workflow": row.workflow}
    document |= {"waits": waits, "error": error}
    return NotResumed("waiting", row.run_id, document, WAITING, places_for(row, request.caller.places))


def _note_who_asked(ledger: Ledger, row: RunRow, *, woken: bool) -> None:
    """Killed from here on, a run that was woken is woken again, and one that a person continued is not."""
    if woken or WOKEN in row.labels or REVIVED in row.labels:
        note = partial(mark_woken, tenant=row.tenant, run_id=row.run_id, viewer=Owner.current(), woken=woken)
        ledger.access.write_blocking(note, run_order(row.tenant, row.run_id))


def _find_definition(request: ResumeRequest, row: RunRow) -> _Found:
    """The run's catalog and storage: as given, else as it began."""
    caller = request.caller
    given = "catalog" in caller.named
    catalog = open_catalog(caller.catalog if given else Path(catalog_of(row.labels) or caller.catalog))
    storage = row.storage or None if request.storage is None else request.storage
    settings = caller.settings(catalog=str(catalog.root), storage=storage)
    stored = stored_plan(settings, row, caller.environ)
    if request.use == "stored" and stored is not None:
        return _Found(row, settings, catalog, stored, stored, drift=False, use=request.use)
    now = plan_now(row, catalog, stored)
    return _Found(row, settings, catalog, stored, now, has_drifted(row, stored, now), request.use)


def _preview(found: _Found, ledger: Ledger, request: ResumeRequest) -> Preview:
    plan = found.plan
    return preview_of(
        ledger,
        found.settings,
        found.row,
        plan,
        environ=request.caller.environ,
        drift=found.drift,
        redo=_steps_again(request.step, plan),
    )


def _steps_again(step: str | None, plan: Plan) -> tuple[str, ...]:
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
