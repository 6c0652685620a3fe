"""A run's definition as it began beside the catalog's now, and what continuing it would reuse."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.ledger import Ledger, RunRow
from blocks.run_request import request_of
from blocks.settings import Settings
from blocks.storage.artifacts import ArtifactStore
from deployments.catalogs.opening import compile_named, plan_of
from flows.preview import StepPreview, known_of, preview
from workflows.core.catalog.contents import Catalog
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan
from workflows.core.plans.stored import proved_plan
from workflows.core.refs import digest


def stored_plan(settings: Settings, row: RunRow, environ: Mapping[str, str]) -> Plan | None:
    """The plan of the run's last start; None when its storage has none that the ledger vouches for.

    Raises StorageError.
    """

    async def manifest() -> dict[str, Any] | None:
        with ArtifactStore.open(settings.storage, environ=environ) as store:
            return await store.read_manifest(row.tenant, row.run_id)

    return proved_plan(asyncio.run(manifest()), row.plan_digest)


def plan_now(row: RunRow, catalog: Catalog, stored: Plan | None) -> Plan:
    """What the command that started the run would run now. Raises UsageError, InvalidDefinition."""
    request = request_of(row.labels)
    if request is None:
        return compile_named(catalog, row.workflow)
    if request.latest == "online" and stored is not None:
        _pin(catalog, stored)
    return plan_of(catalog, request.workflow, request.text)[0]


def _pin(catalog: Catalog, stored: Plan) -> None:
    """`latest` stays what the provider said when the run began: it is resolved once per run."""
    known = {a.model.family: a.model.id for a in agents_of(stored)}
    families = {
        name: family.model_copy(update={"latest": known.get(name, family.latest)})
        for name, family in catalog.models.families.items()
    }
    catalog.models = catalog.models.model_copy(update={"families": families})


def has_drifted(row: RunRow, stored: Plan | None, now: Plan) -> bool:
    """Whether the workflow is not the one that the run has."""
    return row.plan_digest != now.definition if stored is None else _facts(stored) != _facts(now)


def _facts(plan: Plan) -> str:
    """What counts of a definition: not where it is written, nor a limit of time that was raised."""
    budget = plan.budget.model_copy(update={"time": None}) if plan.budget else None
    told = {"source": "", "description": "", "budget": budget}
    return digest(plan.model_copy(update=told).model_dump(mode="json", by_alias=True))


@dataclass(frozen=True)
class Preview:
    """What continuing a run would do."""

    run_id: str
    workflow: str
    status: str
    drift: bool
    steps: Sequence[StepPreview]

    def to_document(self) -> dict[str, Any]:
        """The document of `resume --plan`."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "workflow": self.workflow,
            "drift": self.drift,
            "preview": [step.to_document() for step in self.steps],
        }


def preview_of(
    ledger: Ledger,
    settings: Settings,
    row: RunRow,
    plan: Plan,
    *,
    environ: Mapping[str, str],
    drift: bool,
    redo: Sequence[str] = (),
) -> Preview:
    """What `plan` would do with the run. Raises LedgerError, StorageError."""

    async def look() -> list[StepPreview]:
        with ArtifactStore.open(settings.storage, environ=environ) as store:
            return preview(plan, await known_of(ledger, store, row), redo)

    return Preview(row.run_id, row.workflow, row.state, drift, asyncio.run(look()))
