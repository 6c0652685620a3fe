"""What is wrong with the routing rules: unknown targets, patterns, rules that never win, contradictions."""

from __future__ import annotations

from workflows.core.catalog.contents import Catalog, WorkflowFile
from workflows.core.compile.compiler import examine
from workflows.core.models.registry import RoutingRule
from workflows.core.models.workflow import Step, Workflow
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source
from workflows.core.routing.routes import pattern_mistake, route_workflow, rule_workflow

_EVERYTHING = frozenset(
    f"{start}{core}{end}"
    for start in ("", "^")
    for end in ("", "$")
    for core in ("", ".*", "(.*)", "(?:.*)", r"[\s\S]*", "(?s).*", "(?s:.*)")
)
"""Patterns that are found in any text."""


def check_routes(catalog: Catalog, found: Findings) -> None:
    """Records what is wrong with the catalog's routing rules."""
    source = catalog.rules_source
    if source is None:
        return
    for index, rule in enumerate(catalog.rules):
        place: Key = ("routing_rules", index)
        if (mistake := pattern_mistake(source, index, rule.pattern)) is not None:
            found.errors.append(mistake)
        _check_target(catalog, source, place, rule, found)
        _check_copy(catalog, source, place, rule, found)
    _check_names(catalog.rules, source, found)
    _check_shadows(catalog.rules, source, found)


def _check_names(rules: tuple[RoutingRule, ...], source: Source, found: Findings) -> None:
    first: dict[str, int] = {}
    for index, rule in enumerate(rules):
        if rule.name in first:
            line = source.position(("routing_rules", first[rule.name], "name"))[0]
            found.error(
                source,
                ("routing_rules", index, "name"),
                f"the rule '{rule.name}' stands twice (first in line {line})",
                "give one of the two another name",
            )
        first.setdefault(rule.name, index)


def _check_shadows(rules: tuple[RoutingRule, ...], source: Source, found: Findings) -> None:
    order = sorted(range(len(rules)), key=lambda i: -rules[i].priority)
    taker: RoutingRule | None = None
    for index in order:
        rule = rules[index]
        if taker is not None:
            found.warn(
                source,
                ("routing_rules", index),
                f"the rule '{rule.name}' can never win: '{taker.name}' comes first and takes every text",
                f"give '{rule.name}' a priority above {taker.priority}",
            )
        elif rule.pattern in _EVERYTHING:
            taker = rule


def _check_target(catalog: Catalog, source: Source, place: Key, rule: RoutingRule, found: Findings) -> None:
    if isinstance(rule.workflow, str):
        _check_named(catalog, source, place, rule, found)
    elif not rule.workflow and not rule.agents and rule.skill is None:
        found.warn(
            source,
            place,
            f"the rule '{rule.name}' names no agent, workflow or skill; a text it wins is refused",
            "add `skill:` (and `handler:`) to the rule",
        )
    if (file := rule_workflow(catalog, rule)) is not None:
        _, one = examine(file, catalog)
        found.add(one)


def _check_named(catalog: Catalog, source: Source, place: Key, rule: RoutingRule, found: Findings) -> None:
    name = str(rule.workflow)
    file = catalog.workflows.get(name)
    if file is None:
        if not any(m.file.rpartition(".")[0] == name for m in catalog.findings.errors):
            cure = found.near(name, catalog.workflows) or f"add {name}.yaml"
            found.error(source, (*place, "workflow"), f"unknown workflow '{name}'", cure)
        return
    _compare_times(source, place, rule, file, found)


def _compare_times(
    source: Source, place: Key, rule: RoutingRule, file: WorkflowFile, found: Findings
) -> None:
    own, named = rule.timeout, file.workflow.total_timeout
    if own is None or named is None or own == named:
        return
    assumed = (
        "the workflow's holds" if isinstance(rule.workflow, str) else "the rule's holds for its own steps"
    )
    found.warn(
        source,
        (*place, "timeout"),
        f"{own:g} s here, but {named:g} s in {file.source.file}; {assumed}",
        f"write timeout: {named:g}",
    )


def _check_copy(catalog: Catalog, source: Source, place: Key, rule: RoutingRule, found: Findings) -> None:
    """Steps written inside a rule that repeat a workflow of the catalog, but not whole."""
    inline = route_workflow(rule)
    twin = _find_twin(catalog, inline) if inline is not None else None
    if inline is None or twin is None:
        return
    missing = _missing_steps(inline, twin.workflow)
    _compare_times(source, place, rule, twin, found)
    if missing:
        found.warn(
            source,
            (*place, "workflow"),
            f"a copy of {twin.name} without {', '.join(s.id for s in missing)}; it is run as written here",
            f"write `workflow: {twin.name}`",
        )


def _find_twin(catalog: Catalog, inline: Workflow) -> WorkflowFile | None:
    if inline.workflow in catalog.workflows:
        return catalog.workflows[inline.workflow]
    if len(inline.steps) < 2:
        return None
    return next(
        (
            f
            for f in catalog.workflows.values()
            if _agents(inline) == _agents(f.workflow)[: len(inline.steps)]
        ),
        None,
    )


def _agents(workflow: Workflow) -> list[tuple[str, ...]]:
    return [_doers(step) for step in workflow.steps]


def _doers(step: Step) -> tuple[str, ...]:
    return step.agents or ((step.agent,) if step.agent else ())


def _missing_steps(inline: Workflow, whole: Workflow) -> tuple[Step, ...]:
    there = {step.id for step in inline.steps}
    return tuple(step for step in whole.steps if step.id not in there)
