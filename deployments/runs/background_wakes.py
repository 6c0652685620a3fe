"""Runs that the clock made due, continued in the background by whichever command notices."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from blocks.ledger import Owner, RunRow
from blocks.ledger.runs.runs import ungiven_run
from blocks.ledger.tables.records import ANNOUNCED
from blocks.process import file_locks
from blocks.run_request import catalog_of
from blocks.storage.root import local_path
from deployments.runs.manifests import manifest_of
from deployments.runs.wake_attempts import not_begun, note_begin
from deployments.startup.provenance import ROOT
from workflows.core.errors import PhaselineError

LOCK = "wake.lock"
"""In the home; held for its life by the process that wakes."""
LOG = "wake.log"
"""In the home; its modification time is when something was woken last."""
LOG_LIMIT = 1_000_000
"""Bytes of the log that are kept, twice."""
PAUSE_S = 60.0
"""Seconds between two: a busy shell does not start one with every command."""


def can_wake(row: RunRow | None, in_shared: bool, environ: Mapping[str, str]) -> bool:
    """Whether a run may go on from here with nobody looking on: not a worker's, and all it needs is here.

    in_shared: its ledger is used by other machines too; then it must have been worked on here before.
    """
    if row is None or row.deployed or catalog_of(row.labels) is None:
        return False
    if in_shared and row.last_host != Owner.current().host:
        return False
    return elsewhere(row, environ) is None


def elsewhere(row: RunRow, environ: Mapping[str, str]) -> str | None:
    """What keeps a run from going on as it began on this machine; None when its catalog and bodies are here.

    A bucket is everywhere. A folder of the right name may be another machine's: only one with the run's
    manifest holds its bodies, and elsewhere all would be done, and paid, again. Whether the definition in it
    is the run's is looked at when the run goes on.
    """
    if row.ungiven:
        return ungiven_run(row).message
    catalog = catalog_of(row.labels)
    if catalog is not None and not os.path.isdir(catalog):  # noqa: PTH112 - False where it may not be seen
        return f"its catalog {catalog} is not on this machine"
    if row.labels.get(ANNOUNCED):  # it has no bodies yet
        return None
    folder = local_path(row.storage)
    if not folder:  # a bucket, or none is known
        return None
    try:
        known = manifest_of(row.storage, environ, row.tenant, row.run_id) is not None
    except PhaselineError as fault:
        return fault.message
    return None if known else f"its storage {folder} is not on this machine"


def stopped_waker(home: Path) -> file_locks.Holder | None:
    """The process that continues runs in the background, where it was stopped and so does not."""
    lock = home / LOCK
    holder = None if file_locks.is_free(lock) else file_locks.find_holder(lock)
    return holder if holder is not None and holder.stopped else None


def under_way(home: Path) -> bool:
    """Whether something is being continued in the background at this moment."""
    try:
        held = file_locks.take(home / LOCK)
    except OSError:
        return False
    if held is None:
        return True
    os.close(held)
    return False


def wake_in_background(run_ids: Sequence[str], home: Path, environ: Mapping[str, str]) -> Path | None:
    """Starts `phaseline wake RUN_ID ...` on its own; gives its log.

    None when one was started a moment ago, or where none can be (a home that cannot be written, a full disk,
    too many processes): the run stays due, which is the command's to tell. The lock goes over to the new
    process, and is free again when that has ended, however it ends.
    """
    log = home / LOG
    try:
        held = file_locks.take(home / LOCK)
        if held is None:
            return None
        try:
            if _just_now(log):
                return None
            note_begin(home, run_ids)
            try:
                _start(run_ids, home, environ, held)
            except OSError:
                not_begun(home, run_ids)
                raise
        finally:
            os.close(held)
    except OSError:
        return None
    return log


def _just_now(log: Path) -> bool:
    """A time in the future is none: a clock that was set back does not block for ever."""
    return log.exists() and abs(time.time() - log.stat().st_mtime) < PAUSE_S


def _start(run_ids: Sequence[str], home: Path, environ: Mapping[str, str], held: int) -> None:
    log = home / LOG
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.old"))
    command, own = own_command(["wake", *run_ids], home, environ)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.utime(output)
        process = subprocess.Popen(
            command,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(held,),
        )
        file_locks.sign(held, process.pid)
    finally:
        os.close(output)


def own_command(
    words: Sequence[str], home: Path, environ: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """How this very phaseline is started for that home: (command, environment).

    -P: Python would put the working folder first, where a folder `deployments` is somebody else's.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    own = {**environ, "PYTHONPATH": path, "PHASELINE_HOME": str(home)}
    return [sys.executable, "-P", "-m", "deployments.cli", *words], own
