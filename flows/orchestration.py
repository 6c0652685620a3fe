"""When Prefect's server is away: what counts as that, and waiting for it. It is only a picture of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
from prefect.settings import PREFECT_API_URL

from blocks.patience import ORCHESTRATION, PrefectAway, Vigil, Wait
from flows.launch import Launch
from workflows.core.cut_text import cut

T = TypeVar("T")

_PASSING = (408, 429)


def fault_of(error: BaseException) -> httpx.HTTPError | None:
    """The fault of the connection to Prefect's server, or of its answer, that an error comes from."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, httpx.HTTPError):
        cause = cause.__cause__
    return cause


def passing(error: BaseException) -> str | None:
    """Why Prefect's server could not be used, where it may be a little later; None for any other error."""
    fault = fault_of(error)
    if fault is None:
        return None
    code = fault.response.status_code if isinstance(fault, httpx.HTTPStatusError) else 0
    if code and code < 500 and code not in _PASSING:
        return None
    told = cut((str(fault) or type(fault).__name__).splitlines()[0], 300)
    return f"Prefect's server cannot be used: {told}"


async def probe() -> None:
    """Asks Prefect's server whether it is there. Its client would ask for a minute without a word.

    Raises httpx.HTTPError. No login is sent, and no certificate looked at.
    """
    async with httpx.AsyncClient(timeout=10, verify=False) as client:  # noqa: S501 - nothing is told or believed
        (await client.get(f"{PREFECT_API_URL.value()}/health")).raise_for_status()


async def outwait(
    launch: Launch, work: Callable[[], Awaitable[T]], *, begun: Callable[[], bool] = lambda: False
) -> T:
    """What `work` gives; where Prefect's server is away, the same again, unless it has `begun` something.

    Prefect's client asks again for a minute by itself. Raises PrefectAway when patience is over.
    """
    wait = Wait(Vigil(launch.patience, launch.on_event, launch.hurry), ORCHESTRATION)
    while True:
        try:
            value = await work()
        except Exception as error:
            reason = passing(error)
            if reason is None or begun():
                raise
            pause = wait.next(reason)
            if pause is None:
                raise PrefectAway(reason, "", wait.seconds, launch.patience.seconds) from error
            await asyncio.sleep(pause)
        else:
            wait.end()
            return value
