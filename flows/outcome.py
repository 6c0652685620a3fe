"""How a run ended, as one document for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.ledger.waits.documents import wait_document
from blocks.patience import PatienceOver
from blocks.storage.artifacts import StorageError
from flows.steps.keeper import shown_error
from flows.steps.scope import Scope, StepEnd
from tasks.context import RunContext
from tasks.results import StepUsage
from workflows.core.errors import PhaselineError
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
    wake_at: datetime | None = None
    """When a run that the provider's quota stopped goes on by itself."""
    waits: tuple[dict[str, Any], ...] = ()
    """What is open when the run waits."""

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        return EXIT_CODES.get(self.status, 1)

    def of_launch(self, flow_run_id: str, seconds: float) -> RunOutcome:
        """The same with what the run's start knows."""
        return replace(self, flow_run_id=flow_run_id, seconds=seconds)

    def in_short(self) -> dict[str, Any]:
        """What a flow that calls this one gets: the document of `run --json` with the status of each step by
        its path as `statuses`, since Prefect looks into every value of it, one by one. An output can be given
        to another flow as it is, for a file input.
        """
        document = self.to_document()
        del document["steps"]
        return {**document, "statuses": {step["id"]: step["status"] for step in self.steps}}

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
            "waits": list(self.waits),
            "wake_at": self.wake_at.isoformat(timespec="seconds") if self.wake_at else None,
            "failed_steps": list(self.failed_steps),
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "flow_run_id": self.flow_run_id,
        }


def shown_usage(usage: StepUsage) -> dict[str, Any]:
    """Tokens and dollars, the dollars rounded to a hundredth of a cent."""
    out = usage.model_dump()
    return {**out, "usd": None if usage.usd is None else round(usage.usd, 6)}


def step_document(end: StepEnd, context: RunContext) -> dict[str, Any]:
    """One entry of `steps`."""
    result = end.result
    failed = {p: result.part_errors.get(p, "") for p in result.failed_parts} if result else {}
    refs = [*((result.output,) if result and result.output else ()), *(result.parts if result else ())]
    return {
        "id": end.path,
        "name": end.step.name,
        "status": end.status,
        "reused": end.reused,
        "attempts": end.attempts,
        "agent": end.step.doer,
        "model": result.model if result else "",
        "usage": shown_usage(end.usage),
        "seconds": round(result.seconds if result and end.reused else end.seconds, 3),
        "artifacts": [r.model_dump(mode="json") for r in refs],
        "failed_tool_calls": context.failed_calls_below(end.path),
        "failed_parts": [{"id": p, "error": {"message": why}} for p, why in failed.items()],
        "error": shown_error(end.error) if end.error else None,
        "reason": end.reason,
    }


async def outcome_of(scope: Scope, error: BaseException | None, cancelled: bool) -> RunOutcome:
    """How a walked scope ended; its outputs are published where people find them."""
    execution, plan = scope.execution, scope.plan
    context, failed = execution.context, scope.first_failed()
    status, shown = "completed", None
    if cancelled:
        status = "cancelled"
    elif execution.held_up is not None:
        status, shown = "stopped", shown_error(execution.held_up)
    elif error is not None:
        status, shown = "failed", shown_error(error)
    elif failed is None and (waiting := scope.first_waiting()) is not None:
        status, shown = "waiting", {**shown_error(waiting.error or RuntimeError()), "step": waiting.path}
    elif failed is not None:
        status, shown = "failed", {**shown_error(failed.error or RuntimeError()), "step": failed.path}
    refs = {n: v.ref for n in plan.outputs if (v := scope.values.get(n)) and v.ref}
    places, fault = await _publish(refs, context)
    if fault is not None and status == "completed":
        # The steps are done and stay so; continued, the run publishes again.
        if isinstance(fault, PatienceOver):
            execution.hold_up(fault)
        status, shown = "stopped" if isinstance(fault, PatienceOver) else "failed", shown_error(fault)
    return RunOutcome(
        run_id=context.run_id,
        status=status,
        workflow=plan.workflow,
        offline=context.offline,
        steps=tuple(step_document(scope.ends[s.id], context) for s in (*plan.steps, *plan.finally_)),
        outputs=refs,
        places=places,
        usage=context.usage_in_all(),
        error=shown,
        waits=await _open_waits(execution.context) if status == "waiting" else (),
        failed_steps=tuple(scope.failures()),
    )


async def _publish(
    refs: Mapping[str, Ref], context: RunContext
) -> tuple[dict[str, str], PhaselineError | None]:
    """Where each output is for people, and why one is not there."""
    if refs and context.durable is not None:
        # What people read is not fenced by itself: who lost the run must not put its own over the holder's.
        await context.durable.ledger.renew(context.durable.lease)

    ended = await context.store.publish(refs, run_id=context.run_id, on_published=_tell_published)
    places = {name: place for name, place in ended.items() if isinstance(place, str)}
    return places, next((fault for fault in ended.values() if isinstance(fault, StorageError)), None)


def _tell_published(name: str) -> None:
    reach_boundary("outputs.published", subject=name)


async def _open_waits(context: RunContext) -> tuple[dict[str, Any], ...]:
    if context.durable is None:
        return ()
    lease = context.durable.lease
    rows = await context.durable.ledger.waits.of_run(lease.tenant, lease.run_id)
    return tuple(wait_document(row) for row in rows if row.state == "open")
