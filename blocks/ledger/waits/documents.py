"""Waits as documents: what `inbox --json` and `run --json` give."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from blocks.ledger.waits.rows import WaitRow
from blocks.ledger.waits.tally import told_votes


def wait_document(row: WaitRow) -> dict[str, Any]:
    """A wait for people and programs; times as ISO 8601 in UTC, None where there is no deadline.

    A vote that does not count, of somebody whom its definition no longer names, holds `"counts": False`.
    """
    return {
        "wait_id": row.wait_id,
        "run_id": row.run_id,
        "step": row.step_path,
        "kind": row.kind,
        "state": row.state,
        "ask": row.ask,
        "form": row.form,
        "assignees": list(row.assignees),
        "quorum": row.quorum,
        "deadline": shown_time(row.deadline),
        "on_timeout": row.on_timeout,
        "detail": row.detail,
        "evidence": list(row.evidence),
        "event": {"type": row.event_type, "key": row.event_key} if row.event_type else None,
        "votes": [{**vote, "at": shown_time(vote.get("at"))} for vote in told_votes(row)],
        "created": shown_time(row.created),
    }


def shown_time(moment: Any) -> str | None:
    """Microseconds since 1970 as ISO 8601; what is no number as it is."""
    if not isinstance(moment, int):
        return None if moment is None else str(moment)
    return datetime.fromtimestamp(moment / 1e6, UTC).isoformat(timespec="seconds")
