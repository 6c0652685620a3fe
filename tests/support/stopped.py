"""Processes that are stopped, as by Ctrl-Z, at the worst moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.prefect_server import ROOT, wait_until, without_prefect

_WRITER = """if 1:
    import signal, sys, threading
    from sqlalchemy import text
    from blocks.ledger import Ledger
    stopped = []
    def stop_inside(connection):
        connection.execute(text("UPDATE run SET version = version"))
        if not stopped:
            stopped.append(True)
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread, at this very place
        return True
    with Ledger.open(sys.argv[1]) as ledger:
        ledger.access.write_blocking(stop_inside, "test")
"""
_HOLDER = """if 1:
    import fcntl, os, signal, sys
    from pathlib import Path
    from blocks.process import file_locks
    with Path(sys.argv[1]).open("r+b") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        file_locks.sign(file.fileno())
        os.kill(os.getpid(), signal.SIGSTOP)
"""


def stopped_in_a_write(database: Path | str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A process that was stopped in the middle of a write to a ledger (its address); ended on leaving."""
    return _stopped(_WRITER, database)


def stopped_with_a_lock(lock: Path) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A process that was stopped while it has a lock file; ended on leaving."""
    return _stopped(_HOLDER, lock)


@contextlib.contextmanager
def _stopped(program: str, path: Path | str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**without_prefect(os.environ), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], env=environment)
    try:
        wait_until(lambda: process.poll() is not None or is_stopped(process.pid))
        assert process.poll() is None, "it ended before it was stopped"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped at this moment."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
