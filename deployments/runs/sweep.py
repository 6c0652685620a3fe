"""What every command that opens the ledger does first: apply deadlines, and let due runs go on."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Sequence

from blocks.current_time import now_us
from blocks.ledger import Ledger, LedgerError, Owner, RunRow
from blocks.ledger.runs.interrupted import AUTO, may_revive, read_interrupted
from blocks.ledger.tables.clock import ClockAhead
from blocks.ledger.waits.waits import WaitRow
from deployments.runs.caller import Caller
from deployments.runs.host import Notice, Notify
from deployments.runs.lookup import wakes
from deployments.runs.next_commands import going_on_by

REMIND_US = 24 * 3600 * 1_000_000
"""How often people are reminded of a question at most."""
LOST_US = 7 * 24 * 3600 * 1_000_000
"""How long people are told of a run that was interrupted. Afterwards `runs` still lists it."""


def sweep(ledger: Ledger, caller: Caller, notify: Notify, *, but: str = "", shown: str = "") -> None:
    """Applies deadlines, and continues in the background what a deadline or a quota's reset made due.

    Some milliseconds where nothing is due. Runs that somebody answered, and those whose process died, are
    only told of: people decide when they go on, unless the run's catalog says
    `resume: auto`. A ledger that cannot be read or written
    here is the command's own error a moment later.

    but: a run that the caller continues. shown: one that is shown, with what is to be done.
    """
    try:
        if ledger.steering.is_idle(caller.tenant):
            return
        if (held := ledger.stopped_holder()) is not None:
            text = f"nothing that is due is done: {ledger.describe()} is held by {held.shown}"
            notify(Notice("ledger_held", text, held.cure))
            return
        ahead = ledger.clock_ahead()
        ledger.note_time()
        apply_due(ledger, caller.tenant)
        due = [run_id for run_id in ledger.steering.due(caller.tenant) if run_id != but]
        lost = _find_interrupted(ledger, caller.tenant, (but, shown))
        at = now_us()
        revived = [row.run_id for row in lost if row.labels.get(AUTO) and may_revive(row, at)]
        woken = _wake(ledger, caller, notify, [*due, *revived], revived) if due or revived else []
        lost = [row for row in lost if row.run_id not in woken]
    except LedgerError:
        return
    if ahead is not None:
        notify(clock_notice(ahead, caller.places))
    if told := [run_id for run_id in due if run_id not in woken]:
        what = f"the run {told[0]} is due" if len(told) == 1 else f"{len(told)} runs are due"
        notify(Notice("due", f"{what}: {shlex.join(['phaseline', *caller.places, 'wake'])}"))
    if lost:
        notify(_interrupted_notice(lost, caller.places))


def clock_notice(ahead: ClockAhead, places: Sequence[str]) -> Notice:
    """What a clock that is not believed would decide, and how a person says that it is right."""
    confirm = shlex.join(["phaseline", *places, "wake", "--confirm-clock"])
    cure = f"set the clock right; or, if it is right: {confirm}"
    return Notice("clock", ahead.message, cure, tuple(ahead.lines()))


def _wake(
    ledger: Ledger, caller: Caller, notify: Notify, due: Sequence[str], revived: Sequence[str]
) -> list[str]:
    """Those that go on in the background. Of those that could not it is told why.

    `revived` are among them: their process died, and they may go on by themselves.
    """
    from deployments.runs import background_wakes as waking
    from deployments.runs.wake_attempts import attempts

    home, environ = caller.home, caller.environ
    log, known = home / waking.LOG, attempts(home)
    tried = [run_id for run_id in due if run_id in known]
    # Without a message it is begun, or comes after one that is at work; else its process ended unheard.
    going = [r for r in tried if not known[r].message] if tried and waking.under_way(home) else []
    failed = [run_id for run_id in tried if run_id not in going]
    by_itself = [*ledger.steering.due_by_clock(caller.tenant), *revived]
    by_clock = [r for r in by_itself if r in due and r not in tried]
    mine = [r for r in by_clock if _may_wake(ledger, caller, r, lost=r in revived)]
    if mine and wakes(environ) and waking.wake_in_background(mine, home, environ):
        going += mine
    if going:
        what = f"the run {going[0]} goes" if len(going) == 1 else f"{len(going)} runs go"
        notify(Notice("woken", f"{what} on in the background; what is written: {log}"))
    if going and (stopped := waking.stopped_waker(home)) is not None:
        notify(Notice("not_woken", f"but it is stopped: {stopped.shown}", stopped.cure))
    for run_id in failed:
        attempt = known[run_id]
        why = attempt.message or "its process ended without saying why"
        at = time.strftime("%H:%M:%S", time.localtime(attempt.at))
        text = f"the run {run_id} could not go on by itself at {at}: {why}"
        notify(Notice("not_woken", text, attempt.cure or f"read {log}"))
    return going


def _may_wake(ledger: Ledger, caller: Caller, run_id: str, *, lost: bool) -> bool:
    """Whether a run may go on from here: one of this machine, or one that a worker has lost, through Prefect.

    What else is due of a worker's is a schedule of Prefect.
    """
    from deployments.runs import background_wakes as waking

    row = ledger.reader.get_run(caller.tenant, run_id)
    return waking.can_wake(row, ledger.shared, caller.environ) or (lost and row is not None and row.deployed)


def _find_interrupted(ledger: Ledger, tenant: str, but: Collection[str]) -> list[RunRow]:
    """The runs whose process died of late: of this machine, where others share the ledger; and those of
    workers that go on by themselves."""
    here, since = Owner.current(), now_us() - LOST_US
    rows = ledger.reader.read(lambda c: read_interrupted(c, tenant, here))
    late = [r for r in rows if r.heartbeat > since and r.run_id not in but]
    if not late:
        return []
    near = not ledger.shared
    return [r for r in late if (r.labels.get(AUTO) if r.deployed else near or r.last_host == here.host)]


def _interrupted_notice(lost: Sequence[RunRow], places: Sequence[str]) -> Notice:
    row = lost[-1]
    what = f"the run {row.run_id} was interrupted"
    if len(lost) > 1:
        what = f"{len(lost)} runs were interrupted, the last one {row.run_id}"
    return Notice("interrupted", f"{what}: {going_on_by(row, places)}")


def apply_due(ledger: Ledger, tenant: str) -> tuple[list[WaitRow], list[WaitRow]]:
    """The waits whose deadline decided now, and those people are reminded of. Raises LedgerError."""
    waits = ledger.waits
    due = waits.next_due(tenant, REMIND_US)
    if due is None or due > now_us():
        return [], []
    return waits.expire_due(tenant), waits.remind_due(tenant, REMIND_US)
