"""What continuing a run would reuse, and why the rest runs again. It only reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from blocks.ledger import Ledger, RunRow, StepRecord
from blocks.ledger.waits.waits import WaitRow
from blocks.storage.artifacts import ArtifactStore
from flows.steps.inputs import inputs_from_json
from tasks.conversation.conversations import paid_turns
from tasks.failures import CONVERSATION_ENDS
from tasks.results import StepResult
from tasks.values import Value
from workflows.core.plans.plan import Plan, StepPlan, content_key
from workflows.core.plans.stored import proved_plan
from workflows.core.refs import Ref, digest
from workflows.core.step_paths import within

Action = Literal["reuse", "rerun", "new", "orphaned", "goes on"]
"""`goes on`: it was under way, and continues where it stood."""

_NOTHING = digest(None)
"""What a content key sees of a step that left no output."""


@dataclass(frozen=True)
class StepPreview:
    """What would happen to one step, and why when it is not simply reused."""

    step: str
    action: Action
    reason: str = ""

    def to_document(self) -> dict[str, str]:
        """One entry of `steps` of the preview."""
        return {"id": self.step, "action": self.action, "reason": self.reason}


@dataclass(frozen=True)
class Known:
    """What is recorded of a run."""

    plan: Plan | None
    """The plan of its last start; None when it cannot be read, or is not the one that the ledger knows."""
    steps: Mapping[str, StepRecord]
    """By path."""
    inputs: Mapping[str, str]
    """sha256 by name."""
    ended: bool = False
    """Whether the run completed."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Why the result of a path cannot be read."""
    turns: Mapping[str, int] = field(default_factory=dict)
    """Paid turns of the conversation that a path is in."""
    waits: Sequence[WaitRow] = ()


async def known_of(ledger: Ledger, store: ArtifactStore, row: RunRow) -> Known:
    """Reads what is recorded of a run. Raises LedgerError, StorageError."""
    manifest = await store.read_manifest(row.tenant, row.run_id)
    records = await ledger.steps(row.tenant, row.run_id)
    unreadable = {
        r.step_path: why for r in records if r.state == "completed" and (why := await _unreadable(store, r))
    }
    return Known(
        plan=proved_plan(manifest, row.plan_digest),
        steps={r.step_path: r for r in records},
        inputs=_digests(inputs_from_json(row.inputs)),
        ended=row.state == "completed",
        unreadable=unreadable,
        turns={r.step_path: n for r in records if (n := await _paid_turns(ledger, row, r))},
        waits=await ledger.waits.of_run(row.tenant, row.run_id),
    )


async def _unreadable(store: ArtifactStore, record: StepRecord) -> str:
    refs = StepResult.model_validate(record.result).refs if record.result else ()
    for ref in refs:
        if (reason := await store.check(ref)) is not None:
            return reason
    return ""


async def _paid_turns(ledger: Ledger, row: RunRow, record: StepRecord) -> int:
    at_an_end = (record.error or {}).get("type") in CONVERSATION_ENDS
    if record.state in ("completed", "dropped", "skipped") or at_an_end:
        return 0
    place = (row.tenant, row.run_id, record.step_path, record.content_key)
    return paid_turns(await ledger.journal.read(*place))


def _digests(given: Mapping[str, Any]) -> dict[str, str]:
    return {
        name: Value(name, ref=v).sha256 if isinstance(v, Ref) else Value(name, plain=v).sha256
        for name, v in given.items()
    }


def dependants(plan: Plan, step_id: str) -> tuple[str, ...]:
    """A step and everything that depends on it, directly or not, in the plan's order."""
    found = {step_id}
    for step in (*plan.steps, *plan.finally_):
        if found.intersection(step.depends_on):
            found.add(step.id)
    return tuple(s.id for s in (*plan.steps, *plan.finally_) if s.id in found)


def preview(plan: Plan, known: Known, redo: Sequence[str] = ()) -> list[StepPreview]:
    """What would happen to every step of `plan`, then to the recorded ones it does not have.

    redo: ids of steps that are to be done again, the first one as a person named it.
    """
    looking = _PreviewPass(plan, known, tuple(redo))
    found = [looking.at(step) for step in plan.steps]
    found += [looking.at_last(step, found) for step in plan.finally_]
    here = {step.step for step in found}
    gone = dict.fromkeys(path.split("/")[0] for path in known.steps)
    return found + [
        StepPreview(name, "orphaned", "the workflow does not have it any more")
        for name in gone
        if name not in here
    ]


