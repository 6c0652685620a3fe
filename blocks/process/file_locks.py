"""Locks of files between processes: every wait for one ends, and says for whom it waits.

The kernel drops a lock when its holder dies, but not when it is stopped (Ctrl-Z, SIGSTOP, a debugger): then
nothing moves until somebody continues or ends it. So nothing here blocks in the kernel, where neither a limit
nor a signal would be heard. Standard library only: the local server's supervisor loads this file by its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BOUND_S = 60.0
"""Seconds after which a wait for a lock is given up; a migration of a large ledger is under that."""
STOPPED_S = 5.0
"""The same where the holder is stopped: waiting longer changes nothing."""
_TOLD_AFTER_S = 1.5
_LOOK_S = 0.5
_SIGNATURE_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that has a lock. `command` is what it runs, without its arguments, which may hold secrets;
    `seconds` is for how long; `stopped` whether it was stopped, so that it cannot go on by itself."""

    pid: int
    command: str
    seconds: float
    stopped: bool

    @property
    def shown(self) -> str:
        """For people: "process 12 (phaseline run), for 34 s, and is stopped"."""
        name = f" ({self.command})" if self.command else ""
        stopped = ", and is stopped" if self.stopped else ""
        return f"process {self.pid}{name}, for {self.seconds:.0f} s{stopped}"

    @property
    def cure(self) -> str:
        """What lets the others go on."""
        if self.stopped:
            return (
                f"let it go on: `fg` in its terminal, or kill -CONT {self.pid}; "
                f"or end it: kill -KILL {self.pid}"
            )
        return f"wait for it to end, or end it: kill {self.pid}; then run the command again"


class StillHeld(Exception):
    """A lock was not to be had in time; `holder` is None where the system does not tell who has it."""

    def __init__(self, holder: Holder | None, waited: float) -> None:
        super().__init__(holder.shown if holder else "an unknown process")
        self.holder = holder
        self.waited = waited

    @property
    def shown(self) -> str:
        """Who has it, for people."""
        return self.holder.shown if self.holder else "a process that the system does not name"

    @property
    def cure(self) -> str:
        """What to do about it."""
        return self.holder.cure if self.holder else "see who it is with lsof or fuser, then try again"


def tell(text: str) -> None:
    """A line on standard error."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def try_lock(fd: int, mode: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take(path: Path, wait: float = 0.0) -> int | None:
    """The descriptor of a lock file, locked exclusively and unsigned; None when another still holds it after
    `wait` seconds."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait
    while not try_lock(fd):
        if time.monotonic() >= deadline:
            os.close(fd)
            return None
        time.sleep(0.01)
    os.ftruncate(fd, 0)  # an earlier holder's signature
    return fd


def is_free(path: Path) -> bool:
    """Whether nobody has the exclusive lock on that file at this moment."""
    try:
        with path.open("rb") as file:
            return try_lock(file.fileno(), fcntl.LOCK_SH)
    except OSError:
        return True


def wait_for(
    attempt: Callable[[], bool],
    path: Path,
    what: str,
    *,
    bound: float = BOUND_S,
    stopped_bound: float = STOPPED_S,
    given_up: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = tell,
) -> None:
    """Try until `attempt` has the lock `path`. Says after a second or two for whom it waits.

    what: what is waited for, as in "the ledger /home/x/ledger.db". given_up: asked between two attempts.
    Raises StillHeld after `bound` seconds, after `stopped_bound` where the holder is stopped.
    """
    begun = time.monotonic()
    pause, told, looked = 0.0005, False, begun
    while not attempt():
        now = time.monotonic()
        waited = now - begun
        if given_up():
            raise StillHeld(find_holder(path), waited)
        if waited > min(_TOLD_AFTER_S, stopped_bound) and now - looked > _LOOK_S:
            looked = now
            holder = find_holder(path)
            if waited > bound or (holder is not None and holder.stopped and waited > stopped_bound):
                raise StillHeld(holder, waited)
            if not told:
                told = True
                held = StillHeld(holder, waited)
                say(f"waiting for {what}: it is held by {held.shown}")
                if holder is not None and holder.stopped:
                    say(f"  cure: {holder.cure}")
        time.sleep(pause)
        # Short, since who writes much leaves only moments in between; longer where nobody moves anyway.
        pause = min(pause * 1.5, 0.002 if waited < 1 else 0.02)


# ---------------------------------------------------------------- who has it


def sign(fd: int, pid: int | None = None) -> None:
    """Write into a lock file that we hold who has it: we, or `pid`. Its modification time is since when."""
    os.pwrite(fd, f"{pid or os.getpid()} {place()}".encode().ljust(_SIGNATURE_LENGTH), 0)


def signature(path: Path) -> tuple[int, str] | None:
    """The process that signed a lock file last, and the place where its number means something; None where
    nobody did. Raises OSError."""
    with path.open("rb") as file:
        words = file.read(_SIGNATURE_LENGTH).decode("ascii", "replace").split()
    return (int(words[0]), words[1]) if len(words) == 2 and words[0].isdigit() else None


@cache
def place() -> str:
    """Where a process number and a loopback address mean something: this boot, and these namespaces."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip())
    for namespace in ("pid", "net"):
        with contextlib.suppress(OSError):
            parts.append(os.readlink(f"/proc/self/ns/{namespace}"))  # noqa: PTH115 - no path but "pid:[number]"
    return "/".join(parts) or os.uname().nodename


def find_holder(path: Path) -> Holder | None:
    """Who has the exclusive lock on that file; None when that is nobody, or cannot be told."""
    signed, since = _signed_here(path)
    known = _pids_of_kernel(path)
    # The kernel names who took it, which may have ended and left it to a child that signed.
    likely = [signed] if signed in known else [*known, signed]
    for pid in likely:
        state = None if pid is None else _state(pid)
        if pid is not None and state is not None and pid != os.getpid():
            return Holder(pid, _command(pid), max(0.0, time.time() - since), state in "Tt")
    return None


def _signed_here(path: Path) -> tuple[int | None, float]:
    """(the process that signed last, when): the number is None where it is another container's or none."""
    try:
        signed, since = signature(path), path.stat().st_mtime
    except OSError:
        return None, time.time()
    return (signed[0] if signed and _process_place(signed[1]) == _process_place(place()) else None), since


def _process_place(place: str) -> str:
    """The part in which process numbers mean the same: containers may share those and not the network."""
    return place.partition("/net:")[0]


def _pids_of_kernel(path: Path) -> set[int]:
    """The processes with an exclusive lock on that file, as far as the kernel tells."""
    found: set[int] = set()
    try:
        inode = path.stat().st_ino
        lines = Path("/proc/locks").read_text("ascii").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.split()  # 1: FLOCK  ADVISORY  WRITE 123 fe:00:4711 0 EOF
        if words[1:2] == ["FLOCK"] and words[3] == "WRITE" and words[5].rpartition(":")[2] == str(inode):
            found.add(int(words[4]))
    return found


def _state(pid: int) -> str | None:
    """The letter of a process' state, "?" where the system does not tell; None when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else "?"
    except (OSError, IndexError):
        return "?"


def _command(pid: int) -> str:
    """What a process runs: "phaseline run" for one of ours, else the program's name."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    program = Path(words[0]).name
    for at, word in enumerate(words[:5]):
        if word == "deployments.cli" or Path(word).name == "phaseline":
            rest = (w for w in words[at + 1 :] if w.isascii() and w.isalpha() and w.islower())
            return f"phaseline {next(rest, '')}".strip()
    return program if program.isprintable() else ""
