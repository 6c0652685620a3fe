"""Runs that the clock made due, continued in the background by whichever command notices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from blocks.ledger import RunRow
from deployments import server_supervisor as shared
from deployments.again import catalog_of
from deployments.going_on import is_deployed
from deployments.provenance import ROOT
from workflows.core.errors import UsageError

LOCK = "wake.lock"
"""In the home; held for its life by the process that wakes."""
LOG = "wake.log"
"""In the home; its modification time is when something was woken last."""
LOG_LIMIT = 1_000_000
"""Bytes of the log that are kept, twice."""
PAUSE_S = 60.0
"""Seconds between two: a run that cannot go on is not tried by every command of a busy shell."""


def wakes(environ: Mapping[str, str]) -> bool:
    """Whether commands continue what is due (PHASELINE_WAKE). Raises UsageError."""
    written = environ.get("PHASELINE_WAKE") or "on"
    if written not in ("on", "off"):
        raise UsageError(f"PHASELINE_WAKE is '{written}'", "write on, or off for being told only")
    return written == "on"


def can_wake(row: RunRow | None) -> bool:
    """Whether a run can go on from this machine: not a worker's, and its storage and catalog are here."""
    if row is None or is_deployed(row):
        return False
    catalog = catalog_of(row.labels)
    kept = "://" in row.storage or Path(row.storage).is_dir()
    return kept and catalog is not None and Path(catalog).is_dir()


def wake_in_background(run_ids: Sequence[str], home: Path) -> Path | None:
    """Starts `phaseline wake RUN_ID ...` on its own; its log, or None when one was started a moment ago.

    The lock goes over to the new process, and is free again when that has ended, however it ends.
    """
    held = shared.take(home / LOCK)
    if held is None:
        return None
    log = home / LOG
    try:
        if log.exists() and time.time() - log.stat().st_mtime < PAUSE_S:
            return None
        _start(run_ids, home, log, held)
    finally:
        os.close(held)
    return log


def _start(run_ids: Sequence[str], home: Path, log: Path, held: int) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.old"))
    command, environ = own_command(["wake", *run_ids], home)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.utime(output)
        subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(held,),
        )
    finally:
        os.close(output)


def own_command(words: Sequence[str], home: Path) -> tuple[list[str], dict[str, str]]:
    """How this very phaseline is started for that home: (command, environment)."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "PYTHONPATH": path, "PHASELINE_HOME": str(home)}
    return [sys.executable, "-m", "deployments.cli", *words], environ
