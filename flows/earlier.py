"""What an earlier start of a run fixed, and whether a run can be continued from its storage alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.ledger import RunRow
from flows.inputs import restored
from workflows.core.effects import acting
from workflows.core.errors import UsageError
from workflows.core.plan import Plan


class Unrestorable(UsageError):
    """A run that is only in storage, and cannot be continued from there alone."""


@dataclass(frozen=True)
class Earlier:
    """How a run began: its inputs as they are given, and whether the offline model answers."""

    offline: bool
    inputs: Mapping[str, Any] = field(default_factory=dict)


def earlier_start(
    plan: Plan, run_id: str, offline: bool, row: RunRow | None, manifest: Mapping[str, Any] | None
) -> Earlier:
    """From the ledger's row, else from the storage's manifest, else a new run. Raises UsageError."""
    if row is not None:
        if offline and not row.offline:
            raise UsageError(
                f"the run {run_id} began with a real model",
                "leave --offline (PHASELINE_MODEL=offline) out, or choose another --run-id",
            )
        return Earlier(row.offline, restored(row.inputs))
    if manifest is None:
        return Earlier(offline)
    if manifest.get("workflow") != plan.workflow:
        raise Unrestorable(
            f"the storage holds a run {run_id} of another workflow ({manifest.get('workflow')})",
            "choose another --run-id",
        )
    acted = next((what for s in (*plan.steps, *plan.finally_) for what, _ in acting(s)), None)
    if acted is not None:
        raise Unrestorable(
            f"the run {run_id} is in the storage but not in this ledger, and may have acted: {acted}",
            "use the ledger it ran with (PHASELINE_DATABASE_URL), or choose another --run-id",
        )
    return Earlier(bool(manifest.get("offline", offline)), restored(manifest.get("inputs", {})))
