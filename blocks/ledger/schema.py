"""The ledger's tables, for SQLite and PostgreSQL alike.

Every row carries its tenant. Times are BIGINT microseconds (a time zone would be lost on SQLite), JSON is
TEXT (JSONB refuses NUL and reorders keys). A change here needs a revision under migrations/versions.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

REVISION = "0001"
"""The newest revision: what this code reads and writes."""
VERSION_TABLE = "ledger_version"
SCHEMA = "phaseline"
"""The PostgreSQL schema, so that the ledger may share a database with Prefect's `artifact` table."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


run = Table(
    "run",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    Column("workflow", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("offline", Boolean, nullable=False),
    _text("storage"),
    _text("plan_digest"),
    _text("models", "{}"),
    _text("inputs", "{}"),
    _text("labels", "{}"),
    _text("outputs", "{}"),
    Column("error", Text),
    _text("usage", "{}"),
    _number("active_us"),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("ended", BigInteger),
    _number("heartbeat"),
    _text("parent_run_id"),
    _text("root_run_id"),
    _text("flow_run_id"),
    _number("version"),
    _number("last_seq"),
    Column("lease_owner", Text),
    _number("lease_epoch"),
    _number("lease_until"),
    PrimaryKeyConstraint("tenant", "run_id"),
    Index(None, "tenant", "created"),
    Index(None, "tenant", "root_run_id"),
)

step = Table(
    "step",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("step_path", Text, nullable=False),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    _text("content_key"),
    Column("state", Text, nullable=False),
    _number("attempts"),
    _text("agent"),
    _text("model"),
    _text("usage", "{}"),
    Column("result", Text),
    Column("error", Text),
    Column("started", BigInteger),
    Column("ended", BigInteger),
    _text("reused_from"),
    _number("epoch"),
    PrimaryKeyConstraint("tenant", "run_id", "step_path"),
    ForeignKeyConstraint(["tenant", "run_id"], ["run.tenant", "run.run_id"], ondelete="CASCADE"),
)

artifact = Table(
    "artifact",
    metadata,
    Column("tenant", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("step_path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("schema_version", Integer, nullable=False, server_default="1"),
    Column("kind", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    _text("summary"),
    _text("uri"),
    Column("offline", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "run_id", "step_path", "name", "sha256"),
    ForeignKeyConstraint(["tenant", "run_id"], ["run.tenant", "run.run_id"], ondelete="CASCADE"),
    Index(None, "tenant", "sha256"),
)
