"""What a plan may take at most: time from its timeouts, output tokens and money from its limits.

Only output is bounded by a plan. Input tokens depend on the documents of a run, so they are not guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workflows.core.models.skill import Price
from workflows.core.plans.plan import AgentPlan, Plan, StepPlan


@dataclass(frozen=True, slots=True)
class Spend:
    """Output tokens and what they cost in USD; `usd` is None when a model has no price."""

    tokens: int
    usd: float | None

    def __add__(self, other: Spend) -> Spend:
        usd = None if self.usd is None or other.usd is None else self.usd + other.usd
        return Spend(self.tokens + other.tokens, usd)

    def times(self, factor: int) -> Spend:
        """This many times the same."""
        return Spend(self.tokens * factor, None if self.usd is None else self.usd * factor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bounds of one step or of a whole plan.

    answer: every agent writes one answer of `max_tokens`, and every repair is needed.
    ceiling: every agent uses all its turns in every attempt and every repetition.
    seconds: the timeout of one attempt; of a plan, the longest chain of them. None: no limit is set.
    seconds_with_retries: the same with every retry and its delay (without jitter) and every repetition.
    per_item: a for_each over a list known only at run time is counted as one item.
    """

    answer: Spend
    ceiling: Spend
    seconds: float | None
    seconds_with_retries: float | None
    per_item: bool = False


def estimate_step(step: StepPlan, prices: Mapping[str, Price]) -> Estimate:
    """The bounds of one step, its items and repetitions included."""
    if step.workflow is not None:
        inner = estimate_plan(step.workflow, prices)
        answer, ceiling, per_item = inner.answer, inner.ceiling, inner.per_item
    else:
        answer, ceiling, per_item = Spend(0, 0.0), Spend(0, 0.0), False
    for agent in step.staff:
        request = _request(agent, prices)
        answer += request.times(1 + step.output.repair)
        ceiling += request.times(agent.max_turns)
    items = _items(step)
    rounds = step.repeat.max if step.repeat else 1
    attempts = 1 + step.retries.max
    return Estimate(
        answer=answer.times(items or 1),
        ceiling=ceiling.times((1 if items is None else items) * rounds * attempts),
        seconds=step.timeout,
        seconds_with_retries=_with_retries(step, rounds),
        per_item=per_item or items is None,
    )


def estimate_plan(plan: Plan, prices: Mapping[str, Price]) -> Estimate:
    """The bounds of a whole plan; steps without a timeout count as no time, unless none has one."""
    steps = [(s, estimate_step(s, prices)) for s in (*plan.steps, *plan.finally_)]
    answer, ceiling = Spend(0, 0.0), Spend(0, 0.0)
    for _, one in steps:
        answer, ceiling = answer + one.answer, ceiling + one.ceiling
    limited = any(one.seconds is not None for _, one in steps)
    return Estimate(
        answer=answer,
        ceiling=ceiling,
        seconds=_longest(plan, {s.id: one.seconds or 0.0 for s, one in steps}) if limited else None,
        seconds_with_retries=(
            _longest(plan, {s.id: one.seconds_with_retries or 0.0 for s, one in steps}) if limited else None
        ),
        per_item=any(one.per_item for _, one in steps),
    )


def critical_path(plan: Plan) -> tuple[str, ...]:
    """Ids of the steps whose timeouts in a row are the longest, in order."""
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for step in plan.steps:
        before = max((best[d] for d in step.depends_on if d in best), default=(0.0, ()), key=lambda b: b[0])
        best[step.id] = (before[0] + (step.timeout or 0.0), (*before[1], step.id))
    return max(best.values(), default=(0.0, ()), key=lambda b: b[0])[1]


@dataclass(frozen=True, slots=True)
class WaitEstimate:
    """How long a plan may wait for people and events, which counts as no time of the run.

    steps: paths of the steps that wait, `outer/inner` inside a sub-workflow.
    seconds: the longest chain of deadlines, escalation included; None when a wait has no deadline.
    """

    steps: tuple[str, ...]
    seconds: float | None


def estimate_waiting(plan: Plan) -> WaitEstimate:
    """What a plan asks at most. Agents that may ask by themselves are not in it: they need not ask."""
    waits = {s.id: _estimate_wait(s) for s in (*plan.steps, *plan.finally_)}
    open_ended = any(w.seconds is None for w in waits.values())
    seconds = None if open_ended else _longest(plan, {name: w.seconds or 0.0 for name, w in waits.items()})
    return WaitEstimate(tuple(path for w in waits.values() for path in w.steps), seconds)


def _estimate_wait(step: StepPlan) -> WaitEstimate:
    if step.workflow is not None:  # the items of a for_each wait at the same time: a wait holds no place
        inner = estimate_waiting(step.workflow)
        return WaitEstimate(tuple(f"{step.id}/{path}" for path in inner.steps), inner.seconds)
    wait = step.wait
    if wait is None:
        return WaitEstimate((), 0.0)
    rounds = 2 if wait.on_timeout == "escalate" else 1
    return WaitEstimate((step.id,), None if wait.deadline is None else wait.deadline * rounds)


def _longest(plan: Plan, seconds: Mapping[str, float]) -> float:
    """The longest chain through the steps, then the longest through `finally`."""
    total = 0.0
    for steps in (plan.steps, plan.finally_):
        ends: dict[str, float] = {}
        for step in steps:
            ends[step.id] = seconds[step.id] + max((ends.get(d, 0.0) for d in step.depends_on), default=0.0)
        total += max(ends.values(), default=0.0)
    return total


def _request(agent: AgentPlan, prices: Mapping[str, Price]) -> Spend:
    price = prices.get(agent.model.id)
    tokens = agent.model.max_tokens
    return Spend(tokens, tokens * price.output / 1_000_000 if price else None)


def _items(step: StepPlan) -> int | None:
    """How often for_each runs the step; None when only the run knows."""
    if step.for_each is None:
        return 1
    items = step.for_each.items
    return len(items) if isinstance(items, tuple) else None


def _with_retries(step: StepPlan, rounds: int) -> float | None:
    if step.timeout is None:
        return None
    once = step.timeout * (1 + step.retries.max) + sum(step.retries.delays())
    return once * rounds
