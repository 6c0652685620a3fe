"""How a run begins, is held, and ends: operations on one connection.

Operations that refuse return the exception (see writer.py). One that lost its connection during the
commit may be run again: each leaves the same rows the second time.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, case, select, update
from sqlalchemy.dialects import postgresql, sqlite

from blocks.ledger.tables.columns import RUN_LIMIT, address, labels_text, to_text, to_text_or_none
from blocks.ledger.tables.errors import Fenced, RunChanged, RunHeld, RunMismatch, RunTakenBack, RunUngiven
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import TAKEN_BACK, EndState, Lease, RunRow, RunStart
from blocks.ledger.tables.rows import now, run_query, run_row, this_run
from blocks.ledger.tables.schema import run, step

Values = dict[str, Any]
_AS_BEFORE = (
    *("storage", "flow_run_id", "plan_digest", "active_us"),
    *("heartbeat", "ended", "wake_at", "wake_reason"),
)
"""Columns that a start changes, and that are put back when it did nothing."""


def insert(dialect: str, table: Table) -> Any:
    """An INSERT that knows ON CONFLICT, of that dialect."""
    return (sqlite.insert if dialect == "sqlite" else postgresql.insert)(table)


def held_by(lease: Lease) -> ColumnElement[bool]:
    """The row of the lease's run, while the lease counts."""
    return and_(this_run(lease.tenant, lease.run_id), run.c.lease_epoch == lease.epoch, run.c.lease_until > 0)


def fenced_error(lease: Lease) -> Fenced:
    """What a write under a lease that counts no more is answered with."""
    return Fenced(
        f"run {lease.run_id} was finished or taken over by another process",
        f"see who works on it: phaseline show {lease.run_id}",
    )


def new_run(start: RunStart) -> Values:
    """The columns of a run's first row. LedgerError when an input is too large or no JSON."""
    return {
        "tenant": start.tenant,
        "run_id": start.run_id,
        "workflow": address(start.workflow),
        "state": "running",
        "offline": start.offline,
        "storage": address(start.storage),
        "plan_digest": start.plan_digest,
        "models": to_text(start.models, "the run's models", RUN_LIMIT),
        "inputs": to_text(start.inputs, "the run's inputs", RUN_LIMIT),
        "labels": labels_text(start.labels),
        "parent_run_id": start.parent_run_id,
        "root_run_id": start.root_run_id or start.run_id,
        "flow_run_id": start.flow_run_id,
    }


def begin(
    connection: Connection, start: RunStart, values: Values, owner: Owner, token: str, ttl_us: int
) -> Any:
    """A Lease on the run, new or taken over; or RunHeld, RunMismatch, RunChanged, RunTakenBack.

    values: the columns of `new_run(start)`.
    """
    at = now(connection)
    lease = {"lease_owner": _owner_text(owner, token), "lease_until": at + ttl_us, "heartbeat": at}
    added = (
        insert(connection.dialect.name, run)
        .values(**values, **lease, lease_epoch=1, created=at, updated=at)
        .on_conflict_do_nothing()
        .returning(run.c.lease_epoch)
    )
    tenant, run_id = values["tenant"], values["run_id"]
    if connection.execute(added).first() is not None:
        return Lease(tenant, run_id, 1, token, True, None)
    found = connection.execute(run_query(connection, tenant, run_id).with_for_update()).one()
    before, epoch = run_row(found, owner), found.lease_epoch
    if _token(found.lease_owner) == token:  # this very operation was committed already
        return Lease(tenant, run_id, epoch, token, False, before)
    refusal = _refusal(before, start, values["workflow"])
    if refusal is not None:
        return refusal
    if start.take_back:
        lease["labels"] = labels_text({**before.labels, TAKEN_BACK: True})
    if not connection.execute(_taken_over(found, values, lease, at)).rowcount:
        return held_run(found.run_id, "another process")
    return Lease(tenant, run_id, epoch + 1, token, False, before)


def _refusal(before: RunRow, start: RunStart, workflow: str) -> Exception | None:
    """Why an existing run is not taken over; None when it is."""
    if before.workflow != workflow:
        return RunMismatch(
            f"run {before.run_id} belongs to the workflow {before.workflow}, not to {workflow}",
            "choose another --run-id",
        )
    if before.holder is not None:
        return held_run(before.run_id, before.holder.shown)
    if before.taken_back and not start.take_back:
        return taken_back_run(before)
    if start.expect is not None and start.expect != before.seen:
        what = "cancelled" if before.state == "cancelled" else f"changed (it is {before.state} now)"
        return RunChanged(
            f"the run {before.run_id} was {what} meanwhile; nothing was started",
            f"see how it stands: phaseline show {before.run_id}",
        )
    return None


def taken_back_run(row: RunRow) -> RunTakenBack:
    """What somebody is told who wants to go on with a run whose work was undone."""
    return RunTakenBack(
        f"the run {row.run_id} was taken back",
        f"start a new one: phaseline run {row.workflow}; "
        f"or take back what is left of it: phaseline cancel {row.run_id} --undo",
    )


