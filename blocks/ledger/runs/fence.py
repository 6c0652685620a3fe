"""Writing under a lease with few statements, each put together once: that costs more than running it.

A lease that counts no more keeps its process from writing (see `runs.held_by`, whose rule this repeats with
parameters). Here the run's row is locked instead of changed, so that a turn leaves no dead row behind.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Select, Table, and_, bindparam, select

from blocks.ledger.runs.runs import insert
from blocks.ledger.tables.records import Lease
from blocks.ledger.tables.rows import clock
from blocks.ledger.tables.schema import run


@cache
def held_insert(dialect: str, table: Table, names: tuple[str, ...], moment: str) -> Any:
    """An INSERT that does nothing where the key is there, and nothing when the lease does not count.

    Its parameters are the columns `names`, among them tenant, run_id and, as the lease's, epoch; the
    column `moment` gets the time.
    """
    values = [bindparam(name, type_=table.c[name].type) for name in names]
    held = _lock_if_held(select(*values, clock(dialect)))
    return insert(dialect, table).from_select([*names, moment], held).on_conflict_do_nothing()


def held_at(connection: Connection, lease: Lease) -> int | None:
    """The time, while the lease counts; else None. The run's row is locked until the commit."""
    parameters = {"tenant": lease.tenant, "run_id": lease.run_id, "epoch": lease.epoch}
    at: int | None = connection.execute(_clock_while_held(connection.dialect.name), parameters).scalar()
    return at


@cache
def _clock_while_held(dialect: str) -> Select[Any]:
    return _lock_if_held(select(clock(dialect)))


def named_run(prefix: str = "") -> ColumnElement[bool]:
    """The row of the run that the parameters `tenant` and `run_id` name. A statement that sets columns
    needs a prefix, or it would set those two."""
    tenant: BindParameter[str] = bindparam(f"{prefix}tenant")
    run_id: BindParameter[str] = bindparam(f"{prefix}run_id")
    return and_(run.c.tenant == tenant, run.c.run_id == run_id)


def named_lease(prefix: str = "") -> ColumnElement[bool]:
    """The same while the lease counts whose `epoch` is a parameter too."""
    epoch: BindParameter[int] = bindparam(f"{prefix}epoch")
    return and_(named_run(prefix), run.c.lease_epoch == epoch, run.c.lease_until > 0)


def _lock_if_held(query: Select[Any]) -> Select[Any]:
    # The lock of an ordinary update: a stronger one later could meet somebody who waits in between.
    return query.select_from(run).where(named_lease()).with_for_update(key_share=True)
