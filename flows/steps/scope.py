"""What a walk knows: the values its steps read, and how the steps before ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State

from blocks.patience import PatienceOver
from flows.steps.execution import Execution
from flows.steps.keeper import shown_error
from tasks.results import Status, StepResult, StepUsage
from tasks.values import Value, evaluate
from workflows.core.plans.plan import Plan, StepPlan
from workflows.core.refs import digest


@dataclass
class StepEnd:
    """How a step ended, for its followers and for people."""

    step: StepPlan
    path: str
    status: Status
    result: StepResult | None = None
    state: State[Any] | None = None
    error: BaseException | None = None
    reused: bool = False
    attempts: int = 0
    reason: str = ""
    seconds: float = 0.0
    usage: StepUsage = field(default_factory=StepUsage)

    @property
    def blocks(self) -> bool:
        """Whether followers cannot start."""
        failed = self.status == "failed" and self.step.on_failure == "fail"
        return failed or self.status in ("waiting", "not_started", "cancelled")

    @property
    def void(self) -> bool:
        """Whether it left no output but lets followers decide: skipped, or failed and continued."""
        return self.status == "skipped" or (self.status == "failed" and self.step.on_failure == "continue")


@dataclass
class Scope:
    """One plan while it is walked. Nested walks have their own values, ends and prefix."""

    plan: Plan
    values: dict[str, Value]
    execution: Execution
    prefix: str = ""
    outer_slots: tuple[asyncio.Semaphore, ...] = ()
    ends: dict[str, StepEnd] = field(default_factory=dict)
    delayed: PatienceOver | None = None
    """Why a step of it cannot go on now; None where all come to an end."""
    timers: list[asyncio.Timeout] = field(default_factory=list)
    """Of the steps and workflows around it, and its own: what may cut it off."""
    slots: tuple[asyncio.Semaphore, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.slots = (asyncio.Semaphore(self.plan.max_concurrent), *self.outer_slots)

    @property
    def out_of_time(self) -> bool:
        """Whether a timeout cuts it off, or has."""
        return any(timer.expired() for timer in self.timers)

    def path(self, step: StepPlan) -> str:
        """The step's path in the run."""
        return f"{self.prefix}{step.id}"

    def statuses(self) -> dict[str, dict[str, Any]]:
        """What `steps.<id>` gives in expressions."""
        return {
            name: {"status": e.status, "error": shown_error(e.error)["message"] if e.error else ""}
            for name, e in self.ends.items()
        }

    def digests(self, step: StepPlan) -> dict[str, str]:
        """sha256 by name of everything the step's result depends on."""
        statuses = self.statuses() if any(n.startswith("steps.") for n in step.reads) else {}
        out = {}
        for name in step.reads:
            if name.startswith("steps."):
                out[name] = digest(statuses.get(name.removeprefix("steps.")))
            elif name in self.values:
                out[name] = self.values[name].sha256
        return out

    async def evaluate(self, source: str, extra: Mapping[str, Any] | None = None) -> Any:
        """An expression's value over the values and the steps' statuses."""
        scope = {"steps": self.statuses(), **(extra or {})}
        return await evaluate(source, self.values, self.execution.context.store, scope)

    def publish(self, end: StepEnd) -> None:
        """Notes how a step ended and what it left: its output, or null."""
        self.ends[end.step.id] = end
        name = end.step.output.name
        output = end.result.output if end.result else None
        self.values[name] = Value(name, ref=output)

    def first_failed(self) -> StepEnd | None:
        """The first step whose failure makes the walk fail."""
        return next((e for e in self.ends.values() if e.status == "failed" and e.blocks), None)

    def first_waiting(self) -> StepEnd | None:
        """The first step that waits for people or an outside system."""
        return next((e for e in self.ends.values() if e.status == "waiting"), None)

    def failures(self) -> dict[str, str]:
        """Why, by path: every step that failed, also those that were allowed to, items of completed ones."""
        out: dict[str, str] = {}
        for end in self.ends.values():
            if end.status == "failed":
                out[end.path] = shown_error(end.error)["message"] if end.error else ""
            if end.result is not None:
                out |= {p: end.result.part_errors.get(p, "") for p in end.result.failed_parts}
        return out
