"""Steps that wait for people or an outside system: what is wrong beside them, and what follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from workflows.core.catalog.contents import Catalog
from workflows.core.doers.registry import written_doers
from workflows.core.expressions.templates import Expression, ExpressionError
from workflows.core.models.workflow import NOT_YET, Step
from workflows.core.plans.plan import StepPlan
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


def check_doer(
    source: Source, at: Key, step: Step, catalog: Catalog, findings: Findings, *, last: bool
) -> None:
    """Records what is wrong with what a step says of its doer; `last` means a step of `finally`."""
    if len(step.doers) != 1:
        return
    for doer in written_doers(step):
        place = (*at, doer.key)
        if doer.check is not None:
            doer.check(source, place, step, catalog, findings)
        if doer.waits:
            _check_beside(source, at, step, doer.key, findings)
        if doer.waits and last:
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
        if inner.wait is not None:
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


# --- what follows ------------------------------------------------------------------------------------


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
