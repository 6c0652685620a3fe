"""The catalog: everything declared in one folder, read once, every mistake gathered."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from workflows.core.catalog.agent_skills import check_bound_skills, check_rule_names
from workflows.core.catalog.agents import CatalogAgent, load_agents
from workflows.core.catalog.deciders import check_tool_people
from workflows.core.catalog.skills import CatalogSkill, load_skills
from workflows.core.errors import InvalidDefinition, Mistake, UsageError, did_you_mean
from workflows.core.models.agent import AgentYml, Uses
from workflows.core.models.registry import AgentRegistry, RegisteredAgent, RoutingRule, RoutingRules
from workflows.core.models.robot import Robot
from workflows.core.models.skill import ModelTable, Price, SkillRegistry
from workflows.core.models.workflow import Workflow
from workflows.core.read.findings import Findings, has_entry, is_file
from workflows.core.read.source import Source

DEFAULT_ROOT = Path(__file__).parents[2]
"""The catalog that ships with the package."""


def python_name(workflow: str) -> str:
    """A workflow's name as Python knows its flow: the attribute of `flows.compiled`."""
    return re.sub(r"\W", "_", workflow)


@dataclass(frozen=True)
class WorkflowFile:
    """A workflow and the file it was written in."""

    source: Source
    workflow: Workflow

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.workflow.workflow


@dataclass(frozen=True)
class RobotFile:
    """A robot and the file it was written in."""

    name: str
    source: Source
    robot: Robot


@dataclass
class Catalog:
    """What one folder declares. `findings` holds what is wrong with it."""

    root: Path
    findings: Findings = field(default_factory=Findings)
    agents: dict[str, CatalogAgent] = field(default_factory=dict)
    skills: dict[str, CatalogSkill] = field(default_factory=dict)
    workflows: dict[str, WorkflowFile] = field(default_factory=dict)
    unreadable: list[Source] = field(default_factory=list)
    """Workflow files whose keys are wrong; their mistakes are in `findings`."""
    robots: dict[str, RobotFile] = field(default_factory=dict)
    registered: dict[str, RegisteredAgent] = field(default_factory=dict)
    rules: tuple[RoutingRule, ...] = ()
    rules_source: Source | None = None
    uses: Uses = field(default_factory=Uses)
    patience: float | None = None
    """Seconds for which its runs wait faults out; None: as everywhere."""
    resume: Literal["ask", "auto"] = "ask"
    """Whether a run whose process died goes on by itself."""
    uses_source: Source | None = None
    registry_source: Source | None = None
    skill_registry: tuple[Source, SkillRegistry] | None = None
    models: ModelTable = field(default_factory=ModelTable)

    @classmethod
    def load(cls, root: Path) -> Catalog:
        """Reads the folder. Raises UsageError when it cannot be read; mistakes are in `findings`."""
        try:
            return cls._load(root)
        except PermissionError as fault:
            raise UsageError(
                f"the catalog {root} cannot be read: {fault.filename or root}: {fault.strerror}",
                "let this user read it, or name another one with --catalog DIR",
            ) from None

    @classmethod
    def _load(cls, root: Path) -> Catalog:
        if not root.is_dir():
            raise UsageError(
                f"there is no catalog at {root}", "name one with --catalog DIR, or set PHASELINE_CATALOG"
            )
        catalog = cls(root)
        _load_tables(catalog)
        catalog.agents = load_agents(root, catalog.findings)
        for check in (check_bound_skills, check_rule_names, check_tool_people):
            check(catalog.agents, catalog.skills, catalog.findings)
        _load_workflows(catalog)
        _load_robots(catalog)
        return catalog

    def find_agent(self, name: str) -> CatalogAgent | None:
        """An agent by id, or by its folder below agents/."""
        by_id = self.agents.get(name)
        return by_id or next((a for a in self.agents.values() if a.short_folder == name), None)

    def find_workflow(self, name: str) -> WorkflowFile:
        """A workflow by name, by file of the catalog, or by path. Raises UsageError, InvalidDefinition."""
        if name in self.workflows:
            return self.workflows[name]
        path = Path(name)
        is_path = path.suffix in (".yaml", ".yml")
        for candidate in (path, self.root / name) if is_path else ():
            if is_file(candidate):
                return self._from_path(candidate)
        if is_path:
            raise UsageError(f"there is no file {name}", did_you_mean(path.stem, self.workflows))
        broken = [m for m in self.findings.errors if Path(m.file).stem == name]
        if broken:
            raise InvalidDefinition(broken)
        raise UsageError(f"there is no workflow '{name}' in {self.root}", did_you_mean(name, self.workflows))

    def find_own_workflow(self, name: str) -> WorkflowFile:
        """A workflow by name or by file, of this catalog only: for callers who do not choose what is read.

        Raises UsageError, InvalidDefinition.
        """
        path = Path(name)
        if name in self.workflows or path.suffix not in (".yaml", ".yml"):
            return self.find_workflow(name)
        if not _is_own_file(self.root, path):  # that there is such a file elsewhere is not told either
            raise UsageError(
                f"the catalog has no workflow '{name}'",
                "name a workflow of the catalog, or its file by a path inside it: no other folder is read",
            )
        return self._from_path(self.root / path)

    def _from_path(self, path: Path) -> WorkflowFile:
        for known in self.workflows.values():
            if (self.root / known.source.file).resolve() == path.resolve():
                return known
        findings = Findings()
        read = findings.read(path.resolve().parent, path.resolve(), Workflow)
        if read is None:
            raise InvalidDefinition(_place_in_file(findings.errors, str(path)))
        source = replace(read[0], file=str(path))
        return WorkflowFile(source, read[1])

    def price(self, model_id: str) -> Price | None:
        """What a model costs; None when the table does not say."""
        return self.models.models.get(model_id)


