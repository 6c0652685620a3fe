"""What every command that opens the ledger does first: apply deadlines, and let due runs go on."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from blocks.current_time import now_us
from blocks.ledger import Ledger, LedgerError, Owner, RunRow
from blocks.ledger.runs.interrupted import AUTO, may_revive, read_interrupted
from blocks.ledger.tables.clock import ClockAhead
from blocks.ledger.waits.waits import WaitRow
from deployments.runs.lookup import TENANT, wakes
from deployments.terminal.display import Out
from deployments.terminal.next_commands import going_on_by

REMIND_US = 24 * 3600 * 1_000_000
"""How often people are reminded of a question at most."""
LOST_US = 7 * 24 * 3600 * 1_000_000
"""How long people are told of a run that was interrupted. Afterwards `runs` still lists it."""


def sweep(
    ledger: Ledger, out: Out, home: Path, places: Sequence[str] = (), *, but: str = "", shown: str = ""
) -> None:
    """Applies deadlines, and continues in the background what a deadline or a quota's reset made due.

    Some milliseconds where nothing is due. Runs that somebody answered, and those whose process died, are
    only told of, on standard error: people decide when they go on, unless the run's catalog says
    `resume: auto`. A ledger that cannot be read or written
    here is the command's own error a moment later.

    but: a run that this very command continues. shown: one that it shows, with what is to be done.
    """
    try:
        if ledger.steering.is_idle(TENANT):
            return
        if (held := ledger.stopped_holder()) is not None:
            out.note(f"nothing that is due is done: {ledger.describe()} is held by {held.shown}", "yellow")
            out.note(f"  cure: {held.cure}")
            return
        ahead = ledger.clock_ahead()
        ledger.note_time()
        apply_due(ledger)
        due = [run_id for run_id in ledger.steering.due(TENANT) if run_id != but]
        lost = _find_interrupted(ledger, (but, shown))
        at = now_us()
        revived = [row.run_id for row in lost if row.labels.get(AUTO) and may_revive(row, at)]
        woken = _woken(ledger, [*due, *revived], home, out, revived) if due or revived else []
        lost = [row for row in lost if row.run_id not in woken]
    except LedgerError:
        return
    if ahead is not None:
        tell_clock(ahead, places, out)
    if told := [run_id for run_id in due if run_id not in woken]:
        what = f"the run {told[0]} is due" if len(told) == 1 else f"{len(told)} runs are due"
        out.note(f"{what}: {shlex.join(['phaseline', *places, 'wake'])}", "yellow")
    if lost:
        _tell_interrupted(lost, places, out)


def tell_clock(ahead: ClockAhead, places: Sequence[str], out: Out) -> None:
    """What a clock that is not believed would decide, and how a person says that it is right."""
    out.note(ahead.message, "yellow")
    for line in ahead.lines():
        out.note(f"  {line}")
    confirm = shlex.join(["phaseline", *places, "wake", "--confirm-clock"])
    out.note(f"  cure: set the clock right; or, if it is right: {confirm}")


def _woken(
    ledger: Ledger, due: Sequence[str], home: Path, out: Out, revived: Sequence[str] = ()
) -> list[str]:
    """Those that go on in the background. Of those that could not it is told why.

    `revived` are among them: their process died, and they may go on by themselves.
    """
    from deployments.runs import background_wakes as waking
    from deployments.runs.wake_attempts import attempts

    log, known = home / waking.LOG, attempts(home)
    tried = [run_id for run_id in due if run_id in known]
    # Without a message it is begun, or comes after one that is at work; else its process ended unheard.
    going = [r for r in tried if not known[r].message] if tried and waking.under_way(home) else []
    failed = [run_id for run_id in tried if run_id not in going]
    by_itself = [*ledger.steering.due_by_clock(TENANT), *revived]
    by_clock = [r for r in by_itself if r in due and r not in tried]
    mine = [r for r in by_clock if _may_wake(ledger, r, lost=r in revived)]
    if mine and wakes(os.environ) and waking.wake_in_background(mine, home, dict(os.environ)):
        going += mine
    if going:
        what = f"the run {going[0]} goes" if len(going) == 1 else f"{len(going)} runs go"
        out.note(f"{what} on in the background; what is written: {log}", "yellow")
    if going and (stopped := waking.stopped_waker(home)) is not None:
        out.note(f"but it is stopped: {stopped.shown}", "yellow")
        out.note(f"  cure: {stopped.cure}")
    for run_id in failed:
        attempt = known[run_id]
        why = attempt.message or "its process ended without saying why"
        at = time.strftime("%H:%M:%S", time.localtime(attempt.at))
        out.note(f"the run {run_id} could not go on by itself at {at}: {why}", "yellow")
        out.note(f"  cure: {attempt.cure or f'read {log}'}")
    return going


def _may_wake(ledger: Ledger, run_id: str, *, lost: bool) -> bool:
    """Whether a run may go on from here: one of this machine, or one that a worker has lost, through Prefect.

    What else is due of a worker's is a schedule of Prefect.
    """
    from deployments.runs import background_wakes as waking

    row = ledger.reader.get_run(TENANT, run_id)
    return waking.can_wake(row, ledger.shared) or (lost and row is not None and row.deployed)


def _find_interrupted(ledger: Ledger, but: Sequence[str]) -> list[RunRow]:
    """The runs whose process died of late: of this machine, where others share the ledger; and those of
    workers that go on by themselves."""
    here, since = Owner.current(), now_us() - LOST_US
    rows = ledger.reader.read(lambda c: read_interrupted(c, TENANT, here))
    late = [r for r in rows if r.heartbeat > since and r.run_id not in but]
    if not late:
        return []
    near = not ledger.shared
    return [r for r in late if (r.labels.get(AUTO) if r.deployed else near or r.last_host == here.host)]


def _tell_interrupted(lost: Sequence[RunRow], places: Sequence[str], out: Out) -> None:
    row = lost[-1]
    what = f"the run {row.run_id} was interrupted"
    if len(lost) > 1:
        what = f"{len(lost)} runs were interrupted, the last one {row.run_id}"
    out.note(f"{what}: {going_on_by(row, places)}", "yellow")


def apply_due(ledger: Ledger) -> tuple[list[WaitRow], list[WaitRow]]:
    """The waits whose deadline decided now, and those people are reminded of. Raises LedgerError."""
    waits = ledger.waits
    due = waits.next_due(TENANT, REMIND_US)
    if due is None or due > now_us():
        return [], []
    return waits.expire_due(TENANT), waits.remind_due(TENANT, REMIND_US)
