"""The plan: what the compiler makes of a workflow. Frozen, JSON-able, complete; nothing after it reads YAML.

A plan carries every text a step needs (prompt, persona, skill descriptions), so that a run can be
continued from its stored plan alone. Files a step may open (skill bodies, handlers) are listed with
their digests.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workflows.core.models.agent import HttpMethod, McpServer
from workflows.core.refs import digest

StepKind = Literal[
    "agent", "panel", "phase", "skill", "mcp", "process", "workflow", "approval", "await_event", "dispatch"
]
"""What plans call the doers of the language; those that can be planned are in `workflows.core.doers`."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelPlan(_Frozen):
    """A model with `latest` resolved to an id."""

    provider: str = "anthropic"
    family: str = Field(description="As written, such as claude-opus.")
    id: str = Field(description="What is sent, such as claude-opus-5-5.")
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    max_tokens: int = 8000
    connection: str = Field(default="", description="$ENV name of a model connection; empty for the default.")


class FilePlan(_Frozen):
    """One tracked file of a skill."""

    path: str = Field(description="Relative to the skill's folder.")
    sha256: str
    size: int


class HandlerPlan(_Frozen):
    """A function of a skill, offered to agents as the tool `name`."""

    name: str = Field(description="Tool name: skill and handler, such as data-analysis__describe_table.")
    handler: str = Field(description="File stem and function name, such as describe_table.")
    file: str = Field(description="Relative to the skill's folder, such as handlers/describe_table.py.")
    description: str
    input_schema: dict[str, Any]
    documents: tuple[str, ...] = Field(
        default=(), description="Parameters annotated Path: they take the name of one of the step's inputs."
    )
    effect: Literal["none", "idempotent", "once"] = "once"


class SkillPlan(_Frozen):
    """A skill as one step may use it."""

    id: str
    name: str
    description: str
    folder: str = Field(description="Relative to the catalog's root.")
    version: str = ""
    digest: str = Field(description="Digest of the tracked files.")
    files: tuple[FilePlan, ...] = ()
    handlers: tuple[HandlerPlan, ...] = ()
    timeout: float | None = None
    memory: int | None = Field(default=None, description="Bytes.")


class HookPlan(_Frozen):
    """A Create or Next hook: a Python callable of the agent's folder."""

    event: Literal["create", "next"]
    file: str
    function: str
    sha256: str


class ServerPlan(_Frozen):
    """An MCP server an agent may use. Variables stand as written, so that no secret is in a plan."""

    name: str
    server: McpServer


class AskedPlan(_Frozen):
    """Whom a question asks, and until when."""

    assignees: tuple[str, ...] = Field(default=(), description="Who may answer; nobody named: anybody.")
    quorum: int = Field(default=1, description="How many must agree.")
    deadline: float | None = Field(default=None, description="Seconds the question stays open.")
    escalate_to: tuple[str, ...] = Field(default=(), description="Who is asked after the deadline.")


class DecidersPlan(AskedPlan):
    """Who answers the questions that calls of a tool raise."""

    on_timeout: Literal["reject", "fail", "escalate"] = "fail"


class ToolRulePlan(_Frozen):
    """What tools-config.json says of one tool; it wins over what the tool says of itself."""

    name: str = Field(description="server.tool, or a tool's name.")
    effect: Literal["none", "idempotent", "once"] | None = Field(default=None, description="None: not said.")
    allow: bool = True
    effect_key: tuple[str, ...] = Field(default=(), description="Argument names that identify a call.")
    approval: bool = Field(default=False, description="Whether a person has to agree to each call.")
    people: DecidersPlan | None = Field(default=None, description="Who answers; None: anybody, for ever.")


class HttpPlan(_Frozen):
    """That an agent may make HTTP requests, and to whom."""

    endpoints: tuple[str, ...] = Field(
        description="Hosts, such as *.example.com or https://example.com:8443."
    )
    methods: tuple[HttpMethod, ...] = Field(default=(), description="Those it may use; empty: all.")
    acts: bool = Field(
        default=False, description="Whether each request may change something, whatever its method says."
    )

    @property
    def reads_only(self) -> bool:
        """Whether no request can change anything: by RFC 9110, where nothing else is declared."""
        return not self.acts and bool(self.methods) and set(self.methods) <= {"GET", "HEAD"}


