"""How a run ended, as one document for people and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.keeper import shown_error
from flows.unit import agent_of
from flows.walk import StepEnd
from tasks.results import StepUsage
from workflows.core.plan import Plan
from workflows.core.refs import Ref

EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 1, "invalid": 2, "waiting": 3, "stopped": 4}


@dataclass(frozen=True)
class RunOutcome:
    """What `run --json` prints."""

    run_id: str
    status: str
    workflow: str
    offline: bool
    steps: tuple[dict[str, Any], ...]
    outputs: Mapping[str, Ref]
    places: Mapping[str, str]
    """Where people find each output: a path or an s3:// address."""
    usage: StepUsage
    error: dict[str, str] | None = None
    failed_steps: tuple[str, ...] = ()
    seconds: float = 0.0
    flow_run_id: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return EXIT_CODES.get(self.status, 1)

    def to_document(self) -> dict[str, Any]:
        """The document, JSON-able."""
        return {
            "run_id": self.run_id,
            "status": self.status,
            "workflow": self.workflow,
            "offline": self.offline,
            "steps": list(self.steps),
            "outputs": {n: r.model_dump(mode="json") for n, r in self.outputs.items()},
            "places": dict(self.places),
            "usage": shown_usage(self.usage),
            "waits": [],
            "failed_steps": list(self.failed_steps),
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "flow_run_id": self.flow_run_id,
        }


def shown_usage(usage: StepUsage) -> dict[str, Any]:
    """Tokens and dollars, the dollars rounded to a hundredth of a cent."""
    out = usage.model_dump()
    return {**out, "usd": None if usage.usd is None else round(usage.usd, 6)}


def step_document(end: StepEnd) -> dict[str, Any]:
    """One entry of `steps`."""
    result = end.result
    refs = [*((result.output,) if result and result.output else ()), *(result.parts if result else ())]
    return {
        "id": end.path,
        "name": end.step.name,
        "status": end.status,
        "reused": end.reused,
        "attempts": end.attempts or (result.attempts if result else 0),
        "agent": agent_of(end.step),
        "model": result.model if result else "",
        "usage": shown_usage(end.usage),
        "seconds": round(result.seconds, 3) if result else 0.0,
        "artifacts": [r.model_dump(mode="json") for r in refs],
        "error": shown_error(end.error) if end.error else None,
        "reason": end.reason,
    }


def step_documents(plan: Plan, ends: Mapping[str, StepEnd], why: str) -> tuple[dict[str, Any], ...]:
    """All steps of a plan in its order; those that never came to it are not_started with the reason."""
    out = []
    for step in (*plan.steps, *plan.finally_):
        end = ends.get(step.id) or StepEnd(step, step.id, "not_started", reason=why)
        out.append(step_document(end))
    return tuple(out)


def total_usage(ends: Sequence[StepEnd]) -> StepUsage:
    """The sum over steps."""
    total = StepUsage()
    for end in ends:
        total = total + end.usage
    return total
