"""Runs whose process died while it worked on them, and whether anybody had asked for that work."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from blocks.ledger.tables.columns import from_text, labels_text, plain
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import RunRow, RunState
from blocks.ledger.tables.rows import holder_of, now, run_query, run_row, this_run
from blocks.ledger.tables.schema import run

AUTO = "resume_auto"
"""Label of a run: its catalog says `resume: auto`."""
REVIVED = "revived"
"""Label of a run: how often it was continued after its process had died, and when last (microseconds)."""
MOST_REVIVALS = 5
FIRST_PAUSE_US = 15_000_000
"""Microseconds before the second time; four times as long before each further one: the last is 16 minutes."""
WOKEN = "woken"
"""Label of a run: the lease epoch under which it was continued with nobody looking on."""


def read_interrupted(connection: Connection, tenant: str, viewer: Owner) -> list[RunRow]:
    """The runs whose process died, as far as `viewer` can tell; the latest sign of life comes last."""
    query = select(run, now(connection).label("at")).where(
        run.c.tenant == tenant, run.c.state == "running", run.c.root_run_id == run.c.run_id
    )
    rows = [run_row(found, viewer) for found in connection.execute(query.order_by(run.c.heartbeat))]
    return [row for row in rows if row.state == "interrupted"]


def mark_woken(connection: Connection, tenant: str, run_id: str, viewer: Owner, woken: bool) -> None:
    """Writes down that whoever begins to work on the run next was woken, or, else, that a person asked.

    Beforehand: a process that is killed afterwards cannot. Nothing is written while the run is held.
    """
    found = connection.execute(run_query(connection, tenant, run_id).with_for_update()).first()
    if found is None or holder_of(found, viewer) is not None:
        return
    labels = {name: value for name, value in from_text(found.labels).items() if name != WOKEN}
    if woken:
        labels[WOKEN] = found.lease_epoch + 1
    else:
        labels.pop(REVIVED, None)
    written = labels_text(labels)
    connection.execute(update(run).where(this_run(tenant, run_id)).values(labels=written))


def mark_revived(connection: Connection, tenant: str, run_id: str, viewer: Owner) -> bool:
    """Counts that a run is continued after its process died. False when somebody works on it again."""
    found = connection.execute(run_query(connection, tenant, run_id).with_for_update()).first()
    if found is None or holder_of(found, viewer) is not None:
        return False
    labels = from_text(found.labels)
    labels[REVIVED] = [int(labels.get(REVIVED, [0, 0])[0]) + 1, found.at]
    written = labels_text(labels)
    connection.execute(update(run).where(this_run(tenant, run_id)).values(labels=written))
    return True


def mark_stopped(
    connection: Connection,
    tenant: str,
    run_id: str,
    viewer: Owner,
    seen: tuple[RunState, int],
    wake_at: int,
    reason: str,
) -> bool:
    """Has a run go on by itself from `wake_at` (microseconds since 1970): who asked for it could not begin.

    False, and nothing written, where it is not as it was `seen` any more.
    """
    found = connection.execute(run_query(connection, tenant, run_id).with_for_update()).first()
    if found is None or holder_of(found, viewer) is not None or run_row(found, viewer).seen != seen:
        return False
    values = {"state": "stopped", "wake_at": wake_at, "wake_reason": plain(reason)[:500]}
    stopped = update(run).where(this_run(tenant, run_id)).values(**values, version=run.c.version + 1)
    connection.execute(stopped.values(lease_until=0, updated=found.at))
    return True


def may_revive(row: RunRow, at: int) -> bool:
    """Whether a run whose process died may go on by itself now: one that was woken, or whose catalog says so.

    Not for ever, and with growing pauses, since it may be the run that kills its process. `at`: microseconds
    since 1970.
    """
    if not (row.state == "interrupted" and row.labels.get(AUTO)) and not woken_in_vain(row):
        return False
    count, last = row.labels.get(REVIVED, (0, 0))
    return count == 0 or bool(count < MOST_REVIVALS and at >= last + FIRST_PAUSE_US * 4 ** (count - 1))


def woken_in_vain(row: RunRow) -> bool:
    """Whether the process that died with the run was woken: nobody else goes on with it."""
    return row.state == "interrupted" and bool(row.labels.get(WOKEN) == row.epoch)
