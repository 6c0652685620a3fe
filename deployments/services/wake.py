"""Continuing every run that is due, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from blocks.current_time import now_us
from blocks.ledger import Ledger, Owner, RunRow
from blocks.ledger.database.access import run_order
from blocks.ledger.runs.interrupted import mark_revived, may_revive, read_interrupted
from blocks.ledger.tables.clock import ClockAhead
from blocks.ledger.waits.waits import WaitRow
from blocks.run_request import catalog_of
from deployments.runs import wake_attempts
from deployments.runs.background_wakes import elsewhere, own_command
from deployments.runs.caller import Caller
from deployments.runs.continuation import wake_deployed
from deployments.runs.host import Host, Interrupting
from deployments.runs.lookup import find_run, open_ledger
from deployments.runs.next_commands import giving_again, resuming
from deployments.runs.sweep import apply_due, clock_notice

_LAST_S = 300.0
"""Seconds that a run's last steps may take after a signal. It ends itself sooner where it hangs."""
GOOD = (0, 3, 4)
"""Exit codes of a run that went on: done, waiting again, stopped again."""


@dataclass(frozen=True)
class WakeRequest:
    """What is to go on."""

    caller: Caller
    run_ids: Sequence[str] = ()
    """Of what is due only these; none: all."""
    confirm_clock: bool = False
    """Whether a person says that this machine's clock is right."""


@dataclass(frozen=True)
class Skipped:
    """A run that is left to another machine."""

    run_id: str
    reason: str


@dataclass(frozen=True)
class Woke:
    """How a run went on, or that it did not."""

    run_id: str
    status: str
    exit_code: int
    error: Mapping[str, str] | None
    """Message and cure."""

    @property
    def document(self) -> dict[str, Any]:
        """One entry of what `wake --json` prints."""
        told = {"run_id": self.run_id, "status": self.status, "exit_code": self.exit_code}
        return {**told, "error": self.error}


@dataclass(frozen=True)
class WakeEnd:
    """Everything that was woken, and what deadlines decided before."""

    woken: Sequence[Woke]
    skipped: Sequence[Skipped]
    expired: Sequence[WaitRow]
    reminded: Sequence[WaitRow]
    ahead: ClockAhead | None

    @property
    def exit_code(self) -> int:
        """1 when a run could not be continued, or failed."""
        return 0 if all(run.exit_code in GOOD for run in self.woken) else 1

    @property
    def document(self) -> dict[str, Any]:
        """What `wake --json` prints."""
        document: dict[str, Any] = {
            "woken": [run.document for run in self.woken],
            "skipped": [{"run_id": run.run_id, "reason": run.reason} for run in self.skipped],
            "expired": [wait.wait_id for wait in self.expired],
            "reminded": [wait.wait_id for wait in self.reminded],
        }
        if self.ahead is not None:
            document["clock_ahead"] = {"message": self.ahead.message, "due": self.ahead.lines()}
        return document


OnWoken = Callable[[Woke | Skipped], None]


def wake_runs(request: WakeRequest, host: Host, on_woken: OnWoken = lambda run: None) -> WakeEnd:
    """Applies deadlines, then continues what is due, each run in a process of its own or on its worker.

    `on_woken` hears of each run as it is done. Raises PhaselineError; KeyboardInterrupt once interrupted.
    """
    caller = request.caller
    with open_ledger(caller, decides=request.confirm_clock) as ledger:
        named = {find_run(ledger.reader, run_id, caller).run_id for run_id in request.run_ids}
        if request.confirm_clock:
            ledger.confirm_clock()
        ahead = ledger.clock_ahead()
        if ahead is not None:
            host.notify(clock_notice(ahead, caller.places))
        ledger.note_time()
        expired, reminded = apply_due(ledger, caller.tenant)
        asyncio.run(ledger.budgets.reap(caller.tenant))
        done = _Waker(ledger, caller, host, on_woken).wake(named)
    woken = [run for run in done if isinstance(run, Woke)]
    skipped = [run for run in done if isinstance(run, Skipped)]
    return WakeEnd(woken, skipped, expired, reminded, ahead)


