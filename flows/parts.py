"""How one step becomes units: alone, as a panel, once per item, again and again, or as a workflow."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.unit import Outcome, Unit
from tasks.agent import run_agent
from tasks.failures import StepFailed
from tasks.outputs_stored import store_output
from tasks.panel import merge_panel
from tasks.results import StepResult
from tasks.skill import run_skill
from tasks.values import Value, evaluate
from workflows.core.plan import ForEachPlan, StepPlan, content_key
from workflows.core.refs import canonical_json, digest

if TYPE_CHECKING:
    from flows.walk import Walk

MOST_ROWS = 100
"""Item tasks of one for_each; a longer list is done in that many batches."""


class ItemsFailed(StepFailed):
    """Items of a for_each failed; the message names the first."""


class NotAList(StepFailed):
    """A for_each expression gave something else than a list."""

    final = True


async def run_parts(walk: Walk, step: StepPlan, path: str, key: str, follows: Mapping[str, Any]) -> Outcome:
    """Does a step in its own way. The outcome's state is what followers get as their edge."""
    if step.kind == "workflow":
        from flows.nested import run_nested

        return await run_nested(walk, step, path, key, follows)
    if step.for_each is not None:
        return await _for_each(walk, step, step.for_each, path, key, follows)
    if step.repeat is not None:
        return await _repeat(walk, step, path, follows)
    if step.kind == "panel":
        return await _panel(walk, step, path, key, follows)
    return await walk.unit(_unit(walk, step, path, key, {}), follows)


def _unit(walk: Walk, step: StepPlan, path: str, key: str, extra: Mapping[str, Any]) -> Unit:
    """The unit that does the step's work once. `extra` holds item, index, previous, iteration."""
    scope = {"steps": walk.statuses(), **extra}

    async def work() -> StepResult:
        if step.kind == "skill":
            return await run_skill(step, walk.values, scope, walk.context, path)
        return await run_agent(step, step.agents[0], walk.values, scope, walk.context, path)

    return Unit(step, path, key, work)


async def _panel(walk: Walk, step: StepPlan, path: str, key: str, follows: Mapping[str, Any]) -> Outcome:
    scope = {"steps": walk.statuses()}
    values = walk.digests(step)

    def member(index: int) -> Unit:
        agent = step.agents[index]
        own = f"{path}/{agent.id.replace('/', '.')}"

        async def work() -> StepResult:
            return await run_agent(step, agent, walk.values, scope, walk.context, own, kind=f"{step.output.name}.{agent.id}")

        return Unit(step, own, content_key(step, values, {"member": agent.id}), work, member=agent.id)

    members = [member(i) for i in range(len(step.agents))]
    ends = await asyncio.gather(*(walk.unit(m, follows) for m in members))
    failed = next((e for e in ends if not e.done), None)
    if failed is not None:
        return Outcome(path, state=failed.state, error=failed.error, attempts=failed.attempts)
    answers = [
        e.result.model_copy(update={"agent": a.id}) for e, a in zip(ends, step.agents, strict=True) if e.result
    ]

    async def merge() -> StepResult:
        return await merge_panel(step, answers, walk.context, path)

    inner = {m.member: e.state for m, e in zip(members, ends, strict=True)}
    merged = await walk.unit(Unit(step, path, key, merge, collects=True), inner)
    return merged


async def _repeat(walk: Walk, step: StepPlan, path: str, follows: Mapping[str, Any]) -> Outcome:
    assert step.repeat is not None
    values = walk.digests(step)
    previous: Value | None = None
    edges = dict(follows)
    outcome = Outcome(path)
    for iteration in range(1, step.repeat.max + 1):
        part = {"iteration": iteration, "previous": previous.sha256 if previous else None}
        key = content_key(step, values, part)
        earlier = await previous.data(walk.context.store) if previous else None
        extra = {"iteration": iteration, "previous": earlier}
        outcome = await walk.unit(_unit(walk, step, f"{path}/{iteration}", key, extra), edges)
        if outcome.result is None or outcome.result.output is None:
            return outcome
        previous = Value(step.output.name, ref=outcome.result.output)
        latest = {**extra, "previous": earlier, "steps": walk.statuses()}
        scope = {**walk.values, step.output.name: previous}
        if await evaluate(step.repeat.until, scope, walk.context.store, latest):
            break
        # The next iteration follows this one; what this one followed is behind it.
        edges = {f"iteration-{iteration}": outcome.state}
    return outcome


async def _for_each(
    walk: Walk, step: StepPlan, each: ForEachPlan, path: str, key: str, follows: Mapping[str, Any]
) -> Outcome:
    items = await _items(walk, step, each)

    async def nothing() -> StepResult:
        raise AssertionError("a recorded result was not found")

    known = walk.context.finished.get(path)
    if known is not None and known.key == key and await walk.keeper.unreadable(known) is None:
        return await walk.unit(Unit(step, path, key, nothing, collects=True), follows)
    units = _item_units(walk, step, path, items)
    slots = asyncio.Semaphore(each.max_concurrent)
    size = max(1, math.ceil(len(units) / MOST_ROWS))
    if size == 1:
        ends = await asyncio.gather(*(_within(slots, walk.unit(u, follows)) for u in units))
    else:
        ends = await _batches(walk, step, path, units, size, slots, follows)
    states = {e.path.split("/")[-1]: e.state for e in ends if e.state is not None}
    return await _collect(walk, step, path, key, ends, states or dict(follows))


