"""The rows of the ledger as values, and the queries for them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    cast,
    extract,
    func,
    select,
)

from blocks.current_time import now_us
from blocks.ledger.tables.columns import from_text
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import ArtifactRecord, RunRow, StepRecord
from blocks.ledger.tables.schema import artifact, run, step
from workflows.core.refs import Ref


def now(connection: Connection) -> ColumnElement[int]:
    """The clock that leases and deadlines go by: the database's where machines share it, on SQLite this
    host's, as far as it is believed (clock.py)."""
    return clock(connection.dialect.name)


def clock(dialect: str) -> ColumnElement[int]:
    """The same of that dialect. A statement that is kept reads it anew whenever it runs."""
    if dialect == "sqlite":
        return bindparam(None, type_=BigInteger(), callable_=now_us, unique=True)
    return cast(extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)


def this_run(tenant: str, run_id: str) -> ColumnElement[bool]:
    """The row of that run."""
    return and_(run.c.tenant == tenant, run.c.run_id == run_id)


def run_query(connection: Connection, tenant: str, run_id: str) -> Select[Any]:
    """A run's row with the clock beside it, as `at`."""
    return select(run, now(connection).label("at")).where(this_run(tenant, run_id))


def read_run(connection: Connection, tenant: str, run_id: str, viewer: Owner) -> RunRow | None:
    """A run as `viewer` sees it."""
    found = connection.execute(run_query(connection, tenant, run_id)).first()
    return None if found is None else run_row(found, viewer)


def read_runs(connection: Connection, tenant: str, limit: int, viewer: Owner) -> list[RunRow]:
    """The newest runs first."""
    query = select(run, now(connection).label("at")).where(run.c.tenant == tenant)
    query = query.order_by(run.c.created.desc(), run.c.run_id).limit(limit)
    return [run_row(found, viewer) for found in connection.execute(query)]


def read_steps(
    connection: Connection,
    tenant: str,
    run_id: str,
    step_path: str | None = None,
    content_key: str | None = None,
) -> list[StepRecord]:
    """The steps of a run in the order they started: all, the one of that path, or those of that key."""
    query = select(step).where(step.c.tenant == tenant, step.c.run_id == run_id)
    if step_path is not None:
        query = query.where(step.c.step_path == step_path)
    if content_key is not None:
        query = query.where(step.c.content_key == content_key)
    records = [_step_record(found) for found in connection.execute(query)]
    return sorted(records, key=lambda record: (record.started or 0, record.step_path))


def read_artifacts(connection: Connection, tenant: str, run_id: str) -> list[ArtifactRecord]:
    """The artifacts of a run in the order they were recorded."""
    query = select(artifact).where(artifact.c.tenant == tenant, artifact.c.run_id == run_id)
    query = query.order_by(artifact.c.created, artifact.c.step_path, artifact.c.name, artifact.c.sha256)
    return [_artifact_record(found) for found in connection.execute(query)]


def run_row(found: Row[Any], viewer: Owner) -> RunRow:
    """The row of `run_query` as `viewer` sees it."""
    holder = holder_of(found, viewer)
    lost = found.state == "running" and holder is None
    return RunRow(
        run_id=found.run_id,
        tenant=found.tenant,
        workflow=found.workflow,
        state="interrupted" if lost else found.state,
        offline=found.offline,
        storage=found.storage,
        plan_digest=found.plan_digest,
        models=from_text(found.models),
        inputs=from_text(found.inputs),
        labels=from_text(found.labels),
        outputs=from_text(found.outputs),
        error=from_text(found.error),
        usage=from_text(found.usage),
        active_us=found.active_us,
        created=found.created,
        updated=found.updated,
        ended=found.ended,
        heartbeat=found.heartbeat,
        parent_run_id=found.parent_run_id,
        root_run_id=found.root_run_id,
        flow_run_id=found.flow_run_id,
        version=found.version,
        epoch=found.lease_epoch,
        holder=holder,
        wake_at=found.wake_at,
        wake_reason=found.wake_reason,
        cancel_requested=found.cancel_requested,
        last_host=json.loads(found.lease_owner)["host"] if found.lease_owner else "",
    )


def _step_record(found: Row[Any]) -> StepRecord:
    return StepRecord(
        step_path=found.step_path,
        state=found.state,
        content_key=found.content_key,
        attempts=found.attempts,
        agent=found.agent,
        model=found.model,
        usage=from_text(found.usage),
        result=from_text(found.result),
        error=from_text(found.error),
        started=found.started,
        ended=found.ended,
        reused_from=found.reused_from,
        generation=found.generation,
        repetition=found.repetition,
        tries=found.tries,
        epoch=found.epoch,
    )


def _artifact_record(found: Row[Any]) -> ArtifactRecord:
    ref = Ref(
        uri=found.uri,
        sha256=found.sha256,
        size=found.size,
        media_type=found.media_type,
        kind=found.kind,
        summary=found.summary,
        tenant=found.tenant,
        run_id=found.run_id,
        step=found.step_path,
        offline=found.offline,
    )
    return ArtifactRecord(found.name, ref, found.created)


def holder_of(found: Row[Any], viewer: Owner) -> Owner | None:
    """Who holds the run now: None when its lease is given back or over, or its process certainly dead."""
    if not found.lease_owner or found.lease_until <= found.at:
        return None
    stored = json.loads(found.lease_owner)
    owner = Owner(stored["host"], stored["boot"], stored["pid"], stored["started"])
    return None if owner.gone_as_seen_from(viewer) else owner
