"""Who holds a run: one process of one machine, told apart from a later one with the same number."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. `boot` names the machine's start and the process namespace, `started` the process' start;
    either is empty where the system does not tell."""

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot(), pid, _start_time(pid) or "")

    @property
    def shown(self) -> str:
        """For messages: process and host."""
        return f"process {self.pid} on {self.host}"

    def gone_as_seen_from(self, viewer: Owner) -> bool:
        """True only when `viewer` can be certain that this process has ended.

        Only where both see the same processes: the same host, boot and namespace. Elsewhere a lease's
        expiry decides.
        """
        if (self.host, self.boot) != (viewer.host, viewer.boot):
            return False
        started = _start_time(self.pid)
        return started is None or (started != "" and self.started != "" and started != self.started)


def _start_time(pid: int) -> str | None:
    """When a process started, in the system's own unit; None when it is not there (or dead, not collected).

    "" when there is such a process and the system does not tell more.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it is not there, or the system has no such place, or hides it (`hidepid`)
        return _without_proc(pid)
    return None if fields[0] in "ZX" else fields[19]


def _without_proc(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return ""  # somebody else's, alive
    return ""


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a path but "pid:[number]"
    except OSError:
        return ""
