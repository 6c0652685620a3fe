"""`phaseline runs` and `phaseline show`: what has run, and one run in full."""

from __future__ import annotations

import argparse

from deployments.services.show import RunsRequest, ShowRequest, list_runs, show_run
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of
from deployments.terminal.run_details import print_run, print_runs


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists runs, or shows the one that is named."""
    caller, host = caller_of(args), TerminalHost(out)
    if args.command == "show":
        shown = show_run(ShowRequest(caller, args.run_id, cost=args.cost, events=args.events), host)
        out.document(shown.document)
        print_run(shown, args.places, out)
    else:
        listed = list_runs(RunsRequest(caller, args.limit), host)
        out.document(listed.document)
        print_runs(listed.rows, out)
    return 0