@dataclass(frozen=True)
class _Waker:
    """Continues runs, each in a process of its own or on its worker."""

    ledger: Ledger
    caller: Caller
    host: Host
    on_woken: OnWoken

    def wake(self, named: set[str]) -> list[Woke | Skipped]:
        """All that can go on, or those that are named; and what is another machine's, with the reason."""
        done: list[Woke | Skipped] = []
        for run_id in (r for r in self._due() if not named or r in named):
            # Those before it may have taken long: it may be cancelled, or have gone on elsewhere.
            row = self.ledger.reader.get_run(self.caller.tenant, run_id) if run_id in self._due() else None
            one = self._wake_one(row, bool(named)) if row is not None else None
            if one is not None:
                self.on_woken(one)
                self._note_end(one)
                done.append(one)
        return done

    def _wake_one(self, row: RunRow, named: bool) -> Woke | Skipped | None:
        if row.deployed:
            return self._on_its_worker(row)
        if why := elsewhere(row, self.caller.environ):
            if self.ledger.shared and not named and not row.ungiven:
                return Skipped(row.run_id, why)
            return Woke(row.run_id, row.state, 1, self._not_here(row, why))
        return self._here(row) if row.state != "interrupted" or self._mark_revived(row) else None

    def _mark_revived(self, row: RunRow) -> bool:
        """Notes beforehand that a run whose process died goes on; False when somebody else was faster."""
        note = partial(mark_revived, tenant=row.tenant, run_id=row.run_id, viewer=Owner.current())
        return self.ledger.access.write_blocking(note, run_order(row.tenant, row.run_id))

    def _due(self) -> list[str]:
        """What is due, and what was woken before by a process that died."""
        here = Owner.current()
        lost = self.ledger.reader.read(lambda c: read_interrupted(c, self.caller.tenant, here))
        at = now_us()
        again = [row.run_id for row in lost if may_revive(row, at)]
        return [*again, *self.ledger.steering.due(self.caller.tenant)]

    def _on_its_worker(self, row: RunRow) -> Woke:
        how = wake_deployed(row, self.caller, self.host)
        if how == "begun" and row.state == "interrupted":
            self._mark_revived(row)  # afterwards: should this process be killed first, the flow run is there
        if how:
            return Woke(row.run_id, "resumed", 0, None)
        cure = f"start a worker and a server it knows, or continue it here: {resuming((), row.run_id)}"
        return Woke(row.run_id, row.state, 1, {"message": "no worker goes on with it", "cure": cure})

    def _here(self, row: RunRow) -> Woke:
        # Each finds the catalog it began with; only where that was not recorded does ours serve.
        places = self.caller.places if catalog_of(row.labels) is None else ()
        # As it began: what wakes by itself never takes a changed definition.
        words = [*places, "resume", row.run_id, "--use", "stored", "--woken", "--json"]
        command = own_command(words, self.caller.home, self.caller.environ)
        code, document = answer_of(*command, self.host.interrupting)
        error = document.get("error") or (
            {"message": f"its process ended with {code}"} if code not in GOOD else None
        )
        told = error and {"message": str(error.get("message", "")), "cure": str(error.get("cure", ""))}
        return Woke(row.run_id, str(document.get("status") or "failed"), code, told)

    def _note_end(self, one: Woke | Skipped) -> None:
        if isinstance(one, Woke):
            with contextlib.suppress(OSError):  # a home that cannot be written: it is tried again earlier
                error = one.error if one.exit_code not in GOOD else None
                wake_attempts.note_end(self.caller.home, one.run_id, error)

    def _not_here(self, row: RunRow, why: str) -> dict[str, str]:
        if row.ungiven:
            return {"message": why, "cure": giving_again(row)}
        where = "--catalog FOLDER" if "catalog" in why else "--storage URI"
        return {"message": why, "cure": f"{resuming((), row.run_id)} {where}"}


def answer_of(
    command: Sequence[str], environ: Mapping[str, str], interrupting: Interrupting
) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a command; what it says on standard error goes where ours goes.

    A signal to us is one to it: it ends as if it had been sent there. Raises KeyboardInterrupt then.
    """
    code, written, interrupted = asyncio.run(_run_command(command, environ, interrupting))
    if interrupted:
        raise KeyboardInterrupt
    try:
        document = json.loads(written)
    except ValueError:
        document = {}
    return code, document if isinstance(document, dict) else {}


async def _run_command(
    command: Sequence[str], environ: Mapping[str, str], interrupting: Interrupting
) -> tuple[int, str, bool]:
    """Exit code and output of a command, and whether we were interrupted meanwhile."""
    interrupted = asyncio.Event()
    begun: list[Process] = []

    def forward() -> None:
        interrupted.set()
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            for process in begun:
                process.terminate()

    # Our loop answers, so that we are not ended hard while the run takes its last steps.
    with interrupting(forward, last_steps=True):
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        begun.append(process)
        if interrupted.is_set():
            forward()
        ended = asyncio.create_task(process.communicate())
        told = asyncio.create_task(interrupted.wait())
        await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
        if not (await asyncio.wait({ended}, timeout=_LAST_S))[0]:
            process.kill()
        written, _ = await ended
        told.cancel()
    return process.returncode or 0, written.decode("utf-8", "replace"), interrupted.is_set()
