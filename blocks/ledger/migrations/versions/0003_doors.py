"""What survives attacks: how often a step was tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns; rows of earlier revisions keep their meaning."""
    _count_tries()


def _count_tries() -> None:
    """How many attempts at a step failed since it was last given its retries."""
    op.add_column("step", sa.Column("tries", sa.BigInteger, nullable=False, server_default="0"))
