"""Agents as written: config.yaml, package.yao, tools-config.json, agent.yml, prompts.yml."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from workflows.core.models.people import Deciders
from workflows.core.models.written import AgentId, Count, Duration, Names, Positive, SkillId, Text, Written

AgentType = Literal[
    "robot-inspiration",
    "robot-goals",
    "robot-tasks",
    "robot-delivery",
    "robot-learning",
    "robot-validation",
    "robot-host",
]
AGENT_TYPES: tuple[AgentType, ...] = get_args(AgentType)

THINKING = {
    "none": None,
    "off": None,
    "minimal": "low",
    "light": "low",
    "low": "low",
    "moderate": "medium",
    "medium": "medium",
    "deep": "high",
    "high": "high",
    "intense": "xhigh",
    "xhigh": "xhigh",
    "max": "max",
}
"""`thinking:` as people write it, and the effort that is sent."""


class Model(Written):
    """Which model an agent uses."""

    provider: Literal["anthropic"] = Field("anthropic", description="Who serves it.")
    name: Text = Field("claude-sonnet", description="A family of models.yaml, or a model id.")
    version: Text = Field("latest", description="A version of the family; latest is resolved once per run.")
    temperature: float | None = Field(None, description="Read from older files; not sent to current models.")
    max_tokens: Positive = Field(8000, le=200_000, description="Of one answer.")
    thinking: Text | None = Field(None, description="none, light, moderate, deep or max; becomes an effort.")
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="As sent; wins over `thinking`."
    )


class Permissions(Written):
    """What an agent is meant to reach. `network_access` is enforced; the others are read and checked."""

    gpu_access: bool = False
    max_allocation: Count | None = Field(None, description="GPUs at most.")
    file_access: bool = False
    paths: Names = Field((), description="Folders it may open.")
    network_access: bool = Field(
        False, description="Offers the tool http_request, to allowed_endpoints only."
    )
    allowed_endpoints: Names = Field((), description="Host patterns, such as *.huggingface.co.")
    tools: Names = Field((), description="Tool names it may call; empty means those of its skills.")

    @model_validator(mode="before")
    @classmethod
    def _one_map(cls, data: Any) -> Any:
        """The documents write a list of small maps, one per kind of access."""
        if isinstance(data, (list, tuple)):
            merged: dict[str, Any] = {}
            for entry in data:
                if not isinstance(entry, dict):
                    raise ValueError("a permission is a map; write '- file_access: true'")
                for key, value in entry.items():
                    if key in merged:
                        raise ValueError(f"'{key}' is given twice; keep one of them")
                    merged[key] = value
            return merged
        return data


class RetryPolicy(Written):
    """How often a skill call is tried again."""

    max_retries: Count = Field(0, le=20, description="After the first attempt.")
    backoff: Literal["none", "linear", "exponential"] = "exponential"
    delay: Duration = 1.0


class SkillBinding(Written):
    """A skill an agent may use."""

    skill_id: SkillId = Field(description="Folder below skills/.")
    version: Text = Field("latest", description="latest, or the one version that is accepted.")
    timeout: Duration | None = Field(None, description="Of one call; default: the registry's.")
    retry_policy: RetryPolicy = RetryPolicy()


class Storage(Written):
    """Where memory lies."""

    backend: Text = "sqlite"
    connection_string: Text | None = Field(
        None, description="$ENV.NAME; a password does not belong in a file."
    )


class Memory(Written):
    """An agent's own notes over runs. Not yet enforced: nothing is kept."""

    type: Literal["persistent", "session", "none"] = "none"
    ttl: Duration | None = Field(None, description="How long a note lives.")
    storage: Storage = Storage()


class RateLimits(Written):
    """Ceilings of an agent over all runs. Not yet enforced."""

    requests_per_minute: Positive | None = None
    tokens_per_day: Positive | None = None
    concurrent_sessions: Positive | None = None


class Monitoring(Written):
    """What is recorded of an agent. Not yet enforced: every run is recorded in full."""

    enabled: bool = True
    metrics_enabled: bool = True
    tracing_enabled: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"


class Hooks(Written):
    """Python callables of the agent's folder: `file.py:function`."""

    create: Text | None = Field(None, description="May add context to the messages.")
    next: Text | None = Field(None, description="May turn the reply into data.")