async def _within(slots: asyncio.Semaphore, work: Any) -> Outcome:
    async with slots:
        outcome: Outcome = await work
        return outcome


async def _items(walk: Walk, step: StepPlan, each: ForEachPlan) -> list[Any]:
    if not isinstance(each.items, str):
        return list(each.items)
    found = await evaluate(each.items, walk.values, walk.context.store, {"steps": walk.statuses()})
    if not isinstance(found, (list, tuple)):
        raise NotAList(
            f"for_each of '{step.id}' gave {type(found).__name__}, not a list", "write an expression that gives a list"
        )
    return list(found)


def _item_units(walk: Walk, step: StepPlan, path: str, items: Sequence[Any]) -> list[Unit]:
    """One unit per item, known by the item's digest and how often it came before, so that an inserted
    item does not make the others run again."""
    values = walk.digests(step)
    seen: dict[str, int] = {}
    # An item's work depends on what the prompt reads, not on the list it came from.
    own = {n: d for n, d in values.items() if n in _beside_the_list(step)}
    units = []
    for index, item in enumerate(items):
        mark = digest(item)
        occurrence = seen[mark] = seen.get(mark, -1) + 1
        part = {"item": mark, "index": index if _reads_index(step) else None, "occurrence": occurrence}
        place = f"{path}/{mark[:12]}-{occurrence}"
        extra = {"item": item, "index": index}
        units.append(_unit(walk, step, place, content_key(step, own, part), extra))
    return units


def _beside_the_list(step: StepPlan) -> set[str]:
    from workflows.core.expressions import Expression, Template

    names: set[str] = set(step.inputs)
    for text in _texts([step.prompt, step.args]):
        names |= Template.parse(text).names
    if not step.for_each or not isinstance(step.for_each.items, str):
        return set(step.reads)
    only_list = Expression.parse(step.for_each.items).names - names
    return set(step.reads) - only_list


def _reads_index(step: StepPlan) -> bool:
    from workflows.core.expressions import Template

    return any("index" in Template.parse(t).names for t in _texts([step.prompt, step.args]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [t for v in inner for t in _texts(v)]


async def _batches(
    walk: Walk,
    step: StepPlan,
    path: str,
    units: Sequence[Unit],
    size: int,
    slots: asyncio.Semaphore,
    follows: Mapping[str, Any],
) -> list[Outcome]:
    """Items of a long list in tasks of `size` items; each item still has its own row in the ledger."""

    async def batch(number: int, part: Sequence[Unit]) -> tuple[Outcome, list[Outcome]]:
        inner: list[Outcome] = []

        async def work() -> StepResult:
            inner[:] = await asyncio.gather(*(_within(slots, walk.item(u)) for u in part))
            return StepResult(step=step.id, path=f"{path}/batch-{number}")

        key = digest([u.key for u in part])
        outcome = await walk.batch(Unit(step, f"{path}/batch-{number}", key, work, collects=True), follows)
        return outcome, inner

    parts = [units[i : i + size] for i in range(0, len(units), size)]
    done = await asyncio.gather(*(batch(n, p) for n, p in enumerate(parts, 1)))
    ends = []
    for outcome, inner in done:
        for end in inner:
            ends.append(
                Outcome(end.path, result=end.result, state=outcome.state, error=end.error, attempts=end.attempts)
            )
        if not inner:
            ends.append(outcome)
    return ends


async def _collect(
    walk: Walk, step: StepPlan, path: str, key: str, ends: Sequence[Outcome], follows: Mapping[str, Any]
) -> Outcome:
    failed = [e for e in ends if not e.done]
    if failed and step.on_failure != "continue":
        first = failed[0]
        error = ItemsFailed(f"{len(failed)} of {len(ends)} items failed; first: {first.error}", "")
        return Outcome(path, state=first.state, error=error, attempts=first.attempts)

    async def work() -> StepResult:
        values = [Value("item", ref=e.result.output) if e.result else Value("item") for e in ends]
        data = [await v.data(walk.context.store) for v in values]
        canonical_json(data)
        output = step.output.model_copy(update={"type": "json"})
        ref = await store_output("", data, output, walk.context, path)
        return StepResult(
            step=step.id,
            path=path,
            output=ref,
            agent=step.agents[0].id if step.agents else "",
            model=next((e.result.model for e in ends if e.result), ""),
            offline=any(e.result.offline for e in ends if e.result),
        )

    # Failed items have a failed task: the collecting task must not wait for their success.
    from prefect import allow_failure

    safe = {n: s if not hasattr(s, "is_completed") or s.is_completed() else allow_failure(s) for n, s in follows.items()}
    return await walk.unit(Unit(step, path, key, work, collects=True), safe)
