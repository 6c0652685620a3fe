"""`phaseline wake`: continue every run that is due, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from blocks.current_time import now_us
from blocks.ledger import Ledger, Owner, RunRow
from blocks.ledger.database.access import run_order
from blocks.ledger.runs.interrupted import mark_revived, may_revive, read_interrupted
from blocks.process.ending import on_signals
from blocks.run_request import catalog_of
from deployments.runs import wake_attempts
from deployments.runs.background_wakes import elsewhere, own_command
from deployments.runs.continuation import wake_deployed
from deployments.runs.lookup import TENANT, find_run, open_ledger, settings_of
from deployments.runs.sweep import apply_due, tell_clock
from deployments.terminal.display import Out
from deployments.terminal.next_commands import giving_again, resuming

_LAST_S = 300.0
"""Seconds that a run's last steps may take after a signal. It ends itself sooner where it hangs."""
GOOD = (0, 3, 4)
"""Exit codes of a run that went on: done, waiting again, stopped again."""


def execute(args: argparse.Namespace, out: Out) -> int:
    """Applies deadlines, then continues what is due; 1 when a run could not be continued, or failed."""
    settings = settings_of(args)
    # As the user has it: waking a worker's run points this very process at a server.
    environ = dict(os.environ)
    with open_ledger(settings, decides=args.confirm_clock) as ledger:
        named = {find_run(ledger.reader, run_id, settings).run_id for run_id in args.run_ids}
        if args.confirm_clock:
            ledger.confirm_clock()
        ahead = ledger.clock_ahead()
        if ahead is not None:
            tell_clock(ahead, args.places, out)
        ledger.note_time()
        expired, reminded = apply_due(ledger)
        asyncio.run(ledger.budgets.reap(TENANT))
        waker = _Waker(ledger, args.places, args.home, environ, out)
        woken, skipped = waker.wake(named)
    decided = {"expired": [w.wait_id for w in expired], "reminded": [w.wait_id for w in reminded]}
    held = {} if ahead is None else {"clock_ahead": {"message": ahead.message, "due": ahead.lines()}}
    out.document({"woken": woken, "skipped": skipped, **decided, **held})
    for row in expired:
        out.line(f"{row.wait_id}: its deadline has passed; it is {row.state}")
    if args.confirm_clock:
        out.line("this machine's clock is taken for right", "green")
    if not woken and not skipped:
        out.line("no run is due")
    return 0 if all(run["exit_code"] in GOOD for run in woken) else 1


@dataclass(frozen=True)
class _Waker:
    """Continues runs, each in a process of its own or on its worker."""

    ledger: Ledger
    places: Sequence[str]
    home: Path
    environ: Mapping[str, str]
    out: Out

    def wake(self, named: set[str]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """All that can go on, or those that are named; and what is another machine's, with the reason."""
        woken: list[dict[str, Any]] = []
        skipped: list[dict[str, str]] = []
        for run_id in (r for r in self._due() if not named or r in named):
            # Those before it may have taken long: it may be cancelled, or have gone on elsewhere.
            row = self.ledger.reader.get_run(TENANT, run_id) if run_id in self._due() else None
            if row is None:
                continue
            if row.deployed:
                woken.append(self._on_its_worker(row))
            elif why := elsewhere(row):
                if self.ledger.shared and not named and not row.ungiven:
                    skipped.append({"run_id": run_id, "reason": why})
                    self.out.line(f"{run_id}: left to another machine: {why}", "yellow")
                else:
                    woken.append(self._report(row, row.state, 1, self._not_here(row, why)))
            elif row.state != "interrupted" or self._mark_revived(row):
                woken.append(self._here(row))
        return woken, skipped

    def _mark_revived(self, row: RunRow) -> bool:
        """Notes beforehand that a run whose process died goes on; False when somebody else was faster."""
        note = partial(mark_revived, tenant=TENANT, run_id=row.run_id, viewer=Owner.current())
        return self.ledger.access.write_now(note, run_order(TENANT, row.run_id))

    def _due(self) -> list[str]:
        """What is due, and what was woken before by a process that died."""
        here = Owner.current()
        lost = self.ledger.reader.read(lambda c: read_interrupted(c, TENANT, here))
        at = now_us()
        again = [row.run_id for row in lost if may_revive(row, at)]
        return [*again, *self.ledger.steering.due(TENANT)]

    def _on_its_worker(self, row: RunRow) -> dict[str, Any]:
        how = wake_deployed(row, self.home, self.out)
        if how == "begun" and row.state == "interrupted":
            self._mark_revived(row)  # afterwards: should this process be killed first, the flow run is there
        if how:
            return self._report(row, "resumed", 0, None)
        cure = f"start a worker and a server it knows, or continue it here: {resuming((), row.run_id)}"
        return self._report(row, row.state, 1, {"message": "no worker goes on with it", "cure": cure})

    def _here(self, row: RunRow) -> dict[str, Any]:
        # Each finds the catalog it began with; only where that was not recorded does ours serve.
        places = self.places if catalog_of(row.labels) is None else ()
        # As it began: what wakes by itself never takes a changed definition.
        words = [*places, "resume", row.run_id, "--use", "stored", "--woken", "--json"]
        code, document = _answer_of(*own_command(words, self.home, self.environ))
        error = document.get("error") or (
            {"message": f"its process ended with {code}"} if code not in GOOD else None
        )
        return self._report(row, str(document.get("status") or "failed"), code, error)

    def _report(self, row: RunRow, status: str, code: int, error: Mapping[str, Any] | None) -> dict[str, Any]:
        told = error and {"message": str(error.get("message", "")), "cure": str(error.get("cure", ""))}
        self.out.line(f"{row.run_id}: {status}", "green" if code == 0 else "yellow")
        if told:
            self.out.line(f"  {told['message']}")
        if told and told["cure"]:
            self.out.line(f"    cure: {told['cure']}")
        with contextlib.suppress(OSError):  # a home that cannot be written: then it is tried again earlier
            wake_attempts.note_end(self.home, row.run_id, told if code not in GOOD else None)
        return {"run_id": row.run_id, "status": status, "exit_code": code, "error": told}

    def _not_here(self, row: RunRow, why: str) -> dict[str, str]:
        if row.ungiven:
            return {"message": why, "cure": giving_again(row)}
        where = "--catalog FOLDER" if "catalog" in why else "--storage URI"
        return {"message": why, "cure": f"{resuming((), row.run_id)} {where}"}


def _answer_of(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Exit code and document of a command; what it says on standard error goes where ours goes.

    A signal to us is one to it: it ends as if it had been sent there. Raises KeyboardInterrupt then.
    """
    code, written, signalled = asyncio.run(_spoken_to(command, environ))
    if signalled:
        raise KeyboardInterrupt
    try:
        document = json.loads(written)
    except ValueError:
        document = {}
    return code, document if isinstance(document, dict) else {}


async def _spoken_to(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, str, bool]:
    """Exit code and output of a command, and whether a signal came meanwhile."""
    signalled = asyncio.Event()
    begun: list[Process] = []

    def forward() -> None:
        signalled.set()
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            for process in begun:
                process.terminate()

    # Our loop answers, so that we are not ended hard while the run takes its last steps.
    with on_signals(forward, last_steps=True):
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        begun.append(process)
        if signalled.is_set():
            forward()
        ended = asyncio.create_task(process.communicate())
        told = asyncio.create_task(signalled.wait())
        await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
        if not (await asyncio.wait({ended}, timeout=_LAST_S))[0]:
            process.kill()
        written, _ = await ended
        told.cancel()
    return process.returncode or 0, written.decode("utf-8", "replace"), signalled.is_set()
