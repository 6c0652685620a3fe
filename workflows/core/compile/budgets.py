"""Ceilings of what may be spent, and of time: what is wrong with them, and their plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from workflows.core.doers.registry import written_doers
from workflows.core.models.workflow import Budget, Step
from workflows.core.plans.plan import AgentPlan, BudgetPlan, StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source

_MODEL_ONLY = ("tokens", "usd", "turns")


def budget_plan(written: Budget | None) -> BudgetPlan | None:
    """The budget as the run keeps it."""
    return None if written is None else BudgetPlan(**written.model_dump())


def check_budget(source: Source, place: Key, written: Budget | None, findings: Findings) -> None:
    """Records a budget that limits nothing."""
    if written is not None and not written.model_dump(exclude_none=True):
        cure = "give it `tokens`, `usd`, `time` or `turns`"
        findings.error(source, place, "the budget limits nothing", cure, of_key=True)


def check_step_budget(source: Source, at: Key, step: Step, whole: Budget | None, findings: Findings) -> None:
    """Records a step's budget that can have no effect."""
    written, place = step.budget, (*at, "budget")
    doers = written_doers(step)
    if written is None or any(doer.waits for doer in doers):
        return
    check_budget(source, place, written, findings)
    alone = next((doer.key for doer in doers if len(doers) == 1 and doer.works_alone), "")
    for name in _MODEL_ONLY if alone else ():
        if getattr(written, name) is not None:
            message = f"`{name}` does nothing beside `{alone}`: no model takes part"
            findings.error(source, (*place, name), message, "use `time`, or remove it", of_key=True)
    for name, limit in (whole.model_dump(exclude_none=True) if whole else {}).items():
        own = getattr(written, name)
        if own is not None and own > limit:
            message = f"the step may spend {own:g} {name}, the whole run only {limit:g}; the run's wins"
            findings.warn(source, (*place, name), message, "lower this one, or raise the run's")


def check_total_timeout(
    source: Source,
    total: float | None,
    timeouts: Mapping[str, float],
    after: Mapping[str, Sequence[str]],
    order: Sequence[str],
    findings: Findings,
) -> None:
    """Warns of a time for the whole run that is shorter than the steps' own may add up to.

    `after` names what each step waits for; `order` is one in which they can run. Times are seconds.
    """
    longest: dict[str, float] = {}
    for step in order:
        longest[step] = timeouts[step] + max((longest[d] for d in after[step] if d in longest), default=0.0)
    need = max(longest.values(), default=0.0)
    if total is not None and need > total:
        findings.warn(
            source,
            ("total_timeout",),
            f"the steps' timeouts in a row make {need:g} s, more than {total:g} s; the total wins",
            f"write total_timeout: {need:g}, or shorten the steps",
        )


def warn_unpriced(
    source: Source, place: Key, steps: Iterable[StepPlan], priced: frozenset[str], findings: Findings
) -> None:
    """Warns of models without a price below a budget in USD: what they cost is not counted."""
    unpriced = sorted({a.model.id for s in steps for a in _agents(s)} - priced)
    if unpriced:
        message = f"no price is known of {', '.join(unpriced)}, so that `usd` does not limit it"
        findings.warn(source, place, message, "add its price to models.yaml, or limit `tokens` too")


def _agents(step: StepPlan) -> Iterator[AgentPlan]:
    yield from step.staff
    if step.workflow is not None:
        for inner in (*step.workflow.steps, *step.workflow.finally_):
            yield from _agents(inner)
