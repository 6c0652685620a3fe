"""Whom questions ask and until when: what is wrong with it, in approvals and in the rules of tools."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from workflows.core.catalog.agent_skills import handler_effects
from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.skills import CatalogSkill
from workflows.core.models.agent import ToolRule, ToolsConfig
from workflows.core.models.people import Approval, AwaitEvent, Deciders
from workflows.core.models.workflow import Step
from workflows.core.plans.plan import StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source
from workflows.core.tools.built_in.ask_person import ASK_PERSON
from workflows.core.tools.built_in.http_request import HTTP_REQUEST, METHOD_EFFECTS
from workflows.core.tools.built_in.table import BUILT_IN

_ACTING_ONCE = tuple(method for method, effect in METHOD_EFFECTS.items() if effect == "once")
"""Methods of `http_request` that are not repeated, and so asked about in doubt."""


def check_asked(
    source: Source, place: Key, written: Approval | Deciders, agents: Container[str], findings: Findings
) -> None:
    """Records people, quorums, deadlines and escalations that mean nothing. `agents`: known ids."""
    _check_people(source, (*place, "assignees"), written.assignees, written.quorum, agents, findings)
    check_deadline(source, place, written, findings)
    _check_escalation(source, place, written, agents, findings)


def check_deadline(
    source: Source, place: Key, written: Approval | AwaitEvent | Deciders, findings: Findings
) -> None:
    """Records what should happen after a deadline that there is not."""
    if written.deadline is None and "on_timeout" in written.model_fields_set:
        findings.error(
            source,
            (*place, "on_timeout"),
            "there is no deadline after which `on_timeout` could happen",
            "add `deadline:`, such as 2d, or remove it",
            of_key=True,
        )


def _check_people(
    source: Source,
    place: Key,
    people: tuple[str, ...],
    quorum: int,
    agents: Container[str],
    findings: Findings,
) -> None:
    for index, person in enumerate(people):
        one = (*place, index) if isinstance(source.value(place), list) else place
        if person in people[:index]:
            cure = "name each once: everybody has one vote"
            findings.error(source, one, f"'{person}' is named twice", cure)
        elif person in agents:
            findings.warn(source, one, f"'{person}' is an agent; only people answer", "name a person")
    if people and quorum > len(set(people)):
        findings.error(
            source,
            (*place[:-1], "quorum") if place[-1] == "assignees" else place,
            f"{quorum} must agree, but {place[-1]} names {len(set(people))}",
            f"write quorum: {len(set(people))}, or name more people",
        )


def _check_escalation(
    source: Source, place: Key, written: Approval | Deciders, agents: Container[str], findings: Findings
) -> None:
    escalates = written.on_timeout == "escalate"
    if escalates and not written.escalate_to:
        message, cure = "nobody is named to escalate to", "add `escalate_to: [name]`"
        findings.error(source, (*place, "on_timeout"), message, cure)
    elif written.escalate_to and not escalates:
        message = "`escalate_to` does nothing without `on_timeout: escalate`"
        findings.error(source, (*place, "escalate_to"), message, "add it, or remove this", of_key=True)
    elif escalates:
        target = (*place, "escalate_to")
        _check_people(source, target, written.escalate_to, written.quorum, agents, findings)


# --- of a skill that a step runs, or is taken back by --------------------------------------------------


def check_step_people(
    source: Source, at: Key, step: Step, plan: StepPlan, agents: Container[str], findings: Findings
) -> None:
    """Records what is wrong with `people` of a step, who are asked about doubts of its skill and undo."""
    called = [handler for handler in (plan.handler, plan.undo and plan.undo.handler) if handler]
    if step.people is None or not called:
        return
    place: Key = (*at, "people")
    check_asked(source, place, step.people, agents, findings)
    if step.people.on_timeout == "reject":
        findings.error(
            source,
            (*place, "on_timeout"),
            "nobody can reject what may have happened: no time that passes says that it did not",
            "write fail or escalate",
        )
    if all(handler.effect != "once" for handler in called):
        names = " and ".join(f"'{handler.handler}'" for handler in called)
        findings.warn(
            source,
            place,
            f"calling {names} asks nobody: it changes nothing, or may be repeated",
            "remove `people`, or declare the handler's effect as once",
        )


# --- of single tools -----------------------------------------------------------------------------------


def check_tool_people(
    agents: Mapping[str, CatalogAgent], skills: Mapping[str, CatalogSkill], findings: Findings
) -> None:
    """Records what is wrong with `people` in the agents' tools-config.json."""
    for agent in agents.values():
        if agent.tools_source is None:
            continue
        ours = {tool.name: tool.effect for tool in BUILT_IN.values() if tool.ruled and tool.effect}
        effects = {**ours, **handler_effects(agent, skills)}
        for name, people in _with_people(agent.tools):
            place: Key = ("tools", name, "people")
            check_asked(agent.tools_source, place, people, agents, findings)
            for message, cure in _idle_reasons(name, people, agent.tools, effects):
                findings.warn(agent.tools_source, place, message, cure)


def _with_people(tools: ToolsConfig) -> Iterator[tuple[str, Deciders]]:
    for name, rule in tools.tools.items():
        if rule.people is not None:
            yield name, rule.people


def _idle_reasons(
    name: str, people: Deciders, tools: ToolsConfig, effects: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Why `people` of a tool does nothing, with the cure."""
    rule = tools.tools[name]
    if not rule.allow:
        yield f"'{name}' is not offered, so that nobody is asked about it", "remove `people`, or `allow`"
    elif not people.model_fields_set:
        yield "`people` names nobody and no deadline", "add `assignees: [name]` or `deadline:`, or remove it"
    elif name != ASK_PERSON.name and not rule.approval and not _can_ask(name, rule, tools, effects):
        yield (
            f"calling '{name}' asks nobody: it needs no approval, and may be repeated",
            'add "approval": true, or remove `people`',
        )


def _can_ask(name: str, rule: ToolRule, tools: ToolsConfig, effects: Mapping[str, str]) -> bool:
    """Whether a call may raise a question of itself: its server has one, or it must not be repeated."""
    if name == HTTP_REQUEST.name:
        once = not rule.methods or any(method in rule.methods for method in _ACTING_ONCE)
        return rule.effect == "once" or (rule.effect is None and once)
    if name not in effects and tools.mcpServers:  # servers' tools go by their bare name as well
        return True
    return (rule.effect or effects.get(name, "once")) == "once"
