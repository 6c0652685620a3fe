"""Proving in a process of its own, beside the one that was started.

Who proves forks, so that no thread can watch it. The started command stays outside instead: it hears signals,
ends the process that proves and all below it, and removes what that left, in the seconds it has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from blocks.process.ending import NUMBERS, ignore_signals, stop_watching
from blocks.process.privacy import adopt_orphans
from deployments.terminal.display import Out, OutputClosed
from workflows.core.errors import PhaselineError

_ASKED_S = 1.0
"""Seconds in which it may end its cases by itself."""
_PR_SET_PDEATHSIG = 1


def run_apart(work: Callable[[], int], out: Out) -> int:
    """The exit code of `work`, done in another process. Whatever leaves here, that one is ended before.

    Errors of `work` are told there. Raises PhaselineError when somebody killed it.
    """
    out.flush()
    parent, pid = os.getpid(), 0
    try:
        with stop_watching(), _hold_signals():
            pid = os.fork()
            if not pid:
                _work_and_end(work, out, parent)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        if pid:
            with ignore_signals():
                end_process(pid)
        raise
    if code < 0:
        raise PhaselineError(
            f"the process that proves was killed (signal {-code})", "see whether memory was short; try again"
        )
    return code


@contextlib.contextmanager
def _hold_signals() -> Iterator[None]:
    """Signals that come within it are heard at its end: none falls between a fork and who waits for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_process(pid: int, seconds: float = _ASKED_S) -> None:
    """Asks a child to end, and kills it after `seconds`."""
    deadline = time.monotonic() + seconds
    number = signal.SIGTERM
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, number)
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(0.01)


def _work_and_end(work: Callable[[], int], out: Out, parent: int) -> NoReturn:
    code = 1
    try:
        # Ctrl-C reaches both; the parent is the one that decides. It asks by SIGTERM, and so does its death.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _leave_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NUMBERS)
        _end_with(parent)
        adopt_orphans()
        code = work()
        out.flush()
    except PhaselineError as fault:
        code = fault.exit_code
        with contextlib.suppress(OutputClosed):
            out.error(fault)
            out.flush()
    except (OutputClosed, SystemExit):
        pass
    except BaseException as fault:  # noqa: BLE001 - the fork must not go on with its parent's stack
        sys.excepthook(type(fault), fault, fault.__traceback__)
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _leave_once(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(1)


def _end_with(parent: int) -> None:
    """SIGTERM when the parent dies, however it does. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)
