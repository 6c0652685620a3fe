"""Which agents, models and skills a step really gets, and why not when it does not."""

from __future__ import annotations

from typing import Literal, cast

from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.connectors import check_connector
from workflows.core.catalog.contents import Catalog
from workflows.core.catalog.prompts import system_prompt
from workflows.core.catalog.skills import CatalogSkill
from workflows.core.models.agent import THINKING, Model, SkillBinding
from workflows.core.models.workflow import Step
from workflows.core.permissions.granting import compile_grants
from workflows.core.permissions.ruling import Denied
from workflows.core.permissions.skills import may_use_skill
from workflows.core.plans.plan import AgentPlan, ModelPlan, SkillPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source

Effort = Literal["low", "medium", "high", "xhigh", "max"]


class Binder:
    """Binds the agents and skills of one workflow's steps; reports what does not fit."""

    def __init__(self, catalog: Catalog, source: Source, findings: Findings) -> None:
        self.catalog = catalog
        self.source = source
        self.findings = findings
        # A thousand steps share a handful of agents; each is built once, so that plans stay small too.
        self._agents: dict[tuple[str, tuple[str, ...]], AgentPlan] = {}
        self._skill_plans: dict[tuple[str, float | None], SkillPlan] = {}
        self._unknown: set[tuple[Key, str]] = set()

    def agent(
        self, agent_id: str, place: Key, step: Step, at: Key, *, panel: tuple[str, ...] = ()
    ) -> AgentPlan | None:
        """The agent of a step with the step's skills. `panel` names all members, this one included."""
        agent = self.catalog.find_agent(agent_id)
        if agent is None:
            self.findings.error(
                self.source,
                place,
                f"unknown agent '{agent_id}'",
                self.findings.near(agent_id, self.catalog.agents),
            )
            return None
        self._report_files(agent)
        entry = self.catalog.registered.get(agent.id)
        if entry is not None and entry.status != "active":
            self.findings.error(
                self.source,
                place,
                f"the agent '{agent.id}' is {entry.status} in the agent registry",
                "set its status to active, or give the step another agent",
            )
        skills = self._plan_skills(agent, step, at, panel)
        key = (agent.id, tuple(s.id for s in skills))
        if key not in self._agents:
            self._agents[key] = self._build_plan(agent, skills)
        return self._agents[key]

    def configured(self, agent: CatalogAgent) -> AgentPlan:
        """The agent with the skills that it binds, as a step has it that says nothing else."""
        bound = ((b.skill_id, b) for b in agent.config.skills)
        skills = tuple(p for s, b in bound if (p := self._plan_bound(agent, s, b)) is not None)
        return self._build_plan(agent, skills)

    def _report_files(self, agent: CatalogAgent) -> None:
        """Mistakes in the files of an agent's folder are those of a step that it does, and so is another
        folder's claim to its id.

        What is wrong is left out of the agent: without its rules, calls are made that nobody approved.
        """
        folders = (agent.folder, *agent.rivals)
        for mistake in self.catalog.findings.errors:
            if mistake.file.rpartition("/")[0] in folders and mistake not in self.findings.errors:
                self.findings.errors.append(mistake)

    def _build_plan(self, agent: CatalogAgent, skills: tuple[SkillPlan, ...]) -> AgentPlan:
        return AgentPlan(
            id=agent.id,
            name=agent.config.name or agent.id,
            folder=agent.folder,
            model=self.model(agent),
            system=system_prompt(agent, skills),
            skills=skills,
            hooks=agent.hooks,
            max_turns=agent.config.max_turns,
            tokens_per_day=agent.config.rate_limits.tokens_per_day,
            **compile_grants(agent.config.permissions, agent.tools),
        )

    def model(self, agent: CatalogAgent) -> ModelPlan:
        """The agent's model with `latest` resolved through the catalog's table."""
        written = agent.config.model
        base: Key = (*agent.base, "model")
        return ModelPlan(
            provider=written.provider,
            family=written.name,
            id=self._resolve_model(written, agent.source, base),
            effort=self._choose_effort(written, agent.source, base),
            max_tokens=written.max_tokens,
            connection=check_connector(agent, self.catalog.models, self.findings),
        )

    def _resolve_model(self, model: Model, source: Source, base: Key) -> str:
        table = self.catalog.models
        family = table.families.get(model.name)
        if family is None:
            if model.name not in table.models and not model.name.startswith("claude-"):
                self.findings.error(
                    source,
                    (*base, "name"),
                    f"unknown model '{model.name}'",
                    self.findings.near(model.name, [*table.families, *table.models]),
                )
            return model.name
        if model.version in ("", "latest"):
            return family.latest
        known = family.versions.get(model.version)
        if known is None:
            self.findings.error(
                source,
                (*base, "version"),
                f"{model.name} has no version '{model.version}' in models.yaml",
                self.findings.near(model.version, ["latest", *family.versions]),
            )
            return family.latest
        return known

    def _choose_effort(self, model: Model, source: Source, base: Key) -> Effort | None:
        if model.effort or model.thinking is None:
            return model.effort
        word = model.thinking.lower()
        if word not in THINKING:
            self.findings.error(
                source,
                (*base, "thinking"),
                f"unknown thinking '{model.thinking}'",
                self.findings.near(word, THINKING),
            )
            return None
        return cast(Effort | None, THINKING[word])

    def _plan_skills(
        self, agent: CatalogAgent, step: Step, at: Key, panel: tuple[str, ...]
    ) -> tuple[SkillPlan, ...]:
        bound = {b.skill_id: b for b in agent.config.skills}
        if step.skills is None:
            return tuple(p for s, b in bound.items() if (p := self._plan_bound(agent, s, b)) is not None)
        out = []
        for index, skill_id in enumerate(step.skills):
            place = (*at, "skills", index)
            skill = self.catalog.skills.get(skill_id)
            if skill is None:
                self._unknown_skill(skill_id, place)
            elif self._may_use(agent, skill, place, bound, panel):
                out.append(self.skill(skill, bound.get(skill_id)))
        return tuple(out)

    def _unknown_skill(self, skill_id: str, place: Key) -> None:
        if (place, skill_id) not in self._unknown:  # members of a panel share a step's skills
            self._unknown.add((place, skill_id))
            near = self.findings.near(skill_id, self.catalog.skills)
            self.findings.error(self.source, place, f"unknown skill '{skill_id}'", near)

    def _plan_bound(self, agent: CatalogAgent, skill_id: str, binding: SkillBinding) -> SkillPlan | None:
        skill = self.catalog.skills.get(skill_id)
        if skill is None or isinstance(may_use_skill(skill, (agent,)), Denied):
            return None  # reported once for the whole catalog
        return self.skill(skill, binding)

    def _may_use(
        self,
        agent: CatalogAgent,
        skill: CatalogSkill,
        place: Key,
        bound: dict[str, SkillBinding],
        panel: tuple[str, ...],
    ) -> bool:
        if isinstance(ruling := may_use_skill(skill, (agent,)), Denied):
            members = [m for a in panel if (m := self.catalog.find_agent(a)) is not None]
            # A panel's step names the skills of all members; one that no member owns is told once.
            nobody = isinstance(may_use_skill(skill, members), Denied)
            if nobody and agent in (members[:1] or [agent]):
                self.findings.error(
                    self.source,
                    place,
                    f"{ruling.reason}; {agent.id} may not use it",
                    ruling.cure,
                )
            return False
        if skill.id not in bound:
            self.findings.warn(
                self.source,
                place,
                f"{agent.id} does not bind '{skill.id}'; it gets it for this step",
                f"add it to the skills of {agent.folder}/config.yaml",
            )
        return True

    def skill(self, skill: CatalogSkill, binding: SkillBinding | None = None) -> SkillPlan:
        """The skill as the step uses it."""
        timeout = binding.timeout if binding and binding.timeout else skill.timeout
        key = (skill.id, timeout)
        if key not in self._skill_plans:
            self._skill_plans[key] = _skill_plan(skill, timeout)
        return self._skill_plans[key]


def _skill_plan(skill: CatalogSkill, timeout: float | None) -> SkillPlan:
    return SkillPlan(
        id=skill.id,
        name=skill.name,
        description=skill.description,
        folder=skill.folder,
        version=skill.version,
        digest=skill.digest,
        files=skill.files,
        handlers=skill.handlers,
        timeout=timeout,
        memory=skill.memory,
    )
