"""The kept local Prefect server, seen from a command: find it, start it, use it, end it.

With no PREFECT_API_URL the first command starts a server below `<home>/server`, later commands find it
in milliseconds, and it ends after half an hour without use. Why it is built this way:
docs/decisions/0001-kept-local-server.md. Standard library only: this is imported before anything else.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from blocks.home import make_file
from deployments.server import supervisor as shared
from deployments.server.folder import (
    ServerError,
    alone,
    end_all,
    folder_of,
    hold_lock,
    holder,
    installed_prefect,
    is_held,
    live_record,
    note_use,
    prepare,
)
from workflows.core.errors import UsageError, did_you_mean

How = Literal["warm", "waited", "started"]
Meanwhile = Callable[["ServerInfo"], object]

IDLE_SECONDS = 1800.0
PROBE_SECONDS = 3.0
LOAD_SECONDS = 90.0
"""How long a server may load that does not use the processor."""
LEAST_FREE = 64 * 2**20  # bytes that a server needs to start
LOG_LIMIT = 5_000_000  # bytes; at the next start a longer log makes room for a new one

# What the server may know of the process that happens to start it: nothing of the user's keys and
# nothing of the user's Prefect settings, since it serves every later command as well.
INHERITED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "PYTHONUTF8"),
        *("PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    }
)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running local server. `auth` is its secret (`user:password`) and never printed by accident."""

    api_url: str
    ui_url: str
    auth: str = field(repr=False)
    pid: int
    port: int
    supervisor_pid: int


# ---------------------------------------------------------------- what commands call


def ensure(
    home: Path,
    *,
    wait: float = 90,
    keep: bool = False,
    patience: float = 15,
    lifetime: Literal["kept", "command"] = "kept",
    environ: Mapping[str, str] | None = None,
    meanwhile: Meanwhile | None = None,
) -> tuple[ServerInfo, How]:
    """The running server of `home`, started when there is none, and how it was come by.

    `warm`: it ran already; `waited`: another process was starting it; `started`: this call did.
    keep: no idle end until `down`, also for a server that runs already.
    patience: seconds a server may stay silent, without using the processor, before it counts as hung and is
    replaced.
    meanwhile: called once with the address while a server that this call starts still loads (5-12 s),
    to import Prefect in that time; not called in the other cases.
    Raises ServerError when no server answers within `wait` seconds.
    """
    environ = os.environ if environ is None else environ
    idle = _idle_seconds(environ)
    folder = prepare(home)
    deadline = time.monotonic() + wait
    if keep:
        (folder / shared.KEEP).touch(0o600)
    _retire_outdated(folder)
    with hold_lock(folder / shared.BUSY_LOCK, fcntl.LOCK_SH, deadline, "is being ended by another process"):
        note_use(folder)
        if info := _answering(folder):
            return info, "warm"
        with hold_lock(folder / shared.START_LOCK, fcntl.LOCK_EX, deadline, "is still being started"):
            if info := _answering_within(folder, deadline, patience):
                return info, "waited"
            end_all(folder)
            database = folder / shared.PREFECT_HOME / shared.DATABASE
            new = not database.exists()
            log_start = _launch(folder, environ, idle, lifetime)
            info = _await_answer(folder, deadline, log_start, meanwhile, min(wait, LOAD_SECONDS))
            if new:
                from deployments.server.tables import keep_layout

                keep_layout(database, installed_prefect())
            note_use(folder)
            return info, "started"


def status(home: Path) -> ServerInfo | None:
    """The server of `home` if it runs and answers. Starts nothing."""
    return _answering(folder_of(home))


def down(home: Path, *, grace: float = shared.GRACE) -> bool:
    """End the server of `home` and forget that it was to be kept. True if anything was running.

    grace: seconds it may take to end by itself; 0 kills it.
    """
    folder = folder_of(home)
    if not folder.is_dir():
        return False
    (folder / shared.KEEP).unlink(missing_ok=True)
    return end_all(folder, grace)


def in_use(home: Path) -> bool:
    """Whether a command holds the server of `home` busy at this moment."""
    folder = folder_of(home)
    return folder.is_dir() and is_held(folder / shared.BUSY_LOCK, fcntl.LOCK_EX)


@contextlib.contextmanager
def busy(home: Path, *, wait: float = 30) -> Iterator[None]:
    """Hold the server of `home` against its idle end, shared with other commands.

    Entered before `ensure`, it leaves no moment in which the server could end in between.
    """
    lock = prepare(home) / shared.BUSY_LOCK
    with hold_lock(lock, fcntl.LOCK_SH, time.monotonic() + wait, "is being ended by another process"):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the home was removed while the command ran
                note_use(lock.parent)


