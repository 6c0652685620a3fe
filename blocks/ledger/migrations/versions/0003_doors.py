"""What survives attacks: honest time, events told apart, and how often a step was tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds tables and columns; rows of earlier revisions keep their meaning."""
    _key_signals()
    _make_seen_time()
    _count_tries()


def _key_signals() -> None:
    """The key of an event becomes part of its identity. SQLite changes no primary key: there it is copied."""
    names = "tenant, type, key, event_id"
    if op.get_bind().dialect.name != "sqlite":
        op.drop_constraint("pk_signal", "signal", type_="primary")
        op.create_primary_key("pk_signal", "signal", names.split(", "))
        return
    op.drop_index("ix_signal_tenant_type_key", "signal")
    op.rename_table("signal", "signal_before")
    op.create_table(
        "signal",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("key", sa.Text, nullable=False, server_default=""),
        sa.Column("payload", sa.Text, nullable=False, server_default="{}"),
        sa.Column("wait_id", sa.Text, nullable=False, server_default=""),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(*names.split(", "), name="pk_signal"),
    )
    kept = "tenant, type, event_id, schema_version, key, payload, wait_id, created"
    op.execute(f"INSERT INTO signal ({kept}) SELECT {kept} FROM signal_before")  # noqa: S608
    op.drop_table("signal_before")
    op.create_index("ix_signal_tenant_type_key", "signal", ["tenant", "type", "key"])


def _make_seen_time() -> None:
    """One row: empty until something is written."""
    op.create_table(
        "seen_time",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("schema_version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("latest", sa.BigInteger, nullable=False),
        sa.Column("boot", sa.Text, nullable=False, server_default=""),
        sa.Column("since_boot", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("number", name="pk_seen_time"),
    )


def _count_tries() -> None:
    """How many attempts at a step failed since it was last given its retries."""
    op.add_column("step", sa.Column("tries", sa.BigInteger, nullable=False, server_default="0"))
