"""A step once per item of a list: each item a task run of its own, long lists in batches of items."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.steps.execution import within
from flows.steps.keeper import named_parts, now, shown_error
from flows.steps.scope import Scope
from flows.steps.unit import Outcome, Unit, worst
from tasks.failures import StepFailed, ending
from tasks.outputs.stored import store_output
from tasks.results import StepResult
from tasks.values import Value
from workflows.core.expressions.templates import Expression, Template
from workflows.core.plans.plan import ForEachPlan, StepPlan, content_key
from workflows.core.refs import digest

MOST_ROWS = 100
"""Item tasks of one for_each; a longer list is done in that many batches."""

Once = Callable[[str, str, Mapping[str, Any], Mapping[str, Any]], Awaitable[Outcome]]
"""Does one item: its path, its content key, its extra names, what it follows."""
Make = Callable[[str, str, Mapping[str, Any]], Unit]
"""The unit of one item, for batches; None when an item is more than one unit."""


class ItemsFailed(StepFailed):
    """Items of a for_each failed; the message names the first."""


class NotAList(StepFailed):
    """A for_each expression gave something else than a list."""

    final = True


@dataclass(frozen=True)
class _Item:
    path: str
    key: str
    extra: Mapping[str, Any]


async def run_items(
    scope: Scope,
    step: StepPlan,
    path: str,
    key: str,
    follows: Mapping[str, Any],
    once: Once,
    make: Make | None,
) -> Outcome:
    """Does every item, then puts their outputs into one list in the items' order."""
    assert step.for_each is not None
    started = now()
    items = _items(step, path, await _evaluate_list(scope, step, step.for_each), scope.digests(step))
    scope.execution.context.work_through(path, [item.path for item in items])
    if await _is_finished(scope, path, key):
        return await _collect_outputs(scope, step, path, key, [], dict(follows), started)
    slots = asyncio.Semaphore(step.for_each.max_concurrent)
    if make is None or len(items) <= MOST_ROWS:
        ends = await asyncio.gather(
            *(_do_one_item(scope, step, slots, once, item, follows) for item in items)
        )
    else:
        units = [make(i.path, i.key, i.extra) for i in items]
        ends = await _batches(scope, step, path, units, slots, follows)
    failed = worst(ends)
    waits = next((e for e in ends if not e.done and ending(e.error) == "waiting"), None)
    if waits is not None and (failed is waits or step.on_failure == "continue"):
        return replace(waits, path=path)
    halted = scope.execution.stopped is not None or (failed and ending(failed.error) == "stopped")
    if failed is not None and (step.on_failure == "fail" or halted):
        return _failure_of_items(path, ends, failed, scope)
    # One edge per task run, also where many items were done in one.
    states = {str(e.state.state_details.task_run_id): e.state for e in ends if e.state is not None}
    return await _collect_outputs(scope, step, path, key, ends, states or dict(follows), started)


async def _is_finished(scope: Scope, path: str, key: str) -> bool:
    """Whether the whole list is recorded, readable, and of these very items."""
    known = scope.execution.context.finished.get(path)
    return (
        known is not None and known.key == key and await scope.execution.keeper.why_unreadable(known) is None
    )


async def _do_one_item(
    scope: Scope,
    step: StepPlan,
    slots: asyncio.Semaphore,
    once: Once,
    item: _Item,
    follows: Mapping[str, Any],
) -> Outcome:
    async with slots:
        started = now()
        return _tell_failed_item(scope, step, await once(item.path, item.key, item.extra, follows), started)


def _tell_failed_item(scope: Scope, step: StepPlan, end: Outcome, started: int) -> Outcome:
    """People hear of an item that failed, also where the step goes on without it."""
    if end.error is not None and ending(end.error) == "failed":
        context = scope.execution.context
        context.on_event(
            "step.finished",
            {
                "step": end.path,
                "agent": step.doer,
                "status": "failed",
                "reused": False,
                "attempts": end.attempts,
                "seconds": (now() - started) / 1e6,
                "usage": context.usage_below(end.path).model_dump(),
                "failed_tool_calls": context.failed_calls_below(end.path),
                "error": shown_error(end.error)["message"],
            },
        )
    return end


async def _evaluate_list(scope: Scope, step: StepPlan, each: ForEachPlan) -> list[Any]:
    if not isinstance(each.items, str):
        return list(each.items)
    found = await scope.evaluate(each.items)
    if not isinstance(found, (list, tuple)):
        raise NotAList(
            f"for_each of '{step.id}' gave {type(found).__name__}, not a list",
            "write an expression that gives a list",
        )
    return list(found)


def _items(step: StepPlan, path: str, items: Sequence[Any], values: Mapping[str, str]) -> list[_Item]:
    """Each item known by its digest and how often it came before, so that an inserted item does not
    make the others run again."""
    # An item's work depends on what the prompt reads, not on the list it came from.
    reads, by_index = _beside_the_list(step), _reads_index(step)
    own = {n: d for n, d in values.items() if n in reads}
    out = []
    for index, (item, (mark, occurrence)) in enumerate(zip(items, _marks(items), strict=True)):
        part = {"item": mark, "index": index if by_index else None, "occurrence": occurrence}
        place = f"{path}/{mark[:12]}-{occurrence}"
        out.append(_Item(place, content_key(step, own, part), {"item": item, "index": index}))
    return out


