"""The folder of the kept local Prefect server, from the client's side: its locks, its record, its processes.

Below `<home>/server`; the names of the files are supervisor.py's. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from blocks.home import make_file, make_home
from blocks.process import file_locks
from deployments.server import supervisor as shared
from workflows.core.errors import PhaselineError


class ServerError(PhaselineError):
    """The local Prefect server cannot be started, reached or ended."""


def folder_of(home: Path) -> Path:
    return home.expanduser().absolute() / "server"


def installed_prefect() -> str:
    """The installed Prefect, as in "prefect-3.9.1", without importing it (2 s) or importlib.metadata."""
    found = importlib.util.find_spec("prefect")
    if not found or not found.origin:
        return "prefect"
    names = sorted(path.stem for path in Path(found.origin).parents[1].glob("prefect-*.dist-info"))
    return names[0] if names else "prefect"


def prepare(home: Path) -> Path:
    """The server's folder, made if need be and closed to other users."""
    folder = folder_of(home)
    make_home(folder.parent)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        for name in (shared.BUSY_LOCK, shared.START_LOCK):
            make_file(folder / name)
    except OSError as error:
        raise ServerError(
            f"the folder of the local Prefect server cannot be written: {folder} ({error.strerror})",
            "name a folder you may write in PHASELINE_HOME, or a running server in PREFECT_API_URL",
        ) from error
    return folder


@contextlib.contextmanager
def hold_lock(path: Path, mode: int, deadline: float, state: str) -> Iterator[None]:
    """Hold the lock `path`; ServerError "the server <state>" when it is not to be had by `deadline`."""
    bound = deadline - time.monotonic()
    with path.open("r+b") as file:
        attempt = partial(_try_lock, file.fileno(), mode)
        what = f"the local Prefect server, which {state}"
        try:
            file_locks.wait_for(attempt, path, what, bound=bound)
        except file_locks.StillHeld as error:
            raise _too_long(error, path, state) from None
        if mode == fcntl.LOCK_EX:
            file_locks.sign(file.fileno())
        yield


def _too_long(error: file_locks.StillHeld, lock: Path, state: str) -> ServerError:
    if error.holder is not None and error.holder.stopped:
        return ServerError(f"the local Prefect server {state}: {error.shown}", error.cure)
    return ServerError(
        f"the local Prefect server {state}, and that takes too long: {error.shown}",
        f"wait and try again; `phaseline down` ends it; its log: {lock.with_name(shared.LOG)}",
    )


_try_lock = file_locks.try_lock


def is_held(path: Path, mode: int = fcntl.LOCK_SH) -> bool:
    """Whether somebody alive holds a lock on `path` that excludes `mode`."""
    try:
        with path.open("rb") as file:
            return not _try_lock(file.fileno(), mode)
    except FileNotFoundError:
        return False


def note_use(folder: Path) -> None:
    (folder / shared.USED).touch(0o600)


def live_record(folder: Path) -> dict[str, Any] | None:
    """The record of the supervisor that is alive now; None while a new one has not written its own yet."""
    lock = folder / shared.SUPERVISOR_LOCK
    if not is_held(lock):
        return None
    supervisor = holder(lock)
    record = shared.read_record(folder)
    return record if record and record["supervisor_pid"] == supervisor else None


def holder(lock: Path) -> int | None:
    """The process that signed a held lock; None before it signed.

    Raises ServerError when the holder lives elsewhere (another container or host sharing the folder):
    its number and its loopback address mean nothing here.
    """
    signed = file_locks.signature(lock)
    if signed is None:
        return None
    pid, place = signed
    if place != file_locks.place():
        raise ServerError(
            f"the local Prefect server in {lock.parent} runs in another container or on another host",
            "give this one its own folder in PHASELINE_HOME, or name a shared server in PREFECT_API_URL",
        )
    return pid


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """True inside when no command is busy; commands that come then wait until the block is left."""
    with (folder / shared.BUSY_LOCK).open("r+b") as file:
        mine = _try_lock(file.fileno(), fcntl.LOCK_EX)
        if mine:
            file_locks.sign(file.fileno())
        yield mine


def end_all(folder: Path, grace: float = shared.GRACE) -> bool:
    """End supervisor and server, whichever of them lives, after `grace` seconds hard. True if any did."""
    supervisor = _end(folder / shared.SUPERVISOR_LOCK, grace and grace + 3)
    server = _end(folder / shared.SERVER_LOCK, grace)
    return supervisor or server


def _end(lock: Path, grace: float) -> bool:
    """Ask the process behind a lock to end, kill it after `grace` seconds. True if there was one."""
    if not is_held(lock):
        return False
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, 3.0)):
        _signal(lock, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not is_held(lock):
                return True
            time.sleep(0.02)
    raise ServerError(
        f"the process {holder(lock)} of the local Prefect server does not end",
        "look at it with `ps`, end it by hand, then try again",
    )


def _signal(lock: Path, number: signal.Signals) -> None:
    pid = holder(lock)
    if pid is None:
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended since
    except PermissionError as error:
        raise ServerError(
            f"the local Prefect server (process {pid}) belongs to another user",
            "run the command as that user, or name a folder of your own in PHASELINE_HOME",
        ) from error
