"""The generic flow: runs any workflow of the catalog by name."""

from __future__ import annotations

import os
from typing import Any

from prefect import flow
from prefect.exceptions import Pause
from prefect.states import Failed

from blocks.patience import Patience, Vigil
from blocks.secrecy import secrets
from flows.compiled import build_flow, catalog_plan, run_id_of
from flows.holding import hold, open_waits
from flows.steps.orchestration import outwait
from flows.wakes import ROOT, own_flow_run
from workflows.core.compile.inputs import named_secrets
from workflows.core.errors import PhaselineError


@flow(name="run-workflow", persist_result=False)
async def run_workflow(
    workflow: str, inputs: dict[str, Any] | None = None, run_id: str | None = None, offline: bool = False
) -> Any:
    """Runs the workflow of that name with its inputs by name.

    Args:
        workflow: Name of a workflow of the catalog, or its file by a path inside it.
        inputs: Its inputs by name; what is left out takes its default.
        run_id: Continues the run of that id; empty for a new one.
        offline: Let the offline model answer, at no cost.
    """
    try:
        plan, rates = catalog_plan(workflow)
    except PhaselineError as fault:
        return Failed(message=str(fault))  # raised, Prefect would pickle it to a place of its own
    # By this flow run, not by the inner one: woken after a wait it begins again, and the run must go on.
    known, token = run_id or run_id_of(workflow), ROOT.set(own_flow_run())
    try:
        secrets.learn(named_secrets(plan.inputs, inputs or {}))
        given = secrets.current_secrets().value(inputs or {})
        inner: Any = build_flow(plan, rates)
        return await inner(**given, run_id=known, offline=offline, return_state=True)
    except Pause:
        waits = await open_waits(known)
        await outwait(Vigil(Patience.read(os.environ)), lambda: hold(known, waits))
        raise
    finally:
        ROOT.reset(token)
