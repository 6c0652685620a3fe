"""Robots as written: robots/<name>.yaml or a JSON robot_config."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator

from workflows.core.errors import did_you_mean
from workflows.core.models.workflow import Budget
from workflows.core.models.written import AgentId, Count, Duration, Names, Positive, Text, Written

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Identity(Written):
    """Who the robot is; told to its agents."""

    role: Text = Field(min_length=1)
    duties: Names = ()
    rules: Names = ()


class Trigger(Written):
    """Whether a kind of trigger may start the robot, and for what."""

    enabled: bool = True
    actions: Names = Field((), description="Allowed actions; empty means all.")


class RobotTriggers(Written):
    """The switches of the three kinds of trigger."""

    clock: Trigger = Trigger()
    intervene: Trigger = Trigger()
    event: Trigger = Trigger()


def _day(value: Any) -> Any:
    if value == "*":
        return value
    short = str(value).strip()[:3].capitalize()
    if short not in DAYS:
        raise ValueError(f"not a day of the week; {did_you_mean(str(value), DAYS)}")
    return short


Day = Annotated[str, BeforeValidator(_day)]


class RobotClock(Written, title="Clock"):
    """When the robot wakes by itself."""

    # The title, which editors show, is the name of what people write.
    mode: Literal["times", "interval", "daemon", "cron"] = "times"
    times: Names = Field((), description='Such as ["09:00"].')
    days: tuple[Day, ...] = ("*",)
    every: Duration | None = None
    cron: Text | None = None
    tz: Text = Field("UTC", alias="tz")
    timeout: Duration | None = None
    missed: Literal["skip", "run_once"] = "skip"

    @field_validator("times")
    @classmethod
    def _clock_times(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for time in value:
            if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", time):
                raise ValueError(f"'{time}' is no time of day; write it as \"09:00\"")
        return value

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"not a timezone; {did_you_mean(value, available_timezones())}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> RobotClock:
        needed = {"times": self.times, "interval": self.every, "cron": self.cron, "daemon": True}[self.mode]
        if not needed:
            key = {"times": "times", "interval": "every", "cron": "cron"}[self.mode]
            raise ValueError(f"mode {self.mode} needs `{key}`; add it")
        return self


class Quota(Written):
    """How many runs at one time, and who goes first."""

    max: Positive = 2
    queue: Count = 10
    priority: int = Field(5, ge=1, le=10)


class McpGrant(Written):
    """An MCP server and the tools of it the robot may use."""

    id: Text
    tools: Names = Field((), description="Empty means all.")


class Phases(Written):
    """Agents by phase; wins over agent.yml."""

    inspiration: AgentId | None = None
    goals: AgentId | None = None
    tasks: AgentId | None = None
    run: AgentId | None = None
    delivery: AgentId | None = None
    learning: AgentId | None = None
    host: AgentId | None = None
    validation: AgentId | None = None


class RobotResources(Written, title="Resources"):
    """What the robot may use."""

    phases: Phases = Phases()
    agents: Names = ()
    mcp: tuple[McpGrant, ...] = ()
    processes: Names = ()


class Grant(Written):
    """Collections or models it may read."""

    collections: Names = ()
    models: Names = ()
    options: dict[str, Any] = Field(default_factory=dict)


class Learn(Written):
    """What it remembers."""

    on: bool = False
    types: tuple[Literal["execution", "feedback", "insight"], ...] = ("execution", "feedback", "insight")
    keep: Count = Field(0, description="Days; 0 keeps for ever.")
    review: bool = False


class Target(Written):
    """Where one delivery goes."""

    to: Names = ()
    url: Text | None = None
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, Text] = Field(default_factory=dict)
    secret: Text | None = Field(None, description="$ENV.NAME of the signing secret.")
    process: Text | None = None
    args: tuple[Any, ...] = ()
    path: Text | None = None
    template: Text | None = None
    subject: Text | None = None
    idempotent: bool = False


class Channel(Written):
    """One way results leave."""

    enabled: bool = True
    targets: tuple[Target, ...] = ()


class RobotDelivery(Written, title="Delivery"):
    """How results leave."""

    email: Channel | None = None
    webhook: Channel | None = None
    process: Channel | None = None
    folder: Channel | None = None


class Event(Written):
    """Which outside events start it."""

    type: Text
    source: Text = ""
    filter: dict[str, Any] = Field(default_factory=dict)


class Executor(Written):
    """How it runs."""

    mode: Literal["standard", "dryrun"] = "standard"
    max_duration: Duration | None = None


class Robot(Written):
    """An autonomous worker: its run is the phase chain."""

    robot: Text | None = Field(None, description="Its name; default: the file's.")
    description: str = ""
    identity: Identity
    triggers: RobotTriggers = RobotTriggers()
    clock: RobotClock | None = None
    quota: Quota = Quota()
    resources: RobotResources = RobotResources()
    kb: Grant | None = None
    db: Grant | None = None
    learn: Learn = Learn()
    delivery: RobotDelivery = RobotDelivery()
    events: tuple[Event, ...] = ()
    executor: Executor = Executor()
    validation: dict[str, Any] = Field(default_factory=dict)
    budget: Budget | None = None
    default_locale: Text = "en"
