"""The row of a new run, written before anything else is asked for: no start is lost without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from blocks.boundaries import reach_boundary
from workflows.core.errors import PhaselineError

if TYPE_CHECKING:
    from blocks.ledger import Ledger, RunRow
    from blocks.patience import PatienceOver, Tell
    from deployments.runs.start import Start
    from flows.launch import Announced

_RENEW = 20.0
"""Seconds between two renewals of the lease, until the run itself keeps it."""

_LAST_S = 2.0
"""Seconds that a renewal under way may still take once it is not needed."""


@contextlib.contextmanager
def announce_run(start: Start, tell: Tell | None = None) -> Iterator[Start]:
    """The start with the row of its new run, and its inputs stored; one that goes on has its row already.

    `tell` is told what the ledger is waited for.

    Where the body ends before the run has begun, its row says how: with the fault of the body.
    """
    from blocks.ledger import Ledger
    from blocks.patience import Patience, PatienceOver, Vigil, tell_nobody

    start.settings.prepare()
    vigil = Vigil(Patience.read(start.environ, start.catalog.patience), tell or tell_nobody)
    with Ledger.open(start.settings.database, vigil=vigil) as ledger:
        before = ledger.reader.get_run(start.tenant, start.run_id)
        if start.expect is not None or before is not None:
            try:
                yield start
            except PatienceOver as fault:
                if before is not None:
                    _put_off(start, ledger, before, fault)
                raise
            return
        held = asyncio.run(_begin_run(start, ledger))
        lacking = f"{start.again}, with the same inputs" if start.given else ""
        with _keep_lease(ledger, held):
            try:
                start = replace(start, announced=held, given=asyncio.run(_record_inputs(start, ledger, held)))
                lacking = ""
                yield start
            except BaseException as fault:
                if not isinstance(fault, Exception):
                    vigil.hurry.set()  # who ends the command does not wait for its last word
                if not held.taken:
                    asyncio.run(_finish_unbegun(ledger, held, fault, lacking))
                raise


def _put_off(start: Start, ledger: Ledger, before: RunRow, fault: PatienceOver) -> None:
    """A run that was to go on and could not begin does so by itself later, unless it was touched since."""
    from blocks.ledger import Owner
    from blocks.ledger.database.access import run_order
    from blocks.ledger.runs.interrupted import mark_stopped

    if before.state == "completed" or start.redo:
        return
    wake_at = int(fault.wake_at.timestamp() * 1_000_000)
    stop = partial(
        mark_stopped,
        tenant=start.tenant,
        run_id=start.run_id,
        viewer=Owner.current(),
        seen=before.seen,
        wake_at=wake_at,
        reason=fault.message,
    )
    with contextlib.suppress(PhaselineError):
        if ledger.access.write_blocking(stop, run_order(start.tenant, start.run_id)):
            fault.goes_on(start.run_id)


async def _begin_run(start: Start, ledger: Ledger) -> Announced:
    from blocks.ledger.tables.records import ANNOUNCED
    from blocks.storage.artifacts import ArtifactStore
    from flows.launch import Announced, run_start

    launch = start.to_launch()
    with ArtifactStore.open(launch.settings.storage, environ=launch.environ) as store:
        begun = run_start(start.plan, launch, store, start.given)
        labels = {**begun.labels, ANNOUNCED: True}
        held = Announced(await ledger.begin_run(replace(begun, labels=labels)))
    reach_boundary("run.announced")
    return held


async def _record_inputs(start: Start, ledger: Ledger, held: Announced) -> Mapping[str, Any]:
    """The inputs as they travel, written down too: who continues the run need not give them again."""
    from blocks.ledger.tables.records import ANNOUNCED
    from deployments.runs.stored_inputs import stored_inputs
    from workflows.core.refs import Ref

    given = await stored_inputs(start.given, start.to_launch())
    inputs = {
        name: {"ref": value.model_dump(mode="json")} if isinstance(value, Ref) else {"value": value}
        for name, value in given.items()
    }
    labels = {**start.to_launch().labels, ANNOUNCED: True}  # and no more that they are missing
    await ledger.change_run(held.lease, inputs=inputs, labels=labels)
    reach_boundary("run.given")
    return given


@contextlib.contextmanager
def _keep_lease(ledger: Ledger, held: Announced) -> Iterator[None]:
    """Renews the lease from a thread: Prefect may take minutes to start on a busy machine."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(_RENEW) and not held.taken:
            with contextlib.suppress(PhaselineError):
                ledger.renew_blocking(held.lease)

    thread = threading.Thread(target=renew, name="announced-run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # A renewal that waits for the ledger is nobody's concern any more; the thread ends with the process.
        thread.join(_LAST_S)


async def _finish_unbegun(ledger: Ledger, held: Announced, fault: BaseException, lacking: str) -> None:
    """The run did not begin. Whatever keeps its row from saying so, the fault itself is what is told.

    `lacking`: the command that gives its inputs again, where they are not in the row: it does not go on by
    itself then.
    """
    from blocks.patience import PatienceOver
    from flows.steps.keeper import shown_error

    state, wake = "cancelled", None
    if isinstance(fault, PatienceOver) and lacking:
        fault.continued_by(lacking)
        state = "failed"
    elif isinstance(fault, PatienceOver):
        fault.goes_on(held.lease.run_id)  # its row says so too
        state, wake = "stopped", int(fault.wake_at.timestamp() * 1_000_000)
    elif isinstance(fault, Exception):
        state = "failed"
    told = shown_error(fault)
    try:
        await ledger.finish_run(
            held.lease,
            state,  # type: ignore[arg-type]
            error=told,
            wake_at=wake,
            wake_reason=told["message"] if wake else "",
        )
    except PhaselineError:
        if isinstance(fault, PatienceOver) and wake:
            fault.continued_by(f"phaseline resume {held.lease.run_id}")
