"""Another workflow as one step."""

from __future__ import annotations

from typing import Any

from workflows.core.doers.kind import Doer, Looks, Planner


def _plan(planner: Planner) -> dict[str, Any]:
    return {"workflow": planner.compile_workflow(planner.step.workflow or "")}


WORKFLOW = Doer(
    kind="workflow",
    key="workflow",
    looks=Looks(("#f6f8fa", "#57606a")),
    plan=_plan,
    describe=lambda step: f"workflow {step.doer}",
    brief=lambda step: step.doer,
    lines=lambda step: (f"workflow {step.doer}",) if step.workflow else (),
    takes=frozenset(("args",)),
)
