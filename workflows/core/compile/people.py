"""Steps that wait for people or an outside system: what is wrong with them, their plans, what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workflows.core.catalog.contents import Catalog
from workflows.core.catalog.deciders import check_asked, check_deadline
from workflows.core.compile.output_schemas import SCHEMA_TYPES, check_schema
from workflows.core.expressions.templates import Expression, ExpressionError
from workflows.core.models.people import Approval, AwaitEvent
from workflows.core.models.workflow import NOT_YET, Step
from workflows.core.models.written import plain
from workflows.core.plans.plan import ApprovalPlan, AwaitEventPlan, StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source

_BESIDE = frozenset(
    (
        *("id", "name", "description", "inputs", "depends_on", "requires", "when", "expected_output"),
        *("on_failure", "approval", "await_event"),
    )
)
"""Keys of a step that mean something while it waits; `inputs` are what the question is about."""
_DONE_BY_NOBODY = "a wait does no work: nothing of it can be tried again, limited or taken back"
_CURES = {
    "timeout": "write `deadline:` below `{doer}:`",
    "budget": "set it on the steps that do work",
    "prompt": "write the question as `ask:` of an approval",
    "output": "it is always {shape}",
    "args": "use templates in `{text}:`",
    "undo": "set `undo` on the step whose work it takes back",
    "effect_key": "set it on the step that acts",
    "people": "an approval names them as `assignees:`, and an event needs nobody",
}
_SHAPES = {
    "approval": "{approved, data, votes, by_timeout}; the form says what `data` holds",
    "await_event": "{payload, event_id, by_timeout}",
}
_HOLDS_FIELDS = ("properties", "$ref", "allOf", "anyOf", "oneOf", "patternProperties", "additionalProperties")
_EXAMPLE = "write it as {type: object, required: [amount], properties: {amount: {type: number}}}"


def check_wait(
    source: Source, at: Key, step: Step, catalog: Catalog, findings: Findings, *, last: bool
) -> None:
    """Records what is wrong with an approval or a wait for an event; `last` means a step of `finally`."""
    if len(step.doers) != 1:
        return
    doer, place = step.doers[0], (*at, step.doers[0])
    if step.approval is not None:
        _check_approval(source, place, step.approval, catalog, findings)
    elif step.await_event is not None:
        _check_event(source, place, step.await_event, findings)
    else:
        return
    _check_beside(source, at, step, doer, findings)
    if last:
        _cannot_wait(source, place, findings)


def check_end(source: Source, at: Key, plan: StepPlan, findings: Findings) -> None:
    """Records a step of `finally` that would wait inside the workflow it calls."""
    found = next(find_questions(plan), None) if plan.workflow is not None else None
    if found is not None:
        _cannot_wait(source, (*at, "workflow"), findings, f" ({found[0]})")


def _cannot_wait(source: Source, place: Key, findings: Findings, where: str = "") -> None:
    findings.error(
        source,
        place,
        f"a step of `finally` may not wait{where}: it runs when everything else has ended",
        "ask in `steps`",
        of_key=not where,
    )


def find_questions(step: StepPlan) -> Iterator[tuple[str, str]]:
    """How people or events have a part in a step's result, with a cure; steps inside are looked at too."""
    for agent in step.agents:
        if agent.ask_person:
            yield f"{agent.id} may ask a person", "give the step an agent without `ask_person`"
    for inner in (*step.workflow.steps, *step.workflow.finally_) if step.workflow is not None else ():
        if inner.kind in ("approval", "await_event"):
            yield f"its step '{inner.id}' waits for an answer", ""
        yield from find_questions(inner)


# --- keys beside the doer ------------------------------------------------------------------------------


def _check_beside(source: Source, at: Key, step: Step, doer: str, findings: Findings) -> None:
    given = step.model_fields_set - _BESIDE.union(NOT_YET["step"])  # the latter are told already
    written = [name for name in type(step).model_fields if name in given and getattr(step, name) is not None]
    what = "an approval" if doer == "approval" else "a wait for an event"
    text = "ask" if doer == "approval" else "key"
    for name in written:
        if name in ("for_each", "repeat"):
            message = f"`{name}` on {what} is not available yet"
            cure = "put the step into a workflow of its own, or ask once about the whole list"
        else:
            message = f"`{name}` does nothing beside `{doer}`"
            cure = _CURES.get(name, "remove it: " + _DONE_BY_NOBODY)
        cure = cure.replace("{doer}", doer).replace("{shape}", _SHAPES[doer]).replace("{text}", text)
        findings.error(source, (*at, name), message, cure, of_key=True)


# --- what is asked, and of whom ------------------------------------------------------------------------


def _check_approval(
    source: Source, place: Key, written: Approval, catalog: Catalog, findings: Findings
) -> None:
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


def _check_event(source: Source, place: Key, written: AwaitEvent, findings: Findings) -> None:
    if not written.type.strip():
        findings.error(source, (*place, "type"), "the event has no type", "write it, such as payment.settled")
    elif "{{" in written.type or "{%" in written.type:
        findings.error(source, (*place, "type"), "the type of an event is no template", "use `key:`")
    check_deadline(source, place, written, findings)


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


# --- plans ---------------------------------------------------------------------------------------------


def wait_fields(step: Step) -> dict[str, Any]:
    """The fields of the plan of a step that waits."""
    if step.approval is not None:
        asked = step.approval
        plan = ApprovalPlan(**asked.model_dump(exclude={"form"}), form=plain(asked.form))
        return {"kind": "approval", "approval": plan}
    assert step.await_event is not None
    return {"kind": "await_event", "await_event": AwaitEventPlan(**step.await_event.model_dump())}


def guards(step: Step, depends_on: tuple[str, ...], approvals: Mapping[str, str]) -> tuple[str, ...]:
    """Approvals before a step, directly, whose answer its condition does not read.

    `approvals` maps their ids to the names of their outputs.
    """
    read = _names_in(step.when) if isinstance(step.when, str) else frozenset()
    return tuple(d for d in depends_on if d in approvals and approvals[d] not in read)


def check_condition(
    source: Source, at: Key, step: Step, approvals: Mapping[str, str], findings: Findings
) -> None:
    """Warns of a condition that is an answer itself: an answer is an object, true even when it is a no."""
    text = step.when.strip() if isinstance(step.when, str) else ""
    name = text.removeprefix("not ").strip()
    if name in approvals.values():
        findings.warn(
            source,
            (*at, "when"),
            f"'{name}' is an answer, which is true whatever was decided",
            f"write {text.replace(name, f'{name}.approved')}; `{name} is not none` says whether it was asked",
        )


def _names_in(text: str) -> frozenset[str]:
    try:
        return Expression.parse(text).names
    except ExpressionError:  # told where the names of the step are checked
        return frozenset()
