"""`phaseline wake`: continue every run that is due, one after the other."""

from __future__ import annotations

import argparse

from deployments.services.wake import Skipped, WakeRequest, Woke, wake_runs
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of


def execute(args: argparse.Namespace, out: Out) -> int:
    """Applies deadlines, then continues what is due; 1 when a run could not be continued, or failed."""
    request = WakeRequest(caller_of(args), tuple(args.run_ids), confirm_clock=args.confirm_clock)
    end = wake_runs(request, TerminalHost(out), lambda run: _print(run, out))
    out.document(end.document)
    for wait in end.expired:
        out.line(f"{wait.wait_id}: its deadline has passed; it is {wait.state}")
    if args.confirm_clock:
        out.line("this machine's clock is taken for right", "green")
    if not end.woken and not end.skipped:
        out.line("no run is due")
    return end.exit_code


def _print(run: Woke | Skipped, out: Out) -> None:
    if isinstance(run, Skipped):
        out.line(f"{run.run_id}: left to another machine: {run.reason}", "yellow")
        return
    out.line(f"{run.run_id}: {run.status}", "green" if run.exit_code == 0 else "yellow")
    if run.error:
        out.line(f"  {run.error['message']}")
    if run.error and run.error["cure"]:
        out.line(f"    cure: {run.error['cure']}")
