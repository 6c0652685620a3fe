"""Ending a run for good, and taking back what it did."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocks.ledger import Ledger, RunRow
from blocks.patience import Patience, Vigil
from blocks.run_request import catalog_of
from blocks.settings import Settings
from deployments.catalogs.opening import open_catalog
from deployments.runs.caller import Caller
from deployments.runs.continuation import end_flow_run
from deployments.runs.drift import plan_now, stored_plan
from deployments.runs.host import Host, Notice
from deployments.runs.lookup import find_run, open_ledger
from workflows.core.errors import PhaselineError, UsageError

if TYPE_CHECKING:
    from flows.undo import TakenBack

PATIENCE = 60.0
"""Seconds in which a run that was asked to end is waited for."""
_LOOK = 0.2


@dataclass(frozen=True)
class CancelRequest:
    """A run that is to end."""

    caller: Caller
    run_id: str
    undo: bool = False
    """Whether what it did is taken back, where its steps say how."""


@dataclass(frozen=True)
class CancelEnd:
    """The run as it stands then, and what was taken back; None where nothing was to be."""

    row: RunRow
    back: TakenBack | None

    @property
    def exit_code(self) -> int:
        """1 when it did not end, or when something could not be taken back."""
        return 0 if self.row.state == "cancelled" and (self.back is None or self.back.settled) else 1

    @property
    def document(self) -> dict[str, Any]:
        """What `cancel --json` prints."""
        told: dict[str, Any] = {"run_id": self.row.run_id, "status": self.row.state}
        undone, left = (self.back.undone, self.back.left) if self.back is not None else ((), ())
        told |= {"workflow": self.row.workflow, "undone": [end.to_document() for end in undone]}
        return {**told, "not_taken_back": [one.to_document() for one in left]}


def cancel_run(request: CancelRequest, host: Host) -> CancelEnd:
    """Cancels the run, once whoever works on it has ended. Raises PhaselineError."""
    with open_ledger(request.caller, decides=True) as ledger:
        before = find_run(ledger.reader, request.run_id, request.caller)
        row = _await_end(ledger, before, host)
        if row.state == "completed" and not request.undo:
            raise UsageError(
                f"the run {row.run_id} is completed",
                f"take back what it did with: phaseline cancel {row.run_id} --undo",
            )
        back = _take_back(request.caller, ledger, row) if request.undo else None
        now = ledger.reader.get_run(row.tenant, row.run_id) or row
    if before.state == "waiting" or before.wake_at is not None:
        end_flow_run(before, request.caller, host)
    return CancelEnd(now, back)


def _await_end(ledger: Ledger, row: RunRow, host: Host) -> RunRow:
    """The run once nobody works on it. Raises PhaselineError when it does not end."""
    deadline, asked = time.monotonic() + PATIENCE, False
    while True:
        if row.holder is None:
            ledger.steering.request_cancel(row.tenant, row.run_id)
        elif not asked:
            asked = ledger.steering.request_cancel(row.tenant, row.run_id) == "requested"
            host.notify(Notice("cancel_asked", f"{row.holder.shown} works on it and is asked to end it"))
        row = ledger.reader.get_run(row.tenant, row.run_id) or row
        if row.holder is None and row.state in ("completed", "cancelled"):
            return row
        if time.monotonic() > deadline:
            who = row.holder.shown if row.holder else "its process"
            raise PhaselineError(
                f"the run {row.run_id} was asked to end, and {who} has not ended it yet",
                "its last steps may take long: run the command again, or end that process",
            )
        time.sleep(_LOOK)


def _take_back(caller: Caller, ledger: Ledger, row: RunRow) -> TakenBack:
    from flows.undo import undo_run

    environ = {**caller.environ, "PHASELINE_HOME": str(caller.home)}
    catalog = "" if "catalog" in caller.named else catalog_of(row.labels) or ""
    settings = caller.settings(catalog=catalog, storage=row.storage or None)
    plan = stored_plan(settings, row, environ)
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
    patience = _patience(settings, caller)
    with Ledger.open(settings.database, vigil=Vigil(patience)) as patient:
        return asyncio.run(undo_run(patient, row, plan, settings, environ, patience))


def _patience(settings: Settings, caller: Caller) -> Patience:
    """That of the catalog, as in the run itself. What was done can be taken back without the catalog."""
    catalog = None
    with contextlib.suppress(UsageError):
        catalog = open_catalog(settings.catalog)
    return Patience.read(caller.environ, catalog.patience if catalog else None)
