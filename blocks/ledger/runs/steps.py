"""How steps and artifacts are written down: operations on one connection (see runs.py)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, update

from blocks.ledger.runs.fence import held_at
from blocks.ledger.runs.runs import Values, fenced_error, insert
from blocks.ledger.tables.columns import RUN_LIMIT, address, checked_path, plain, to_text, to_text_or_none
from blocks.ledger.tables.records import Lease, StepRecord
from blocks.ledger.tables.schema import artifact, step
from workflows.core.refs import Ref

_STEP_KEY = ["tenant", "run_id", "step_path"]


def step_values(lease: Lease, record: StepRecord) -> Values:
    """The columns of a step. LedgerError when its result is too large or no JSON."""
    what = f"the result of step {record.step_path}"
    return {
        "tenant": lease.tenant,
        "run_id": lease.run_id,
        "step_path": checked_path(record.step_path),
        "content_key": record.content_key,
        "state": record.state,
        "attempts": record.attempts,
        "agent": plain(record.agent),
        "model": plain(record.model),
        "usage": to_text(record.usage, f"the usage of step {record.step_path}"),
        "result": to_text_or_none(record.result, what, RUN_LIMIT),
        "error": to_text_or_none(record.error, f"the error of step {record.step_path}"),
        "started": record.started,
        "ended": record.ended,
        "reused_from": record.reused_from,
        "generation": record.generation,
        "repetition": record.repetition,
        "tries": record.tries,
        "epoch": lease.epoch,
    }


def artifact_values(lease: Lease, ref: Ref, name: str, step_path: str) -> Values:
    """The columns of an artifact, without the time."""
    return {
        "tenant": lease.tenant,
        "run_id": lease.run_id,
        "step_path": checked_path(step_path),
        "name": plain(name),
        "sha256": ref.sha256,
        "kind": plain(ref.kind),
        "media_type": plain(ref.media_type),
        "size": ref.size,
        "summary": plain(ref.summary),
        "uri": address(ref.uri),
        "offline": ref.offline,
    }


def record(connection: Connection, lease: Lease, steps: list[Values], artifacts: list[Values]) -> Any:
    """None when all rows are written under the lease; else Fenced, and none is."""
    at = held_at(connection, lease)
    if at is None:
        return fenced_error(lease)
    dialect = connection.dialect.name
    if steps:
        connection.execute(_step_upsert(dialect), steps)
    if artifacts:
        connection.execute(_artifact_insert(dialect), [{**values, "created": at} for values in artifacts])
    return None


def drop(connection: Connection, lease: Lease, paths: list[str], repetition: str) -> Any:
    """The number of rows whose result is dropped; else Fenced. A row that is dropped already stays so.

    A `repetition` is noted in both; without one, the rows keep theirs.
    """
    if held_at(connection, lease) is None:
        return fenced_error(lease)
    these = update(step).where(
        step.c.tenant == lease.tenant, step.c.run_id == lease.run_id, step.c.step_path.in_(paths)
    )
    values = {"state": "dropped", "result": None, "generation": step.c.generation + 1, "epoch": lease.epoch}
    dropped = connection.execute(these.where(step.c.state != "dropped").values(values)).rowcount
    if repetition:
        connection.execute(these.values(repetition=repetition))
    return dropped


@lru_cache(maxsize=2)
def _step_upsert(dialect: str) -> Any:
    # Built once: putting the statement together costs more than running it.
    added = insert(dialect, step)
    rest = {column.name: added.excluded[column.name] for column in step.c if not column.primary_key}
    return added.on_conflict_do_update(index_elements=_STEP_KEY, set_=rest)


@lru_cache(maxsize=2)
def _artifact_insert(dialect: str) -> Any:
    return insert(dialect, artifact).on_conflict_do_nothing()
