"""Skills as written: SKILL.md frontmatter, config.yaml, skill-registry.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from workflows.core.models.written import (
    Count,
    Duration,
    Name,
    Positive,
    Rate,
    Size,
    SkillId,
    Text,
    Written,
)


class Frontmatter(Written):
    """The six standard keys of an Agent Skill (agentskills.io)."""

    name: Text = Field(
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64, description="Equal to the folder's name."
    )
    description: str = Field(min_length=1, max_length=1024, description="What it does and when to use it.")
    license: Text | None = None
    compatibility: Text | None = Field(None, max_length=500)
    metadata: dict[str, Text] = Field(default_factory=dict)
    allowed_tools: Text | list[str] | None = Field(
        None, alias="allowed-tools", description="Space-separated."
    )


def _handler(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Handler(Written):
    """One function of a skill."""

    name: Name = Field(description="File stem below handlers/ and function name.")
    effect: Literal["none", "idempotent", "once"] = Field(
        "once", description="What calling it does outside; undeclared means it must not be repeated."
    )
    timeout: Duration | None = None


Handlers = tuple[Annotated[Handler, BeforeValidator(_handler, json_schema_input_type=Handler | str)], ...]


class SkillConfig(Written):
    """config.yaml of a skill's folder."""

    version: Text | None = None
    timeout: Duration | None = None
    handlers: Handlers | None = Field(None, description="Default: every file below handlers/.")


class SkillResources(Written, title="Resources"):
    """What one call of a skill may use."""

    # The title, which editors show, is the name of what people write.
    cpu: Annotated[float, Field(gt=0)] | None = None
    memory: Size | None = None
    gpu: Literal["none", "optional", "required"] = "none"
    timeout: Duration | None = None


class RegisteredSkill(Written):
    """One entry of the skill registry."""

    id: SkillId
    name: Text = ""
    version: Text | None = None
    location: Text | None = Field(
        None, description="/workspace/skills/... means the catalog's skills folder."
    )
    owner: Text = Field(
        "system", description="Id or folder of the agent it belongs to; system for shared ones."
    )
    visibility: Literal["private", "public"] = "public"
    resource_requirements: SkillResources = SkillResources()
    rate_limit: Rate | None = None
    handlers: Handlers | None = None


class SkillRegistry(Written):
    """orchestrator/skill-registry.yaml."""

    skills: tuple[RegisteredSkill, ...] = ()

    @field_validator("skills", mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        return () if value is None else value


class Price(Written):
    """USD per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cache_read: Annotated[float, Field(ge=0)] | None = None
    cache_write: Annotated[float, Field(ge=0)] | None = None
    max_tokens: Count | None = None


class Family(Written):
    """A line of models."""

    latest: Text
    versions: dict[str, Text] = Field(default_factory=dict)


class ProviderLimits(Written):
    """What one credential may ask of its provider, over all runs that share a ledger.

    The provider's own headers are obeyed beside it.
    """

    requests_per_minute: Positive | None = Field(
        None, description="Requests sent in any minute; up to a twelfth of them at once."
    )
    tokens_per_minute: Positive | None = Field(
        None,
        description="Input (without what the cache answers) and output tokens in a minute. A request counts "
        "with its max_tokens until its answer says what it really used.",
    )
    park: Duration = Field(
        3600.0, description="How long nothing is sent after a spent quota whose reset nobody states."
    )


class ModelTable(Written):
    """models.yaml: which id a family means, what it costs, and how much may be asked."""

    prices_as_of: Text | None = Field(None, description="Date of the prices.")
    default: Text = Field("claude-sonnet", description="Family of agents that name none.")
    families: dict[str, Family] = Field(default_factory=dict)
    models: dict[str, Price] = Field(default_factory=dict)
    connections: tuple[Name, ...] = Field(
        (),
        description="Variables that hold a model key though their names do not end in _API_KEY; others may "
        "not be named by an agent's connector.",
    )
    limits: dict[Name, ProviderLimits] = Field(
        default_factory=dict,
        description="By the variable that holds the credential, such as ANTHROPIC_API_KEY.",
    )