def _is_own_file(root: Path, path: Path) -> bool:
    if path.is_absolute() or ".." in path.parts:
        return False
    try:
        return is_file(root / path) and (root / path).resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # no name of a file, or links in a circle
        return False


def _place_in_file(mistakes: list[Mistake], file: str) -> list[Mistake]:
    return [Mistake(file, m.line, m.column, m.path, m.value, m.message, m.cure) for m in mistakes]


def _find_first(root: Path, *names: str) -> Path | None:
    """The first of these files. A link to nothing is one that is wrong; a folder may be something else."""
    paths = [root / name for name in names]
    return next((p for p in paths if has_entry(p) and not p.is_dir()), None)


def _load_tables(catalog: Catalog) -> None:
    root, findings = catalog.root, catalog.findings
    table = _find_first(root, "models.yaml", "orchestrator/models.yaml") or DEFAULT_ROOT / "models.yaml"
    if read_models := findings.read(root if table.is_relative_to(root) else table.parent, table, ModelTable):
        catalog.models = read_models[1]
    registry = _find_first(root, "orchestrator/skill-registry.yaml", "orchestrator/skill-registry")
    catalog.skill_registry = findings.read(root, registry, SkillRegistry) if registry else None
    catalog.skills = load_skills(root, catalog.skill_registry, findings)
    if (file := _find_first(root, "orchestrator/agent-registry.yaml")) and (
        agents := findings.read(root, file, AgentRegistry)
    ):
        catalog.registry_source = agents[0]
        _register_agents(catalog, agents[0], agents[1])
    if (file := _find_first(root, "orchestrator/routing-rules.yaml")) and (
        rules := findings.read(root, file, RoutingRules)
    ):
        catalog.rules_source, catalog.rules = rules[0], rules[1].routing_rules
    if (file := _find_first(root, "orchestrator/agent.yml", "orchestrator/agent.yaml", "agent.yml")) and (
        uses := findings.read(root, file, AgentYml)
    ):
        catalog.uses_source, catalog.uses = uses[0], uses[1].uses
        catalog.patience, catalog.resume = uses[1].patience, uses[1].resume


def _register_agents(catalog: Catalog, source: Source, registry: AgentRegistry) -> None:
    for index, entry in enumerate(registry.agents):
        if entry.id in catalog.registered:
            catalog.findings.error(
                source, ("agents", index, "id"), f"the agent '{entry.id}' stands twice", "keep one entry"
            )
        catalog.registered[entry.id] = entry


def _load_workflows(catalog: Catalog) -> None:
    root, findings = catalog.root, catalog.findings
    skipped = {"models.yaml", "agent.yml", "agent.yaml"}
    files = [f for f in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]) if f.name not in skipped]
    for file in files:
        if file.name.endswith(".test.yaml"):
            continue
        source = findings.read_data(root, file)
        workflow = findings.check(source, Workflow) if source is not None else None
        if source is None:
            continue
        if workflow is None:
            catalog.unreadable.append(source)
            continue
        if workflow.workflow in catalog.workflows:
            first = catalog.workflows[workflow.workflow].source.file
            findings.error(
                source,
                ("workflow",),
                f"the name '{workflow.workflow}' is taken by {first}",
                "give it another name",
            )
            continue
        catalog.workflows[workflow.workflow] = WorkflowFile(source, workflow)


def _load_robots(catalog: Catalog) -> None:
    folder = catalog.root / "robots"
    if not folder.is_dir():
        return
    for file in sorted(f for f in folder.rglob("*") if f.suffix in (".yaml", ".yml", ".json")):
        read = catalog.findings.read(catalog.root, file, Robot)
        if read is not None:
            name = read[1].robot or file.stem
            catalog.robots[name] = RobotFile(name, read[0], read[1])
