"""The workflow language: every key, its meaning and its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from workflows.core.models.people import Approval, AwaitEvent, Deciders
from workflows.core.models.written import (
    AgentId,
    Count,
    Duration,
    Name,
    Names,
    Positive,
    Share,
    SkillId,
    StepId,
    Text,
    WorkflowName,
    Written,
)

DOERS = (
    "agent",
    "agents",
    "phase",
    "skill",
    "mcp",
    "process",
    "workflow",
    "approval",
    "await_event",
    "dispatch",
)
"""The keys of which a step has exactly one."""

NOT_YET = {
    "step": (
        "phase",
        "mcp",
        "process",
        "dispatch",
        "idle_timeout",
        "context",
        "placement",
    ),
    "undo": ("process", "mcp"),
    "output": ("rules", "expectations", "review"),
    "workflow": ("triggers",),
}
"""Keys the language knows whose behaviour is not built yet."""


class InputSpec(Written):
    """One typed input of a workflow."""

    type: Literal["string", "integer", "number", "boolean", "json", "list", "file", "secret"] = Field(
        "string", description="What kind of value it is; `file` is a document given as name=@file."
    )
    description: str = Field("", description="Shown in forms and in `plan`.")
    default: Any = Field(None, description="Used when none is given; for a file, a path below the catalog.")
    required: bool | None = Field(None, description="Default: true when there is no default.")
    choices: tuple[Any, ...] = Field((), description="The only values allowed.")


def _retries(value: Any) -> Any:
    return {"max": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Retries(Written):
    """How a failed step is tried again."""

    max: Count = Field(0, le=50, description="Retries after the first attempt.")
    delay: Duration = Field(1.0, description="Before the first retry.")
    backoff: Literal["none", "linear", "exponential"] = Field(
        "exponential", description="How the delay grows from retry to retry."
    )
    max_delay: Duration = Field(300.0, description="A delay never grows beyond this.")
    jitter: Share = Field(0.5, description="Share of the delay that is added at random.")


class Repeat(Written):
    """Run the step again until an expression holds."""

    until: str = Field(description="An expression; the step's own latest output is readable in it.")
    max: Positive = Field(5, le=1000, description="At most this many times.")


class Budget(Written):
    """A ceiling of what may be spent."""

    tokens: Positive | None = Field(None, description="Input and output tokens together.")
    usd: Annotated[float, Field(gt=0)] | None = Field(None, description="US dollars by the catalog's prices.")
    time: Duration | None = Field(None, description="Active seconds.")
    turns: Positive | None = Field(None, description="Model requests.")


class Context(Written):
    """What is recalled from the workspace for this step."""

    goal: str = Field(description="What the recalled material is for.")
    budget: dict[str, int] = Field(default_factory=dict, description="Such as {tokens: 12000}.")
    profile: str = Field("auto", description="How material is chosen.")


class Placement(Written):
    """Where a step runs."""

    pool: Text | None = Field(None, description="Work pool.")
    queue: Text | None = Field(None, description="Work queue.")
    gpu: Literal["none", "optional", "required"] = Field("none", description="Whether a GPU is needed.")


class Expectation(Written):
    """One Great Expectations expectation."""

    type: Text = Field(description="Such as expect_column_values_to_not_be_null.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Its arguments.")
    severity: Literal["critical", "warning", "info"] = Field("critical", description="Only critical fails.")


class Review(Written):
    """A reviewing agent's verdict on the output."""

    agent: AgentId = Field(description="The reviewer.")
    threshold: Share = Field(0.6, description="Least score that passes.")
    prompt: str = Field("", description="What to look at.")


def _output(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class Output(Written):
    """The contract of what a step produces."""

    type: Literal["markdown", "json", "table", "text"] | None = Field(
        None, description="Default: markdown for agents, json for skills; json when a schema is given."
    )
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="JSON Schema of the value.")
    repair: Count = Field(2, le=10, description="How often a wrong answer is sent back with its errors.")
    rules: tuple[Any, ...] = Field((), description="Assertions on the output.")
    expectations: tuple[Expectation, ...] = Field((), description="Great Expectations on a table.")
    review: Review | None = Field(None, description="A reviewing agent.")


class Merge(Written):
    """How a panel's answers become one report. Every voice is kept."""

    agent: AgentId | None = Field(None, description="Adds a synthesis above the voices.")
    prompt: str = Field("", description="What the synthesis should say.")


class Undo(Written):
    """What takes a completed step back when the run is abandoned."""

    process: Text | None = Field(None, description="A registered process.")
    mcp: Text | None = Field(None, description="server.tool")
    skill: SkillId | None = Field(None, description="A skill of the catalog.")
    handler: Name | None = Field(None, description="The skill's function; default: its only one.")
    args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments by name; texts are templates, `output` is the step's."
    )


