"""How a run goes on once it may: by a command that is told, or, where a worker runs it, through Prefect."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blocks.ledger import Ledger, RunRow
from deployments.runs.lookup import TENANT
from deployments.server import kept_server as local_server
from deployments.terminal.display import Out
from deployments.terminal.next_commands import going_on_by, resuming

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

    def print(self, out: Out) -> None:
        """For people."""
        if self.woken:
            out.line(f"the run {self.run_id} goes on, on its worker", "green")
        elif self.taken_back:
            out.line(f"the run {self.run_id} is taken back; go on with: {self.command}")
        elif self.failed:
            told = f"the run {self.run_id} has failed elsewhere, and does nothing with the answer yet"
            out.line(f"{told}; continue it with: {self.command}", "yellow")
        elif self.due:
            out.line(f"continue it with: {self.command}")
        else:
            out.line(f"the run {self.run_id} still waits for more, or is at work; later: {self.command}")


def going_on(ledger: Ledger, run_id: str, home: Path, places: Sequence[str], out: Out) -> GoingOn:
    """What can be done for a run whose wait was decided; a suspended deployed one is woken."""
    row = ledger.reader.get_run(TENANT, run_id)
    errors = [step.error for step in ledger.reader.steps(TENANT, run_id)]
    command = resuming(places, run_id) if row is None else going_on_by(row, places, errors)
    if row is not None and row.taken_back:
        return GoingOn(run_id, False, command, taken_back=True)
    due = run_id in ledger.steering.due(TENANT)
    woken = due and row is not None and row.deployed and bool(wake_deployed(row, home, out))
    failed = row is not None and row.state == "failed"
    return GoingOn(run_id, due, command, woken, failed=failed and not woken)


def wake_deployed(row: RunRow, home: Path, out: Out) -> Woken:
    """Asks Prefect to let a run that is due go on, by its flow run or, where that has ended, by another one.

    "" when no worker will; says so when its server cannot be reached.
    """
    if not _reachable(home):
        _tell_unreachable(row, out, "no Prefect server runs here, and PREFECT_API_URL names none")
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
        _tell_unreachable(row, out, fault.message)
        return ""


def end_flow_run(row: RunRow, home: Path, out: Out) -> None:
    """Shows the flow run of a cancelled run as cancelled, where Prefect's server can be reached."""
    if not row.flow_run_id or not _reachable(home):
        return
    from deployments.server.unavailable import server_fault
    from flows.wakes import end_held

    try:
        asyncio.run(end_held(row.run_id, row.flow_run_id))
    except Exception as error:
        fault = server_fault(error)
        if fault is None:
            raise
        out.note(f"Prefect still shows the flow run {row.flow_run_id} as waiting: {fault.message}", "yellow")


def _reachable(home: Path) -> bool:
    """Points Prefect at its server; False when none is named and none runs here."""
    if not os.environ.get("PREFECT_API_URL"):
        info = local_server.status(home)
        if info is None:
            return False
        os.environ.update(local_server.prefect_environment(info, home, os.environ, quiet=True))
    # Nobody waits a minute for a command that answers a question: six seconds.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "2")
    return True


def _tell_unreachable(row: RunRow, out: Out, why: str) -> None:
    out.note(f"the run {row.run_id} is not woken: {why}", "yellow")
    out.note(f"  cure: press Resume on its flow run {row.flow_run_id} in Prefect, or continue it here")
