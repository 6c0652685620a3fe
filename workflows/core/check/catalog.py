"""Everything wrong with a catalog at once: its files, its workflows, and what they say of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.contents import Catalog, RobotFile, WorkflowFile, python_name
from workflows.core.catalog.skills import CatalogSkill
from workflows.core.check.routes import check_routes
from workflows.core.compile.bindings import Binder
from workflows.core.compile.compiler import examine
from workflows.core.compile.salvage import salvage
from workflows.core.errors import InvalidDefinition, Mistake
from workflows.core.permissions.skills import owns
from workflows.core.read.documents import read_source
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source, Unreadable

SYSTEM = "system"
"""Owner of shared skills: no agent in particular."""

UNREGISTERED = "template"
"""Folder of the agent that is only there to be copied."""


def check_catalog(catalog: Catalog) -> Findings:
    """Every mistake and warning of the catalog, each once, by file and line."""
    found = Findings(list(catalog.findings.errors), list(catalog.findings.warnings))
    for file in catalog.workflows.values():
        _, one = examine(file, catalog)
        found.add(one)
    for source in catalog.unreadable:
        _check_rest(catalog, source, found)
    for check in _CHECKS:
        check(catalog, found)
    return Findings(_sort_unique(found.errors), _sort_unique(found.warnings))


def check_workflow(catalog: Catalog, name: str) -> Findings:
    """Everything wrong with one workflow, by name or path. Raises UsageError when there is none."""
    found = Findings()
    try:
        _, found = examine(catalog.find_workflow(name), catalog)
    except InvalidDefinition as fault:
        found.errors += fault.mistakes
        source = _find_unreadable(catalog, name)
        if source is not None:
            _check_rest(catalog, source, found)
    return Findings(_sort_unique(found.errors), _sort_unique(found.warnings))


def _find_unreadable(catalog: Catalog, name: str) -> Source | None:
    for source in catalog.unreadable:
        if Path(source.file).stem == name or (catalog.root / source.file).resolve() == Path(name).resolve():
            return source
    try:
        return read_source(Path(name), name)
    except Unreadable:
        return None


def _check_rest(catalog: Catalog, source: Source, found: Findings) -> None:
    """What else is wrong in a workflow file whose keys are wrong."""
    rest = salvage(source)
    if rest is not None:
        _, one = examine(WorkflowFile(source, rest.workflow), catalog)
        found.errors += rest.independent(one.errors)
        found.warnings += rest.independent(one.warnings)


def _sort_unique(mistakes: list[Mistake]) -> list[Mistake]:
    once = {(m.file, m.line, m.column, m.path, m.message): m for m in mistakes}
    return sorted(once.values(), key=lambda m: (m.file, m.line, m.column, m.path))


def _check_python_names(catalog: Catalog, found: Findings) -> None:
    first: dict[str, WorkflowFile] = {}
    for file in catalog.workflows.values():
        other = first.setdefault(python_name(file.name), file)
        if other is not file:
            found.error(
                file.source,
                ("workflow",),
                f"'{file.name}' and '{other.name}' of {other.source.file} are the same flow, "
                f"{python_name(file.name)}",
                "give one of the two another name",
            )


def _check_models(catalog: Catalog, found: Findings) -> None:
    for agent in catalog.agents.values():
        Binder(catalog, agent.source, found).model(agent)


def _check_registry(catalog: Catalog, found: Findings) -> None:
    source = catalog.registry_source
    if source is None:
        return
    for index, entry in enumerate(source.data.get("agents") or ()):
        agent_id = str(entry.get("id"))
        if agent_id not in catalog.agents and not catalog.findings.any_below("agents/"):
            near = found.near(agent_id, catalog.agents)
            cure = near if near.startswith("did you mean") else f"add agents/{agent_id}/config.yaml"
            found.warn(source, ("agents", index, "id"), f"the agent '{agent_id}' has no folder", cure)
    for agent in catalog.agents.values():
        if agent.id in catalog.registered or agent.config.type or agent.short_folder == UNREGISTERED:
            continue
        found.warn(
            agent.source,
            (*agent.base, "id"),
            f"the agent '{agent.id}' is not in the agent registry; it is taken as active",
            f"add it to {source.file}",
        )


def _check_owners(catalog: Catalog, found: Findings) -> None:
    for source, place, skill in _registered_skills(catalog):
        named = any(owns(a, skill) for a in catalog.agents.values()) or skill.owner in catalog.registered
        if skill.owner == SYSTEM and skill.visibility == "private":
            found.warn(
                source,
                (*place, "owner"),
                f"'{skill.id}' is private to {SYSTEM}; no agent may use it",
                "name its owner, or make it public",
            )
        elif skill.owner != SYSTEM and not named and not catalog.findings.any_below("agents/"):
            words = [SYSTEM, *catalog.agents, *(a.short_folder for a in catalog.agents.values())]
            found.warn(
                source,
                (*place, "owner"),
                f"the owner '{skill.owner}' is no agent's id or folder",
                found.near(skill.owner, words),
            )


def _registered_skills(catalog: Catalog) -> Iterator[tuple[Source, Key, CatalogSkill]]:
    if catalog.skill_registry is None:
        return
    source, registry = catalog.skill_registry
    for index, entry in enumerate(registry.skills):
        if entry.id in catalog.skills:
            yield source, ("skills", index), catalog.skills[entry.id]


def _check_phases(catalog: Catalog, found: Findings) -> None:
    if catalog.uses_source is not None:
        for phase, agent_id in catalog.uses.model_dump(exclude_none=True).items():
            _check_phase(catalog, catalog.uses_source, ("uses", phase), phase, agent_id, found)
    for robot in catalog.robots.values():
        _check_robot(catalog, robot, found)


def _check_robot(catalog: Catalog, robot: RobotFile, found: Findings) -> None:
    resources = robot.robot.resources
    for phase, agent_id in resources.phases.model_dump(exclude_none=True).items():
        _check_phase(catalog, robot.source, ("resources", "phases", phase), phase, agent_id, found)
    for index, agent_id in enumerate(resources.agents):
        _find_agent(catalog, robot.source, ("resources", "agents", index), agent_id, found)


def _check_phase(
    catalog: Catalog, source: Source, place: Key, phase: str, agent_id: str, found: Findings
) -> None:
    agent = _find_agent(catalog, source, place, agent_id, found)
    wanted = f"robot-{phase}"
    if agent is None or phase == "run" or agent.config.type == wanted:
        return
    typed = [a.id for a in catalog.agents.values() if a.config.type == wanted]
    found.error(
        source,
        place,
        f"'{agent_id}' is no {wanted} agent, "
        + (f"but {agent.config.type}" if agent.config.type else "it has no type"),
        f"name one of that type: {', '.join(typed)}" if typed else f'give it the type "{wanted}"',
    )


def _find_agent(
    catalog: Catalog, source: Source, place: Key, agent_id: str, found: Findings
) -> CatalogAgent | None:
    agent = catalog.find_agent(agent_id)
    if agent is None and not catalog.findings.any_below("agents/"):
        cure = found.near(agent_id, catalog.agents) or f"add agents/{agent_id}/config.yaml"
        found.error(source, place, f"unknown agent '{agent_id}'", cure)
    return agent


_CHECKS: tuple[Callable[[Catalog, Findings], None], ...] = (
    _check_python_names,
    _check_models,
    _check_registry,
    _check_owners,
    _check_phases,
    check_routes,
)
