"""What a case's processes write down of the boundaries they reach, and the kill at one of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

KILLED = "killed"
"""Name of the record a process leaves as its last one."""

_PATIENCE = 5.0
"""Seconds that handlers at work are given to end before the kill, so that what they did is whole."""


@dataclass(frozen=True, slots=True, order=True)
class Boundary:
    """Where a run can be cut off: the `nth` time (from 1) that it reached `name` in the unit `path`."""

    name: str
    path: str = ""
    nth: int = 1

    @property
    def shown(self) -> str:
        """For people: `turn.kept in review/ann (2nd time)`."""
        where = f" in {self.path}" if self.path else ""
        return f"{self.name}{where}" + (f" (time {self.nth})" if self.nth > 1 else "")


@dataclass(frozen=True, slots=True)
class Record:
    """One boundary as it was reached. `process` counts the case's processes from 0."""

    process: int
    name: str
    path: str = ""
    subject: str = ""

    @property
    def key(self) -> str:
        """The effect's key, for a boundary of an effect."""
        return self.subject.partition(":")[0]


@dataclass
class Recorder:
    """The callback of one process: appends what is reached to a file, each line in one write.

    What earlier processes of the case reached counts for the `nth` time of `kill`.
    """

    file: Path
    process: int
    kill: Boundary | None = None
    _count: Counter[tuple[str, str]] = field(default_factory=Counter)
    _under_way: dict[str, str] = field(default_factory=dict)
    """Paths of the effects that were sent by this process and not answered yet, by key."""

    def __post_init__(self) -> None:
        self._count.update((r.name, r.path) for r in read_records(self.file))
        self._fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, name: str, path: str, subject: str) -> None:
        """Notes the boundary; does not return from the one where the process is to end."""
        self._write(name, path, subject)
        if name == "effect.sending":
            self._under_way[subject] = path
        elif name == "effect.performed":
            self._under_way.pop(subject, None)
        self._count[name, path] += 1
        if self.kill == Boundary(name, path, self._count[name, path]):
            if name == "effect.sending":
                self._under_way.pop(subject, None)  # it is here, so it was not sent
            self._end()

    def _end(self) -> None:
        """The end without a warning; what other branches had sent by then is noted."""
        if self._under_way:
            _await_children()
        for key, path in self._under_way.items():
            self._write("effect.in_flight", path, key)
        self._write(KILLED, "", "")
        os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, name: str, path: str, subject: str) -> None:
        line = json.dumps([self.process, name, path, subject], ensure_ascii=False) + "\n"
        os.write(self._fd, line.encode("utf-8", "replace"))


def _await_children() -> None:
    """Waits, with the event loop standing still, for the processes of this one that run yet."""
    deadline = time.monotonic() + _PATIENCE
    while _children() and time.monotonic() < deadline:
        time.sleep(0.01)


def _children() -> list[str]:
    """Processes that this one started and that have not ended, where the system tells (Linux)."""
    found = []
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += tasks.read_text().split()
    return [pid for pid in found if not _has_ended(pid)]


def _has_ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def read_records(file: Path) -> list[Record]:
    """Everything that was noted, in order; nothing when nobody wrote yet."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return []
    return [Record(*json.loads(line)) for line in text.splitlines()]


def boundaries_of(records: Iterable[Record]) -> list[Boundary]:
    """The boundaries that were reached, in order."""
    count: Counter[tuple[str, str]] = Counter()
    out = []
    for record in records:
        count[record.name, record.path] += 1
        out.append(Boundary(record.name, record.path, count[record.name, record.path]))
    return out


def open_effects(records: Sequence[Record]) -> dict[str, str]:
    """What is true of each effect without a recorded outcome, by key: "done", "not_done", or "unknown".

    Known from what was noted: a call that was answered happened, one that was only about to be made did not.
    """
    state: dict[str, str] = {}
    for record in records:
        if record.name == "effect.sending":
            state[record.key] = "not_done"
        elif record.name == "effect.performed":
            state[record.key] = "done"
        elif record.name == "effect.in_flight":
            state[record.key] = "unknown"
        elif record.name == "effect.settled" and record.subject.rpartition(":")[2] != "unknown":
            state.pop(record.key, None)
    return state
