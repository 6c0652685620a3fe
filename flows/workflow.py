"""The generic flow: runs any workflow of the catalog by name."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prefect import flow
from prefect.exceptions import Pause

from flows.compiled import ROOT, WOKEN, catalog_flow, is_woken, own_flow_run_id, run_id_of
from flows.holding import hold, open_waits, schedule_wake


@flow(name="run-workflow", persist_result=False)
async def run_workflow(
    workflow: str, inputs: dict[str, Any] | None = None, run_id: str | None = None, offline: bool = False
) -> Any:
    """Runs the workflow of that name with its inputs by name.

    Args:
        workflow: Name of a workflow of the catalog.
        inputs: Its inputs by name; what is left out takes its default.
        run_id: Continues the run of that id; empty for a new one.
        offline: Let the offline model answer, at no cost.
    """
    inner = catalog_flow(workflow)
    # By this flow run, not by the inner one: woken after a wait it begins again, and the run must go on.
    known = run_id or run_id_of(workflow)
    woken, token = WOKEN.set(is_woken()), ROOT.set(own_flow_run_id())
    try:
        state = await inner(**(inputs or {}), run_id=known, offline=offline, return_state=True)
        await _wake_later(known, state)
        return state
    except Pause:
        await hold(await open_waits(known))
        raise
    finally:
        ROOT.reset(token)
        WOKEN.reset(woken)


async def _wake_later(run_id: str, state: Any) -> None:
    """A run that the provider's quota stopped goes on by a flow run of this deployment."""
    document = await state.aresult(raise_on_failure=False) if state.is_final() else None
    at = document.get("wake_at") if isinstance(document, dict) else None
    if at is not None:
        await schedule_wake(run_id, datetime.fromisoformat(at))
