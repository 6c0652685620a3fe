"""When Prefect's server goes away or refuses: what people are told, and what is not waited for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from blocks.current_time import now_utc
from blocks.patience import SECONDS, PrefectAway
from deployments.server.kept_server import ServerInfo, status
from workflows.core.errors import PhaselineError
from workflows.core.text.cut_text import cut

_TRIES, _PAUSE = 5, 0.1
"""How often, and with how many seconds between, what sends is cancelled: it says goodbye to its server first,
which may not answer."""
_SHOWN = 300
"""Characters of a server's own words that are shown."""


def is_server_gone(server: ServerInfo | None, home: Path) -> bool:
    """Whether the local server this command began with is gone. False for a server named by the user."""
    if server is None:
        return False
    now = status(home)
    return now is None or now.api_url != server.api_url


def server_fault(error: BaseException, server: ServerInfo | None = None) -> PhaselineError | None:
    """What to tell when Prefect's server cannot be used; None for any other error.

    server: the local one, where that is what is used.
    """
    from prefect.settings import PREFECT_API_URL

    from flows.steps.orchestration import fault_of, passing

    cause = fault_of(error)
    if cause is None:
        return None
    where = f"the Prefect server at {PREFECT_API_URL.value()}"
    response = getattr(cause, "response", None)
    code = response.status_code if response is not None else 0
    shown = cut((str(cause) or type(cause).__name__).splitlines()[0], _SHOWN)
    cure = "check PREFECT_API_URL and PREFECT_API_AUTH_STRING, or unset both to use a local server"
    if code in (401, 403):
        return PhaselineError(f"{where} refused our login", cure)
    if passing(cause) is None:
        # It was reached and knows us: what it does not take is this very request.
        return PhaselineError(f"{where} does not take this run: {shown}", "see the server's log")
    if server is not None:
        cure = "phaseline down ends the local server, and the next command starts another"
    waited, wake = 0.0, SECONDS
    if isinstance(error, PrefectAway):
        waited, wake = error.waited, (error.wake_at - now_utc()).total_seconds()
    return PrefectAway(f"{where} cannot be used: {shown}", cure, waited, wake)


def finish_sending(seconds: float) -> None:
    """Sends what Prefect still holds back (logs, task runs) for so long, before the server may end with this
    command; what is left then is dropped.

    Otherwise Prefect tries every event for some seconds, also while Python ends. It has no public way to
    say this.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    until = time.monotonic() + seconds
    services: list[Any] = [*EventsWorker._instances.values(), *APILogWorker._instances.values()]  # type: ignore[misc]
    tasks = [(service._loop, service._task) for service in services]  # draining forgets them
    if seconds > 0:
        for worker in (EventsWorker, APILogWorker):
            worker.drain_all(timeout=max(0.0, until - time.monotonic()))
    for _ in range(_TRIES):
        left = [(loop, task) for loop, task in tasks if loop is not None and task is not None]
        left = [(loop, task) for loop, task in left if not task.done()]
        for loop, task in left:
            loop.call_soon_threadsafe(task.cancel)
        if left:
            time.sleep(_PAUSE)
