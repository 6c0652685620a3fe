"""From routing rules as written to what can be tried and run.

A rule names a workflow, holds the steps of one, names agents, or names a skill. All but the first become a
small workflow made on the spot. The free text enters as the input `request`, not as part of a prompt, so
that the content keys of such a run depend on the text exactly as they would for any other input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workflows.core.catalog.contents import Catalog, WorkflowFile
from workflows.core.catalog.skills import CatalogSkill
from workflows.core.compile.edges import default_name, resolve_id
from workflows.core.errors import Mistake, UsageError
from workflows.core.models.registry import RouteStep, RoutingRule
from workflows.core.models.workflow import Workflow
from workflows.core.plans.plan import HandlerPlan
from workflows.core.read.source import Key, Position, Source
from workflows.core.routing.matching import SEARCH_SECONDS, Rule, RuleChoice
from workflows.core.text.patterns import pattern_fault

REQUEST = "request"
"""Name of the input that carries the free text."""

_INPUTS = {REQUEST: {"type": "string", "description": "The free text that was routed."}}


@dataclass(frozen=True)
class Routed:
    """What a winning rule runs, and the inputs that carry the text."""

    file: WorkflowFile
    inputs: Mapping[str, str]


def rules(catalog: Catalog) -> tuple[Rule, ...]:
    """The catalog's rules, in file order, for `routing.choose`. An inline workflow has its rule's name."""
    source = catalog.rules_source or Source("", None)
    return tuple(_rule(source, index, rule) for index, rule in enumerate(catalog.rules))


def pattern_mistake(source: Source, index: int, pattern: str) -> Mistake | None:
    """What is wrong with the pattern of a rule; None when it can be used."""
    fault = pattern_fault(pattern)
    if fault is None:
        return None
    cure = "mend the regular expression; put '\\' before a character that is meant as it stands"
    return source.mistake(("routing_rules", index, "pattern"), f"not a usable pattern: {fault}", cure)


def unusable_rules(catalog: Catalog, choice: RuleChoice) -> list[Mistake]:
    """The rules that a choice passed over though nobody can know whether they match the text."""
    source = catalog.rules_source or Source("", None)
    tried = [(n, rule) for n, rule in enumerate(rules(catalog)) if rule not in choice.untried]
    found = [pattern_mistake(source, index, rule.pattern) for index, rule in tried]
    return [mistake for mistake in found if mistake is not None]


def slow_rules(catalog: Catalog, choice: RuleChoice) -> list[Mistake]:
    """The rules whose search was given up at its time limit: nobody knows whether the text is theirs."""
    source = catalog.rules_source or Source("", None)
    names = {entry.rule for entry in choice.tried if entry.slow}
    message = f"the search took more than {SEARCH_SECONDS} s on this text, which may be meant for it"
    cure = "write the pattern without repeats inside repeats, such as (a+)+"
    return [
        source.mistake(("routing_rules", index, "pattern"), f"the rule '{rule.name}': {message}", cure)
        for index, rule in enumerate(catalog.rules)
        if rule.name in names
    ]


def _rule(source: Source, index: int, rule: RoutingRule) -> Rule:
    line, column = source.position(("routing_rules", index))
    return Rule(
        name=rule.name,
        pattern=rule.pattern,
        priority=rule.priority,
        agents=rule.agents,
        workflow=rule.name if isinstance(rule.workflow, tuple) else rule.workflow,
        skill=rule.skill,
        timeout=rule.timeout,
        file=source.file,
        line=line,
        column=column,
    )


def resolve_rule(catalog: Catalog, rule: Rule, text: str) -> Routed:
    """What the winning rule runs for a text.

    Raises UsageError when the rule names nobody, InvalidDefinition or UsageError when its workflow is wrong.
    A named workflow gets the text when it declares an input `request`.
    """
    written = next((r for r in catalog.rules if r.name == rule.name), None)
    file = rule_workflow(catalog, written) if written is not None else None
    if file is not None:
        return Routed(file, {REQUEST: text})
    if rule.workflow is None:
        raise UsageError(
            f"the rule '{rule.name}' won, but it names no agent, workflow or skill",
            f"add `skill:` to the rule in {rule.file or 'the routing rules'}",
        )
    file = catalog.find_workflow(rule.workflow)
    return Routed(file, {REQUEST: text} if REQUEST in file.workflow.inputs else {})


def rule_workflow(catalog: Catalog, rule: RoutingRule) -> WorkflowFile | None:
    """The workflow a rule makes on the spot, its positions those of the rule; None for a named workflow."""
    if isinstance(rule.workflow, tuple):
        workflow = route_workflow(rule)
    elif rule.agents:
        workflow = one_step_workflow(rule.agents, rule.name, rule.timeout)
    elif rule.skill is not None and rule.workflow is None:
        workflow = skill_workflow(catalog, rule)
    else:
        workflow = None
    return WorkflowFile(_source(catalog, rule), workflow) if workflow is not None else None


def route_workflow(rule: RoutingRule) -> Workflow | None:
    """The steps written inside a rule, as a workflow of the rule's name; None when it holds none.

    Step n is `step-n`; `task` is its name and, followed by the request, its prompt. A step that names no
    inputs gets what the steps before it made, since it would otherwise know nothing of them.
    """
    if not isinstance(rule.workflow, tuple):
        return None
    ids = {_step_id(step): step for step in rule.workflow}
    return _workflow(rule.name, [_step(step, ids) for step in rule.workflow], rule.timeout)


def one_step_workflow(agents: Sequence[str], name: str = "request", timeout: float | None = None) -> Workflow:
    """One agent, or a panel of several, answers the request."""
    doer = {"agent": agents[0]} if len(agents) == 1 else {"agents": list(agents)}
    step = {"id": "answer", "name": name, "prompt": f"{{{{ {REQUEST} }}}}", **doer}
    return _workflow(name, [step], timeout)


def skill_workflow(catalog: Catalog, rule: RoutingRule) -> Workflow:
    """The rule's skill run directly on the request: no agent and no model takes part."""
    skill = catalog.skills.get(rule.skill or "")
    handler = _handler(skill, rule) if skill is not None else None
    step: dict[str, Any] = {"id": "answer", "name": rule.name, "skill": rule.skill}
    if rule.handler is not None:
        step["handler"] = rule.handler
    if handler is not None:
        step["args"] = _argument(handler)
    return _workflow(rule.name, [step], rule.timeout)


