"""Runs, their steps, their artifacts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From nothing. Revisions are numbered so that a newer one is recognised by its number."""
    _make_run()
    _make_step()
    _make_artifact()


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _schema_version() -> sa.Column[int]:
    return sa.Column("schema_version", sa.Integer, nullable=False, server_default="1")


def _make_run() -> None:
    op.create_table(
        "run",
        _key("tenant"),
        _key("run_id"),
        _schema_version(),
        _key("workflow"),
        _key("state"),
        sa.Column("offline", sa.Boolean, nullable=False),
        _text("storage"),
        _text("plan_digest"),
        _text("models", "{}"),
        _text("inputs", "{}"),
        _text("labels", "{}"),
        _text("outputs", "{}"),
        sa.Column("error", sa.Text),
        _text("usage", "{}"),
        _number("active_us"),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        _number("heartbeat"),
        _text("parent_run_id"),
        _text("root_run_id"),
        _text("flow_run_id"),
        _number("version"),
        _number("last_seq"),
        sa.Column("lease_owner", sa.Text),
        _number("lease_epoch"),
        _number("lease_until"),
        sa.PrimaryKeyConstraint("tenant", "run_id", name="pk_run"),
    )
    op.create_index("ix_run_tenant_created", "run", ["tenant", "created"])
    op.create_index("ix_run_tenant_root_run_id", "run", ["tenant", "root_run_id"])


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant", "run_id"],
        ["run.tenant", "run.run_id"],
        name=f"fk_{table}_tenant_run_id",
        ondelete="CASCADE",
    )


def _make_step() -> None:
    op.create_table(
        "step",
        _key("tenant"),
        _key("run_id"),
        _key("step_path"),
        _schema_version(),
        _text("content_key"),
        _key("state"),
        _number("attempts"),
        _text("agent"),
        _text("model"),
        _text("usage", "{}"),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("started", sa.BigInteger),
        sa.Column("ended", sa.BigInteger),
        _text("reused_from"),
        _number("epoch"),
        sa.PrimaryKeyConstraint("tenant", "run_id", "step_path", name="pk_step"),
        _of_run("step"),
    )


def _make_artifact() -> None:
    op.create_table(
        "artifact",
        _key("tenant"),
        _key("run_id"),
        _key("step_path"),
        _key("name"),
        _key("sha256"),
        _schema_version(),
        _key("kind"),
        _key("media_type"),
        sa.Column("size", sa.BigInteger, nullable=False),
        _text("summary"),
        _text("uri"),
        sa.Column("offline", sa.Boolean, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "run_id", "step_path", "name", "sha256", name="pk_artifact"),
        _of_run("artifact"),
    )
    op.create_index("ix_artifact_tenant_sha256", "artifact", ["tenant", "sha256"])
