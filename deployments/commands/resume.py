"""`phaseline resume`: continue a run where it stands."""

from __future__ import annotations

import argparse

from deployments.services.resume import Drifted, NotResumed, ResumeRequest, preview_resume, resume_run
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of
from deployments.terminal.questions import print_lines, wait_lines
from deployments.terminal.run_details import print_preview


def execute(args: argparse.Namespace, out: Out) -> int:
    """Continues the run, or says why not. Exit codes as in the contract."""
    request = request_of(args)
    if not args.plan:
        return resume(request, out)
    shown = preview_resume(request, TerminalHost(out))
    print_preview(shown, out)
    out.document(shown.to_document())
    return 0


def request_of(args: argparse.Namespace) -> ResumeRequest:
    """What the command line asks for."""
    return ResumeRequest(
        caller=caller_of(args),
        run_id=args.run_id,
        step=args.step,
        use=args.use,
        raise_budget=tuple(args.raise_budget),
        repeat_effects=args.repeat_effects,
        woken=args.woken,
        storage=args.storage,
    )


def resume(request: ResumeRequest, out: Out) -> int:
    """Continues a run and prints how it ended, or why nothing was started; gives the exit code."""
    try:
        end = resume_run(request, TerminalHost(out))
    except Drifted as fault:
        print_preview(fault.preview, out)
        out.document(fault.to_document())
        raise
    if isinstance(end, NotResumed):
        out.document(end.document)
        _print_not_resumed(end, out)
    return end.exit_code


def _print_not_resumed(end: NotResumed, out: Out) -> None:
    if end.why == "cancelled":
        out.line(f"the run {end.run_id} was cancelled meanwhile; nothing was started", "yellow")
    elif end.why == "completed":
        out.line(f"the run {end.run_id} is completed; nothing is left to do", "green")
        out.line(f"  do a step again: phaseline resume {end.run_id} --from STEP")
    else:
        out.line(f"the run {end.run_id} waits; nothing was started", "yellow")
        for wait in end.document["waits"]:
            print_lines(wait_lines(wait, end.places), out)
