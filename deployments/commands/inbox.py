"""`phaseline inbox`: what people and outside systems are asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from blocks.ledger.waits.forms import field_lines
from deployments.services.show import WaitsRequest, list_waits
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of
from deployments.terminal.questions import print_lines, wait_lines


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists the open waits, of one run or of all."""
    waits = list_waits(WaitsRequest(caller_of(args), args.run), TerminalHost(out))
    out.document({"waits": waits})
    if not waits:
        out.line("nothing waits for an answer")
    for wait in waits:
        _print(wait, args.places, out)
    return 0


def _print(wait: Mapping[str, Any], places: Sequence[str], out: Out) -> None:
    out.line(f"{wait['wait_id']}  {wait['run_id']}", "bold")
    lines = wait_lines(wait, places)
    if not wait["event"] and (fields := field_lines(wait["form"])):
        lines.append(("  fields", ", ".join(fields)))
    lines += [("  see", f"{ref.get('kind', '')}: {ref.get('uri', '')}") for ref in wait["evidence"]]
    print_lines(lines, out)
