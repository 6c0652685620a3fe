"""How a run goes on once it may: by a command that is told, or, where a worker runs it, through Prefect."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from blocks.ledger import Ledger, RunRow
from deployments.runs.caller import Caller
from deployments.runs.host import Host, Notice
from deployments.runs.next_commands import going_on_by, resuming
from deployments.server import kept_server

if TYPE_CHECKING:
    from flows.wakes import Woken


@dataclass(frozen=True)
class GoingOn:
    """What follows an answer."""

    run_id: str
    due: bool
    """Whether the run can go on now."""
    command: str
    woken: bool = False
    """Whether a worker goes on with it."""
    taken_back: bool = False
    """Whether undoing the run asked: then undoing goes on, and not the run."""
    failed: bool = False
    """Whether the run has failed beside the question: nothing goes on with it by itself."""

    def to_document(self) -> dict[str, object]:
        """Fields of the document of an answer."""
        return {"due": self.due, "woken": self.woken, "failed": self.failed, "resume": self.command}


def let_go_on(ledger: Ledger, run_id: str, caller: Caller, host: Host) -> GoingOn:
    """What can be done for a run whose wait was decided; a suspended deployed one is woken."""
    row = ledger.reader.get_run(caller.tenant, run_id)
    errors = [step.error for step in ledger.reader.steps(caller.tenant, run_id)]
    command = resuming(caller.places, run_id) if row is None else going_on_by(row, caller.places, errors)
    if row is not None and row.taken_back:
        return GoingOn(run_id, False, command, taken_back=True)
    due = run_id in ledger.steering.due(caller.tenant)
    woken = due and row is not None and row.deployed and bool(wake_deployed(row, caller, host))
    failed = row is not None and row.state == "failed"
    return GoingOn(run_id, due, command, woken, failed=failed and not woken)


def wake_deployed(row: RunRow, caller: Caller, host: Host) -> Woken:
    """Asks Prefect to let a run that is due go on, by its flow run or, where that has ended, by another one.

    "" when no worker will; says so when its server cannot be reached.
    """
    if not _point_prefect(caller, host):
        why = "no Prefect server runs here, and PREFECT_API_URL names none"
        host.notify(_unreachable_notice(row, why))
        return ""
    from deployments.server.unavailable import server_fault
    from flows.wakes import wake_flow_run

    ended = None if row.ended is None else datetime.fromtimestamp(row.ended / 1_000_000, UTC)
    try:
        lost = row.state == "interrupted"
        return asyncio.run(wake_flow_run(row.run_id, row.flow_run_id, ended, lost=lost))
    except Exception as error:
        fault = server_fault(error)
        if fault is None:
            raise
        host.notify(_unreachable_notice(row, fault.message))
        return ""


def end_flow_run(row: RunRow, caller: Caller, host: Host) -> None:
    """Shows the flow run of a cancelled run as cancelled, where Prefect's server can be reached."""
    if not row.flow_run_id or not _point_prefect(caller, host):
        return
    from deployments.server.unavailable import server_fault
    from flows.wakes import end_held

    try:
        asyncio.run(end_held(row.run_id, row.flow_run_id))
    except Exception as error:
        fault = server_fault(error)
        if fault is None:
            raise
        text = f"Prefect still shows the flow run {row.flow_run_id} as waiting: {fault.message}"
        host.notify(Notice("flow_run", text))


def _point_prefect(caller: Caller, host: Host) -> bool:
    """Points Prefect at its server; False when none is named and none runs here."""
    # Nobody waits a minute for a command that answers a question: six seconds.
    variables = {"PREFECT_CLIENT_MAX_RETRIES": caller.environ.get("PREFECT_CLIENT_MAX_RETRIES") or "2"}
    if not caller.environ.get("PREFECT_API_URL"):
        info = kept_server.status(caller.home)
        if info is None:
            return False
        variables |= kept_server.prefect_environment(info, caller.home, caller.environ)
    host.export(variables)
    return True


def _unreachable_notice(row: RunRow, why: str) -> Notice:
    cure = f"press Resume on its flow run {row.flow_run_id} in Prefect, or continue it here"
    return Notice("not_woken", f"the run {row.run_id} is not woken: {why}", cure)
