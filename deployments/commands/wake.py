"""`phaseline wake`: continue every run that is due, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocks.ledger import Ledger
from deployments.again import catalog_of
from deployments.display import Out
from deployments.going_on import is_deployed, wake_deployed
from deployments.recorded import TENANT, find_run, opened, settings_of
from deployments.sweep import apply_due
from deployments.waking import own_command

GOOD = (0, 3, 4)
"""Exit codes of a run that went on: done, waiting again, stopped again."""


def execute(args: argparse.Namespace, out: Out) -> int:
    """Applies deadlines, then continues what is due; 1 when a run could not be continued, or failed."""
    settings = settings_of(args)
    with opened(settings) as ledger:
        named = {find_run(ledger.reader, run_id, settings).run_id for run_id in args.run_ids}
        expired, reminded = apply_due(ledger)
        asyncio.run(ledger.budgets.reap(TENANT))
        woken = [
            _wake(run_id, args, ledger, out)
            for run_id in ledger.steering.due(TENANT)
            if not named or run_id in named
            # Those before it may have taken long: it may be cancelled, or have gone on elsewhere.
            if run_id in ledger.steering.due(TENANT)
        ]
    decided = {"expired": [w.wait_id for w in expired], "reminded": [w.wait_id for w in reminded]}
    out.document({"woken": woken, **decided})
    for row in expired:
        out.line(f"{row.wait_id}: its deadline has passed; it is {row.state}")
    if not woken:
        out.line("no run is due")
    return 0 if all(run["exit_code"] in GOOD for run in woken) else 1


def _wake(run_id: str, args: argparse.Namespace, ledger: Ledger, out: Out) -> dict[str, Any]:
    """Continues one run, on its worker or in a process of its own."""
    row = ledger.reader.get_run(TENANT, run_id)
    told: dict[str, Any]
    if row is not None and is_deployed(row):
        woken = wake_deployed(row, args.home, out)
        told = {"status": "resumed" if woken else row.state, "exit_code": 0 if woken else 1, "error": None}
    else:
        # Each finds the catalog it began with; only where that was not recorded does ours serve.
        known = row is not None and catalog_of(row.labels) is not None
        told = _continued(run_id, () if known else args.places, args.home)
    out.line(f"{run_id}: {told['status']}", "green" if told["exit_code"] == 0 else "yellow")
    if told["error"]:
        out.line(f"  {told['error']}")
    return {"run_id": run_id, **told}


def _continued(run_id: str, places: Sequence[str], home: Path) -> dict[str, Any]:
    # As it began: what wakes by itself never takes a changed definition.
    words = [*places, "resume", run_id, "--use", "stored", "--woken", "--json"]
    command, environ = own_command(words, home)
    ended = subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        check=False,
    )
    try:
        document = json.loads(ended.stdout)
    except ValueError:
        document = {}
    error = document.get("error") or {}
    status = str(document.get("status") or "failed")
    return {"status": status, "exit_code": ended.returncode, "error": error.get("message")}
