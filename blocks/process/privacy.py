"""Our own processes against what they start: programs of the same user, such as MCP servers and handlers.

Standard library only: commands call this first of all.
"""

from __future__ import annotations

import sys

WITHIN_RUN = "PHASELINE_WITHIN_RUN"
"""Set in the environment of what a run starts; a process that has it does not decide for people."""

FILE_LOCKS = 10
"""The number of Linux' RLIMIT_LOCKS, which has limited nothing since version 2.4.

What a run starts gets a hard limit of zero. Whatever it starts has the same, in whatever session, below
whatever parent and after the end of the run; and nobody can raise it again but root (CAP_SYS_RESOURCE).
"""

_DUMPABLE, _SUBREAPER = 4, 36


def close_memory() -> bool:
    """Closes this process' environment and memory in `/proc` to other processes of the same user.

    Linux only; elsewhere nothing changes. A debugger cannot attach any more either, and nothing is dumped
    when the process crashes. Root may look all the same. Gives whether it is closed.
    """
    return _control(_DUMPABLE, 0)


def close_worker() -> None:
    """The same for Prefect's own `worker` command, whose environment has the keys of all that it runs."""
    program, *words = sys.argv or [""]
    if program.endswith(("/bin/prefect", "/prefect/__main__.py")) and "worker" in words:
        close_memory()


def adopt_orphans() -> bool:
    """Makes processes that lose their parent below this one our children, and not the system's first's.

    So that whoever was started here can be told to be, whatever it does to the processes between. Linux only.
    """
    return _control(_SUBREAPER, 1)


def is_marked() -> bool:
    """Whether a run has started this process, or one that it came from, however long ago. Linux only."""
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(FILE_LOCKS)[1] == 0


def _control(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return int(ctypes.CDLL(None).prctl(option, value, 0, 0, 0)) == 0
    except (OSError, AttributeError):  # a system without that call
        return False
