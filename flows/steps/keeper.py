"""Keeps the ledger in step with a run: what is recorded, in which order, and what counts as finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from blocks.boundaries import reach_boundary
from blocks.current_time import now_us
from blocks.ledger import Lease, Ledger, StepRecord, StepState
from blocks.secrecy import secrets
from blocks.storage.spilled import spill, spilled_ref, whole
from tasks.context import RunContext
from tasks.failures import CONVERSATION_ENDS, FINAL_ENDS, FailedBefore
from tasks.results import MOST_NAMED, StepResult, StepUsage
from workflows.core.errors import PhaselineError
from workflows.core.refs import RUN_ID
from workflows.core.usage import Usage

MOST_OF_A_MESSAGE = 4000
"""Characters of an error that are kept and shown."""
MOST_OF_A_PART = 300
"""The same of one of many parts of a step."""
ROOM_FOR_PARTS = 36 * 1024
"""Bytes for the failed parts of one step: their result is one row."""
_CUT = "… (cut: "


def now() -> int:
    """Microseconds since 1970, UTC."""
    return now_us()


class Keeper:
    """Records units of one run under its lease. The row of a unit, written last, is the truth."""

    def __init__(self, ledger: Ledger, lease: Lease, context: RunContext) -> None:
        self._ledger = ledger
        self._lease = lease
        self._context = context
        self._store = context.store
        self.cut_off: tuple[str, ...] = ()
        """Units that were at work when an earlier process ended."""

    async def restore(self, *, failures: bool = False) -> None:
        """Fills in what earlier processes of the run left: results, attempts, generations, costs.

        failures: also what failed, for a run that goes on without anybody having asked for it.
        """
        context = self._context
        if self._lease.created:
            return
        rows = await self._ledger.steps(self._lease.tenant, self._lease.run_id)
        for row in rows:
            if row.state == "completed" and row.result is not None:
                context.finished[row.step_path] = StepResult.model_validate(row.result)
            context.generations[row.step_path] = row.generation
            if row.repetition:
                context.repetitions[row.step_path] = row.repetition
            # What came to a bad end, and what is done again, is counted as another attempt; what was cut off,
            # also by a fault of storage or network, goes on in its own.
            at_an_end = row.state == "failed" and (row.error or {}).get("type") in FINAL_ENDS
            ended = at_an_end or row.state in ("completed", "dropped")
            context.attempts[row.step_path] = row.attempts if ended else max(row.attempts - 1, 0)
            if row.error is not None and row.error.get("type") in CONVERSATION_ENDS:
                context.ended[row.step_path] = row.error
            # A kill gives no new retries; who continues what failed does.
            if row.state not in ("completed", "dropped", "failed"):
                context.tries[row.step_path] = row.tries
            if failures and row.state == "failed":
                context.failed_before[row.step_path] = row.content_key, row.error, row.attempts
        # Every paid turn is in the journal, also those of a process that died before it wrote anything else.
        for path, model, usage in await self._ledger.journal.costs(self._lease.tenant, self._lease.run_id):
            if path not in context.finished:
                context.pay(path, Usage.from_json(usage), model)
        self.cut_off = tuple(row.step_path for row in rows if row.state == "running")

    async def completed_rows(self, run_id: str, key: str, *, offline: bool) -> list[StepRecord]:
        """What a run of the tenant completed under a content key; nothing of a run with the other model."""
        known = RUN_ID.fullmatch(run_id)
        row = await self._ledger.get_run(self._lease.tenant, run_id) if known else None
        if row is None or row.offline != offline:
            return []
        steps = await self._ledger.steps(self._lease.tenant, run_id, content_key=key)
        return [step for step in steps if step.state == "completed" and step.result is not None]

    async def why_unreadable(self, result: StepResult) -> str | None:
        """Why a recorded result cannot be reused; None when every ref of it is readable and unchanged."""
        for ref in result.refs:
            reason = await self._store.check(ref)
            if reason is not None:
                return f"{ref.kind}: {reason}"
        if spilled_ref(result.nested) is None:
            return None
        return await self.why_unreadable(await self.with_nested(result))

    async def with_nested(self, result: StepResult) -> StepResult:
        """A recorded result with its list of inner outputs, where that was too long for the row."""
        if spilled_ref(result.nested) is None:
            return result
        inner = await whole(result.nested or {}, self._store)
        return result.model_copy(update={"nested": inner})

    async def record_started(
        self, path: str, key: str, agent: str, *, usage: StepUsage, attempts: int, started: int
    ) -> None:
        """A unit begins, or begins another attempt. `usage` is what it has cost so far.

        How its conversation ended stays in the row until the next one begins, also over a kill.
        """
        record = StepRecord(
            step_path=path,
            state="running",
            content_key=key,
            attempts=attempts,
            agent=agent,
            usage=usage.model_dump(),
            error=self._context.ended.get(path),
            started=started,
            generation=self._context.generations.get(path, 0),
            repetition=self._context.repeat(path),
            tries=self._context.tries.get(path, 0),
        )
        await self._ledger.record_step(self._lease, record)
        reach_boundary("step.running", path)

    async def drop(self, paths: Sequence[str], *, repeat: bool = False) -> None:
        """Takes results back for good: also after a crash they are done again, and `repeat` their effects."""
        # One start of a run drops a step once, so that its epoch names the repetition.
        repetition = f"epoch {self._lease.epoch}" if repeat else ""
        await self._ledger.drop_steps(self._lease, paths, repetition)
        for path in paths:
            self._context.generations[path] = self._context.generations.get(path, 0) + 1
            if repeat:
                self._context.repetitions[path] = repetition

    async def redo(self, steps: Sequence[str], *, repeat: bool = False) -> None:
        """Takes back what these steps and their parts left; `repeat` has their effects performed again."""
        wanted = set(steps)
        paths = [p for p in self._context.attempts if p.split("/")[0] in wanted]
        if not paths:
            return
        await self.drop(paths, repeat=repeat)
        for path in paths:
            self._context.failed_before.pop(path, None)
            known = self._context.finished.pop(path, None)
            if known is not None:
                self._context.spent[path] = known.usage  # what it cost stays paid

    async def record_completed(
        self, result: StepResult, *, attempts: int, started: int, reused_from: str = ""
    ) -> None:
        """A unit ended with a result; its artifacts are recorded in the same commit."""
        if result.nested:
            nested = await spill(
                result.nested,
                self._store,
                kind="outputs-of-workflow",
                tenant=self._lease.tenant,
                run_id=self._lease.run_id,
                step=result.path,
            )
            result = result.model_copy(update={"nested": nested})
        record = StepRecord(
            step_path=result.path,
            state="completed",
            content_key=result.key,
            attempts=attempts,
            agent=result.agent,
            model=result.model,
            usage=result.usage.model_dump(),
            result=result.model_dump(mode="json"),
            started=started,
            ended=now(),
            reused_from=reused_from,
            generation=self._context.generations.get(result.path, 0),
            repetition=self._context.repeat(result.path),
        )
        await self._ledger.record_step(self._lease, record, result.refs)
        reach_boundary("step.completed", result.path)

    async def record_ended(
        self,
        path: str,
        key: str,
        state: StepState,
        *,
        usage: StepUsage,
        error: dict[str, Any] | None = None,
        attempts: int = 0,
        started: int | None = None,
        agent: str = "",
    ) -> None:
        """A unit ended without a result: failed, skipped, cancelled or not started."""
        record = StepRecord(
            step_path=path,
            state=state,
            content_key=key,
            attempts=attempts,
            agent=agent,
            usage=usage.model_dump(),
            error=error,
            started=started,
            ended=now(),
            generation=self._context.generations.get(path, 0),
            repetition=self._context.repeat(path),
            tries=self._context.tries.get(path, 0),
        )
        await self._ledger.record_step(self._lease, record)
        reach_boundary("step.ended", path, state)


def shown_error(error: BaseException) -> dict[str, str]:
    """An error as people and programs read it, without known secrets, cut to what a row can hold."""
    message = error.message if isinstance(error, PhaselineError) else str(error)
    cure = error.cure if isinstance(error, PhaselineError) else ""
    known = secrets.current_secrets()
    return {
        "type": error.type if isinstance(error, FailedBefore) else type(error).__name__,
        "message": shorten(known.text(message) or type(error).__name__, MOST_OF_A_MESSAGE),
        "cure": shorten(known.text(cure), MOST_OF_A_MESSAGE),
    }


def named_parts(messages: Mapping[str, str]) -> dict[str, str]:
    """Why parts of a step failed, by path; of very many, or very long ones, the first."""
    found: dict[str, str] = {}
    room = ROOM_FOR_PARTS
    for path, whole_message in list(messages.items())[:MOST_NAMED]:
        message = shorten(whole_message, MOST_OF_A_PART)
        room -= len(path.encode()) * 2 + len(
            json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        )
        if room < 0:
            break
        found[path] = message
    return found


def shorten(text: str, most: int) -> str:
    """A text of at most `most` characters, and a mark that says how long it was before its first cut."""
    if len(text) <= most:
        return text
    before = text.rpartition(_CUT)[2] if _CUT in text[-50:] else f"{len(text):,} characters)"
    return f"{text[:most]}{_CUT}{before}"
