"""Higher ceilings of a run's budgets, as `resume --raise-budget` names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blocks.current_time import day_of, now_us
from blocks.ledger import BudgetRow, Ledger, RunRow
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan
from workflows.core.units import parse_duration, shown_duration

_MICRO = 1_000_000
_RESOURCES = ("tokens", "usd", "turns", "time")
_AGENT = "agent:"


@dataclass(frozen=True)
class Raised:
    """A new total. `of`: "" the run, a step's path, or `agent:ID`; `amount`: tokens and turns as they are,
    usd in micro-dollars, time in seconds."""

    of: str
    resource: str
    amount: float | int


def raised_limits(pairs: Sequence[str]) -> list[Raised]:
    """What `--raise-budget` names, several beside each other with commas. Raises UsageError."""
    return [_parse_raise(pair) for word in pairs for part in word.split(",") if (pair := part.strip())]


def raise_budgets(ledger: Ledger, row: RunRow, plan: Plan, raised: Sequence[Raised]) -> Plan:
    """Raises them in the ledger; the plan as it is, or with more active time for the whole run.

    Raises UsageError for a budget that is not there, has no such limit, or has more already.
    """
    rows = ledger.budgets.of_run(row.tenant, row.run_id) if raised else []
    # All names first: of what is named beside a wrong one nothing is raised.
    meant = [(one, _budget_id(row.run_id, one, rows)) for one in raised if one.resource != "time"]
    for one in raised:
        if one.resource == "time":
            plan = _raise_time(ledger, row, plan, one)
    for one, budget_id in meant:
        ledger.budgets.raise_limits(row.tenant, budget_id, {one.resource: int(one.amount)})
    return plan


def _parse_raise(pair: str) -> Raised:
    name, _, text = pair.rpartition("=")
    of, _, resource = name.rpartition(".")
    if resource not in _RESOURCES or (resource == "time" and of.startswith(_AGENT)):
        cure = "write --raise-budget tokens=N (or usd=, turns=, time=), for a step STEP.tokens=N"
        raise UsageError(f"'{pair}' raises no budget", cure)
    return Raised(of, resource, _amount(resource, text))


def _amount(name: str, text: str) -> float | int:
    try:
        if name == "time":
            return parse_duration(text)
        return round(float(text) * _MICRO) if name == "usd" else int(text.replace("_", ""))
    except (ValueError, OverflowError):
        example = {"time": "2h", "usd": "12.50"}.get(name, "2000000")
        raise UsageError(
            f"'{text}' is no amount of {name}", f"write --raise-budget {name}={example}"
        ) from None


def _budget_id(run_id: str, raised: Raised, rows: Sequence[BudgetRow]) -> str:
    """The budget that is meant; see `_find_budget`."""
    if raised.of.startswith(_AGENT):
        return f"agent/{raised.of.removeprefix(_AGENT)}/{day_of(now_us())}"
    whole, of_steps = f"run/{run_id}", f"run/{run_id}/step/"
    limiting = [row.budget_id for row in rows if row.limits.get(raised.resource) is not None]
    name = _find_budget(run_id, raised, [i.removeprefix(of_steps) if i != whole else "" for i in limiting])
    return f"{of_steps}{name}" if name else whole


def _raise_time(ledger: Ledger, row: RunRow, plan: Plan, raised: Raised) -> Plan:
    """Raises active time: the whole run's in the plan, any other in the ledger."""
    names = [time.scope for time in ledger.time_budgets.of_run(row.tenant, row.run_id)]
    if plan.budget is not None and plan.budget.time is not None:
        names.insert(0, "")
    name = _find_budget(row.run_id, raised, names)
    if not name:
        return _with_time(plan, float(raised.amount))
    ledger.time_budgets.raise_limit(row.tenant, row.run_id, name, round(raised.amount * _MICRO))
    return plan


def _find_budget(run_id: str, raised: Raised, names: Sequence[str]) -> str:
    """Which of these budgets is meant, "" being the run's. A plain name is the run's; without one of the run,
    the only one it can be."""
    if raised.of in names:
        return raised.of
    if not raised.of and len(names) == 1:
        return names[0]
    if raised.of:
        message = f"'{raised.of}' has no budget of {raised.resource} in the run {run_id}"
    else:
        message = f"the run {run_id} as a whole has no limit of {raised.resource}"
    raise UsageError(message, _which(names, run_id, raised.resource))


def _which(names: Sequence[str], run_id: str, resource: str) -> str:
    """The words that raise one of these budgets."""
    amount = "DURATION" if resource == "time" else "N"
    words = [f"--raise-budget {f'{name}.' if name else ''}{resource}={amount}" for name in names[:5]]
    return " or ".join(words) or f"see its budgets: phaseline show {run_id} --cost"


def _with_time(plan: Plan, seconds: float) -> Plan:
    """The plan with more active time; it is part of the run's definition from here on."""
    assert plan.budget is not None and plan.budget.time is not None
    if seconds < plan.budget.time:
        limit = shown_duration(plan.budget.time)
        raise UsageError(f"the run's budget of time is {limit} already", "name a longer one")
    return plan.model_copy(update={"budget": plan.budget.model_copy(update={"time": seconds})})
