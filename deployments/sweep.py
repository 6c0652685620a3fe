"""What every command that opens the ledger does first: deadlines that passed, and a word about due runs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence

from blocks.ledger import Ledger, LedgerError
from blocks.ledger.waits import WaitRow
from deployments.display import Out
from deployments.recorded import TENANT

REMIND_US = 24 * 3600 * 1_000_000
"""How often people are reminded of a question at most."""


def sweep(ledger: Ledger, out: Out, places: Sequence[str] = (), *, but: str = "") -> None:
    """Applies what is due and tells on standard error which runs can go on; some milliseconds at most.

    A ledger that cannot be read or written here is the command's own error a moment later.
    but: a run that this very command is about.
    """
    try:
        if ledger.steering.idle(TENANT):
            return
        apply_due(ledger)
        due = [run_id for run_id in ledger.steering.due(TENANT) if run_id != but]
    except LedgerError:
        return
    if due:
        what = f"the run {due[0]} is due" if len(due) == 1 else f"{len(due)} runs are due"
        out.note(f"{what}: {shlex.join(['phaseline', *places, 'wake'])}", "yellow")


def apply_due(ledger: Ledger) -> tuple[list[WaitRow], list[WaitRow]]:
    """The waits whose deadline decided now, and those people are reminded of. Raises LedgerError."""
    waits = ledger.waits
    due = waits.next_due(TENANT, REMIND_US)
    if due is None or due > time.time_ns() // 1000:
        return [], []
    return waits.expire_due(TENANT), waits.remind_due(TENANT, REMIND_US)