def moves(steps: Iterable[StepPreview]) -> bool:
    """Whether anything would run."""
    return any(step.action not in ("reuse", "orphaned") for step in steps)


class _PreviewPass:
    """One pass over a plan in its order: what is reused is known to the steps after it."""

    def __init__(self, plan: Plan, known: Known, redo: tuple[str, ...]) -> None:
        self._known = known
        self._redo = redo
        self._values = {i.name: digest(i.default) for i in plan.inputs if not i.default_file}
        self._values.update(known.inputs)
        self._again: dict[str, str] = {}
        """The step that makes a name anew, by name."""
        self._started = {d for s in plan.steps if self._record(s.id) is not None for d in s.depends_on}

    def at(self, step: StepPlan) -> StepPreview:
        """What happens to a step; its followers see what it leaves."""
        found = self._decide(step)
        output = self._output(step) if found.action == "reuse" else None
        if output is None:
            self._values.pop(step.output.name, None)
            self._again[step.output.name] = self._again[f"steps.{step.id}"] = step.id
        else:
            record = self._record(step.id)
            status = record.state if record is not None else "completed"
            self._values[step.output.name] = output
            self._values[f"steps.{step.id}"] = digest({"status": status, "error": ""})
        return found

    def at_last(self, step: StepPlan, before: Sequence[StepPreview]) -> StepPreview:
        """What happens to a step of `finally`: it belongs to the end of the run."""
        found = self.at(step)
        if found.action == "reuse" and moves(before):
            return StepPreview(step.id, "rerun", "the run goes on before it")
        return found

    def _decide(self, step: StepPlan) -> StepPreview:
        if step.id in self._redo:
            return StepPreview(step.id, "rerun", self._why_redone(step))
        if step.repeat is not None:
            return self._preview_repeat(step)
        record = self._record(step.id)
        if record is None:
            return self._preview_unstarted(step)
        if record.state == "completed":
            return self._preview_completed(step, record)
        if record.state == "skipped":
            return self._preview_skipped(step)
        return self._preview_unfinished(step, record)

    def _why_redone(self, step: StepPlan) -> str:
        if step.id == self._redo[0]:
            return "it is to be done again"
        return f"follows {next(d for d in step.depends_on if d in self._redo)}, which runs again"

    def _preview_completed(self, step: StepPlan, record: StepRecord) -> StepPreview:
        reason = self._why_changed(step, record)
        if not reason and record.step_path in self._known.unreadable:
            reason = f"its body is unreadable: {self._known.unreadable[record.step_path]}"
        return StepPreview(step.id, "rerun" if reason else "reuse", reason)

    def _preview_skipped(self, step: StepPlan) -> StepPreview:
        anew = self._why_follows(step)
        if anew or self._is_redefined(step):
            return StepPreview(step.id, "goes on", "it was skipped; its condition is looked at again")
        return StepPreview(step.id, "reuse", "it was skipped")

    def _preview_unfinished(self, step: StepPlan, record: StepRecord) -> StepPreview:
        if record.state == "failed":
            message = (record.error or {}).get("message", "")
            return StepPreview(step.id, "rerun", "it failed" + (f": {message}" if message else ""))
        if record.state == "dropped":
            return StepPreview(step.id, "rerun", "its result was taken back")
        if record.content_key and (reason := self._why_changed(step, record)):
            return StepPreview(step.id, "rerun", reason)
        if reason := self._where_under_way(step):
            return StepPreview(step.id, "goes on", reason)
        if record.state == "not_started":
            return self._preview_unstarted(step)
        cut = {"running": "it was cut off", "cancelled": "it was cancelled"}
        return StepPreview(step.id, "rerun", cut.get(record.state, f"it was {record.state}"))

    def _where_under_way(self, step: StepPlan) -> str:
        """Where a step that is under way goes on; "" when nothing of it is there yet."""
        waits = [w for w in self._known.waits if within(w.step_path, step.id) and w.state != "cancelled"]
        if waits:
            # What was asked last is what it stands at.
            last = waits[-1]
            return (
                f"{last.wait_id} is {last.state}" if last.state != "open" else f"it waits for {last.wait_id}"
            )
        turns = sum(n for path, n in self._known.turns.items() if within(path, step.id))
        if turns and self._known.turns.get(step.id) == turns:
            return f"at its next unpaid turn, {turns + 1}"
        below = [r for p, r in self._known.steps.items() if p != step.id and within(p, step.id)]
        done = sum(r.state == "completed" for r in below)
        parts = [f"{done} of its parts {'is' if done == 1 else 'are'} finished"] if done else []
        parts += [f"{turns} turns of others are paid"] if turns else []
        return ", ".join(parts)

    def _preview_repeat(self, step: StepPlan) -> StepPreview:
        """A step that is done again and again has a row per iteration and none of its own."""
        assert step.repeat is not None
        previous: str | None = None
        count = 0
        for count in range(1, step.repeat.max + 1):
            record = self._record(f"{step.id}/{count}")
            if record is None:
                count -= 1
                break
            reason = self._why_changed(step, record, {"iteration": count, "previous": previous})
            if reason or record.state != "completed":
                return self._preview_iteration(step, record, count, reason)
            result = StepResult.model_validate(record.result)
            if record.step_path in self._known.unreadable:
                return StepPreview(step.id, "rerun", self._known.unreadable[record.step_path])
            previous = result.output.sha256 if result.output else None
        if not count:
            return self._preview_unstarted(step)
        if self._known.ended or count == step.repeat.max or step.id in self._started:
            return StepPreview(step.id, "reuse")
        return StepPreview(step.id, "goes on", f"{count} iterations are finished")

    def _preview_iteration(self, step: StepPlan, record: StepRecord, count: int, changed: str) -> StepPreview:
        if changed:
            return StepPreview(step.id, "rerun", changed)
        if record.state == "failed":
            return StepPreview(step.id, "rerun", f"iteration {count} failed")
        return StepPreview(step.id, "goes on", f"in iteration {count}")

    def _preview_unstarted(self, step: StepPlan) -> StepPreview:
        plan = self._known.plan
        known = plan is None or any(s.id == step.id for s in (*plan.steps, *plan.finally_))
        return StepPreview(
            step.id, "new", "it has not run yet" if known else "the workflow did not have it before"
        )

    def _why_changed(self, step: StepPlan, record: StepRecord, part: Any = None) -> str:
        """Why a record is not of this very work; "" when it is."""
        missing = [name for name in step.reads if name in self._again and name not in self._values]
        values = {name: self._values[name] for name in step.reads if name in self._values}
        if not missing and content_key(step, values, part) == record.content_key:
            return ""
        if self._is_redefined(step):
            return "its definition changed"
        if missing:
            return self._why_follows(step)
        names = self._changed_inputs(step, record)
        return f"its inputs changed: {', '.join(names)}" if names else "its definition or its inputs changed"

    def _why_follows(self, step: StepPlan) -> str:
        anew = next((self._again[n] for n in step.reads if n in self._again and n not in self._values), None)
        return f"follows {anew}, which runs again" if anew else ""

    def _is_redefined(self, step: StepPlan) -> bool:
        before = self._before(step.id)
        return before is not None and before.definition != step.definition

    def _changed_inputs(self, step: StepPlan, record: StepRecord) -> list[str]:
        """What it reads that it did not read before, or that was made after it."""
        before = self._before(step.id)
        more = set(step.reads).symmetric_difference(before.reads if before is not None else step.reads)
        plan = self._known.plan
        for made in plan.steps if plan is not None else ():
            ended = (self._record(made.id) or record).ended
            if made.output.name in step.reads and ended and record.started and ended > record.started:
                more.add(made.output.name)
        return sorted(more)

    def _before(self, step_id: str) -> StepPlan | None:
        plan = self._known.plan
        steps = (*plan.steps, *plan.finally_) if plan is not None else ()
        return next((s for s in steps if s.id == step_id), None)

    def _record(self, path: str) -> StepRecord | None:
        return self._known.steps.get(path)

    def _output(self, step: StepPlan) -> str | None:
        """sha256 of what a reused step left; None when that is not known."""
        record = self._record(step.id)
        if record is None and step.repeat is not None:
            record = self._last_iteration(step)
        if record is None:
            return None
        if record.state == "skipped":
            return _NOTHING
        result = StepResult.model_validate(record.result)
        return result.output.sha256 if result.output else _NOTHING

    def _last_iteration(self, step: StepPlan) -> StepRecord | None:
        assert step.repeat is not None
        done = [self._record(f"{step.id}/{n}") for n in range(1, step.repeat.max + 1)]
        return next((r for r in reversed(done) if r is not None and r.state == "completed"), None)
