"""How a signal ends a command: gracefully, and within five seconds whatever the command is doing.

Python calls a signal's handler between two steps of its own code in the main thread. So a handler is not
heard while the main thread waits in native code (a database, the address of a name), and one that only tells
the event loop is not heard while the loop is busy. A thread of its own therefore watches: what has not ended
some seconds after the first signal is ended hard, as by SIGKILL. Nothing is lost by that: a run is then
interrupted, and is continued like one whose process was killed.

The thread learns of a signal through the wakeup file, which Python writes in the moment the signal comes.
asyncio would take that file over with its own `add_signal_handler`; use `on_signals` of here instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

NUMBERS = (signal.SIGTERM, signal.SIGINT)
GRACE_S = 4.0
"""Seconds between a signal and the hard end."""
SAME_S = 1.0
"""Seconds in which further signals are taken for the same one."""
_BEAT_S = 0.5


@dataclass
class _Watch:
    """One command's watching. `loop` runs `finally` steps; `beaten` is when something last went forward."""

    reading: int
    writing: int
    before: int
    first: float = 0.0
    number: int = 0
    again: bool = False
    loop: asyncio.AbstractEventLoop | None = None
    beaten: float = 0.0
    thread: threading.Thread | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self.ended.clear()
        self.thread = threading.Thread(target=self.run, name="ending", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Ends the thread; signals are noted all the same, for the next `start`."""
        self.ended.set()
        os.write(self.writing, b"\0")
        if self.thread is not None:
            self.thread.join()

    def run(self) -> None:
        """Reads signals; ends the process when one was not obeyed in time."""
        while not self.ended.is_set():
            ready, _, _ = select.select([self.reading], [], [], _BEAT_S if self.first else None)
            now = time.monotonic()
            for number in os.read(self.reading, 64) if ready else b"":
                if number in NUMBERS:
                    self._note(number, now)
            if self.first and not self.ended.is_set():
                self._check(now)

    def _note(self, number: int, now: float) -> None:
        self.number = number
        if not self.first:
            self.first = self.beaten = now
        elif now - self.first >= SAME_S:
            self.again = True

    def _check(self, now: float) -> None:
        """A loop that runs `finally` steps may go on as long as it answers, until a second signal."""
        loop = self.loop
        if loop is not None and not self.again:
            with contextlib.suppress(RuntimeError):  # it is closed: what comes after it has its own seconds
                loop.call_soon_threadsafe(self._beat)
        if now - self.beaten >= GRACE_S:
            os.write(2, b"ended hard: it did not end in time after the signal\n")
            os._exit(128 + self.number)

    def _beat(self) -> None:
        self.beaten = time.monotonic()


_watches: list[_Watch] = []


@contextlib.contextmanager
def ending_in_time(*, stays: bool) -> Iterator[None]:
    """Within it, SIGTERM leaves through every `with` and `finally`, and no signal goes unheard.

    `stays`: whether a signal that came counts on after it, while Python itself ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    watch = _Watch(reading, writing, signal.set_wakeup_fd(writing, warn_on_full_buffer=False))
    _watches.append(watch)
    watch.start()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _leave:
            signal.signal(signal.SIGTERM, before)
        if not (stays and watch.first):
            _watches.remove(watch)
            signal.set_wakeup_fd(watch.before)
            watch.stop()
            os.close(reading)
            os.close(writing)


@contextlib.contextmanager
def stop_watching() -> Iterator[None]:
    """For the moment of a fork, which needs a process without threads. Signals are heard after it.

    A forked child stays unwatched: its parent is to end it.
    """
    for watch in _watches:
        watch.stop()
    try:
        yield
    finally:
        for watch in _watches:
            watch.start()


@contextlib.contextmanager
def ignore_signals() -> Iterator[None]:
    """Within it signals interrupt nothing, such as the removal of what is private; the hard end stays."""
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in NUMBERS if mine}
    for number in before:
        signal.signal(number, lambda *_: None)  # ignored ones would not reach the wakeup file
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(1)


@contextlib.contextmanager
def on_signals(
    cancel: Callable[[], Any], *, numbers: tuple[signal.Signals, ...] = NUMBERS, last_steps: bool = False
) -> Iterator[None]:
    """Within it, the signals call `cancel` in the running event loop. Gives back the handlers of before.

    `last_steps`: whether `finally` steps follow, which may take their own time after a first signal.
    """
    import asyncio  # here: `--version` should not pay for it

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in numbers}
    watch = _watches[-1] if _watches and last_steps else None
    if watch is not None:
        watch.loop = loop

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(cancel)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        if watch is not None:
            watch.loop, watch.beaten = None, time.monotonic()
        for number in numbers:
            if signal.getsignal(number) is handle:
                signal.signal(number, before[number])


def _forget() -> None:
    """In a forked child: its signals are not those of this command."""
    if _watches:
        _watches.clear()
        signal.set_wakeup_fd(-1)


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget)
