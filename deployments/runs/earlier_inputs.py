"""What an earlier start of a run was given: a run that is continued need not be told its inputs again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from blocks.settings import Settings
from deployments.runs.manifests import manifest_of
from workflows.core.compile.inputs import missing_inputs
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan


def require_inputs(
    plan: Plan,
    given: Collection[str],
    recorded: Mapping[str, Any] | None,
    run_id: str,
    *,
    tenant: str,
    settings: Settings,
    environ: Mapping[str, str],
) -> None:
    """Raises UsageError for required inputs that neither this command nor an earlier start of the run gives.

    recorded: the inputs in the run's row of the ledger; None when there is no row, and only the storage may
    know the run.
    """
    missing = [i for i in plan.inputs if i.required and i.name not in given]
    if not missing:
        return
    earlier = recorded if recorded is not None else _in_storage(settings, environ, tenant, run_id)
    missing = [i for i in missing if i.name not in (earlier or {})]
    if not missing:
        return
    fault = missing_inputs(missing)
    if earlier is None:
        fault = UsageError(f"{fault.message} (no run '{run_id}' is there that could have it)", fault.cure)
    raise fault


def _in_storage(
    settings: Settings, environ: Mapping[str, str], tenant: str, run_id: str
) -> Mapping[str, Any] | None:
    """The inputs that a run's manifest holds; None when the storage has no such run."""
    found = manifest_of(settings.storage, environ, tenant, run_id)
    inputs = None if found is None else found.get("inputs")
    return inputs if isinstance(inputs, dict) or found is None else {}
