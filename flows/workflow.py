"""The generic flow: runs any workflow of the catalog by name."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.compiled import catalog_flow


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
    return await inner(**(inputs or {}), run_id=run_id, offline=offline, return_state=True)