class Agent(Written):
    """Who does a step."""

    id: AgentId = Field(description="Unique in the catalog.")
    name: Text = Field("", description="For people.")
    description: str = Field("", description="For people and for routing.")
    type: AgentType | None = Field(None, description="The phase of a robot it can do.")
    model: Model = Model()
    connector: Text | None = Field(None, description="$ENV.NAME of the model connection.")
    permissions: Permissions = Permissions()
    skills: tuple[SkillBinding, ...] = ()
    memory: Memory = Memory()
    rate_limits: RateLimits = RateLimits()
    monitoring: Monitoring = Monitoring()
    hooks: Hooks = Hooks()
    max_turns: Positive = Field(30, le=500, description="Model requests of one step.")
    automated: bool = Field(True, description="May work without a person in the conversation.")
    mentionable: bool = Field(False, description="May be addressed by name in a conversation.")


class AgentFile(Written):
    """config.yaml of an agent's folder."""

    agent: Agent


class ManifestOptions(Written):
    """Options of a package.yao."""

    max_tokens: Positive | None = Field(None, le=200_000)
    temperature: float | None = None


class Manifest(Written):
    """package.yao: an agent as a JSON manifest; its id is its folder."""

    name: Text
    type: AgentType | None = None
    connector: Text | None = None
    description: str = ""
    automated: bool = True
    mentionable: bool = False
    options: ManifestOptions = ManifestOptions()
    hooks: Hooks = Hooks()
    tags: tuple[str, ...] = ()
    model: Model | None = None
    skills: tuple[SkillBinding, ...] = ()


class Prompt(Written):
    """One entry of prompts.yml."""

    role: Literal["system", "user", "assistant"] = "system"
    content: str
    name: Text | None = None


class McpServer(Written):
    """How an MCP server is reached; `${VAR}` is taken from the environment when it is opened."""

    type: Literal["stdio", "http", "streamable-http", "sse"] | None = None
    command: Text | None = Field(None, description="Program of a stdio server.")
    args: tuple[Text, ...] = ()
    env: dict[str, Text] = Field(default_factory=dict)
    cwd: Text | None = None
    url: Text | None = Field(None, description="Address of an HTTP server.")
    headers: dict[str, Text] = Field(default_factory=dict)
    tools: Names = Field((), description="The only tools offered; empty means all.")
    timeout: Duration | None = None
    trust_annotations: bool = Field(False, description="Whether the server's own effect hints are believed.")

    @model_validator(mode="after")
    def _one_address(self) -> McpServer:
        if (self.command is None) == (self.url is None):
            raise ValueError("a server needs either command or url; write one of them")
        return self


HttpMethod = Literal["GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"]
"""What `http_request` can be asked to do."""


class ToolRule(Written):
    """What calling a tool does, and who decides about it."""

    effect: Literal["none", "idempotent", "once"] | None = Field(
        None,
        description="none: it reads only; idempotent: an equal call changes nothing more; once: it must not "
        "be repeated. Not given: what a trusted server says, else once.",
    )
    allow: bool = Field(True, description="Whether the tool is offered at all.")
    effect_key: Names = Field(
        (), description="Arguments that say which effect it is; the others may differ. Default: all."
    )
    approval: bool = Field(
        False, description="Whether a person has to agree to each call, arguments and all."
    )
    people: Deciders | None = Field(
        None, description="Who answers the questions that calling it can raise. Default: anybody, for ever."
    )
    methods: tuple[HttpMethod, ...] = Field(
        (),
        min_length=1,
        description="Of http_request: the methods it may use, such as [GET, HEAD]. Default: all.",
    )


class ToolsConfig(Written):
    """tools-config.json in the shape of .mcp.json."""

    mcpServers: dict[str, McpServer] = Field(default_factory=dict)
    tools: dict[str, ToolRule] = Field(default_factory=dict, description="By server.tool or tool name.")


class Uses(Written):
    """The default agent of each phase."""

    inspiration: AgentId | None = None
    goals: AgentId | None = None
    tasks: AgentId | None = None
    delivery: AgentId | None = None
    learning: AgentId | None = None
    host: AgentId | None = None
    validation: AgentId | None = None


class AgentYml(Written):
    """orchestrator/agent.yml."""

    uses: Uses = Uses()
    patience: Duration | None = Field(None, description="How long a fault that passes is waited out.")
    resume: Literal["ask", "auto"] = Field(
        "ask", description="`auto`: a run whose process died goes on by itself."
    )
