"""What makes runs durable: turns, effects, waits, events, budgets, limits of credentials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds tables; rows of runs get what wakes and what cancels them."""
    op.add_column("run", _moment("wake_at", known=False))
    op.add_column("run", _text("wake_reason"))
    op.add_column("run", _moment("cancel_requested", known=False))
    op.create_index("ix_run_tenant_state", "run", ["tenant", "state"])
    op.add_column("step", _number("generation"))
    op.add_column("step", _text("repetition"))
    _make_turn()
    _make_effect()
    _make_wait()
    _make_signal()
    _make_event()
    _make_budget()
    _make_time_budget()
    _make_credential()


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _moment(name: str, *, known: bool = True) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=not known)


def _schema_version() -> sa.Column[int]:
    return sa.Column("schema_version", sa.Integer, nullable=False, server_default="1")


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant", "run_id"],
        ["run.tenant", "run.run_id"],
        name=f"fk_{table}_tenant_run_id",
        ondelete="CASCADE",
    )


def _make_turn() -> None:
    op.create_table(
        "turn",
        _key("tenant"),
        _key("run_id"),
        _key("step_path"),
        _key("content_key"),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        _key("part"),
        _schema_version(),
        _text("request_digest"),
        _key("body"),
        _text("usage", "{}"),
        _text("model"),
        _number("epoch"),
        _moment("created"),
        sa.PrimaryKeyConstraint(
            "tenant", "run_id", "step_path", "content_key", "attempt", "turn", "part", name="pk_turn"
        ),
        _of_run("turn"),
    )


def _make_effect() -> None:
    op.create_table(
        "effect",
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
        sa.Column("outcome", sa.Text),
        sa.Column("error", sa.Text),
        _text("wait_id"),
        _number("sent"),
        _number("epoch"),
        _moment("intended"),
        _moment("ended", known=False),
        sa.PrimaryKeyConstraint("tenant", "run_id", "effect_key", name="pk_effect"),
        _of_run("effect"),
    )
    op.create_index("ix_effect_tenant_run_id_step_path", "effect", ["tenant", "run_id", "step_path"])


def _make_wait() -> None:
    op.create_table(
        "wait",
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
        sa.Column("quorum", sa.Integer, nullable=False, server_default="1"),
        _moment("deadline", known=False),
        _text("on_timeout"),
        _text("escalate_to", "[]"),
        _text("subject"),
        _text("detail", "{}"),
        _text("evidence", "[]"),
        _text("event_type"),
        _text("event_key"),
        _key("state"),
        sa.Column("answer", sa.Text),
        _text("decided_by", "[]"),
        _moment("decided", known=False),
        _number("decided_epoch"),
        _moment("remind_at", known=False),
        _number("reminders"),
        _number("version"),
        _moment("created"),
        sa.PrimaryKeyConstraint("tenant", "wait_id", name="pk_wait"),
        sa.UniqueConstraint("tenant", "run_id", "wait_key", name="uq_wait_tenant_run_id_wait_key"),
        _of_run("wait"),
    )
    op.create_index("ix_wait_tenant_state_deadline", "wait", ["tenant", "state", "deadline"])
    op.create_index("ix_wait_tenant_event_type_event_key", "wait", ["tenant", "event_type", "event_key"])
    op.create_table(
        "vote",
        _key("tenant"),
        _key("wait_id"),
        _key("voter"),
        _schema_version(),
        _key("decision"),
        sa.Column("data", sa.Text),
        _text("note"),
        _moment("created"),
        sa.PrimaryKeyConstraint("tenant", "wait_id", "voter", name="pk_vote"),
        sa.ForeignKeyConstraint(
            ["tenant", "wait_id"],
            ["wait.tenant", "wait.wait_id"],
            name="fk_vote_tenant_wait_id",
            ondelete="CASCADE",
        ),
    )


def _make_signal() -> None:
    op.create_table(
        "signal",
        _key("tenant"),
        _key("type"),
        _key("event_id"),
        _schema_version(),
        _text("key"),
        _text("payload", "{}"),
        _text("wait_id"),
        _moment("created"),
        sa.PrimaryKeyConstraint("tenant", "type", "event_id", name="pk_signal"),
    )
    op.create_index("ix_signal_tenant_type_key", "signal", ["tenant", "type", "key"])


def _make_event() -> None:
    op.create_table(
        "event",
        _key("tenant"),
        _key("run_id"),
        sa.Column("seq", sa.BigInteger, nullable=False),
        _schema_version(),
        _key("name"),
        _text("step_path"),
        _text("data", "{}"),
        _moment("created"),
        sa.PrimaryKeyConstraint("tenant", "run_id", "seq", name="pk_event"),
        _of_run("event"),
    )


def _make_budget() -> None:
    op.create_table(
        "budget",
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
        sa.PrimaryKeyConstraint("tenant", "budget_id", name="pk_budget"),
    )
    op.create_index("ix_budget_tenant_run_id", "budget", ["tenant", "run_id"])
    op.create_table(
        "reservation",
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
        sa.PrimaryKeyConstraint("tenant", "reservation_id", name="pk_reservation"),
    )
    op.create_index("ix_reservation_tenant_state_expires", "reservation", ["tenant", "state", "expires"])
    op.create_index("ix_reservation_tenant_run_id", "reservation", ["tenant", "run_id"])


def _make_time_budget() -> None:
    op.create_table(
        "time_budget",
        _key("tenant"),
        _key("run_id"),
        _key("scope"),
        _schema_version(),
        _moment("limit_us"),
        _moment("raised_us", known=False),
        _number("spent_us"),
        sa.PrimaryKeyConstraint("tenant", "run_id", "scope", name="pk_time_budget"),
        _of_run("time_budget"),
    )


def _make_credential() -> None:
    op.create_table(
        "credential",
        _key("tenant"),
        _key("credential"),
        _schema_version(),
        _text("limits", "{}"),
        _moment("cooldown_until", known=False),
        _moment("parked_until", known=False),
        _text("park_reason"),
        _number("version"),
        _moment("updated"),
        sa.PrimaryKeyConstraint("tenant", "credential", name="pk_credential"),
    )
