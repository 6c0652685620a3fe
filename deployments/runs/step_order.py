"""The order in which people read the steps of a run: that of its plan, else as they began."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from blocks.ledger import RunRow, StepRecord
from deployments.runs.manifests import manifest_of
from workflows.core.errors import PhaselineError
from workflows.core.plans.stored import proved_document


def steps_in_order(row: RunRow, steps: Sequence[StepRecord], environ: Mapping[str, str]) -> list[StepRecord]:
    """The steps of a run in the order of its plan, each before its parts; parts as they began.

    Without a plan that can be read everything is as it began.
    """
    return in_order(steps, planned_ids(row, environ))


def in_order(steps: Sequence[StepRecord], ids: Sequence[str]) -> list[StepRecord]:
    """The same for the ids of a plan; none when it is not known."""
    ranks = {step: rank for rank, step in enumerate(ids)}

    def place(record: StepRecord) -> tuple[int, bool, float, str]:
        step, _, part = record.step_path.partition("/")
        begun = math.inf if record.started is None else record.started
        return ranks.get(step, len(ranks)), bool(part and step in ranks), begun, record.step_path

    return sorted(steps, key=place)


def planned_ids(row: RunRow, environ: Mapping[str, str]) -> list[str]:
    """The ids of the steps of a run's plan, those of `finally` last; none when its storage does not say."""
    try:
        manifest = manifest_of(row.storage, environ, row.tenant, row.run_id) if row.storage else None
    except PhaselineError:
        return []  # what a run did is shown also while its storage is away
    plan = proved_document(manifest, row.plan_digest) or {}
    return [str(step["id"]) for part in ("steps", "finally") for step in plan.get(part) or ()]
