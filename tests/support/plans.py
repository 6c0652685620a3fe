"""Small plans made by hand, without a catalog or a compiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workflows.core.plans.plan import AgentPlan, InputPlan, ModelPlan, OutputPlan, Plan, StepPlan


def agent(name: str) -> AgentPlan:
    """An agent of that id on one model."""
    model = ModelPlan(family="claude-opus", id="claude-opus-5-5")
    return AgentPlan(id=name, name=name, folder=f"agents/{name}", model=model, system="")


def step(step_id: str, doers: str | Sequence[str] = "agent-1", **more: Any) -> StepPlan:
    """An agent step, or a panel when several doers are named. Its output is named after it unless given."""
    names = [doers] if isinstance(doers, str) else list(doers)
    values: dict[str, Any] = {
        "id": step_id,
        "name": more.pop("name", step_id),
        "kind": more.pop("kind", "agent" if isinstance(doers, str) else "panel"),
        "agents": tuple(agent(name) for name in names),
        "output": OutputPlan(name=more.pop("makes", step_id)),
    }
    return StepPlan(**values, **more)


def plan(name: str, *steps: StepPlan, inputs: Sequence[str] = (), finally_: Sequence[StepPlan] = ()) -> Plan:
    """A plan of these steps."""
    given = tuple(InputPlan(name=i, type="file") for i in inputs)
    return Plan(workflow=name, inputs=given, steps=steps, finally_=tuple(finally_))


def delivery() -> Plan:
    """The four steps of the end-to-end delivery, the last one a panel."""
    return plan(
        "end-to-end-delivery",
        step(
            "step-1",
            "agent-pm-002",
            name="需求分析",
            reads=("user_feedback", "market_research"),
            makes="product_spec",
        ),
        step(
            "step-2",
            "agent-arch-003",
            name="架构设计",
            reads=("product_spec",),
            depends_on=("step-1",),
            makes="tech_design_doc",
        ),
        step(
            "step-3",
            "agent-ai-001",
            name="模型开发与训练",
            reads=("tech_design_doc", "training_data"),
            depends_on=("step-2",),
            makes="deployed_model",
        ),
        step(
            "step-4",
            ("agent-pm-002", "agent-arch-003", "agent-ai-001"),
            name="交付评审",
            reads=("deployed_model", "product_spec", "tech_design_doc"),
            depends_on=("step-3", "step-1", "step-2"),
            makes="review_report",
        ),
        inputs=("user_feedback", "market_research", "training_data"),
    )
