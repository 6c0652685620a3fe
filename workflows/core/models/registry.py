"""The orchestrator's files: agent registry and routing rules."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from workflows.core.models.written import (
    AgentId,
    Count,
    Duration,
    Name,
    Names,
    Positive,
    Rate,
    Share,
    Size,
    SkillId,
    StepId,
    Text,
    WorkflowName,
    Written,
)


class Slo(Written):
    """What an agent promises."""

    availability: Share | None = None
    response_time_p99: Duration | None = None
    throughput: Rate | None = None


class ReplicaAmount(Written, title="Amount"):
    """CPU and memory of one replica."""

    # The title, which editors show, is the name of what people write.
    cpu: Annotated[float, Field(gt=0)] | None = None
    memory: Size | None = None
    gpu: Count | None = None


class ReplicaResources(Written):
    """What a replica asks for and what it is held to."""

    requests: ReplicaAmount = ReplicaAmount()
    limits: ReplicaAmount = ReplicaAmount()


class Autoscaling(Written):
    """How replicas follow the load."""

    enabled: bool = False
    min_replicas: Count = 1
    max_replicas: Positive = 1
    target_cpu_utilization: Share | None = None
    target_memory_utilization: Share | None = None


class RegisteredAgent(Written):
    """One entry of the agent registry."""

    id: AgentId
    name: Text = ""
    status: Literal["active", "inactive", "maintenance"] = "active"
    version: Text | None = None
    replicas: Count = 1
    domains: Names = ()
    slo: Slo = Slo()
    resources: ReplicaResources = ReplicaResources()
    autoscaling: Autoscaling = Autoscaling()


class AgentRegistry(Written):
    """orchestrator/agent-registry.yaml."""

    agents: tuple[RegisteredAgent, ...] = ()


class RouteStep(Written):
    """One step of a workflow written inside a routing rule."""

    step: StepId = Field(description="A number n is known as step-n.")
    agent: AgentId | None = None
    agents: Annotated[tuple[AgentId, ...], Field(min_length=1)] | None = None
    task: str = Field("", description="What the agent is asked to do.")
    depends_on: Names = ()
    inputs: Names = ()
    skills: tuple[SkillId, ...] | None = None
    expected_output: Name | None = None
    timeout: Duration | None = None


class RoutingRule(Written):
    """Free text that matches the pattern goes to agents, a workflow or a shared skill."""

    name: WorkflowName
    pattern: Text = Field(min_length=1, max_length=2000, description="A Python regular expression, searched.")
    agents: Annotated[tuple[AgentId, ...], Field(min_length=1)] | None = Field(
        None, description="null: the skill answers without an agent."
    )
    workflow: Text | Annotated[tuple[RouteStep, ...], Field(min_length=1)] | None = Field(
        None, description="Name of a workflow, or its steps."
    )
    skill: SkillId | None = Field(None, description="Shared skill run directly when no agent is named.")
    handler: Name | None = Field(None, description="The skill's function; default: its only one.")
    priority: int = Field(0, ge=-1_000_000, le=1_000_000, description="Higher wins; file order among equals.")
    timeout: Duration | None = None

    @model_validator(mode="after")
    def _one_target(self) -> RoutingRule:
        if self.agents is not None and self.workflow is not None:
            raise ValueError("a rule names agents or a workflow, not both; remove one of them")
        return self


class RoutingRules(Written):
    """orchestrator/routing-rules.yaml."""

    routing_rules: tuple[RoutingRule, ...] = ()