class AgentPlan(_Frozen):
    """An agent as one step uses it: persona, model, skills, hooks, servers."""

    id: str
    name: str
    folder: str
    model: ModelPlan
    system: str = Field(
        description="The stable system prompt: identity, soul, rules of the house, skill list."
    )
    skills: tuple[SkillPlan, ...] = ()
    hooks: tuple[HookPlan, ...] = ()
    max_turns: int = 30
    tokens_per_day: int | None = Field(default=None, description="Ceiling over all runs of a day (UTC).")
    ask_person: bool = Field(default=False, description="Whether the agent has the tool that asks people.")
    built_in: tuple[str, ...] = Field(
        default=(),
        exclude_if=lambda names: not names,  # plans without any are the text they always were
        description="Other built-in tools that it is granted by name.",
    )
    servers: tuple[ServerPlan, ...] = ()
    tool_rules: tuple[ToolRulePlan, ...] = ()
    http: HttpPlan | None = Field(default=None, description="None: it makes no HTTP requests.")


class OutputPlan(_Frozen):
    """The contract of a step's output."""

    name: str
    type: Literal["markdown", "json", "table", "text"] = "markdown"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema", serialization_alias="schema")
    repair: int = Field(default=2, description="How often a wrong answer is sent back with its errors.")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class RetryPlan(_Frozen):
    """How a failed step is tried again. `max` counts retries after the first attempt."""

    max: int = 0
    delay: float = 1.0
    backoff: Literal["none", "linear", "exponential"] = "exponential"
    max_delay: float = 300.0
    jitter: float = 0.5

    def delays(self) -> list[float]:
        """Seconds before each retry, without jitter."""
        factors: dict[str, list[float]] = {
            "none": [1.0] * self.max,
            "linear": [n + 1.0 for n in range(self.max)],
            "exponential": [2.0**n for n in range(self.max)],
        }
        return [min(self.delay * factor, self.max_delay) for factor in factors[self.backoff]]


class RepeatPlan(_Frozen):
    """Run the step again until the expression holds, at most `max` times."""

    until: str
    max: int


class ForEachPlan(_Frozen):
    """Run the step once per item of a list."""

    items: str | tuple[Any, ...] = Field(description="An expression, or the list itself.")
    max_concurrent: int = 8


class MergePlan(_Frozen):
    """How a panel's answers become one report. Every voice is kept; an agent may add a synthesis."""

    agent: AgentPlan | None = None
    prompt: str = ""


class ApprovalPlan(AskedPlan):
    """A question to people; the step's output is `{approved, data, votes, by_timeout}`."""

    ask: str = Field(description="Template of the question.")
    form: dict[str, Any] = Field(default_factory=dict, description="JSON Schema of the answer's `data`.")
    on_timeout: Literal["approve", "reject", "fail", "escalate"] = "fail"


class AwaitEventPlan(_Frozen):
    """A wait for an outside system; the step's output is `{payload, event_id, by_timeout}`."""

    type: str
    key: str = Field(default="", description="Template of the correlation key.")
    deadline: float | None = Field(default=None, description="Seconds to wait.")
    on_timeout: Literal["fail", "continue"] = "fail"


class BudgetPlan(_Frozen):
    """A ceiling of what may be spent; None is no ceiling."""

    tokens: int | None = Field(default=None, description="Input and output tokens together.")
    usd: float | None = Field(default=None, description="US dollars by the catalog's prices.")
    time: float | None = Field(default=None, description="Active seconds.")
    turns: int | None = Field(default=None, description="Model requests.")


class UndoPlan(_Frozen):
    """What takes a completed step back when its run is abandoned."""

    skill: SkillPlan
    handler: HandlerPlan
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Templates by argument name; they read `output`, the step's reads and its output's name.",
    )


class WorkPlan(_Frozen):
    """What is done by a kind of doer that has no fields of its own in StepPlan."""

    doer: str = Field(description="Who does it, for people, such as server.tool.")
    facts: dict[str, Any] = Field(
        default_factory=dict, description="JSON that decides what is done: all of it is in the content key."
    )
    effect: Literal["none", "idempotent", "once"] = Field(
        default="once", description="What it does outside; who does not say is taken to act."
    )


class AsWritten(_Frozen):
    """What a plan takes from a written step as it stands, under the same name.

    A field that came later is left out of the text where it says nothing (`exclude_if`), so that the plans
    of earlier runs stay what they were.
    """

    id: str
    inputs: tuple[str, ...] = Field(default=(), description="Names attached to the request as documents.")
    requires: Literal["any", "all"] = "any"
    timeout: float | None = Field(default=None, description="Seconds per attempt.")
    patience: float | None = Field(default=None, description="Seconds a fault of the provider is waited out.")
    cache: Literal["run", "always", "never"] = "run"
    ttl: float | None = Field(default=None, description="Seconds a shared result stays valid.")
    on_failure: Literal["fail", "continue"] = "fail"
    effect_key: tuple[str, ...] = Field(default=(), description="Argument names that identify an effect.")


