"""Rows of runs made by hand, without a ledger."""

from __future__ import annotations

from typing import Any

from blocks.ledger import RunRow


def run_row(**given: Any) -> RunRow:
    """A completed offline run of nothing, but for what is given."""
    empty: dict[str, Any] = {
        **{name: {} for name in ("models", "inputs", "labels", "outputs", "usage")},
        **dict.fromkeys(("storage", "plan_digest", "parent_run_id", "root_run_id", "flow_run_id"), ""),
        **dict.fromkeys(("active_us", "created", "updated", "heartbeat"), 0),
        **dict.fromkeys(("error", "ended", "holder")),
    }
    named = {"run_id": "r", "tenant": "default", "workflow": "w", "state": "completed", "offline": True}
    return RunRow(**{**empty, **named, "version": 1, "epoch": 1, **given})
