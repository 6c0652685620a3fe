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
    UniqueConstraint,
)

REVISION = "0003"
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


def _key(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _moment(name: str, *, known: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=not known)


def _schema_version() -> Column[int]:
    return Column("schema_version", Integer, nullable=False, server_default="1")


def _of_run() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant", "run_id"], ["run.tenant", "run.run_id"], ondelete="CASCADE")


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
    Column("wake_at", BigInteger),
    _text("wake_reason"),
    Column("cancel_requested", BigInteger),
    PrimaryKeyConstraint("tenant", "run_id"),
    Index(None, "tenant", "created"),
    Index(None, "tenant", "root_run_id"),
    Index(None, "tenant", "state"),
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
    _number("generation"),
    _text("repetition"),
    _number("tries"),
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

turn = Table(
    "turn",
    metadata,
    _key("tenant"),
    _key("run_id"),
    _key("step_path"),
    _key("content_key"),
    Column("attempt", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    _key("part"),
    _schema_version(),
    _text("request_digest"),
    _key("body"),
    _text("usage", "{}"),
    _text("model"),
    _number("epoch"),
    _moment("created"),
    PrimaryKeyConstraint("tenant", "run_id", "step_path", "content_key", "attempt", "turn", "part"),
    _of_run(),
)
"""What a step has paid for: answers, results of tool calls, inputs that vary by nature."""

effect = Table(
    "effect",
    metadata,
    _key("tenant"),
    _key("run_id"),
    _key("effect_key"),
    _schema_version(),
    _key("step_path"),
    _key("kind"),
    _key("tool"),
    _key("effect"),
    _text("arguments", "{}"),
    _text("arguments_digest"),
    _key("idempotency_key"),
    _key("state"),
    Column("outcome", Text),
    Column("error", Text),
    _text("wait_id"),
    _number("sent"),
    _number("epoch"),
    _moment("intended"),
    _moment("ended", known=False),
    PrimaryKeyConstraint("tenant", "run_id", "effect_key"),
    _of_run(),
    Index(None, "tenant", "run_id", "step_path"),
)
"""Calls that change something outside: written before they are made, and again when they are known."""

wait = Table(
    "wait",
    metadata,
    _key("tenant"),
    _key("wait_id"),
    _schema_version(),
    _key("run_id"),
    _key("step_path"),
    _key("wait_key"),
    _key("kind"),
    _text("ask"),
    _text("form", "{}"),
    _text("assignees", "[]"),
    Column("quorum", Integer, nullable=False, server_default="1"),
    _moment("deadline", known=False),
    _text("on_timeout"),
    _text("escalate_to", "[]"),
    _text("subject"),
    _text("detail", "{}"),
    _text("evidence", "[]"),
    _text("event_type"),
    _text("event_key"),
    _key("state"),
    Column("answer", Text),
    _text("decided_by", "[]"),
    _moment("decided", known=False),
    _number("decided_epoch"),
    _moment("remind_at", known=False),
    _number("reminders"),
    _number("version"),
    _moment("created"),
    PrimaryKeyConstraint("tenant", "wait_id"),
    UniqueConstraint("tenant", "run_id", "wait_key"),
    _of_run(),
    Index(None, "tenant", "state", "deadline"),
    Index(None, "tenant", "event_type", "event_key"),
)
"""Questions to people and outside systems, and how they were decided."""

vote = Table(
    "vote",
    metadata,
    _key("tenant"),
    _key("wait_id"),
    _key("voter"),
    _schema_version(),
    _key("decision"),
    Column("data", Text),
    _text("note"),
    _moment("created"),
    PrimaryKeyConstraint("tenant", "wait_id", "voter"),
    ForeignKeyConstraint(["tenant", "wait_id"], ["wait.tenant", "wait.wait_id"], ondelete="CASCADE"),
)
"""One answer of one identity to one wait."""

signal = Table(
    "signal",
    metadata,
    _key("tenant"),
    _key("type"),
    _key("event_id"),
    _schema_version(),
    _text("key"),
    _text("payload", "{}"),
    _text("wait_id"),
    _moment("created"),
    PrimaryKeyConstraint("tenant", "type", "key", "event_id"),
    Index(None, "tenant", "type", "key"),
)
"""Events of outside systems; `wait_id` is the wait that one has answered."""

event = Table(
    "event",
    metadata,
    _key("tenant"),
    _key("run_id"),
    Column("seq", BigInteger, nullable=False),
    _schema_version(),
    _key("name"),
    _text("step_path"),
    _text("data", "{}"),
    _moment("created"),
    PrimaryKeyConstraint("tenant", "run_id", "seq"),
    _of_run(),
)
"""What happened in a run, numbered without gaps by its `last_seq`."""

budget = Table(
    "budget",
    metadata,
    _key("tenant"),
    _key("budget_id"),
    _schema_version(),
    _text("run_id"),
    _moment("tokens_limit", known=False),
    _number("tokens_spent"),
    _number("tokens_reserved"),
    _moment("tokens_raised", known=False),
    _moment("usd_limit", known=False),
    _number("usd_spent"),
    _number("usd_reserved"),
    _moment("usd_raised", known=False),
    _moment("turns_limit", known=False),
    _number("turns_spent"),
    _number("turns_reserved"),
    _moment("turns_raised", known=False),
    _number("unpriced"),
    _number("version"),
    _moment("created"),
    _moment("updated"),
    PrimaryKeyConstraint("tenant", "budget_id"),
    Index(None, "tenant", "run_id"),
)
"""Ceilings and what is used of them. Dollars are whole micro-dollars; no limit is NULL; `_raised` is what a
person raised a limit to."""

reservation = Table(
    "reservation",
    metadata,
    _key("tenant"),
    _key("reservation_id"),
    _schema_version(),
    _key("run_id"),
    _text("step_path"),
    _text("budgets", "[]"),
    _number("tokens"),
    _number("usd"),
    _number("turns"),
    _key("state"),
    _text("actual", "{}"),
    _number("epoch"),
    _moment("expires"),
    _moment("created"),
    _moment("settled", known=False),
    PrimaryKeyConstraint("tenant", "reservation_id"),
    Index(None, "tenant", "state", "expires"),
    Index(None, "tenant", "run_id"),
)
"""What a request may cost at most, held from its budgets while it is under way."""

time_budget = Table(
    "time_budget",
    metadata,
    _key("tenant"),
    _key("run_id"),
    _key("scope"),
    _schema_version(),
    _moment("limit_us"),
    _moment("raised_us", known=False),
    _number("spent_us"),
    PrimaryKeyConstraint("tenant", "run_id", "scope"),
    _of_run(),
)
"""Active time of steps, and of workflows within steps, that have a ceiling of it; `raised_us` is what a
person raised it to. The run's own active time is in its row."""

credential = Table(
    "credential",
    metadata,
    _key("tenant"),
    _key("credential"),
    _schema_version(),
    _text("limits", "{}"),
    _moment("cooldown_until", known=False),
    _moment("parked_until", known=False),
    _text("park_reason"),
    _number("version"),
    _moment("updated"),
    PrimaryKeyConstraint("tenant", "credential"),
)
"""What a provider allows one credential at this moment; `credential` is a digest, never the key."""

seen_time = Table(
    "seen_time",
    metadata,
    Column("number", Integer, nullable=False, autoincrement=False),
    _schema_version(),
    _moment("latest"),
    _text("boot"),
    _number("since_boot"),
    PrimaryKeyConstraint("number"),
)
"""One row: the latest time that was believed, and how long ago its machine was started then. See clock.py."""
