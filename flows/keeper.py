"""Keeps the ledger in step with a run: what is recorded, in which order, and what counts as finished."""

from __future__ import annotations

import time
from typing import Any

from blocks.ledger import Lease, Ledger, StepRecord, StepState
from blocks.storage import ArtifactStore
from tasks.results import StepResult, StepUsage
from workflows.core.errors import PhaselineError


def now() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Keeper:
    """Records units of one run under its lease. The row of a unit, written last, is the truth."""

    def __init__(self, ledger: Ledger, lease: Lease, store: ArtifactStore) -> None:
        self._ledger = ledger
        self._lease = lease
        self._store = store

    async def recorded(self) -> tuple[dict[str, StepResult], dict[str, StepUsage]]:
        """Results of completed units, and what units that did not complete have cost, both by path."""
        rows = await self._ledger.steps(self._lease.tenant, self._lease.run_id)
        done = {
            row.step_path: StepResult.model_validate(row.result)
            for row in rows
            if row.state == "completed" and row.result is not None
        }
        lost = {
            row.step_path: StepUsage.model_validate(row.usage)
            for row in rows
            if row.step_path not in done and row.usage
        }
        return done, lost

    async def unreadable(self, result: StepResult) -> str | None:
        """Why a recorded result cannot be reused; None when every ref of it is readable and unchanged."""
        for ref in result.refs:
            reason = await self._store.check(ref)
            if reason is not None:
                return f"{ref.kind}: {reason}"
        return None

    async def started(
        self, path: str, key: str, agent: str, *, usage: StepUsage, attempts: int, started: int
    ) -> None:
        """A unit begins, or begins another attempt. `usage` is what it has cost so far."""
        record = StepRecord(
            step_path=path,
            state="running",
            content_key=key,
            attempts=attempts,
            agent=agent,
            usage=usage.model_dump(),
            started=started,
        )
        await self._ledger.record_step(self._lease, record)

    async def completed(
        self, result: StepResult, *, attempts: int, started: int, reused_from: str = ""
    ) -> None:
        """A unit ended with a result; its artifacts are recorded in the same commit."""
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
        )
        await self._ledger.record_step(self._lease, record, result.refs)

    async def ended(
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
        )
        await self._ledger.record_step(self._lease, record)


def shown_error(error: BaseException) -> dict[str, str]:
    """An error as people and programs read it."""
    message = error.message if isinstance(error, PhaselineError) else str(error)
    return {
        "type": type(error).__name__,
        "message": message or type(error).__name__,
        "cure": error.cure if isinstance(error, PhaselineError) else "",
    }
