"""The kept local Prefect server itself: Prefect's application on a listening socket it inherits.

Started by supervisor.py only, with the descriptors of the socket, of a pipe whose other end the
supervisor holds, and of a lock that stays held as long as this process lives. Prefect's own command
(`prefect server start --background`) is not used: its server writes to pipes nobody reads and dies.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import runpy
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBES = frozenset({"/api/health", "/api/ready", "/api/admin/version"})
GRACE = 5  # seconds for open requests and for Prefect's services to end


def end_with(lifeline: int) -> None:
    """End this process when the other end of the pipe closes, which the kernel does if its holder dies."""

    def wait() -> None:
        os.read(lifeline, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE + 1)
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def note_use(app: Application, used: Path) -> Application:
    """`app`, touching the file `used` at most once a second while requests come in.

    A worker or an open browser tab is use; health probes are not.
    """
    next_note = 0.0

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal next_note
        now = time.monotonic()
        if now >= next_note and scope["type"] != "lifespan" and scope["path"] not in PROBES:
            next_note = now + 1
            with contextlib.suppress(OSError):  # the folder was removed: the supervisor ends us
                os.utime(used)
        await app(scope, receive, send)

    return noting


def keep_user_interface_writable(home: Path) -> None:
    """Let Prefect unpack its user interface into `home` when its own package folder is read-only."""
    found = importlib.util.find_spec("prefect")
    if found and found.origin and not os.access(Path(found.origin).with_name("server"), os.W_OK):
        os.environ["PREFECT_UI_STATIC_DIRECTORY"] = str(home / "ui")


def main(listener: int, lifeline: int, lock: int, used: Path) -> int:
    """Serve until told to end. 3: the server did not start."""
    for fd in (listener, lifeline, lock):
        os.set_inheritable(fd, False)
    end_with(lifeline)
    runpy.run_path(str(Path(__file__).parents[2] / "blocks" / "process" / "privacy.py"))["close_memory"]()
    keep_user_interface_writable(Path(os.environ["PREFECT_HOME"]))

    import uvicorn
    from prefect.server.api.server import create_app

    server = uvicorn.Server(
        uvicorn.Config(
            note_use(create_app(final=True), used),
            lifespan="on",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE - 2,
        )
    )
    server.run(sockets=[socket.socket(fileno=listener)])
    return 0 if server.started else 3


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
