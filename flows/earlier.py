"""What an earlier start of a run fixed, and whether a run can be continued from its storage alone.

Whoever may write to the storage can write a manifest. Of a run that the ledger knows only the plan is read
from it, and believed only where it is the one that the ledger has the digest of. A run that is not in the
ledger is restored with the catalog's plan, never with the stored one; it takes over inputs and results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from blocks.ledger import RunRow
from blocks.ledger.tables.records import ANNOUNCED
from flows.steps.inputs import inputs_from_json
from workflows.core.compile.effects import find_acts
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan
from workflows.core.plans.stored import proved_plan

RESTORED = "restored"
"""Label of a run that was taken over from its storage by a ledger that did not know it."""


class Unrestorable(UsageError):
    """A run that is only in storage, and cannot be continued from there alone."""


@dataclass(frozen=True)
class Earlier:
    """How a run began: its inputs as they are given, and whether the offline model answers."""

    offline: bool
    inputs: Mapping[str, Any] = field(default_factory=dict)
    restored: bool = False
    """Whether that is what the storage alone says."""


def kept_plan(now: Plan, manifest: Mapping[str, Any] | None, row: RunRow) -> Plan:
    """The plan of a run that keeps its definition: the stored one, or the catalog's, where it is the same.

    Raises UsageError where neither is the one that the ledger knows.
    """
    stored = proved_plan(manifest, row.plan_digest)
    if stored is not None:
        return stored
    if row.plan_digest in ("", now.definition):
        return now
    what = "is not in its storage" if manifest is None else "was changed in its storage"
    raise UsageError(
        f"the definition that the run {row.run_id} has {what}, and the catalog's is another one",
        f"restore its run.json; or go on with the catalog's: phaseline resume {row.run_id} --use new",
    )


def earlier_start(
    plan: Plan, run_id: str, offline: bool, row: RunRow | None, manifest: Mapping[str, Any] | None
) -> Earlier:
    """From the ledger's row, else from the storage's manifest, else a new run. Raises UsageError.

    The row of a run that was announced and never begun says nothing but what it was given.
    """
    announced = row is not None and bool(row.labels.get(ANNOUNCED))
    if row is not None and not (announced and manifest is not None):
        if offline and not row.offline:
            raise UsageError(
                f"the run {run_id} began with a real model",
                "leave --offline (PHASELINE_MODEL=offline) out, or choose another --run-id",
            )
        return Earlier(row.offline, inputs_from_json(row.inputs), bool(row.labels.get(RESTORED)))
    if manifest is None:
        return Earlier(offline)
    if manifest.get("workflow") != plan.workflow:
        raise Unrestorable(
            f"the storage holds a run {run_id} of another workflow ({manifest.get('workflow')})",
            "choose another --run-id",
        )
    needed = next(_needing_a_ledger(plan), None)
    if needed is not None:
        raise Unrestorable(
            f"the run {run_id} is in the storage but not in this ledger, and {needed}",
            "use the ledger it ran with (PHASELINE_DATABASE_URL), or choose another --run-id",
        )
    was_offline = manifest.get("offline") is True
    if offline and not was_offline:
        raise Unrestorable(
            f"the run {run_id} in the storage began with a real model",
            "leave --offline (PHASELINE_MODEL=offline) out, or choose another --run-id",
        )
    given = inputs_from_json(row.inputs) if row is not None else {}
    return Earlier(was_offline, {**_inputs(manifest, run_id), **given}, restored=True)


def _needing_a_ledger(plan: Plan) -> Iterator[str]:
    """What only a ledger can say of a run: what it did, what people answered, what it has spent."""
    if plan.budget is not None:
        yield f"'{plan.workflow}' has a budget"
    for step in (*plan.steps, *plan.finally_):
        yield from (f"may have acted: {what}" for what, _ in find_acts(step))
        if step.wait is not None:
            yield f"the step '{step.id}' may have been answered"
        if any(agent.ask_person for agent in step.agents):
            yield f"the agent of the step '{step.id}' may have asked people"
        if step.budget is not None:
            yield f"the step '{step.id}' has a budget"
        if step.workflow is not None:
            yield from _needing_a_ledger(step.workflow)


def _inputs(manifest: Mapping[str, Any], run_id: str) -> dict[str, Any]:
    try:
        return inputs_from_json(manifest.get("inputs") or {})
    except (ValidationError, TypeError, AttributeError):
        raise Unrestorable(
            f"the inputs of the run {run_id} in the storage cannot be read",
            "choose another --run-id, or restore its run.json",
        ) from None
