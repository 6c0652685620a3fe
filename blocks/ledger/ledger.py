"""The ledger: runs, steps and artifacts as the truth that outlives processes."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import blocks.current_time as current_time
import blocks.ledger.runs.runs as runs
import blocks.ledger.runs.steps as steps
from blocks.ledger.budgets.ceilings import BudgetLedger
from blocks.ledger.budgets.times import TimeBudgetLedger
from blocks.ledger.database.access import Access, run_order
from blocks.ledger.database.engine import Database, prepare, stopped_holder
from blocks.ledger.database.faults import passing
from blocks.ledger.database.server_clock import ServerClock
from blocks.ledger.runs.bystanders import read_holders, refuse_from_within
from blocks.ledger.runs.credentials import CredentialLedger
from blocks.ledger.runs.effects import EffectLedger
from blocks.ledger.runs.events import EventLedger
from blocks.ledger.runs.journal import JournalLedger
from blocks.ledger.steering import SteeringLedger, finish_cancelled
from blocks.ledger.tables.clock import Clock, ClockAhead, LedgerClock, allowed_ahead
from blocks.ledger.tables.columns import RUN_LIMIT, labels_text, plain, to_text, to_text_or_none
from blocks.ledger.tables.errors import Fenced, LedgerError
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import (
    Document,
    EndState,
    Lease,
    RunRow,
    RunStart,
    StepRecord,
)
from blocks.ledger.waits.waits import WaitLedger
from blocks.names import checked_run_id, checked_tenant
from blocks.patience import LEDGER, Vigil
from blocks.process.file_locks import StillHeld
from workflows.core.errors import PhaselineError
from workflows.core.refs import Ref

LEASE_SECONDS = 60.0
_LOOK = 1.0
"""Seconds between two looks at whether the run is to end."""


class Ledger:
    """One database of runs. Open it once per process; use it from any thread and event loop of it.

    Reads are in `reader`, which blocks; what a run at work reads is a coroutine here.
    """

    def __init__(
        self, database: Database, lease_seconds: float, ahead_seconds: float, vigil: Vigil | None = None
    ) -> None:
        self._clock: Clock = LedgerClock(ahead_seconds) if database.sqlite else ServerClock()
        self.access = Access(database, vigil, self._clock)
        self.reader = self.access.reader
        self.journal = JournalLedger(self.access)
        self.effects = EffectLedger(self.access)
        self.events = EventLedger(self.access)
        self.credentials = CredentialLedger(self.access)
        self.waits = WaitLedger(self.access)
        self.budgets = BudgetLedger(self.access)
        self.time_budgets = TimeBudgetLedger(self.access)
        self.steering = SteeringLedger(self.access)
        self._database = database
        self._ttl_us = int(lease_seconds * 1_000_000)
        self._sure_until: dict[str, float] = {}

    @classmethod
    def open(
        cls,
        address: str | Path,
        *,
        migrate: bool | None = None,
        lease_seconds: float = LEASE_SECONDS,
        vigil: Vigil | None = None,
    ) -> Ledger:
        """The ledger at a file's path, or a sqlite:// or postgresql:// address.

        Tables are made or brought up to date on SQLite; on PostgreSQL only with `migrate=True`. `vigil` says
        how long faults that pass are waited out, PHASELINE_CLOCK_AHEAD how far a clock may be ahead of what
        the ledger has seen. Raises LedgerError (NewerLedger for one this code does not know yet).
        """
        ahead = allowed_ahead(os.environ)
        database = Database.parse(address)
        ready = partial(prepare, database, migrate=database.sqlite if migrate is None else migrate)
        starting = (vigil or Vigil.of_command()).at_start()
        starting.outwait_blocking(LEDGER, ready, passing, lambda fault, *_: fault)
        ledger = cls(database, lease_seconds, ahead, vigil)
        ledger.reader.read(ledger._clock.look)
        current_time.add_clock(ledger._clock)
        return ledger

    def __repr__(self) -> str:
        return f"Ledger({self.describe()!r})"

    @property
    def shared(self) -> bool:
        """Whether other machines may use it too: then a run's folders may be on one of those."""
        return not self._database.sqlite

    def describe(self) -> str:
        """The database for people, without its password."""
        return self._database.shown

    def clock_ahead(self) -> ClockAhead | None:
        """The clock that is not believed: far ahead, and it would decide something; else None. Blocks."""
        self.reader.read(self._clock.look)
        return self._clock.ahead

    def confirm_clock(self) -> None:
        """Go by the clock from here on, whatever was seen before: a person says that it is right. Blocks."""
        self.access.write_blocking(partial(self._clock.keep, confirmed=True), "clock")

    def refuse_from_within(self) -> None:
        """Raises AnsweredFromWithin when a run at work has started this process: people decide. Blocks."""
        refuse_from_within(self.reader.read(read_holders))

    def note_time(self) -> None:
        """Have the ledger see the time, so that days on which nothing happens are seen to pass. Blocks."""
        if self._clock.long_ago():
            self.access.write_blocking(lambda _: None, "clock")

    def stopped_holder(self) -> StillHeld | None:
        """The process that keeps others from writing because it was stopped; None when there is none."""
        return stopped_holder(self._database)

    def close(self) -> None:
        """Write what is queued and give everything back. Harmless when repeated."""
        self.access.close()
        current_time.remove_clock(self._clock)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Ledger:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # --- runs ---

    async def begin_run(self, start: RunStart, owner: Owner | None = None) -> Lease:
        """Begin a run, or continue an existing one that nobody alive works on.

        The row is committed when this returns. Raises RunHeld (it names the process), RunMismatch
        when the run belongs to another workflow, RunChanged when it is not as `expect` says any more,
        RunTakenBack when it was undone, UsageError for an unfit run id.
        """
        checked_tenant(start.tenant)
        checked_run_id(start.run_id)
        values, token = runs.new_run(start), uuid.uuid4().hex
        holder = owner or Owner.current()
        operation = partial(
            runs.begin, start=start, values=values, owner=holder, token=token, ttl_us=self._ttl_us
        )
        sent = time.monotonic()
        lease: Lease = await self.access.write(operation, run_order(start.tenant, start.run_id))
        self._sure_until[lease.token] = sent + self._ttl_us / 2_000_000
        return lease

    async def renew(self, lease: Lease) -> None:
        """Keep the run for another lease; to be called well within `lease_seconds`. Raises Fenced."""
        sent = time.monotonic()
        await self.access.under(lease, partial(runs.renew, lease=lease, ttl_us=self._ttl_us))
        self._sure_until[lease.token] = sent + self._ttl_us / 2_000_000

    def renew_blocking(self, lease: Lease) -> None:
        """`renew` for callers without an event loop."""
        renew = partial(runs.renew, lease=lease, ttl_us=self._ttl_us)
        self.access.write_blocking(renew, run_order(lease.tenant, lease.run_id))

    async def confirm(self, lease: Lease) -> None:
        """Make sure that the lease counts: for what must not be done by a process that lost its run.

        Asks the ledger only when so much time passed since the last renewal that the run may have been
        taken over, as after a suspended machine. Raises Fenced.
        """
        if time.monotonic() > self._sure_until.get(lease.token, 0.0):
            await self.renew(lease)

    @asynccontextmanager
    async def keep_lease(
        self,
        lease: Lease,
        on_lost: Callable[[PhaselineError], None],
        on_cancel: Callable[[], object] | None = None,
    ) -> AsyncIterator[None]:
        """Renew a lease in the background while the body runs.

        `on_lost` is called once, in the event loop, when the run was taken over, or when the ledger
        could not be reached for so long that it may have been; `on_cancel` once, within some seconds,
        when somebody asks for the run's end (`steering.request_cancel`).
        """
        tasks = [asyncio.create_task(self._renew_regularly(lease, on_lost), name=f"heartbeat-{lease.run_id}")]
        if on_cancel is not None:
            tasks.append(
                asyncio.create_task(self._watch_cancel(lease, on_cancel), name=f"watch-{lease.run_id}")
            )
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def change_run(
        self,
        lease: Lease,
        *,
        plan_digest: str | None = None,
        models: Document | None = None,
        inputs: Document | None = None,
        labels: Document | None = None,
        flow_run_id: str | None = None,
    ) -> None:
        """Change what a run began with; None leaves a value as it is. Raises Fenced."""
        documents = {"models": models, "inputs": inputs}
        values: dict[str, Any] = {
            name: to_text(value, f"the run's {name}", RUN_LIMIT)
            for name, value in documents.items()
            if value is not None
        }
        if labels is not None:
            values["labels"] = labels_text(labels)
        texts = {"plan_digest": plan_digest, "flow_run_id": flow_run_id}
        values.update({name: value for name, value in texts.items() if value is not None})
        await self.access.under(lease, partial(runs.change, lease=lease, values=values))

    async def leave_run(self, lease: Lease) -> None:
        """Give the lease of a run that exists for longer back, with the run as it was: nothing was done.

        Raises Fenced.
        """
        assert lease.previous is not None
        await self.access.under(lease, partial(runs.leave, lease=lease, before=lease.previous))

    async def finish_run(
        self,
        lease: Lease,
        state: EndState,
        *,
        outputs: Document | None = None,
        usage: Document | None = None,
        error: Document | None = None,
        wake_at: int | None = None,
        wake_reason: str = "",
        waited: float = 0.0,
        keep_waits: bool = False,
    ) -> None:
        """Put the run into an end state and give the lease back. Raises Fenced.

        The seconds `waited` for what was out of order are no active time of it.

        From `wake_at` on a stopped run is among those that are due (`steering.due`). The open waits of a
        completed or cancelled run are cancelled with it, unless `keep_waits`.
        """
        values: dict[str, Any] = {
            "error": to_text_or_none(error, "the run's error", RUN_LIMIT),
            "wake_at": wake_at,
            "wake_reason": plain(wake_reason)[:500],
        }
        for name, document in (("outputs", outputs), ("usage", usage)):
            if document is not None:
                values[name] = to_text(document, f"the run's {name}", RUN_LIMIT)
        over = state in ("completed", "cancelled") and not keep_waits
        how = finish_cancelled if over else partial(runs.finish, waited_us=round(waited * 1_000_000))
        finish = partial(how, lease=lease, state=state, values=values, ttl_us=self._ttl_us)
        await self.access.under(lease, finish)

    async def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        """A run as it stands, None when there is none."""
        return await self.access.call(partial(self.reader.get_run, tenant, run_id))

    # --- steps and artifacts ---

    async def record_step(self, lease: Lease, record: StepRecord, artifacts: Sequence[Ref] = ()) -> None:
        """Write down a step, and the artifacts it made under their kinds, in one commit. Raises Fenced."""
        written = [steps.step_values(lease, record)]
        bodies = [steps.artifact_values(lease, ref, ref.kind, record.step_path) for ref in artifacts]
        await self.access.under(lease, partial(steps.record, lease=lease, steps=written, artifacts=bodies))

    async def drop_steps(self, lease: Lease, paths: Sequence[str], repetition: str = "") -> int:
        """Take back the results of steps, so that they are done again also after a crash. Raises Fenced.

        `repetition` names a repetition of their effects; "" leaves what is noted of an earlier one.
        """
        drop = partial(steps.drop, lease=lease, paths=list(paths), repetition=repetition)
        return int(await self.access.under(lease, drop))

    async def record_artifact(self, lease: Lease, ref: Ref, *, name: str = "", step_path: str = "") -> None:
        """Write down an artifact of the run, by default under its kind and its own step. Raises Fenced."""
        body = steps.artifact_values(lease, ref, name or ref.kind, step_path or ref.step)
        await self.access.under(lease, partial(steps.record, lease=lease, steps=[], artifacts=[body]))

    async def steps(self, tenant: str, run_id: str, content_key: str | None = None) -> list[StepRecord]:
        """The steps of a run in the order they started; those of a content key, if one is named."""
        return await self.access.call(partial(self.reader.steps, tenant, run_id, content_key))

    # --- within ---

    async def _renew_regularly(self, lease: Lease, on_lost: Callable[[PhaselineError], None]) -> None:
        lifetime = self._ttl_us / 1_000_000
        patience = self.access.patience.seconds
        loop = asyncio.get_running_loop()
        deadline = loop.time() + lifetime
        while True:
            await asyncio.sleep(lifetime / 3)
            sent = loop.time()
            try:
                # Beyond the lease as long as faults are waited out: whoever takes the run over needs the same
                # ledger, and what acts for this one asks it first.
                async with asyncio.timeout_at(deadline + patience):
                    await self.renew(lease)
                deadline = sent + lifetime
            except TimeoutError:
                silent = f"the ledger {self.describe()} did not answer for {loop.time() - sent:.0f} s"
                return on_lost(LedgerError(silent, "check that the database runs, then continue the run"))
            except Fenced as error:
                return on_lost(error)
            except LedgerError as error:
                if loop.time() > deadline:
                    return on_lost(error)

    async def _watch_cancel(self, lease: Lease, on_cancel: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            # A ledger that does not answer is told by the heartbeat.
            with suppress(LedgerError):
                if await self.steering.asked_to_end(lease):
                    on_cancel()
                    return
