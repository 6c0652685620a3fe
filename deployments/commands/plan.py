"""`phaseline plan`: what a run would do, in which order, and what it may take at most."""

from __future__ import annotations

import argparse
from typing import Any

from deployments.catalogs.opening import compile_named, open_catalog
from deployments.terminal.display import Out
from workflows.core.doers.registry import doer_of
from workflows.core.models.skill import Price
from workflows.core.plans.estimate import (
    Estimate,
    Spend,
    critical_path,
    estimate_plan,
    estimate_step,
    estimate_waiting,
)
from workflows.core.plans.plan import BudgetPlan, Plan, StepPlan
from workflows.core.plans.questions import shown_deadline, shown_people
from workflows.core.read.source import shorten_value
from workflows.core.units import shown_duration

_NO_DEADLINE = "none; it waits until there is an answer"


def execute(args: argparse.Namespace, out: Out) -> int:
    """Prints the plan; raises UsageError or InvalidDefinition when there is none."""
    catalog = open_catalog(args.catalog)
    plan = compile_named(catalog, args.workflow)
    if args.run_id is not None:
        return _show_reuse(args, plan, out)
    prices = catalog.models.models
    if out.json_mode:
        out.document(_document(plan, prices))
    else:
        _print(plan, prices, out)
    return 0


def _show_reuse(args: argparse.Namespace, plan: Plan, out: Out) -> int:
    """What the run of --run-id would reuse of this plan."""
    from deployments.services.resume import preview_plan
    from deployments.terminal.front import caller_of
    from deployments.terminal.run_details import print_preview

    shown = preview_plan(caller_of(args), args.run_id, plan)
    out.document(shown.to_document())
    print_preview(shown, out)
    return 0


def _document(plan: Plan, prices: dict[str, Price]) -> dict[str, Any]:
    steps = {s.id: _bounds(estimate_step(s, prices)) for s in (*plan.steps, *plan.finally_)}
    waiting = estimate_waiting(plan)
    whole = {
        **_bounds(estimate_plan(plan, prices)),
        "critical_path": critical_path(plan),
        "waiting": {"steps": waiting.steps, "seconds": waiting.seconds},
        "steps": steps,
    }
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
    for step in steps:
        _print_wait(step, out)
        _print_more(step, out)
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
        step.id + (" (finally)" if last else "") + _repetition(step),
        step.name if step.name != step.id else "",
        [agent.id for agent in step.agents] or doer_of(step).describe(step),
        list(models),
        step.depends_on,
        shown_duration(step.timeout) if step.timeout else None,
        bounds.answer.tokens or None,
        _usd(bounds.answer) if bounds.answer.tokens else None,
    )


def _print_wait(step: StepPlan, out: Out) -> None:
    """What a step asks, of whom, and until when."""
    wait = step.wait
    if wait is None:
        return
    if step.approval is not None:
        ask = shorten_value(" ".join(step.approval.ask.split()))
        out.line(f"{step.id} asks {shown_people(step.approval)}: {ask}")
        fields = ", ".join(step.approval.form.get("properties", ())) or "text"
        out.line(f"  answer: approve or reject, with {fields}", "dim")
    if step.await_event is not None:
        key = f" with the key {step.await_event.key}" if step.await_event.key else ""
        out.line(f"{step.id} waits for the event {step.await_event.type}{key}")
    out.line(f"  deadline: {shown_deadline(wait) or _NO_DEADLINE}", "dim")


def _print_more(step: StepPlan, out: Out) -> None:
    """Who answers what its calls may ask; what limits a step's spending, stops it, and takes it back."""
    rules = [(agent, rule) for agent in step.agents for rule in agent.tool_rules if rule.allow]
    asking = {f"{rule.name} of {agent.id} in {step.id}": rule.people for agent, rule in rules}
    for what, people in {**asking, step.id: step.people}.items():
        if people is not None:
            out.line(f"{what} may ask {shown_people(people)}")
            out.line(f"  deadline: {shown_deadline(people) or _NO_DEADLINE}", "dim")
    if step.budget is not None:
        out.line(f"{step.id} may spend {shown_budget(step.budget)}")
    if step.guards:
        out.line(f"{step.id} is skipped when {' or '.join(step.guards)} is rejected")
    if step.undo is not None:
        out.line(f"{step.id} is taken back by {step.undo.handler.name}")


def shown_budget(budget: BudgetPlan) -> str:
    """A ceiling for people: `200,000 tokens, $5.00, 30m, 40 turns`."""
    parts = {
        "tokens": f"{budget.tokens or 0:,} tokens",
        "usd": f"${budget.usd or 0:,.2f}" if (budget.usd or 0) >= 0.01 else f"${budget.usd or 0:g}",
        "time": shown_duration(budget.time or 0),
        "turns": f"{budget.turns or 0:,} turns",
    }
    return ", ".join(text for name, text in parts.items() if getattr(budget, name) is not None)


def _repetition(step: StepPlan) -> str:
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
    if plan.budget is not None:
        out.line(f"budget of the run: {shown_budget(plan.budget)}")
    waiting = estimate_waiting(plan)
    if waiting.steps:
        longest = "without end" if waiting.seconds is None else f"up to {shown_duration(waiting.seconds)}"
        out.line(f"waits {longest} for answers, which counts as no time: {', '.join(waiting.steps)}")
    if bounds.answer.tokens:
        out.line(f"output if every answer is full and repaired: {_spent(bounds.answer)}")
        out.line(f"output at most, all turns and retries used: {_spent(bounds.ceiling)}")
        out.line("  input is not in these figures: it depends on the documents", "dim")
    if bounds.per_item:
        out.line("  xN: the number of items is known when it runs; counted as one", "dim")
    out.line(f"definition {plan.definition[:12]}", "dim")


def _spent(spend: Spend) -> str:
    return f"{spend.tokens:,} tokens, " + (_usd(spend) or "price unknown")