@contextlib.contextmanager
def for_command(
    home: Path,
    environ: Mapping[str, str] | None = None,
    *,
    wait: float = 90,
    meanwhile: Meanwhile | None = None,
) -> Iterator[ServerInfo | None]:
    """The server one command works with, held busy until the command is done.

    None when PREFECT_API_URL names a server: then nothing is started. With PHASELINE_SERVER=command
    the server ends with the last command that uses it, provided such a command started it and
    `phaseline up` has not asked to keep it.
    """
    environ = os.environ if environ is None else environ
    lifetime = _lifetime(environ)
    if environ.get("PREFECT_API_URL"):
        yield None
        return
    folder = prepare(home)
    _retire_outdated(folder)
    try:
        with busy(home, wait=wait):
            info, _ = ensure(home, wait=wait, lifetime=lifetime, environ=environ, meanwhile=meanwhile)
            yield info
    finally:
        if lifetime == "command":
            _end_after_last_command(folder)


def prefect_environment(
    info: ServerInfo, home: Path, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The variables that point Prefect, in this process or in a shell, at the server.

    Besides the address and the auth string only what `environ` leaves open is set.
    Apply it before Prefect is imported; Prefect reads its settings at import.
    """
    environ = os.environ if environ is None else environ
    wanted = {
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
    }
    if not environ.keys() & {"PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"}:
        # A home of its own: the profile active in ~/.prefect may name another server and its key.
        wanted["PREFECT_HOME"] = str(folder_of(home).with_name("prefect"))
    opened = {name: value for name, value in wanted.items() if name not in environ}
    return {"PREFECT_API_URL": info.api_url, "PREFECT_API_AUTH_STRING": info.auth, **opened}


def _info(record: dict[str, Any]) -> ServerInfo:
    return ServerInfo(**{name: record[name] for name in ServerInfo.__dataclass_fields__})


# ---------------------------------------------------------------- is it there, does it answer


def _answering(folder: Path, timeout: float = PROBE_SECONDS) -> ServerInfo | None:
    record = live_record(folder)
    return _info(record) if record and _healthy(record["port"], record["auth"], timeout) else None


def _answering_within(folder: Path, deadline: float, patience: float) -> ServerInfo | None:
    """As `_answering`, until `deadline` for a server that loads or works; one that does neither gets only
    `patience` seconds."""
    work, mute = _Work(folder), time.monotonic() + patience
    while is_held(folder / shared.SUPERVISOR_LOCK):
        if info := _answering(folder, max(0.1, min(PROBE_SECONDS, mute - time.monotonic()))):
            return info
        if work.goes_on():
            mute = time.monotonic() + patience
        if time.monotonic() > min(mute, deadline):
            return None
        time.sleep(0.05)
    return None


class _Work:
    """Whether a server's process uses the processor: a busy machine is not a hung server."""

    def __init__(self, folder: Path) -> None:
        self._lock = folder / shared.SERVER_LOCK
        self._seen = self._ticks_used()

    def goes_on(self) -> bool:
        """Whether there was work since it was asked last."""
        before, self._seen = self._seen, self._ticks_used()
        return self._seen > before

    def _ticks_used(self) -> int:
        """Ticks of the processor so far; 0 where the system does not tell."""
        with contextlib.suppress(OSError, ValueError, ServerError):
            pid = holder(self._lock) if is_held(self._lock) else None
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() if pid else []
            return sum(int(field) for field in fields[11:13])
        return 0


def _healthy(port: int, auth: str, timeout: float) -> bool:
    """Whether the server answers a request that needs the auth string (its /health is open to anyone)."""
    credentials = base64.b64encode(auth.encode()).decode()
    request = (
        f"GET /api/admin/version HTTP/1.0\r\nHost: {shared.HOST}:{port}\r\n"
        f"Authorization: Basic {credentials}\r\n\r\n"
    )
    try:
        with socket.create_connection((shared.HOST, port), timeout) as connection:
            connection.sendall(request.encode("ascii"))
            with connection.makefile("rb") as answer:
                return answer.readline(100).split()[1:2] == [b"200"]
    except OSError:
        return False


def _release() -> str:
    """What a server started from here would be: Prefect's version and the format of its folder."""
    return f"{installed_prefect()}/{shared.FORMAT}"


def _retire_outdated(folder: Path) -> None:
    """End a server of another release, unless a command uses it."""
    record = live_record(folder)
    if record is None or record["release"] == _release():
        return
    with alone(folder) as nobody_busy:
        if nobody_busy:
            end_all(folder)


# ---------------------------------------------------------------- start


def _idle_seconds(environ: Mapping[str, str]) -> float:
    text = environ.get("PHASELINE_SERVER_IDLE", "")
    try:
        seconds = float(text) if text else IDLE_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(
            f"PHASELINE_SERVER_IDLE is '{text}', not a number of seconds above 0",
            "write it as in PHASELINE_SERVER_IDLE=1800, or use `phaseline up` to keep the server",
        )
    return seconds


def _lifetime(environ: Mapping[str, str]) -> Literal["kept", "command"]:
    value = environ.get("PHASELINE_SERVER") or "kept"
    if value == "kept":
        return "kept"
    if value == "command":
        return "command"
    raise UsageError(
        f"PHASELINE_SERVER is '{value}', which means nothing", did_you_mean(value, ("kept", "command"))
    )


def _launch(folder: Path, environ: Mapping[str, str], idle: float, lifetime: str) -> int:
    """Start a supervisor; it holds its lock and the port when this returns.

    Gives the position in bytes where its part of the log begins.
    """
    from deployments.server.tables import lay_out  # here: only a start needs SQLite

    if aside := shared.set_aside_broken(folder / shared.PREFECT_HOME / shared.DATABASE):
        sys.stderr.write(
            f"Prefect's database was broken: it is moved to {aside}, and a new one is made. The UI shows no "
            "earlier runs any more; nothing of them is lost, the ledger has them.\n"
        )
    lay_out(folder / shared.PREFECT_HOME / shared.DATABASE, installed_prefect())
    log = folder / shared.LOG
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.old"))
    make_file(log)
    program = Path(shared.__file__)
    command = [sys.executable, "-I", "-S", str(program), str(folder), str(idle), _release(), lifetime]
    with log.open("ab") as output:
        log_start = output.tell()
        ended = subprocess.run(
            command,
            env=_inherited_variables(environ),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if ended.returncode:
        raise _not_started(folder, log_start, f"its supervisor ended with status {ended.returncode}")
    return log_start


def _inherited_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {n: value for n, value in environ.items() if n in INHERITED or n.startswith("LC_")}


def _await_answer(
    folder: Path, deadline: float, log_start: int, meanwhile: Meanwhile | None, patience: float
) -> ServerInfo:
    """The server, once it answers: within `patience` seconds, or later where it still works on it."""
    work, mute = _Work(folder), time.monotonic() + patience
    while time.monotonic() < min(deadline, mute):
        if mute - time.monotonic() < patience / 2 and work.goes_on():
            mute = time.monotonic() + patience
        if not is_held(folder / shared.SUPERVISOR_LOCK):
            raise _not_started(folder, log_start, "it ended while it started")
        note_use(folder)  # or a short idle limit would end it while it still loads
        record = live_record(folder)
        if record and meanwhile:
            call, meanwhile = meanwhile, None
            call(_info(record))
        if record and _healthy(record["port"], record["auth"], 1.0):
            return _info(record)
        time.sleep(0.02)
    end_all(folder)
    raise _not_started(folder, log_start, "it did not answer in time")


def _not_started(folder: Path, log_start: int, what: str) -> ServerError:
    log = folder / shared.LOG
    with log.open("rb") as file:
        file.seek(log_start)
        lines = file.read().decode("utf-8", "replace").strip().splitlines()[-12:]
    shown = "".join(f"\n    {line}" for line in lines)
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        return ServerError(
            f"the local Prefect server did not start: the disk of {folder} is full ({free // 2**20} MB free)",
            f"free {LEAST_FREE // 2**20} MB there, or name another folder in PHASELINE_HOME",
        )
    return ServerError(
        f"the local Prefect server did not start: {what}{shown}",
        f"see {log}; another server can be named in PREFECT_API_URL",
    )


def _end_after_last_command(folder: Path) -> None:
    """End a server that a PHASELINE_SERVER=command command started, unless it is used or kept."""
    with contextlib.suppress(FileNotFoundError), alone(folder) as nobody_busy:
        record = live_record(folder) if nobody_busy else None
        if record and record["lifetime"] == "command" and not (folder / shared.KEEP).exists():
            end_all(folder)
