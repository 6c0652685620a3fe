"""`phaseline cancel`: end a run for good, and take back what it did."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from deployments.services.cancel import CancelRequest, cancel_run
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of

if TYPE_CHECKING:
    from flows.undo import TakenBack


def execute(args: argparse.Namespace, out: Out) -> int:
    """Cancels the run; 1 when it did not end, or when something could not be taken back."""
    end = cancel_run(CancelRequest(caller_of(args), args.run_id, undo=args.undo), TerminalHost(out))
    out.document(end.document)
    out.line(f"the run {end.row.run_id} is {end.row.state}", "yellow")
    if end.back is not None:
        _print_taken_back(end.back, out)
    return end.exit_code


def _print_taken_back(back: TakenBack, out: Out) -> None:
    for end in back.undone:
        out.line(f"  {end.step}: {end.message}", "" if end.done else "red")
        if end.cure:
            out.line(f"    cure: {end.cure}")
    for one in back.left:
        if one.in_doubt:
            out.line(f"  {one.step}: {one.tool} may have happened; it is not taken back", "red")
            out.line("    cure: look there whether it happened, and take it back by hand")
        else:
            out.line(f"  {one.step}: {one.tool} is not taken back; the step has no `undo`", "yellow")
