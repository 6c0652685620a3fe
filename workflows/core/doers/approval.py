"""People who decide."""

from __future__ import annotations

from typing import Any

from workflows.core.catalog.contents import Catalog
from workflows.core.catalog.deciders import check_asked
from workflows.core.doers.kind import Doer, Looks, Planner
from workflows.core.models.workflow import Step
from workflows.core.models.written import plain
from workflows.core.plans.plan import ApprovalPlan, StepPlan
from workflows.core.plans.questions import shown_people
from workflows.core.read.findings import Findings
from workflows.core.read.output_schemas import SCHEMA_TYPES, check_schema
from workflows.core.read.source import Key, Source

_HOLDS_FIELDS = ("properties", "$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties")
_EXAMPLE = "write it as {type: object, required: [amount], properties: {amount: {type: number}}}"


def _check(source: Source, place: Key, step: Step, catalog: Catalog, findings: Findings) -> None:
    written = step.approval
    assert written is not None
    if not written.ask.strip():
        findings.error(source, (*place, "ask"), "nothing is asked", "write the question")
    _check_form(source, (*place, "form"), written.form, findings)
    check_asked(source, place, written, catalog.agents, findings)
    needed = written.form.get("required") if written.on_timeout == "approve" else None
    if needed and isinstance(needed, list):
        findings.warn(
            source,
            (*place, "on_timeout"),
            f"approved by its deadline it has no data, while the form requires {', '.join(map(str, needed))}",
            "read those fields with `default(...)`, or write on_timeout: reject",
        )


def _check_form(source: Source, place: Key, form: dict[str, Any], findings: Findings) -> None:
    """A form is the JSON Schema of an object: its properties are the fields people fill in."""
    if not form:
        return
    check_schema(source, place, form, findings)
    kind = form.get("type")
    if kind in SCHEMA_TYPES and kind != "object":
        message = f"a form asks for fields, so its type is object, not {kind}"
        findings.error(source, (*place, "type"), message, _EXAMPLE)
    elif not any(word in form for word in _HOLDS_FIELDS):
        findings.error(source, place, "the form has no fields: it is no JSON Schema of an object", _EXAMPLE)
    elif "type" not in form and "properties" not in form:
        findings.error(source, place, "the form does not say `type: object`", _EXAMPLE)


def _plan(planner: Planner) -> dict[str, Any]:
    asked = planner.step.approval
    assert asked is not None
    return {"approval": ApprovalPlan(**asked.model_dump(exclude={"form"}), form=plain(asked.form))}


def _describe(step: StepPlan) -> str:
    assert step.approval is not None
    return f"approval by {shown_people(step.approval)}"


APPROVAL = Doer(
    kind="approval",
    key="approval",
    looks=Looks(("#fff8f2", "#bc4c00"), mermaid=("{{", "}}"), dot="hexagon", outline="cut"),
    plan=_plan,
    describe=_describe,
    brief=lambda step: "",
    lines=lambda step: (_describe(step),),
    waits=True,
    check=_check,
    templates=lambda step: [("ask", step.approval.ask)] if step.approval else [],
)