def _workflow(name: str, steps: list[dict[str, Any]], timeout: float | None) -> Workflow:
    whole = {"workflow": name, "inputs": _INPUTS, "steps": steps, "total_timeout": timeout}
    return Workflow.model_validate(whole)


def _step_id(step: RouteStep) -> str:
    return f"step-{step.step}" if re.fullmatch(r"[0-9]{1,9}", step.step) else step.step


def _step(step: RouteStep, ids: Mapping[str, RouteStep]) -> dict[str, Any]:
    before = [found for written in step.depends_on if (found := resolve_id(written, ids))]
    made = [ids[b].expected_output or default_name(b) for b in before]
    written = step.model_dump(exclude={"step", "task", "inputs"}, exclude_unset=True)
    return {
        **written,
        "id": _step_id(step),
        "name": step.task or _step_id(step),
        "prompt": f"{step.task}\n\n{{{{ {REQUEST} }}}}".lstrip(),
        "inputs": list(step.inputs or made),
    }


def _handler(skill: CatalogSkill, rule: RoutingRule) -> HandlerPlan | None:
    named = [h for h in skill.handlers if rule.handler in (None, h.handler)]
    return named[0] if len(named) == 1 else None


def _argument(handler: HandlerPlan) -> dict[str, str]:
    """The handler's first document gets the request, else its first required argument."""
    if handler.documents:
        return {handler.documents[0]: REQUEST}
    names = [*handler.input_schema.get("required", ()), *handler.input_schema["properties"]]
    return {names[0]: f"{{{{ {REQUEST} }}}}"} if names else {}


@dataclass(frozen=True)
class _RuleSource(Source):
    """Paths are those of the made workflow; places and values are those of the rule it was made from."""

    written: Source = field(default_factory=lambda: Source("", None))
    at: Key = ()

    def position(self, path: Key, *, of_key: bool = False) -> Position:
        return self.written.position(self._written_place(path), of_key=of_key)

    def mistake(
        self,
        path: Key,
        message: str,
        cure: str,
        *,
        of_key: bool = False,
        within: Position | None = None,
    ) -> Mistake:
        # A made prompt begins with the rule's own task, so the lines are the same.
        return self.written.mistake(self._written_place(path), message, cure, of_key=of_key, within=within)

    def value(self, path: Key) -> Any:
        return self.written.value(self._written_place(path))

    def _written_place(self, path: Key) -> Key:
        if path[:1] == ("total_timeout",):
            return (*self.at, "timeout")
        if path[:1] != ("steps",) or len(path) < 2:
            return self.at
        inline: Key = (*self.at, "workflow", path[1])
        if self.written.value(inline) is not None and len(path) > 2:
            return (*inline, _SPELLED.get(str(path[2]), path[2]), *path[3:])
        if self.written.value(inline) is not None:
            return inline
        own: Key = ("agents", 0) if path[2:3] == ("agent",) else path[2:]
        return (*self.at, *own) if own[:1] in (("agents",), ("skill",), ("handler",)) else self.at


_SPELLED = {"id": "step", "name": "task", "prompt": "task"}


def _source(catalog: Catalog, rule: RoutingRule) -> Source:
    written = catalog.rules_source or Source("", None)
    index = next(i for i, r in enumerate(catalog.rules) if r is rule)
    return _RuleSource(written.file, None, written=written, at=("routing_rules", index))
