"""The order of steps: who makes which name, what follows from it, cycles."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from workflows.core.models.workflow import Step
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source

MADE_UP = "#"
"""In ids that nobody wrote: they stand for one that is wrong, so that its step is looked at as well."""


def as_written(names: Iterable[str]) -> Iterator[str]:
    """Ids and names that somebody wrote, without made-up ones."""
    return (name for name in names if MADE_UP not in name)


def shown_id(step_id: str) -> str:
    """A step's id for people: a made-up one as the id it was made from."""
    return step_id.partition(MADE_UP)[0] or "(no id)"


def output_name(step: Step) -> str:
    """The name a step's output goes by: `expected_output`, else the id as a name."""
    return step.expected_output or default_name(step.id)


def default_name(step_id: str) -> str:
    """A step's id as a name: `step-1` becomes step_1. That of a made-up id is made up as well."""
    return re.sub(rf"[^A-Za-z0-9_{MADE_UP}\u4e00-\u9fff]", "_", step_id)


def producers(
    steps: Sequence[tuple[Key, Step]], inputs: Mapping[str, object], source: Source, findings: Findings
) -> dict[str, str]:
    """Output name to step id. Two steps making one name, or one that is an input, are mistakes."""
    out: dict[str, str] = {}
    for at, step in steps:
        name = output_name(step)
        place = (*at, "expected_output") if step.expected_output else (*at, "id")
        if name in out:
            findings.error(
                source,
                place,
                f"the output '{name}' is already made by {shown_id(out[name])}",
                "give one of the two another expected_output",
            )
        elif name in inputs:
            findings.error(
                source, place, f"'{name}' is an input of the workflow", "give the output another name"
            )
        out.setdefault(name, step.id)
    return out


def resolve_id(written: str, ids: Mapping[str, object]) -> str | None:
    """A step id as written in depends_on; a bare number n means step-n."""
    if written in ids:
        return written
    return f"step-{written}" if written.isdigit() and f"step-{written}" in ids else None


def edges(
    steps: Sequence[tuple[Key, Step]],
    made_by: Mapping[str, str],
    source: Source,
    findings: Findings,
    *,
    known_only_later: Mapping[str, object],
) -> dict[str, tuple[str, ...]]:
    """Step id to the ids it follows: written ones and those of its inputs, in the order written."""
    ids = {step.id: step for _, step in steps}
    out: dict[str, tuple[str, ...]] = {}
    for at, step in steps:
        found: dict[str, None] = {}
        for index, written in enumerate(step.depends_on):
            place = (
                (*at, "depends_on", index)
                if isinstance(source.value((*at, "depends_on")), list)
                else (*at, "depends_on")
            )
            resolved = resolve_id(written, ids)
            if resolved == step.id:
                findings.error(
                    source, place, f"the step '{shown_id(step.id)}' depends on itself", "remove it"
                )
            elif resolved is not None:
                found[resolved] = None
            elif written in known_only_later:
                findings.error(
                    source,
                    place,
                    f"'{written}' runs at the end, whatever happened; no step can follow it",
                    "move it from `finally` to `steps`",
                )
            else:
                findings.error(
                    source, place, f"unknown step '{written}'", findings.near(written, as_written(ids))
                )
        for name in step.inputs:
            maker = made_by.get(name)
            if maker is not None and maker in ids and maker != step.id:
                found[maker] = None
            elif maker == step.id:
                findings.error(
                    source,
                    (*at, "inputs"),
                    f"the step reads its own output '{name}'",
                    "use `repeat` and `previous`",
                )
        out[step.id] = tuple(found)
    return out


def find_cycle(after: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Ids of one cycle, first repeated at the end, or None. Iterative: graphs may be deep."""
    state: dict[str, int] = {}
    for start in after:
        if state.get(start):
            continue
        path, stack = [start], [iter(after[start])]
        state[start] = 1
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                state[path.pop()] = 2
            elif state.get(following) == 1:
                return [*path[path.index(following) :], following]
            elif following in after and not state.get(following):
                state[following] = 1
                path.append(following)
                stack.append(iter(after[following]))
    return None


def order_steps(after: Mapping[str, Sequence[str]]) -> list[str]:
    """Ids so that each follows what it depends on; among equals as written. Needs an acyclic graph."""
    waiting = {k: {d for d in v if d in after} for k, v in after.items()}
    followers: dict[str, list[str]] = {}
    for step_id, needed in waiting.items():
        for before in needed:
            followers.setdefault(before, []).append(step_id)
    rank = {k: i for i, k in enumerate(after)}
    ready = [rank[k] for k, v in waiting.items() if not v]
    heapq.heapify(ready)
    names, out = list(after), []
    while ready:
        step_id = names[heapq.heappop(ready)]
        out.append(step_id)
        for follower in followers.get(step_id, ()):
            waiting[follower].discard(step_id)
            if not waiting[follower]:
                heapq.heappush(ready, rank[follower])
    return out


def upstream(after: Mapping[str, Sequence[str]], order: Sequence[str]) -> dict[str, frozenset[str]]:
    """Step id to every id it follows, directly or not."""
    out: dict[str, frozenset[str]] = {}
    for step_id in order:
        direct = [d for d in after[step_id] if d in out]
        out[step_id] = frozenset(direct).union(*(out[d] for d in direct))
    return out
