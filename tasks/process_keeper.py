"""Keeps a foreign process (an MCP server, a skill's handler) and ends it with everything it started.

Standard library only. Run by file path (`python -I -S -B process_keeper.py LIFELINE GRACE COMMAND ARG...`)
for a command, or loaded by handlers/child.py for a function. The kept process is a child of ours. Whoever
started us holds the other end of the pipe LIFELINE: when it lets go, by its death too, or when the kept
process ends, whatever is left is killed, also what went into a session of its own: on Linux orphans come to
us (a "subreaper") and not to the system's first process. What kills us on purpose leaves processes to whoever
started us, who finds them by their mark (blocks/process/privacy.py), which the kept process cannot take off.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence

NOT_FOUND, NOT_STARTED = 127, 126
"""Exit status for a command that is not there, or cannot be executed; as a shell gives them."""

_PDEATHSIG, _SUBREAPER = 1, 36
FILE_LOCKS = 10
"""As in blocks/process/privacy.py, which a program that is run by its path cannot import."""
_LOCKS = b"Max file locks"
_LOOK = 5.0
"""Seconds between two looks at whether our parent still lives, should anybody else hold the lifeline too."""
_KILL_SECONDS = 5.0


def keep(work: Callable[[], object], lifeline: int, grace: float, mine: Sequence[int] = ()) -> None:
    """Does `work` in a child, returns there, and in this process ends with the child's exit status.

    The child leads a process group of its own. `lifeline` is the reading end of the pipe; `mine` are
    descriptors that only the child goes on with. After the lifeline's end the child has `grace` seconds to
    end by itself (its standard input has ended too), and as many after a SIGTERM to its group.
    """
    os.set_inheritable(lifeline, False)
    _control(_SUBREAPER, 1)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _note)
    us, parent = os.getpid(), os.getppid()
    child = os.fork()
    if child == 0:
        _begin(us, (lifeline, woken, waking))
        work()
        return
    with contextlib.suppress(OSError):
        os.setpgid(child, child)  # it does so itself too; whoever comes first
    for descriptor in mine:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    kept = _Kept(child, lifeline, woken, parent)
    status = kept.wait_for_end(None)
    if status is None:
        status = kept.leave(grace)
    kill_children()
    _end_alike(status)


def _note(number: int, frame: object) -> None:
    _noted.add(number)


_noted: set[int] = set()


def _begin(keeper: int, ours: Sequence[int]) -> None:
    """The child's first steps: a group of its own, the system's own signals, and the keeper's end as its."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    _control(_PDEATHSIG, int(signal.SIGKILL))
    _mark()
    if os.getppid() != keeper:
        os._exit(1)
    for descriptor in ours:
        os.close(descriptor)


def _mark() -> None:
    """Marks this process, and all that will come from it, for good."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):  # a kernel of somebody else's, such as gVisor's
            resource.setrlimit(FILE_LOCKS, (0, 0))


class _Kept:
    """The child, and the signs by which its time is over."""

    def __init__(self, child: int, lifeline: int, woken: int, parent: int) -> None:
        self._child, self._lifeline, self._woken, self._parent = child, lifeline, woken, parent
        self._status: int | None = None

    def wait_for_end(self, seconds: float | None) -> int | None:
        """Waits for the child's end and gives its wait status; None after `seconds`, or once let go."""
        deadline = None if seconds is None else time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if deadline is None:
            poll.register(self._lifeline, select.POLLIN)
        while True:
            self._collect()
            if self._status is not None:
                return self._status
            left = _LOOK if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return None
            ready = [descriptor for descriptor, _ in poll.poll(left * 1000)]
            if self._woken in ready:
                os.read(self._woken, 512)
            if deadline is None and (self._lifeline in ready or self._let_go()):
                return None

    def _let_go(self) -> bool:
        return bool(_noted - {signal.SIGCHLD}) or os.getppid() != self._parent

    def _collect(self) -> None:
        """Takes note of every child that ended, orphans included."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._child:
                    self._status = status

    def leave(self, grace: float) -> int:
        """Lets the child end, then ends it."""
        if grace > 0:
            if self.wait_for_end(grace) is None:
                self._signal(signal.SIGTERM)
            self.wait_for_end(grace)
        if self._status is None:
            self._signal(signal.SIGKILL)
            self.wait_for_end(_KILL_SECONDS)
        return signal.SIGKILL if self._status is None else self._status

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, number)
        # It may have left its group. Nobody else can have its number: it is our child, and not collected.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._child, number)


def kill_children(chosen: Callable[[int], bool] = bool) -> None:
    """Kills our children, those that are `chosen`, and what they leave to us, until none is left."""
    deadline = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < deadline:
        found = [pid for pid in _children() if chosen(pid)]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)


def kill_escaped(status: int | None) -> None:
    """Kills what a keeper left to us when it was killed itself, as its exit status says (None: just now).

    For whoever starts keepers, and is a subreaper too. Its other children, keepers among them, have no mark.
    """
    if status is None or status < 0:
        kill_children(is_marked)


def is_marked(pid: int) -> bool:
    """Whether a run has started a process, or one that it came from."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:  # noqa: PTH123
            return any(line.split()[3:5] == [b"0", b"0"] for line in file if line.startswith(_LOCKS))
    except OSError:
        return False


def _children() -> list[int]:
    """The numbers of our children; empty where the system does not tell."""
    own, found = str(os.getpid()), []
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - half the time, in a process that starts with every call
            if name.isdigit() and _parent_of(name) == own:
                found.append(int(name))
    return found


def _parent_of(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            return file.read().rpartition(b")")[2].split()[1].decode()
    except (OSError, IndexError):
        return ""


def _end_alike(status: int) -> None:
    """Ends this process as the kept one ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def _control(option: int, value: int) -> None:
    """Asks the kernel (Linux only) for something about this process."""
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _execute(command: Sequence[str]) -> None:
    """Becomes the command. Python ignores two signals that programs expect to end them."""
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - the command is what the entry declares
    except FileNotFoundError as error:
        _say(f"{command[0]}: {error.strerror}")
        os._exit(NOT_FOUND)
    except OSError as error:
        _say(f"{command[0]}: {error.strerror}")
        os._exit(NOT_STARTED)


def _say(text: str) -> None:
    os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def main() -> None:
    """The program."""
    lifeline, grace, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    keep(lambda: _execute(command), lifeline, grace, mine=(0, 1, 2))


if __name__ == "__main__":
    main()
