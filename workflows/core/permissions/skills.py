"""Which agents may use a skill: everybody a public one, its owner a private one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from workflows.core.permissions.ruling import Allowed, Denied, Ruling


class SkillUser(Protocol):
    """An agent of the catalog."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def short_folder(self) -> str:
        """Below agents/."""


class OwnedSkill(Protocol):
    """A skill of the catalog."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def owner(self) -> str:
        """The id or the folder of an agent."""

    @property
    def visibility(self) -> str:
        """private or public."""


def owns(agent: SkillUser, skill: OwnedSkill) -> bool:
    """Whether a skill's owner names this agent, by id or by folder."""
    return skill.owner in (agent.id, agent.short_folder)


def may_use_skill(skill: OwnedSkill, agents: Iterable[SkillUser]) -> Ruling:
    """Whether one of these agents may use a skill; a public one runs without any."""
    if skill.visibility != "private":
        return Allowed("it is public")
    if any(owns(agent, skill) for agent in agents):
        return Allowed("its owner")
    return Denied(
        f"the skill '{skill.id}' is private to '{skill.owner}'",
        f"give the step to {skill.owner}, or make the skill public in the skill registry",
    )