def item_parts(items: Sequence[Any]) -> list[str]:
    """What the path of each item's work has after the step's."""
    return [f"{mark[:12]}-{occurrence}" for mark, occurrence in _marks(items)]


def _marks(items: Sequence[Any]) -> list[tuple[str, int]]:
    """Each item's digest, and how often it came before."""
    seen: dict[str, int] = {}
    marks = []
    for item in items:
        mark = digest(item)
        seen[mark] = seen.get(mark, -1) + 1
        marks.append((mark, seen[mark]))
    return marks


def _beside_the_list(step: StepPlan) -> set[str]:
    names: set[str] = set(step.inputs)
    for text in _texts([step.prompt, step.args]):
        names |= Template.parse(text).names
    if not step.for_each or not isinstance(step.for_each.items, str):
        return set(step.reads)
    only_list = Expression.parse(step.for_each.items).names - names
    return set(step.reads) - only_list


def _reads_index(step: StepPlan) -> bool:
    return any("index" in Template.parse(t).names for t in _texts([step.prompt, step.args]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    )
    return [t for v in inner for t in _texts(v)]


async def _batches(
    scope: Scope,
    step: StepPlan,
    path: str,
    units: Sequence[Unit],
    slots: asyncio.Semaphore,
    follows: Mapping[str, Any],
) -> list[Outcome]:
    """Items of a long list in tasks of several items; each item still has its own row in the ledger."""
    size = math.ceil(len(units) / MOST_ROWS)
    parts = [units[i : i + size] for i in range(0, len(units), size)]
    done = await asyncio.gather(
        *(_batch(scope, step, f"{path}/batch-{n}", part, slots, follows) for n, part in enumerate(parts, 1))
    )
    return [end for batch in done for end in batch]


async def _batch(
    scope: Scope,
    step: StepPlan,
    path: str,
    units: Sequence[Unit],
    slots: asyncio.Semaphore,
    follows: Mapping[str, Any],
) -> list[Outcome]:
    ends: list[Outcome] = []

    async def one(unit: Unit) -> Outcome:
        async with within([slots]):
            started = now()
            return _tell_failed_item(scope, step, await scope.execution.do_item(unit, scope.slots), started)

    async def work() -> StepResult:
        ends[:] = await asyncio.gather(*(one(u) for u in units))
        return StepResult(step=step.id, path=path)

    key = digest([u.key for u in units])
    outcome = await scope.execution.run_batch(Unit(step, path, key, work, collects=True), follows)
    if not ends:
        return [outcome]
    return [
        Outcome(e.path, e.result, outcome.state, e.error, reused=e.reused, attempts=e.attempts) for e in ends
    ]


def _failure_of_items(path: str, ends: Sequence[Outcome], first: Outcome, scope: Scope) -> Outcome:
    if scope.execution.stopped is not None:
        return Outcome(path, state=first.state, error=scope.execution.stopped, attempts=first.attempts)
    if ending(first.error) == "stopped":
        return Outcome(path, state=first.state, error=first.error, attempts=first.attempts)
    count = sum(not e.done for e in ends)
    cure = getattr(first.error, "cure", "")
    message = getattr(first.error, "message", "") or str(first.error)
    error = ItemsFailed(f"{count} of {len(ends)} items failed; the first: {message}", cure)
    return Outcome(path, state=first.state, error=error, attempts=max(e.attempts for e in ends))


async def _collect_outputs(
    scope: Scope,
    step: StepPlan,
    path: str,
    key: str,
    ends: Sequence[Outcome],
    follows: Mapping[str, Any],
    started: int,
) -> Outcome:
    """The outputs as one JSON list, null for an item that failed and was continued."""
    context = scope.execution.context

    async def work() -> StepResult:
        values = [Value("item", ref=e.result.output) if e.result else Value("item") for e in ends]
        data = [await v.data(context.store) for v in values]
        output = step.output.model_copy(update={"type": "json"})
        ref = await store_output("", data, output, context, path)
        told = {e.path: shown_error(e.error)["message"] if e.error else "" for e in ends if not e.done}
        failed = named_parts(told)
        return StepResult(
            step=step.id,
            path=path,
            output=ref,
            agent=step.doer,
            model=next((e.result.model for e in ends if e.result), ""),
            offline=any(e.result.offline for e in ends if e.result),
            failed_parts=tuple(failed),
            part_errors={path: message for path, message in failed.items() if message},
        )

    unit = Unit(step, path, key, work, collects=True, started=started)
    outcome = await scope.execution.do_unit(unit, follows, scope.slots)
    attempts = max((e.attempts for e in ends), default=outcome.attempts)
    return Outcome(path, outcome.result, outcome.state, outcome.error, outcome.reused, attempts)
