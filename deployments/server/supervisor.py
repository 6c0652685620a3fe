"""The process that owns the kept local Prefect server.

Run by path with `python -I -S`, so it starts in some 50 ms and needs the standard library only.
It binds the loopback port itself, hands the listening socket to its one child (process.py)
and ends that child when it is told to, when nobody has used the server for the idle limit, or when
its folder is gone. The client side, kept_server.py, imports the names of the shared files from here.

Who lives is told by `flock`: the kernel drops a lock when its holder dies, so no process ever has to
be guessed from a recorded number. The number in a lock file only says whom to signal while it is held.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any


def _block(name: str) -> SimpleNamespace:
    """A module of blocks, by its path, as this program itself is started. It may use the standard library."""
    return SimpleNamespace(
        **runpy.run_path(str(Path(__file__).parents[2] / "blocks" / "process" / f"{name}.py"))
    )


if TYPE_CHECKING or __name__ != "__main__":
    from blocks.process import file_locks
else:
    file_locks = _block("file_locks")

FORMAT = 2  # raise it when the files below or the settings of the server change
START_LOCK = "start.lock"  # exclusive: whoever starts the server
SUPERVISOR_LOCK = "supervisor.lock"  # exclusive for the supervisor's life; holds "pid place"
SERVER_LOCK = "server.lock"  # the same for the server process
BUSY_LOCK = "busy.lock"  # shared: every running command; exclusive: whoever ends the server
USED = "used"  # its modification time: the last use
KEEP = "keep"  # exists: no idle end (`phaseline up`)
RECORD = "server.json"
RECORD_FIELDS = {"api_url", "ui_url", "auth", "port", "pid", "supervisor_pid", "release", "lifetime"}
LOG = "server.log"
NOT_STARTED = 3  # status of a server process that never served
DEEP_CHECK = 200_000_000  # bytes up to which a database is read whole before a start
PREFECT_HOME = "prefect"
DATABASE = "prefect.db"  # in PREFECT_HOME, where Prefect puts it

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds before a server that ended by itself is started again
PATIENCE = 600.0  # seconds after which one that keeps ending is given up; blocks.patience shows all of them

GRACE = 5.0  # seconds between asking the server to end and killing it
HOST = "127.0.0.1"

SETTINGS = {
    # One row per transaction is the default: 3-5 times the CPU, and writers that stall for seconds.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    # With many commands at once a write waits for its turn. The defaults (10 s, 5 s, 30 s) give up, as a 503.
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    "PREFECT_SERVER_DATABASE_SQLALCHEMY_POOL_TIMEOUT": "120",
    # Leases kept in memory leak their slots for good when the server restarts.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_COLORS": "false",
    "DO_NOT_TRACK": "1",
}


def read_record(folder: Path) -> dict[str, Any] | None:
    """What the last supervisor wrote: address, auth string, processes; None when there is nothing usable."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= RECORD_FIELDS else None


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Replace the record in one step, readable by its owner only."""
    replace_json(folder / RECORD, record)


def replace_json(path: Path, value: dict[str, Any]) -> None:
    """Replace a file in one step, readable by its owner only. Raises OSError."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(value, file)
    fresh.replace(path)


def listen(port: int) -> socket.socket:
    """A listening loopback socket, on `port` when it is free and on any free port otherwise.

    Requests that come before the server has loaded wait in the backlog; nobody can take the port away.
    """
    for candidate in (port, 0):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(256)
        except OSError:
            listener.close()
            if not candidate:
                raise
        else:
            return listener
    raise AssertionError("unreachable")


class Idle:
    """Tells when the file USED has not changed for `limit` seconds of this process' own clock."""

    def __init__(self, path: Path, limit: float) -> None:
        self._path = path
        self._limit = limit
        self._seen = -1
        self._since = time.monotonic()

    def over(self) -> bool:
        """Whether the limit has passed since the last change that was seen here."""
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            changed = 0
        if changed != self._seen:
            self._seen, self._since = changed, time.monotonic()
        return time.monotonic() - self._since > self._limit


