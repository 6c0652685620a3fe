"""What a plan may take at most."""

from __future__ import annotations

import pytest

from tests.support.plans import plan, step
from workflows.core.models.skill import Price
from workflows.core.plans.estimate import Spend, critical_path, estimate_plan, estimate_step
from workflows.core.plans.plan import ForEachPlan, OutputPlan, RepeatPlan, RetryPlan

PRICES = {"claude-opus-5-5": Price(input=4, output=20)}
"""Of the support module's agents: 8,000 output tokens a request, $0.16, 30 turns."""


def test_one_answer_and_its_repairs() -> None:
    one = estimate_step(step("a").model_copy(update={"output": OutputPlan(name="a", repair=1)}), PRICES)
    assert one.answer.tokens == 16_000
    assert one.answer.usd == pytest.approx(0.32)
    assert one.ceiling.tokens == 30 * 8_000


def test_panel_items_rounds_and_attempts_multiply() -> None:
    many = step(
        "a",
        ("x", "y"),
        for_each=ForEachPlan(items=("1", "2", "3")),
        repeat=RepeatPlan(until="true", max=2),
        retries=RetryPlan(max=1, delay=10),
        timeout=100,
    )
    found = estimate_step(many, PRICES)
    assert found.answer.tokens == 2 * 3 * 3 * 8_000  # members, 1 + 2 repairs, items
    assert found.ceiling.tokens == 2 * 30 * 8_000 * 3 * 2 * 2
    assert (found.seconds, found.seconds_with_retries) == (100, 2 * (200 + 10))
    assert found.per_item is False


def test_what_only_the_run_knows_is_said() -> None:
    unknown = step("a", for_each=ForEachPlan(items="things"))
    assert estimate_step(unknown, PRICES).per_item is True
    assert estimate_step(step("a"), {}).answer == Spend(24_000, None)


def test_a_skill_costs_nothing() -> None:
    assert estimate_step(step("a", (), kind="skill"), PRICES).answer == Spend(0, 0.0)


def test_a_workflow_as_a_step_counts_its_steps() -> None:
    inner = plan("inner", step("x"), step("y"))
    outer = step("a", (), kind="workflow", workflow=inner)
    assert estimate_step(outer, PRICES).answer.tokens == estimate_plan(inner, PRICES).answer.tokens == 48_000


def test_the_longest_chain() -> None:
    made = plan(
        "p",
        step("a", timeout=10),
        step("b", timeout=50, depends_on=("a",)),
        step("c", timeout=20, depends_on=("a",)),
        step("d", timeout=5, depends_on=("b", "c")),
        finally_=(step("z", timeout=7),),
    )
    assert critical_path(made) == ("a", "b", "d")
    assert estimate_plan(made, PRICES).seconds == 72
    assert estimate_plan(plan("p", step("a")), PRICES).seconds is None
