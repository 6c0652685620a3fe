"""`phaseline plan`: what a run would do, in which order, and what it may take at most."""

from __future__ import annotations

import argparse
from typing import Any

from deployments.definitions import compile_named, open_catalog
from deployments.display import Out
from workflows.core.estimate import Estimate, Spend, critical_path, estimate_plan, estimate_step
from workflows.core.models.skill import Price
from workflows.core.plan import Plan, StepPlan
from workflows.core.units import shown_duration


def execute(args: argparse.Namespace, out: Out) -> int:
    """Prints the plan; raises UsageError or InvalidDefinition when there is none."""
    catalog = open_catalog(args.catalog)
    plan = compile_named(catalog, args.workflow)
    prices = catalog.models.models
    if out.json_mode:
        out.document(_document(plan, prices))
    else:
        _print(plan, prices, out)
    return 0


def _document(plan: Plan, prices: dict[str, Price]) -> dict[str, Any]:
    steps = {s.id: _bounds(estimate_step(s, prices)) for s in (*plan.steps, *plan.finally_)}
    whole = {**_bounds(estimate_plan(plan, prices)), "critical_path": critical_path(plan), "steps": steps}
    return {
        **plan.model_dump(mode="json", by_alias=True),
        "definition": plan.definition,
        "estimate": whole,
    }


def _bounds(estimate: Estimate) -> dict[str, Any]:
    return {
        "answer": {"output_tokens": estimate.answer.tokens, "usd": estimate.answer.usd},
        "ceiling": {"output_tokens": estimate.ceiling.tokens, "usd": estimate.ceiling.usd},
        "seconds": estimate.seconds,
        "seconds_with_retries": estimate.seconds_with_retries,
        "per_item": estimate.per_item,
    }


def _print(plan: Plan, prices: dict[str, Price], out: Out) -> None:
    out.line(plan.workflow + (f": {plan.description}" if plan.description else ""), "bold")
    _print_inputs(plan, out)
    out.line()
    columns = ("#", "step", "name", "doer", "model", "after", "timeout", "answer tokens", "answer USD")
    steps = [*plan.steps, *plan.finally_]
    rows = [_row(number, step, prices, step in plan.finally_) for number, step in enumerate(steps, 1)]
    out.table(columns, rows)
    out.line()
    _print_bounds(plan, estimate_plan(plan, prices), out)


def _print_inputs(plan: Plan, out: Out) -> None:
    for given in plan.inputs:
        default = given.default_file or given.default
        state = "required" if given.required else f"default {default}" if default is not None else "optional"
        about = f"  {given.description}" if given.description else ""
        out.line(f"  input {given.name} ({given.type}, {state}){about}")


def _row(number: int, step: StepPlan, prices: dict[str, Price], last: bool) -> tuple[Any, ...]:
    bounds = estimate_step(step, prices)
    models = dict.fromkeys(agent.model.id for agent in step.agents)
    return (
        number,
        step.id + (" (finally)" if last else "") + _repeated(step),
        step.name if step.name != step.id else "",
        [agent.id for agent in step.agents] or doer(step),
        list(models),
        step.depends_on,
        shown_duration(step.timeout) if step.timeout else None,
        bounds.answer.tokens or None,
        _usd(bounds.answer) if bounds.answer.tokens else None,
    )


def doer(step: StepPlan) -> str:
    """Who does a step: agents, a skill's handler, or a workflow."""
    if step.agents:
        return ", ".join(agent.id for agent in step.agents)
    if step.workflow is not None:
        return f"workflow {step.workflow.workflow}"
    return step.handler.name if step.handler else "-"


def _repeated(step: StepPlan) -> str:
    each = ""
    if step.for_each is not None:
        known = isinstance(step.for_each.items, tuple)
        each = f" x{len(step.for_each.items)}" if known else " xN"
    return each + (f" (up to {step.repeat.max} times)" if step.repeat else "")


def _usd(spend: Spend) -> str | None:
    return None if spend.usd is None else f"${spend.usd:.2f}"


def _print_bounds(plan: Plan, bounds: Estimate, out: Out) -> None:
    if bounds.seconds is not None:
        path = " -> ".join(critical_path(plan))
        out.line(f"longest chain of timeouts: {shown_duration(bounds.seconds)} ({path})")
        if bounds.seconds_with_retries and bounds.seconds_with_retries > bounds.seconds:
            out.line(f"  with every retry: {shown_duration(bounds.seconds_with_retries)}")
    if plan.total_timeout is not None:
        out.line(f"time limit of the run: {shown_duration(plan.total_timeout)}")
    if bounds.answer.tokens:
        out.line(f"output if every answer is full and repaired: {_spent(bounds.answer)}")
        out.line(f"output at most, all turns and retries used: {_spent(bounds.ceiling)}")
        out.line("  input is not in these figures: it depends on the documents", "dim")
    if bounds.per_item:
        out.line("  xN: the number of items is known when it runs; counted as one", "dim")
    out.line(f"definition {plan.definition[:12]}", "dim")


def _spent(spend: Spend) -> str:
    return f"{spend.tokens:,} tokens, " + (_usd(spend) or "price unknown")
