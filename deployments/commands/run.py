"""`phaseline run`: what to run, under which id, with which inputs."""

from __future__ import annotations

import argparse

from deployments.services.start import StartRequest, start_run
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of
from deployments.terminal.input_arguments import open_value, read_written


def execute(args: argparse.Namespace, out: Out) -> int:
    """Runs a workflow, or continues the run of --run-id. Exit codes as in the contract."""
    request = StartRequest(
        caller=caller_of(args),
        workflow=args.workflow,
        text=args.text,
        inputs=read_written(args.input, args.inputs),
        open_value=open_value,
        run_id=args.run_id,
        storage=args.storage,
        latest=args.latest,
        offline=args.offline,
    )
    return start_run(request, TerminalHost(out)).exit_code
