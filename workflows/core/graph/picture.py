"""What a plan's picture holds, whatever it is drawn with: nodes, what is inside them, named edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workflows.core.doers.kind import Looks
from workflows.core.doers.registry import doer_of
from workflows.core.plans.plan import Plan, StepPlan
from workflows.core.plans.questions import shown_deadline

STATE_COLOURS = {
    "completed": ("#dafbe1", "#1a7f37"),
    "failed": ("#ffebe9", "#cf222e"),
    "running": ("#ddf4ff", "#0969da"),
    "waiting": ("#fff8c5", "#9a6700"),
    "skipped": ("#f6f8fa", "#8c959f"),
    "cancelled": ("#f6f8fa", "#57606a"),
    "not_started": ("#ffffff", "#8c959f"),
}
"""Fill and line of a step in a state; a state not listed is drawn like `not_started`."""
_INPUT = Looks(("#f6f8fa", "#57606a"), mermaid=("([", "])"), dot="ellipse")
_FINALLY = Looks(("#f6f8fa", "#9a6700"))


@dataclass(frozen=True, slots=True)
class Node:
    """A step, an input, or the group of final steps. `id` is unique in the whole picture."""

    id: str
    kind: str
    """A kind of doer, `input` or `finally`."""
    title: str
    looks: Looks
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    """Those who are drawn within it."""
    inside: Picture | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """`label` names the data that flows; empty when the target only waits for the source."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan's picture. Final steps are one node of kind `finally` with a picture inside."""

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def flat(self) -> tuple[Node, ...]:
        """Every node, also those inside others."""
        inner = (n for node in self.nodes if node.inside for n in node.inside.flat())
        return (*self.nodes, *inner)


def colours(node: Node) -> tuple[str, str]:
    """Fill and line of a node: of its state, else of its kind."""
    if node.state:
        return STATE_COLOURS.get(node.state, STATE_COLOURS["not_started"])
    return node.looks.colours


def picture_of(plan: Plan, states: Mapping[str, str] | None = None, prefix: str = "") -> Picture:
    """The picture of a plan. `states` are by step id; a step of a sub-workflow is `outer/inner`."""
    states = states or {}
    makers = {step.output.name: step.id for step in reversed((*plan.steps, *plan.finally_))}
    inputs = tuple(Node(f"{prefix}input:{i.name}", "input", i.name, _INPUT, (i.type,)) for i in plan.inputs)
    steps = tuple(_node(step, states, prefix) for step in plan.steps)
    last: tuple[Node, ...] = ()
    if plan.finally_:
        inner = tuple(_node(step, states, prefix) for step in plan.finally_)
        ids = {step.id for step in plan.finally_}
        edges = tuple(e for step in plan.finally_ for e in _edges(step, plan, makers, prefix, ids))
        last = (
            Node(
                f"{prefix}finally:", "finally", "finally", _FINALLY, inside=Picture("finally", inner, edges)
            ),
        )
    known = {step.id for step in (*plan.steps, *plan.finally_)} | {f"input:{i.name}" for i in plan.inputs}
    inner_ids = {step.id for step in plan.finally_}
    outer = [e for step in plan.steps for e in _edges(step, plan, makers, prefix, known)]
    outer += [e for step in plan.finally_ for e in _edges(step, plan, makers, prefix, known - inner_ids)]
    return Picture(plan.workflow, (*inputs, *steps, *last), tuple(outer))


def _edges(
    step: StepPlan, plan: Plan, makers: Mapping[str, str], prefix: str, sources: set[str]
) -> list[Edge]:
    """The edges into a step: from the makers of what it reads, and from what else it waits for."""
    inputs = {i.name for i in plan.inputs}
    names: dict[str, list[str]] = {}
    for name in step.reads:
        source = makers.get(name) or (f"input:{name}" if name in inputs else "")
        if source and source != step.id:
            names.setdefault(source, []).append(name)
    for source in step.depends_on:
        names.setdefault(source, [])
    return [
        Edge(prefix + source, prefix + step.id, ", ".join(data))
        for source, data in names.items()
        if source in sources
    ]


def _node(step: StepPlan, states: Mapping[str, str], prefix: str) -> Node:
    path, doer = prefix + step.id, doer_of(step)
    return Node(
        id=path,
        kind=step.kind,
        title=step.id if step.name in ("", step.id) else f"{step.id} {step.name}",
        looks=doer.looks,
        lines=doer.lines(step),
        notes=_notes(step),
        members=doer.members(step),
        inside=picture_of(step.workflow, states, f"{path}/") if step.workflow else None,
        state=states.get(path, ""),
    )


def _notes(step: StepPlan) -> tuple[str, ...]:
    notes = []
    wait = step.wait
    if wait is not None and wait.deadline is not None:
        notes.append(f"deadline {shown_deadline(wait)}")
    if step.when is not None:
        notes.append(f"when {_line(step.when)}")
    if step.for_each is not None:
        items = step.for_each.items
        what = _line(items) if isinstance(items, str) else f"{len(items)} items"
        notes.append(f"for each ({step.for_each.max_concurrent} at once): {what}")
    if step.repeat is not None:
        notes.append(f"repeat (at most {step.repeat.max}) until {_line(step.repeat.until)}")
    return tuple(notes)


def _line(text: str) -> str:
    return " ".join(text.split())
