"""Budgets, undo and effect_key: their plans, and that they decide nothing about reuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import compiled, examined, make_catalog
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.compile.compiler import compile_workflow, examine
from workflows.core.plans.plan import BudgetPlan, Plan

SERVER = {"mcpServers": {"shop": {"command": "shop-server"}}}
TOOL = {"skill": "shared/tool", "args": {"text": "draft"}}
DRAFT = {"id": "a", "agent": "ann", "expected_output": "draft"}
COUNT = {"id": "b", **TOOL, "depends_on": "a"}


def written(*steps: dict[str, Any], **more: Any) -> str:
    return json.dumps({"workflow": "w", "steps": list(steps), **more})


def plan_of(root: Path, *steps: dict[str, Any], **more: Any) -> Plan:
    return compiled(make_catalog(root, w=written(*steps, **more)))


def warnings(root: Path, *steps: dict[str, Any], **more: Any) -> list[str]:
    found = examined(make_catalog(root, w=written(*steps, **more)))
    assert not found.errors, found.errors
    return [w.message for w in found.warnings]


# --- budgets -------------------------------------------------------------------------------------------


def test_budgets_of_the_run_and_of_a_step(tmp_path: Path) -> None:
    step = {"id": "a", "agent": "ann", "budget": {"usd": 0.5, "turns": 3}}
    plan = plan_of(tmp_path, step, budget={"tokens": 1000, "time": "2h"})
    assert plan.budget == BudgetPlan(tokens=1000, time=7200)
    assert plan.step("a").budget == BudgetPlan(usd=0.5, turns=3)
    assert plan_of(tmp_path / "none", DRAFT).budget is None


def test_an_inner_workflow_keeps_its_own_budget(tmp_path: Path) -> None:
    inner = json.dumps({"workflow": "inner", "budget": {"turns": 2}, "steps": [{"id": "x", "agent": "ann"}]})
    root = make_catalog(tmp_path, w=written({"id": "call", "workflow": "inner"}), inner=inner)
    call = compiled(root).step("call")
    assert call.workflow is not None and call.workflow.budget == BudgetPlan(turns=2)


def test_a_step_that_may_spend_more_than_the_run(tmp_path: Path) -> None:
    step = {"id": "a", "agent": "ann", "budget": {"tokens": 5000, "turns": 1}}
    (told,) = warnings(tmp_path, step, budget={"tokens": 1000, "turns": 9})
    assert told == "the step may spend 5000 tokens, the whole run only 1000; the run's wins"


def test_a_model_without_a_price_below_a_budget_in_money(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w=written(DRAFT, budget={"usd": 1}))
    (root / "models.yaml").write_text("families: {claude-opus: {latest: claude-opus-5-5}}\n")
    (warning,) = examined(root).warnings
    assert warning.message == "no price is known of claude-opus-5-5, so that `usd` does not limit it"
    with (root / "models.yaml").open("a") as table:
        table.write("models: {claude-opus-5-5: {input: 4, output: 20}}\n")
    assert examined(root).warnings == []


# --- undo ----------------------------------------------------------------------------------------------


def test_undo_names_a_handler_with_templates(tmp_path: Path) -> None:
    undo = {
        "skill": "shared/tool",
        "handler": "count",
        "args": {"text": "draft", "least": "{{ output.words }}"},
    }
    plan = plan_of(tmp_path, DRAFT, COUNT | {"undo": undo})
    found = plan.step("b").undo
    assert found is not None
    assert (found.skill.id, found.handler.handler, found.args) == ("shared/tool", "count", undo["args"])
    assert plan.step("b").reads == ("draft",)
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


@pytest.mark.parametrize("name", ["output", "b", "draft", "output.words", "b.words + output.words"])
def test_what_is_known_when_a_step_is_taken_back(name: str, tmp_path: Path) -> None:
    undo = {"skill": "shared/tool", "args": {"text": "output", "least": "{{ " + name + " }}"}}
    assert plan_of(tmp_path, DRAFT, COUNT | {"undo": undo}).step("b").undo is not None


def test_the_agent_may_take_back_with_its_private_skill(tmp_path: Path) -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    undo = {"skill": "product-design", "handler": "extract_requirements", "args": {"document": "output"}}
    for agent, wrong in (("agent-pm-002", 0), ("agent-arch-003", 1)):
        file = tmp_path / f"{agent}.yaml"
        file.write_text(written({"id": "a", "agent": agent, "undo": undo}))
        _, found = examine(catalog.find_workflow(str(file)), catalog)
        assert sum("is private to" in m.message for m in found.errors) == wrong


# --- effect_key ----------------------------------------------------------------------------------------


def test_the_default_example_names_its_effect() -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    plan = compile_workflow(catalog.find_workflow("refund-with-approval"), catalog)
    record = plan.step("record")
    assert record.effect_key == ("number",) and record.handler is not None
    assert record.handler.effect == "idempotent"
    assert record.undo is not None and record.undo.handler.handler == "void_entry"


def test_an_agent_step_names_arguments_of_its_tools(tmp_path: Path) -> None:
    assert plan_of(tmp_path, DRAFT | {"effect_key": "least"}).step("a").effect_key == ("least",)


def test_what_tools_of_servers_take_is_not_known_here(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w=written(DRAFT | {"effect_key": ["order_id"]}))
    assert "no tool of this step takes 'order_id'" in [m.message for m in examined(root).errors]
    (root / "agents/ann/tools-config.json").write_text(json.dumps(SERVER))
    assert examined(root).errors == []


def test_an_effect_key_of_what_has_no_effect_is_told(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w=written(DRAFT, COUNT | {"effect_key": ["text"]}))
    assert examined(root).warnings == []  # undeclared means it may act
    (root / "skills/shared/tool/config.yaml").write_text("handlers: [{name: count, effect: none}]\n")
    (warning,) = examined(root).warnings
    assert "'count' changes nothing outside" in warning.message


def test_arguments_are_checked_also_when_the_handler_is_not_named(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w=written(DRAFT, COUNT | {"args": {"test": "draft"}}))
    assert [m.message for m in examined(root).errors] == [
        "the argument 'text' of 'count' is missing",
        "'count' takes no argument 'test'",
    ]


# --- content keys --------------------------------------------------------------------------------------

UNDO = {"undo": {"skill": "shared/tool", "args": {"text": "output"}}}


@pytest.mark.parametrize(
    ("step", "whole"),
    [
        ({"budget": {"time": 5}}, {}),
        (UNDO, {}),
        ({"effect_key": ["text"]}, {}),
        ({}, {"budget": {"tokens": 5}}),
    ],
)
def test_limits_are_not_in_content_keys(step: dict[str, Any], whole: dict[str, Any], tmp_path: Path) -> None:
    plain = plan_of(tmp_path / "a", DRAFT, COUNT)
    limited = plan_of(tmp_path / "b", DRAFT, COUNT | step, **whole)
    assert [s.definition for s in plain.steps] == [s.definition for s in limited.steps]
    assert plain.definition != limited.definition