def ungiven_run(row: RunRow, command: str = "") -> RunUngiven:
    """What somebody is told who wants to go on with a run without the inputs it was given.

    `command`: the command line that gives them again, where it is known better than by the workflow's name.
    """
    names = row.ungiven
    again = command or " ".join(
        [f"phaseline run {row.workflow} --run-id {row.run_id}", *(f"-i {name}=..." for name in names)]
    )
    return RunUngiven(
        f"the run {row.run_id} ended before what it was given was written down ({', '.join(names)}); "
        "it does not go on with defaults",
        f"give the same command again, with the same inputs: {again}",
    )


def held_run(run_id: str, holder: str) -> RunHeld:
    """What somebody else is told who wants to work on a run that is held."""
    return RunHeld(
        f"run {run_id} is being worked on by {holder}",
        "wait for it to end, or end that process, then run the command again",
    )


def _taken_over(found: Row[Any], values: Values, lease: Values, at: ColumnElement[int]) -> Any:
    renewed = {name: values[name] or getattr(found, name) for name in ("storage", "flow_run_id")}
    return (
        update(run)
        .where(this_run(found.tenant, found.run_id), run.c.version == found.version)
        .values(
            **lease,
            **renewed,
            state="running",
            error=None,
            ended=None,
            wake_at=None,
            wake_reason="",
            cancel_requested=None,
            updated=at,
            lease_epoch=found.lease_epoch + 1,
            version=found.version + 1,
        )
    )


def _active_time(at: ColumnElement[int], ttl_us: int) -> ColumnElement[int]:
    """Active time up to now: what passed since the last heartbeat, at most one lease (it was suspended)."""
    passed = at - run.c.heartbeat
    return run.c.active_us + case((passed > ttl_us, ttl_us), (passed < 0, 0), else_=passed)


def renew(connection: Connection, lease: Lease, ttl_us: int) -> Any:
    """None when the lease goes on for another `ttl_us`; else Fenced."""
    at = now(connection)
    renewed = update(run).where(held_by(lease))
    renewed = renewed.values(lease_until=at + ttl_us, heartbeat=at, active_us=_active_time(at, ttl_us))
    return None if connection.execute(renewed).rowcount else fenced_error(lease)


def finish(
    connection: Connection, lease: Lease, state: EndState, values: Values, ttl_us: int, waited_us: int = 0
) -> Any:
    """None when the run is in its end state and free; else Fenced. `waited_us` of it were no active time."""
    at = now(connection)
    active = _active_time(at, ttl_us) - waited_us
    ended = update(run).where(held_by(lease))
    ended = ended.values(
        **values,
        state=state,
        ended=at,
        updated=at,
        heartbeat=at,
        active_us=case((active < 0, 0), else_=active),
        lease_until=0,
        version=run.c.version + 1,
    )
    if connection.execute(ended).rowcount:
        connection.execute(_cut_off(lease))
        return None
    # The same lease has ended it before: this is a repetition after a lost connection.
    again = select(run.c.state).where(this_run(lease.tenant, lease.run_id), run.c.lease_epoch == lease.epoch)
    return None if connection.execute(again).scalar() == state else fenced_error(lease)


def leave(connection: Connection, lease: Lease, before: RunRow) -> Any:
    """None when the run is free and as it was `before` the lease, which did nothing; else Fenced."""
    values = {"inputs": to_text(before.inputs, "the run's inputs", RUN_LIMIT)}
    values |= {"labels": labels_text(before.labels)}
    values |= {name: getattr(before, name) for name in _AS_BEFORE}
    # What was interrupted has no state of its own: it is at work, and nobody works on it.
    values["state"] = "running" if before.state == "interrupted" else before.state
    left = update(run).where(held_by(lease))
    left = left.values(
        **values,
        error=to_text_or_none(before.error, "the run's error", RUN_LIMIT),
        updated=now(connection),
        lease_until=0,
        version=run.c.version + 1,
    )
    if connection.execute(left).rowcount:
        return None
    again = select(run.c.state).where(this_run(lease.tenant, lease.run_id), run.c.lease_epoch == lease.epoch)
    return None if connection.execute(again).scalar() == values["state"] else fenced_error(lease)


def _cut_off(lease: Lease) -> Any:
    """Steps still marked as running when their run ends: nobody works on them any more."""
    of_run = and_(step.c.tenant == lease.tenant, step.c.run_id == lease.run_id)
    return update(step).where(of_run, step.c.state == "running").values(state="cancelled")


def change(connection: Connection, lease: Lease, values: Values) -> Any:
    """None when the columns are changed; else Fenced."""
    changed = update(run).where(held_by(lease))
    changed = changed.values(**values, updated=now(connection), version=run.c.version + 1)
    return None if connection.execute(changed).rowcount else fenced_error(lease)


def _owner_text(owner: Owner, token: str) -> str:
    return json.dumps({**asdict(owner), "token": token})


def _token(stored: str | None) -> str:
    return "" if stored is None else str(json.loads(stored)["token"])
