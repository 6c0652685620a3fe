"""What a plan's picture holds, whatever it is drawn with: nodes, what is inside them, named edges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workflows.core.plans.plan import ApprovalPlan, AwaitEventPlan, DecidersPlan, Plan, StepPlan
from workflows.core.units import shown_duration

Kind = Literal["input", "agent", "panel", "skill", "workflow", "approval", "await_event", "finally"]


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
KIND_COLOURS = {
    "input": ("#f6f8fa", "#57606a"),
    "agent": ("#ffffff", "#0969da"),
    "panel": ("#fbefff", "#8250df"),
    "skill": ("#ffffff", "#1b7c83"),
    "workflow": ("#f6f8fa", "#57606a"),
    "approval": ("#fff8f2", "#bc4c00"),
    "await_event": ("#fff5fa", "#bf3989"),
    "finally": ("#f6f8fa", "#9a6700"),
}


@dataclass(frozen=True, slots=True)
class Node:
    """A step, an input, or the group of final steps. `id` is unique in the whole picture."""

    id: str
    kind: Kind
    title: str
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    """Agents of a panel."""
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
    return KIND_COLOURS[node.kind]


def picture_of(plan: Plan, states: Mapping[str, str] | None = None, prefix: str = "") -> Picture:
    """The picture of a plan. `states` are by step id; a step of a sub-workflow is `outer/inner`."""
    states = states or {}
    makers = {step.output.name: step.id for step in reversed((*plan.steps, *plan.finally_))}
    inputs = tuple(Node(f"{prefix}input:{i.name}", "input", i.name, (i.type,)) for i in plan.inputs)
    steps = tuple(_node(step, states, prefix) for step in plan.steps)
    last: tuple[Node, ...] = ()
    if plan.finally_:
        inner = tuple(_node(step, states, prefix) for step in plan.finally_)
        ids = {step.id for step in plan.finally_}
        edges = tuple(e for step in plan.finally_ for e in _edges(step, plan, makers, prefix, ids))
        last = (Node(f"{prefix}finally:", "finally", "finally", inside=Picture("finally", inner, edges)),)
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
    path = prefix + step.id
    return Node(
        id=path,
        kind=step.kind,
        title=step.id if step.name in ("", step.id) else f"{step.id} {step.name}",
        lines=_doer(step),
        notes=_notes(step),
        members=tuple(agent.id for agent in step.agents) if step.kind == "panel" else (),
        inside=picture_of(step.workflow, states, f"{path}/") if step.workflow else None,
        state=states.get(path, ""),
    )


def _doer(step: StepPlan) -> tuple[str, ...]:
    if step.kind == "panel":
        merger = step.merge.agent.id if step.merge and step.merge.agent else ""
        return (f"panel of {len(step.agents)}" + (f", merged by {merger}" if merger else ""),)
    if step.kind == "workflow":
        return (f"workflow {step.workflow.workflow}",) if step.workflow else ()
    if step.approval is not None:
        return (f"approval by {shown_people(step.approval)}",)
    if step.await_event is not None:
        key = f", key {_line(step.await_event.key)}" if step.await_event.key else ""
        return (f"event {step.await_event.type}{key}",)
    if step.kind == "skill":
        name = step.handler.name if step.handler else ""
        return tuple(t for t in (f"skill {step.skill.id}" if step.skill else "", name) if t)
    return tuple(f"{agent.id} · {agent.model.id}" for agent in step.agents)


def shown_people(asked: ApprovalPlan | DecidersPlan) -> str:
    """Who decides: `anybody`, `any 2 people`, `alice`, `2 of alice, bob, carol`."""
    people = asked.assignees
    if not people:
        return "anybody" if asked.quorum == 1 else f"any {asked.quorum} people"
    return people[0] if len(people) == 1 else f"{asked.quorum} of {', '.join(people)}"


def shown_deadline(wait: ApprovalPlan | DecidersPlan | AwaitEventPlan) -> str:
    """What happens when nobody answers: `2d, then escalate to boss`; empty without a deadline."""
    if wait.deadline is None:
        return ""
    people = "" if isinstance(wait, AwaitEventPlan) else ", ".join(wait.escalate_to)
    target = f" to {people}" if people else ""
    return f"{shown_duration(wait.deadline)}, then {wait.on_timeout}{target}"


def _notes(step: StepPlan) -> tuple[str, ...]:
    notes = []
    wait = step.approval or step.await_event
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
