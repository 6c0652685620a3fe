"""An outside system, which says that something happened."""

from __future__ import annotations

from typing import Any

from workflows.core.catalog.contents import Catalog
from workflows.core.catalog.deciders import check_deadline
from workflows.core.doers.kind import Doer, Looks, Planner
from workflows.core.models.workflow import Step
from workflows.core.plans.plan import AwaitEventPlan, StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


def _check(source: Source, place: Key, step: Step, catalog: Catalog, findings: Findings) -> None:
    written = step.await_event
    assert written is not None
    if not written.type.strip():
        findings.error(source, (*place, "type"), "the event has no type", "write it, such as payment.settled")
    elif "{{" in written.type or "{%" in written.type:
        findings.error(source, (*place, "type"), "the type of an event is no template", "use `key:`")
    check_deadline(source, place, written, findings)


def _plan(planner: Planner) -> dict[str, Any]:
    awaited = planner.step.await_event
    assert awaited is not None
    return {"await_event": AwaitEventPlan(**awaited.model_dump())}


def _describe(step: StepPlan) -> str:
    assert step.await_event is not None
    return f"event {step.await_event.type}"


def _draw_lines(step: StepPlan) -> tuple[str, ...]:
    assert step.await_event is not None
    key = " ".join(step.await_event.key.split())
    return (_describe(step) + (f", key {key}" if key else ""),)


AWAIT_EVENT = Doer(
    kind="await_event",
    key="await_event",
    looks=Looks(("#fff5fa", "#bf3989"), mermaid=(">", "]"), dot="cds", outline="point"),
    plan=_plan,
    describe=_describe,
    brief=lambda step: "",
    lines=_draw_lines,
    waits=True,
    check=_check,
    templates=lambda step: [("key", step.await_event.key)] if step.await_event else [],
)
