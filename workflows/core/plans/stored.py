"""A plan that was written down, read again: believed where its digest is the one that was kept elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from workflows.core.plans.plan import Plan
from workflows.core.refs import digest


def proved_document(manifest: Mapping[str, Any] | None, kept: str) -> Mapping[str, Any] | None:
    """The plan in a run's manifest, as JSON; None where its digest is not the `kept` one."""
    plan = None if manifest is None else manifest.get("plan")
    if not isinstance(plan, dict):
        return None
    try:
        return plan if digest(plan) == kept else None
    except (ValueError, RecursionError):
        return None


def proved_plan(manifest: Mapping[str, Any] | None, kept: str) -> Plan | None:
    """The same as a plan; None also for one of another version of phaseline."""
    document = proved_document(manifest, kept)
    try:
        return None if document is None else Plan.model_validate(document)
    except ValidationError:
        return None
