"""What the catalog's skills give an agent: which it may have, what is wrong with those it binds, the tools of
their handlers, and rules of its tools-config.json that name none of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.skills import CatalogSkill
from workflows.core.errors import did_you_mean
from workflows.core.models.agent import SkillBinding
from workflows.core.permissions.ruling import Allowed, Denied
from workflows.core.permissions.skills import may_use_skill
from workflows.core.plans.plan import HandlerPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key
from workflows.core.tools.built_in.table import BUILT_IN
from workflows.core.tools.names import served_name

_STRENGTH = ("none", "idempotent", "once")


def handler_effects(agent: CatalogAgent, skills: Mapping[str, CatalogSkill]) -> dict[str, str]:
    """The tools of the handlers that a step can give the agent, each with its strongest effect.

    Those of skills it binds or owns and of public ones; skills of equal names share the names of their tools.
    """
    out: dict[str, str] = {}
    for handler in _handlers(agent, skills):
        known = out.get(handler.name, handler.effect)
        out[handler.name] = max(known, handler.effect, key=_STRENGTH.index)
    return out


def _handlers(agent: CatalogAgent, skills: Mapping[str, CatalogSkill]) -> Iterator[HandlerPlan]:
    for skill in skills.values():
        if isinstance(may_use_skill(skill, (agent,)), Allowed):
            yield from skill.handlers


# --- skills that agents bind ---


def check_bound_skills(
    agents: Mapping[str, CatalogAgent], skills: Mapping[str, CatalogSkill], findings: Findings
) -> None:
    """Records skills that agents bind twice, that there are not, or that they may not have."""
    for agent in agents.values():
        seen: set[str] = set()
        for index, binding in enumerate(agent.config.skills):
            place: Key = (*agent.base, "skills", index)
            if binding.skill_id in seen:
                message, cure = f"the skill '{binding.skill_id}' is bound twice", "keep one of the two"
                findings.error(agent.source, (*place, "skill_id"), message, cure)
                continue
            seen.add(binding.skill_id)
            _check_binding(agent, binding, place, skills, findings)


def _check_binding(
    agent: CatalogAgent,
    binding: SkillBinding,
    place: Key,
    skills: Mapping[str, CatalogSkill],
    findings: Findings,
) -> None:
    skill = skills.get(binding.skill_id)
    if skill is None:
        if not findings.any_below(f"skills/{binding.skill_id}/"):
            cure = findings.near(binding.skill_id, skills) or f"add skills/{binding.skill_id}/SKILL.md"
            findings.error(agent.source, (*place, "skill_id"), f"unknown skill '{binding.skill_id}'", cure)
        return
    if isinstance(ruling := may_use_skill(skill, (agent,)), Denied):
        findings.error(
            agent.source,
            (*place, "skill_id"),
            f"{ruling.reason}; {agent.id} may not bind it",
            "remove it, or make the skill public in the skill registry",
        )
    if binding.version not in ("latest", "") and skill.version and binding.version != skill.version:
        findings.error(
            agent.source,
            (*place, "version"),
            f"'{skill.id}' is at version {skill.version}, not {binding.version}",
            f"write version: {skill.version}, or latest",
        )


# --- rules that name no tool ---


def check_rule_names(
    agents: Mapping[str, CatalogAgent], skills: Mapping[str, CatalogSkill], findings: Findings
) -> None:
    """Records rules of no tool the agent can have: what they say, an approval too, would never happen."""
    for agent in agents.values():
        if agent.tools_source is None:
            continue
        handlers = handler_effects(agent, skills)
        ours = {tool.name for tool in BUILT_IN.values() if tool.ruled}
        known = {*ours, *handlers, *_served_names(agent)}
        for name in agent.tools.tools:
            if _open_servers(agent) and not _of_handler(name, handlers, agent):
                continue  # a server's tool, as far as can be told before it is asked (tasks.servers.tools)
            # A name with a dot is checked with the servers; a skill that is wrong may have such a handler.
            if name not in known and "." not in name and not _of_broken_skill(name, findings):
                findings.error(
                    agent.tools_source,
                    ("tools", name),
                    f"'{name}' is no tool that {agent.id} can have",
                    _nearest(name, known),
                    of_key=True,
                )


def _open_servers(agent: CatalogAgent) -> bool:
    """Whether a server may offer any tool: nothing is known of its names then."""
    return any(not server.tools for server in agent.tools.mcpServers.values())


def _of_handler(name: str, handlers: Mapping[str, str], agent: CatalogAgent) -> bool:
    """Whether a name begins as those of a skill's handlers do, and not as those of a server's tools."""
    skills = {handler.partition("__")[0] for handler in handlers}
    begin, parted, _ = name.partition("__")
    return (
        bool(parted)
        and begin in skills
        and not any(name.startswith(f"{s}__") for s in agent.tools.mcpServers)
    )


def _served_names(agent: CatalogAgent) -> Iterator[str]:
    for name, server in agent.tools.mcpServers.items():
        for tool in server.tools:
            yield from (tool, served_name(name, tool))


def _of_broken_skill(name: str, findings: Findings) -> bool:
    folder = name.partition("__")[0]
    return any(folder in PurePosixPath(m.file).parent.parts for m in findings.errors)


def _nearest(name: str, known: set[str]) -> str:
    ends = sorted(tool for tool in known if tool.endswith(f"__{name}"))
    return f"did you mean '{ends[0]}'?" if ends else did_you_mean(name, known)
