"""The documents' own texts load and compile as published; what contradicts itself is told as a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.compile.compiler import compile_workflow, examine
from workflows.core.routing.matching import choose
from workflows.core.routing.routes import resolve_rule, rules

DOCUMENTS = Path(__file__).resolve().parents[1] / "fixtures" / "documents"
OPENCLAW = DOCUMENTS / "openclaw"


@pytest.fixture(scope="module")
def openclaw() -> Catalog:
    return Catalog.load(OPENCLAW)


def test_exactly_these_warnings(openclaw: Catalog) -> None:
    found = check_catalog(openclaw)
    assert found.errors == []
    not_bound = "does not bind 'shared/communication'; it gets it for this step"
    skills = list(openclaw.skills)
    told = [(m.file, m.line, m.message) for m in found.warnings]
    assert told == [
        ("agents/ai-engineer/config.yaml", 11, "current models take no temperature; it is not sent"),
        ("agents/ai-engineer/config.yaml", 51, "a password stands in the file"),
        (
            "agents/architect/config.yaml",
            1,
            "the agent has no SOUL.md; its name and description are all it is told",
        ),
        ("agents/architect/config.yaml", 10, "current models take no temperature; it is not sent"),
        (
            "agents/product-manager/config.yaml",
            1,
            "the agent has no SOUL.md; its name and description are all it is told",
        ),
        ("agents/product-manager/config.yaml", 10, "current models take no temperature; it is not sent"),
        ("end-to-end-delivery.yaml", 51, f"agent-pm-002 {not_bound}"),
        ("end-to-end-delivery.yaml", 51, f"agent-arch-003 {not_bound}"),
        ("end-to-end-delivery.yaml", 51, f"agent-ai-001 {not_bound}"),
        (
            "orchestrator/routing-rules.yaml",
            28,
            "a copy of end-to-end-delivery without step-4; it is run as written here",
        ),
        (
            "orchestrator/routing-rules.yaml",
            46,
            "7800 s here, but 8700 s in end-to-end-delivery.yaml; the rule's holds for its own steps",
        ),
        (
            "orchestrator/routing-rules.yaml",
            49,
            "the rule 'default_shared_skills' names no agent, workflow or skill; a text it wins is refused",
        ),
        *(
            (
                "orchestrator/skill-registry.yaml",
                line,
                f"the skill '{s}' has no folder; agents are told its name only",
            )
            for s, line in zip(skills, (3, 19, 31, 43, 55, 67, 78), strict=True)
        ),
    ]


def test_the_password_is_masked(openclaw: Catalog) -> None:
    (warning,) = [m for m in openclaw.findings.warnings if "password" in m.message]
    assert "***@" in str(warning.value) and "$ENV" in warning.cure
    written = (OPENCLAW / "agents/ai-engineer/config.yaml").read_text("utf-8").splitlines()[warning.line - 1]
    secret = written.split("://")[1].split("@")[0]
    assert secret not in f"{warning} {warning.to_json()}"


def test_the_workflow_is_the_documents(openclaw: Catalog) -> None:
    plan = compile_workflow(openclaw.find_workflow("end-to-end-delivery"), openclaw)
    assert [(s.id, s.kind, s.depends_on, s.timeout, s.output.name) for s in plan.steps] == [
        ("step-1", "agent", (), 1800, "product_spec"),
        ("step-2", "agent", ("step-1",), 2400, "tech_design_doc"),
        ("step-3", "agent", ("step-2",), 3600, "deployed_model"),
        ("step-4", "panel", ("step-3", "step-1", "step-2"), 900, "review_report"),
    ]
    assert plan.total_timeout == 8700
    assert [i.name for i in plan.inputs] == ["user_feedback", "market_research", "training_data"]
    assert all(i.type == "file" and i.required and not i.declared for i in plan.inputs)
    assert [a.id for a in plan.steps[3].agents] == ["agent-pm-002", "agent-arch-003", "agent-ai-001"]
    assert plan.steps[2].agents[0].model.id.startswith("claude-opus-")
    assert plan.steps[0].agents[0].model.effort is None or plan.steps[0].agents[0].model.effort == "medium"


def test_written_units_are_numbers(openclaw: Catalog) -> None:
    entry = openclaw.registered["agent-ai-001"]
    assert (entry.slo.availability, entry.slo.response_time_p99, entry.slo.throughput) == (
        pytest.approx(0.999),
        5.0,
        (100.0, 60.0),
    )
    assert (entry.resources.limits.memory, entry.autoscaling.target_cpu_utilization) == (8 * 2**30, 0.7)
    assert openclaw.skill_registry is not None
    web = next(s for s in openclaw.skill_registry[1].skills if s.id == "shared/web-search")
    assert (web.rate_limit, web.resource_requirements.timeout) == ((100.0, 60.0), 30.0)


def test_the_routing_copy_runs_as_written(openclaw: Catalog) -> None:
    choice = choose(rules(openclaw), "请给出端到端的方案")
    assert choice.rule is not None and choice.rule.name == "end_to_end_feature_delivery"
    target = resolve_rule(openclaw, choice.rule, "请给出端到端的方案")
    plan, found = examine(target.file, openclaw)
    assert plan is not None and not found.errors and not found.warnings
    assert [(s.id, s.name, s.depends_on, s.inputs) for s in plan.steps] == [
        ("step-1", "分析需求和用户研究", (), ()),
        ("step-2", "制定技术架构方案", ("step-1",), ("step_1",)),
        ("step-3", "实现和部署模型", ("step-2",), ("step_2",)),
    ]
    assert plan.total_timeout == 7800
    assert dict(target.inputs) == {"request": "请给出端到端的方案"}


def test_the_phase_agents_load() -> None:
    catalog = Catalog.load(DOCUMENTS / "yao")
    found = check_catalog(catalog)
    assert found.errors == []
    assert {m.message for m in found.warnings} == {
        "the agent has no SOUL.md; its name and description are all it is told",
        "DEFAULT_CONNECTOR is not the name of a key; ANTHROPIC_API_KEY is used",
    }
    kinds = {a.config.type: a.id for a in catalog.agents.values()}
    assert {f"robot-{phase}": agent for phase, agent in catalog.uses.model_dump().items()} == kinds
    assert all((a.config.connector or "").startswith("$ENV.") for a in catalog.agents.values())


def test_the_default_catalog_is_without_fault() -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    found = check_catalog(catalog)
    assert found.errors == [] and found.warnings == []
    assert set(catalog.workflows) >= {
        "end-to-end-delivery",
        "feedback-triage",
        "weekly-metrics",
        "draft-until-approved",
    }