class Supervisor:
    """One server process and the reasons to end it."""

    def __init__(self, folder: Path, lock: int, idle: float) -> None:
        self._folder = folder
        self._lock = lock
        self._idle = Idle(folder / USED, idle)
        self._interval = min(1.0, idle / 4)
        self._told_to_end = False
        self._busy: int | None = None
        self._wake, wake_end = os.pipe()
        os.set_blocking(wake_end, False)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_end)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake up when the child ends
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _note_end(self, *_: object) -> None:
        self._told_to_end = True

    def run(self, listener: socket.socket, release: str, lifetime: str) -> int:
        """Start the server, record it, watch over it, and start it again on its port when it ends by itself.

        The exit status of this process.
        """
        auth = (read_record(self._folder) or {}).get("auth") or _new_auth()
        port, ended, since = listener.getsockname()[1], 0, 0.0
        while True:
            server_lock = file_locks.take(self._folder / SERVER_LOCK, wait=GRACE)
            if server_lock is None:
                _log("an earlier server process still runs")
                return 1
            child, lifeline = self._spawn(listener, server_lock, port, auth)
            file_locks.sign(server_lock, child.pid)
            os.close(server_lock)
            write_record(
                self._folder,
                {
                    "api_url": f"http://{HOST}:{port}/api",
                    "ui_url": f"http://{HOST}:{port}",
                    "auth": auth,
                    "port": port,
                    "pid": child.pid,
                    "supervisor_pid": os.getpid(),
                    "release": release,
                    "lifetime": lifetime,
                },
            )
            listener.close()  # from here on the server's death refuses connections at once
            began = time.monotonic()
            self._watch(child)
            os.close(lifeline)
            if child.poll() is None or self._told_to_end:
                return self._end(child)
            _log(f"the server process ended by itself with status {child.returncode}")
            if child.returncode == NOT_STARTED and not ended:
                return 1  # it never served: whoever waits for it is told at once
            if time.monotonic() - began > LONGEST_PAUSE:
                ended, since = 0, time.monotonic()
            ended += 1
            since = since or began
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (ended - 1))
            if time.monotonic() + pause - since > PATIENCE or not self._pause(pause):
                return 1
            set_aside_broken(self._folder / PREFECT_HOME / DATABASE)
            again = self._listen_again(port)
            if again is None:
                return 1
            listener = again
            _log("it is started again")

    def _pause(self, seconds: float) -> bool:
        """Whether the time passed with a reason to go on at its end."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._told_to_end or self._folder_gone():
                return False
            if select.select([self._wake], [], [], min(left, self._interval))[0]:
                os.read(self._wake, 64)
        return not self._told_to_end

    def _listen_again(self, port: int) -> socket.socket | None:
        """The port the commands at work know; None when another program has it."""
        for _ in range(20):
            again = listen(port)
            if again.getsockname()[1] == port:
                return again
            again.close()
            if not self._pause(0.2):
                break
        _log(f"the port {port} is taken")
        return None

    def _spawn(
        self, listener: socket.socket, server_lock: int, port: int, auth: str
    ) -> tuple[subprocess.Popen[bytes], int]:
        read_end, lifeline = os.pipe()
        given = (listener.fileno(), read_end, server_lock)
        program = Path(__file__).with_name("process.py")
        # -P: the folder of the script must not shadow installed packages.
        command = [sys.executable, "-P", str(program), *map(str, given), str(self._folder / USED)]
        child = subprocess.Popen(
            command,
            env={**os.environ, **SETTINGS, **_addresses(self._folder, port, auth)},
            stdin=subprocess.DEVNULL,
            pass_fds=given,
            # Prefect reads .env, prefect.toml and pyproject.toml of its working directory.
            cwd=self._folder,
        )
        os.close(read_end)
        return child, lifeline

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        """Return when the server has ended or shall end."""
        while child.poll() is None and not self._told_to_end:
            if self._folder_gone() or self._idle_end():
                return
            if select.select([self._wake], [], [], self._interval)[0]:
                os.read(self._wake, 64)

    def _folder_gone(self) -> bool:
        try:
            return not os.path.samestat((self._folder / SUPERVISOR_LOCK).stat(), os.fstat(self._lock))
        except OSError:
            return True

    def _idle_end(self) -> bool:
        """Whether to end now. The busy lock then stays taken: commands wait until this process is gone."""
        if not self._idle.over() or (self._folder / KEEP).exists():
            return False
        self._busy = file_locks.take(self._folder / BUSY_LOCK)
        if self._busy is None:
            return False
        if self._idle.over() and not (self._folder / KEEP).exists():
            file_locks.sign(self._busy)  # commands that wait for us can say whom they wait for
            return True
        os.close(self._busy)
        self._busy = None
        return False

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        return 0


def set_aside_broken(database: Path) -> Path | None:
    """Moves Prefect's database away when it cannot be read; gives where to. It is only a picture of the runs:
    the ledger has what counts."""
    import sqlite3  # here: only a start needs it

    if not database.exists():
        return None
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=5)
        ) as connection:
            deep = database.stat().st_size <= DEEP_CHECK
            found = connection.execute(
                "PRAGMA quick_check(1)" if deep else "PRAGMA schema_version"
            ).fetchone()
            if not deep or found[0] == "ok":
                return None
    except sqlite3.OperationalError:
        return None  # locked, or not to be opened: no sign of what is in it
    except sqlite3.DatabaseError:
        pass
    aside = database.with_name(f"{database.name}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + suffix).replace(aside.with_name(aside.name + suffix))
    _log(f"Prefect's database was broken; it is moved to {aside}, and a new one is made")
    return aside


def _new_auth() -> str:
    import secrets  # here, as the client imports this module too and starts in milliseconds

    return f"phaseline:{secrets.token_urlsafe(18)}"


def _addresses(folder: Path, port: int, auth: str) -> dict[str, str]:
    api = f"http://{HOST}:{port}/api"
    return {
        "PREFECT_HOME": str(folder / PREFECT_HOME),
        "PREFECT_API_URL": api,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_UI_API_URL": api,
        # Prefect lets every web page ask its API (it still needs the login): here its own pages only.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
    }


def _log(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} phaseline: {text}\n")
    sys.stderr.flush()


def main(folder: Path, idle: float, release: str, lifetime: str) -> int:
    """Take the lock and the port, then go on in the background.

    Returns in the calling process once both are held (0; 3 when another supervisor lives). The
    background process is nobody's child, so no command has to wait for it.
    """
    os.umask(0o077)
    lock = file_locks.take(folder / SUPERVISOR_LOCK, wait=2.0)
    if lock is None:
        _log("another supervisor holds the lock")
        return 3
    listener = listen((read_record(folder) or {}).get("port", 0))
    pid = os.fork()
    if pid:
        file_locks.sign(lock, pid)
        return 0
    os.setsid()
    # The login of the server is in here.
    _block("privacy").close_memory()
    return Supervisor(folder, lock, idle).run(listener, release, lifetime)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]))
