"""What of a run can be taken back: its completed rows in the ledger whose step has an `undo`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blocks.ledger import StepRecord
from flows.steps.inputs import known_value
from flows.steps.items import item_parts
from tasks.context import RunContext
from tasks.results import StepResult
from tasks.values import Value, evaluate, fill_argument
from workflows.core.compile.undo import OUTPUT
from workflows.core.errors import PhaselineError
from workflows.core.expressions.templates import lone_expression
from workflows.core.plans.plan import Plan, StepPlan, UndoPlan
from workflows.core.refs import Ref

_ITEM, _ITERATION = re.compile(r"[0-9a-f]{12}-[0-9]+"), re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Completed:
    """A completed step with something that takes it back, and what it knew."""

    step: StepPlan
    undo: UndoPlan
    path: str
    ended: int
    values: Mapping[str, Value]


async def completed_rows(
    plan: Plan,
    records: Mapping[str, StepRecord],
    inputs: Mapping[str, Value],
    prefix: str,
    context: RunContext,
) -> list[Completed]:
    """What can be taken back: every completed row of a step with `undo`, also in inner workflows, in single
    items and in each iteration, whether or not the step as a whole was completed."""
    values = dict(inputs)
    found: list[Completed] = []
    for step in (*plan.steps, *plan.finally_):
        path = f"{prefix}{step.id}"
        for part, names in await _parts(step, path, records, values, context):
            if step.workflow is not None:
                inner = await _inner_inputs(step, values, names, context)
                found += await completed_rows(step.workflow, records, inner, f"{part}/", context)
            output = _output(records.get(part))
            if step.undo is not None and output is not None:
                known = {n: v for n, v in values.items() if n in step.reads}
                known |= {n: Value(n, ref=output) for n in (step.output.name, OUTPUT)}
                found.append(Completed(step, step.undo, part, records[part].ended or 0, known))
        if (whole := _output(_last(step, path, records))) is not None:
            values[step.output.name] = Value(step.output.name, ref=whole)
    return found


def _output(record: StepRecord | None) -> Ref | None:
    if record is None or record.state != "completed" or record.result is None:
        return None
    return StepResult.model_validate(record.result).output


async def _parts(
    step: StepPlan,
    path: str,
    records: Mapping[str, StepRecord],
    values: Mapping[str, Value],
    context: RunContext,
) -> list[tuple[str, Mapping[str, Any]]]:
    """Where a step did its work: its own path, or those of its items or iterations, with their names."""
    if step.for_each is None and step.repeat is None:
        return [(path, {})]
    kind = _ITEM if step.for_each is not None else _ITERATION
    below = (p.removeprefix(f"{path}/").split("/")[0] for p in records if p.startswith(f"{path}/"))
    parts = [part for part in dict.fromkeys(below) if kind.fullmatch(part)]
    items = await _items(step, values, context)
    return [(f"{path}/{part}", items.get(part, {})) for part in parts]


async def _items(
    step: StepPlan, values: Mapping[str, Value], context: RunContext
) -> dict[str, Mapping[str, Any]]:
    """`item` and `index` by the part of their paths, as far as the list can still be told."""
    if step.for_each is None:
        return {}
    listed: Any = step.for_each.items
    try:
        if isinstance(listed, str):
            listed = await evaluate(listed, values, context.store, {})
    except PhaselineError:
        return {}  # an undo that reads one says that it is missing
    known = enumerate(listed) if isinstance(listed, (list, tuple)) else ()
    names = [{"item": item, "index": index} for index, item in known]
    return dict(zip(item_parts([n["item"] for n in names]), names, strict=True))


def _last(step: StepPlan, path: str, records: Mapping[str, StepRecord]) -> StepRecord | None:
    """The record that holds a step's result; a repeated step's is that of its last iteration."""
    if step.repeat is None:
        return records.get(path)
    done = [records.get(f"{path}/{n}") for n in range(step.repeat.max, 0, -1)]
    return next((r for r in done if r is not None and r.state == "completed"), None)


async def _inner_inputs(
    step: StepPlan, values: Mapping[str, Value], names: Mapping[str, Any], context: RunContext
) -> dict[str, Value]:
    """What an inner workflow was given, as far as it can still be told."""
    assert step.workflow is not None
    specs = {i.name: i for i in step.workflow.inputs}
    given = {name: known_value(name, spec.default, spec) for name, spec in specs.items()}
    for name, written in step.args.items():
        lone = lone_expression(written) if isinstance(written, str) else None
        if lone is not None and lone not in names and lone in values:
            # By its own type: a secret of the outer workflow is only a text where the inner one takes a text.
            handed = values[lone]
            given[name] = known_value(name, handed.ref or handed.plain, specs.get(name))
            continue
        try:
            told = await fill_argument(written, values, context.store, names)
            given[name] = known_value(name, told, specs.get(name))
        except PhaselineError:
            given.pop(name, None)  # an undo that reads it says that it is missing
    return given
