"""`phaseline inbox`: what people and outside systems are asked."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from blocks.ledger.waits.documents import wait_document
from blocks.ledger.waits.forms import field_lines
from deployments.runs.lookup import TENANT, find_run, open_ledger, settings_of
from deployments.runs.sweep import sweep
from deployments.terminal.display import Out
from deployments.terminal.next_commands import answering
from deployments.terminal.questions import print_lines, wait_lines


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists the open waits, of one run or of all."""
    settings = settings_of(args)
    with open_ledger(settings) as ledger:
        sweep(ledger, out, args.home, args.places)
        if args.run is not None:
            find_run(ledger.reader, args.run, settings)
        rows = [r for r in ledger.waits.list_open(TENANT) if args.run in (None, r.run_id)]
    waits = [wait_document(row) for row in rows]
    out.document({"waits": [{**wait, "answer_with": answering(args.places, wait)} for wait in waits]})
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
