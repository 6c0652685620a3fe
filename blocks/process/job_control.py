"""Ctrl-Z outside of what others wait for: a process is not stopped while it holds such a lock.

SIGSTOP cannot be put off; for it there are the limits of file_locks.py. Standard library only.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_STOPPING = tuple(
    getattr(signal, name) for name in ("SIGTSTP", "SIGTTIN", "SIGTTOU") if hasattr(signal, name)
)
_PATIENCE_S = 5.0
"""Seconds that a stop is put off at most; a commit takes milliseconds."""

_guard = threading.Lock()
_owner: int | None = None
_pending: list[int] = []


@contextlib.contextmanager
def not_stopped() -> Iterator[None]:
    """Within it Ctrl-Z waits. For moments only; not to be entered twice by one thread."""
    global _owner
    with _guard:
        _owner = threading.get_ident()
        try:
            yield
        finally:
            _owner = None
    if _pending and threading.current_thread() is threading.main_thread():
        _stop(_pending.pop())


@contextlib.contextmanager
def stops_put_off() -> Iterator[None]:
    """Within it, the terminal's stop signals wait for the end of `not_stopped` in this process.

    Only where nobody handles or ignores them, and in the main thread, which alone may handle signals.
    """
    mine = threading.current_thread() is threading.main_thread()
    for number in _STOPPING if mine else ():
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _when_free)
    try:
        yield
    finally:
        for number in _STOPPING if mine else ():
            if signal.getsignal(number) is _when_free:
                signal.signal(number, signal.SIG_DFL)


def _when_free(number: int, _frame: FrameType | None) -> None:
    if _owner == threading.get_ident():  # it came in the middle of our own: at its end
        _pending.append(number)
        return
    free = _guard.acquire(timeout=_PATIENCE_S)
    try:
        _stop(number)
    finally:
        if free:
            _guard.release()


def _stop(number: int) -> None:
    """Stop here and now, as the signal would have; returns when somebody lets the process go on."""
    signal.signal(number, signal.SIG_DFL)
    # To this very thread: it is delivered before the call returns, and stops all of them.
    signal.pthread_kill(threading.get_ident(), number)
    signal.signal(number, _when_free)