class StepPlan(AsWritten):
    """One node of the plan. Names in `reads` are bound before the step starts."""

    name: str
    kind: StepKind
    agents: tuple[AgentPlan, ...] = Field(default=(), description="One for an agent step, more for a panel.")
    skill: SkillPlan | None = None
    handler: HandlerPlan | None = None
    workflow: Plan | None = None
    approval: ApprovalPlan | None = None
    await_event: AwaitEventPlan | None = None
    work: WorkPlan | None = Field(
        default=None,
        exclude_if=lambda work: work is None,  # plans without it are the text they always were
        description="For kinds without fields of their own.",
    )
    prompt: str = Field(default="", description="Template of the user message's instruction.")
    args: dict[str, Any] = Field(default_factory=dict, description="Templates by argument name.")
    reads: tuple[str, ...] = Field(default=(), description="Every name the step reads, inputs included.")
    depends_on: tuple[str, ...] = Field(default=(), description="Step ids: written and data edges together.")
    when: str | None = None
    for_each: ForEachPlan | None = None
    repeat: RepeatPlan | None = None
    output: OutputPlan
    merge: MergePlan | None = None
    retries: RetryPlan = RetryPlan()
    budget: BudgetPlan | None = None
    undo: UndoPlan | None = None
    people: DecidersPlan | None = Field(
        default=None, description="Who says whether a call of its skill or undo happened; None: anybody."
    )
    guards: tuple[str, ...] = Field(
        default=(),
        description="Approvals it depends on directly and whose answer `when` does not read: "
        "a rejection skips the step.",
    )
    definition: str = Field(default="", description="Digest of what reaches a request or decides acceptance.")

    @property
    def doer(self) -> str:
        """Who does it, for people: agents, a skill, a workflow; "" for who is asked when it runs."""
        if self.work is not None:
            return self.work.doer
        if self.skill is not None:
            return self.skill.id
        return self.workflow.workflow if self.workflow is not None else ", ".join(a.id for a in self.agents)

    @property
    def staff(self) -> tuple[AgentPlan, ...]:
        """The agents that take part in it, the one that merges a panel's answers included."""
        merging = self.merge.agent if self.merge is not None else None
        return self.agents if merging is None else (*self.agents, merging)

    @property
    def wait(self) -> ApprovalPlan | AwaitEventPlan | None:
        """What it waits for, where it does no work itself."""
        return self.approval or self.await_event


class InputPlan(_Frozen):
    """One input of the workflow."""

    name: str
    type: Literal["string", "integer", "number", "boolean", "json", "file", "secret", "list"] = "string"
    description: str = ""
    required: bool = True
    default: Any = None
    default_file: str = Field(default="", description="A file default, relative to the catalog's root.")
    choices: tuple[Any, ...] = ()
    declared: bool = True


class Plan(_Frozen):
    """A compiled workflow: steps in an order that respects every edge."""

    schema_version: Literal[1] = 1
    workflow: str
    description: str = ""
    source: str = Field(default="", description="File the workflow was written in, relative to its catalog.")
    inputs: tuple[InputPlan, ...] = ()
    steps: tuple[StepPlan, ...] = ()
    finally_: tuple[StepPlan, ...] = Field(default=(), alias="finally", serialization_alias="finally")
    outputs: tuple[str, ...] = Field(default=(), description="Output names the workflow publishes.")
    total_timeout: float | None = None
    max_concurrent: int = 16
    budget: BudgetPlan | None = None

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def step(self, step_id: str) -> StepPlan:
        """The step of that id, also among `finally`. Raises KeyError."""
        for step in (*self.steps, *self.finally_):
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    @property
    def definition(self) -> str:
        """Digest of the whole plan."""
        return digest(self.model_dump(mode="json", by_alias=True))


def content_key(step: StepPlan, values: dict[str, str], part: Any = None) -> str:
    """The content key of one execution of a step.

    `values` maps each read name to the sha256 of its value; `part` tells apart what one step does
    several times (panel member, for_each item digest, iteration). Limits, timeouts, retries and file
    names are not in it.
    """
    return digest({"step": step.definition, "values": values, "part": part})


StepPlan.model_rebuild()
Plan.model_rebuild()