class Step(Written):
    """One node of the DAG."""

    id: StepId = Field(description="Unique in the workflow.")
    name: Text | None = Field(None, description="For people; default: the id.")
    description: str = Field("", description="For people.")
    agent: AgentId | None = Field(None, description="The agent that does the step.")
    agents: Annotated[tuple[AgentId, ...], Field(min_length=1)] | None = Field(
        None, description="A panel: each answers, one report keeps every voice."
    )
    phase: Literal["inspiration", "goals", "tasks", "delivery", "learning", "validation", "host"] | None = (
        Field(None, description="The robot's agent for this phase.")
    )
    skill: SkillId | None = Field(None, description="A skill run directly, without a model.")
    mcp: Text | None = Field(None, description="server.tool")
    process: Text | None = Field(None, description="A registered process.")
    workflow: Text | None = Field(None, description="Another workflow as one step.")
    approval: Approval | None = Field(None, description="A question to people.")
    await_event: AwaitEvent | None = Field(None, description="Wait for an outside system.")
    dispatch: Text | None = Field(None, description="Name of the planned-task list to run.")
    handler: Name | None = Field(None, description="The skill's function; default: its only one.")
    args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of a skill, process or workflow; texts are templates."
    )
    prompt: str | None = Field(None, description="What the agent is asked to do, a template.")
    inputs: Names = Field((), description="Names attached as documents; each makes an edge to its producer.")
    skills: tuple[SkillId, ...] | None = Field(
        None, description="Narrows the agent's skills; omitted means all bound, [] means none."
    )
    depends_on: Names = Field((), description="Step ids that come first.")
    requires: Literal["any", "all"] = Field("any", description="`all`: a skipped producer blocks the step.")
    when: Text | bool | None = Field(None, description="An expression; false means skipped.")
    for_each: str | tuple[Any, ...] | None = Field(
        None, description="An expression giving a list, or a list."
    )
    max_concurrent: Positive = Field(8, le=1000, description="Items of for_each at one time.")
    repeat: Repeat | None = Field(None, description="Run again until an expression holds.")
    expected_output: Name | None = Field(None, description="Name of the output; default: the step's id.")
    output: Annotated[Output, BeforeValidator(_output, json_schema_input_type=Output | str)] = Field(
        Output(), description="Type and schema of the output."
    )
    merge: Merge | None = Field(None, description="How a panel's answers are merged.")
    timeout: Duration | None = Field(None, description="Per attempt.")
    idle_timeout: Duration | None = Field(None, description="Without any progress.")
    patience: Duration | None = Field(
        None, description="How long a fault of the provider, or of a server it calls, is waited out."
    )
    retries: Annotated[Retries, BeforeValidator(_retries, json_schema_input_type=Retries | int)] = Field(
        Retries(), description="How a failed step is tried again; a number is `max`."
    )
    cache: Literal["run", "always", "never"] = Field("run", description="Who may reuse the result.")
    ttl: Duration | None = Field(None, description="How long a shared result (`cache: always`) stays valid.")
    on_failure: Literal["fail", "continue"] = Field(
        "fail", description="`continue`: the output becomes null."
    )
    undo: Undo | None = Field(None, description="What takes the step back.")
    effect_key: Names = Field((), description="Argument names that identify an effect.")
    people: Deciders | None = Field(
        None, description="Who says whether a call of its skill, or of its undo, happened where nobody knows."
    )
    context: Context | None = Field(None, description="Recalled material.")
    placement: Placement | None = Field(None, description="Where the step runs.")
    budget: Budget | None = Field(None, description="Ceiling of this step.")

    @property
    def doers(self) -> tuple[str, ...]:
        """The doer keys that are set; a valid step has one."""
        return tuple(name for name in DOERS if getattr(self, name) is not None)


class ClockTrigger(Written):
    """When a schedule starts the workflow."""

    cron: Text | None = None
    every: Duration | None = None
    timezone: Text = "UTC"
    inputs: dict[str, Any] = Field(default_factory=dict)


class EventTrigger(Written):
    """Which event starts the workflow."""

    type: Text
    source: Text = ""
    filter: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, Any] = Field(default_factory=dict)


class Triggers(Written):
    """What starts the workflow by itself."""

    clock: tuple[ClockTrigger, ...] = ()
    events: tuple[EventTrigger, ...] = ()


class Workflow(Written):
    """A DAG of steps."""

    workflow: WorkflowName = Field(description="Its name.")
    description: str = Field("", description="For people.")
    version: Text | None = Field(None, description="For people.")
    inputs: dict[Name, InputSpec] = Field(default_factory=dict, description="Typed inputs.")
    steps: tuple[Step, ...] = Field(min_length=1, description="The nodes, in any order.")
    finally_: tuple[Step, ...] = Field(
        (), alias="finally", description="Steps that run at the end whatever happened."
    )
    outputs: Names = Field((), description="Output names the workflow publishes; default: all.")
    total_timeout: Duration | None = Field(None, description="Of the whole run, in active time.")
    max_concurrent: Positive = Field(16, le=1000, description="Steps at one time.")
    budget: Budget | None = Field(None, description="Ceiling of the run.")
    triggers: Triggers | None = Field(None, description="What starts it by itself.")

    @model_validator(mode="before")
    @classmethod
    def _typed_inputs(cls, data: Any) -> Any:
        """`inputs: {topic: string}` is short for `{topic: {type: string}}`; a list declares plain names."""
        if isinstance(data, dict) and isinstance(data.get("inputs"), dict):
            full = {
                k: {"type": v} if isinstance(v, str) else ({} if v is None else v)
                for k, v in data["inputs"].items()
            }
            return {**data, "inputs": full}
        return data
