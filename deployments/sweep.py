"""What every command that opens the ledger does first: apply deadlines, and let due runs go on."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from blocks.ledger import Ledger, LedgerError
from blocks.ledger.waits import WaitRow
from deployments.display import Out
from deployments.recorded import TENANT

REMIND_US = 24 * 3600 * 1_000_000
"""How often people are reminded of a question at most."""


def sweep(ledger: Ledger, out: Out, home: Path, places: Sequence[str] = (), *, but: str = "") -> None:
    """Applies deadlines, and continues in the background what a deadline or a quota's reset made due.

    Some milliseconds where nothing is due. Runs that somebody answered are only told of, on standard error:
    who answered decides when they go on. A ledger that cannot be read or written here is the command's own
    error a moment later. but: a run that this very command is about.
    """
    try:
        if ledger.steering.idle(TENANT):
            return
        apply_due(ledger)
        due = [run_id for run_id in ledger.steering.due(TENANT) if run_id != but]
        woken = _woken(ledger, due, home, out) if due else []
    except LedgerError:
        return
    if told := [run_id for run_id in due if run_id not in woken]:
        what = f"the run {told[0]} is due" if len(told) == 1 else f"{len(told)} runs are due"
        out.note(f"{what}: {shlex.join(['phaseline', *places, 'wake'])}", "yellow")


def _woken(ledger: Ledger, due: Sequence[str], home: Path, out: Out) -> list[str]:
    """Those that go on in the background now."""
    from deployments import waking

    by_clock = [run_id for run_id in ledger.steering.due_by_clock(TENANT) if run_id in due]
    mine = [run_id for run_id in by_clock if waking.can_wake(ledger.reader.get_run(TENANT, run_id))]
    if not mine or not waking.wakes(os.environ):
        return []
    log = waking.wake_in_background(mine, home)
    if log is None:
        return []
    what = f"the run {mine[0]} goes" if len(mine) == 1 else f"{len(mine)} runs go"
    out.note(f"{what} on in the background; what is written: {log}", "yellow")
    return mine


def apply_due(ledger: Ledger) -> tuple[list[WaitRow], list[WaitRow]]:
    """The waits whose deadline decided now, and those people are reminded of. Raises LedgerError."""
    waits = ledger.waits
    due = waits.next_due(TENANT, REMIND_US)
    if due is None or due > time.time_ns() // 1000:
        return [], []
    return waits.expire_due(TENANT), waits.remind_due(TENANT, REMIND_US)
