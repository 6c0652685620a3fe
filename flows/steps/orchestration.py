"""When Prefect's server is away: what counts as that, and waiting for it. It is only a picture of a run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from prefect.settings import PREFECT_API_URL

from blocks.patience import ORCHESTRATION, PrefectAway, Vigil, Wait
from workflows.core.text.cut_text import cut

T = TypeVar("T")

TELLING = 15.0
"""Seconds for which Prefect's server is told of what has its end already."""
LOOK = 5.0
"""Seconds after which it is asked whether Prefect's server is there, where that has not answered."""

_PASSING = (408, 429)
_HURRIED = 2.0
"""The same once the run is cancelled."""
_MOMENT = 1.0
"""Seconds that Prefect's server may take to answer without being asked whether it is there."""
_GIVEN_UP = 0.5
"""Seconds between two cancellations of what Prefect shields."""

_LOG = logging.getLogger(__name__)


@dataclass
class Body:
    """How far the body of a flow is. What its flow run does before and after is for the picture only."""

    begun: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    fault: BaseException | None = None
    """What it raised."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around the work of the body."""
        self.begun = True
        try:
            yield
        except BaseException as fault:
            self.fault = fault
            raise
        finally:
            self.ended.set()


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


async def _absence() -> httpx.HTTPError | None:
    """Why Prefect's server does not answer; None when it does."""
    try:
        await probe()
    except httpx.HTTPError as fault:
        return fault if passing(fault) else None
    return None


async def outwait(
    vigil: Vigil,
    work: Callable[[], Coroutine[Any, Any, T]],
    *,
    begun: Callable[[], bool] = lambda: False,
    looking: Callable[[], bool] = lambda: True,
) -> T:
    """What `work` gives; where Prefect's server is away, the same again, unless it has `begun` something.

    Prefect's client asks again for a minute by itself: while `looking` holds, people are told meanwhile, and
    it is given up in time. Raises PrefectAway when patience is over.
    """
    wait = Wait(vigil, ORCHESTRATION)
    while True:
        task = asyncio.ensure_future(work())
        away = None
        try:
            away = await _watch(task, wait, looking)
        except asyncio.CancelledError:
            if not task.cancel():
                raise
        try:
            if away is not None:
                await _drop(task)
                raise away
            value = await task
        except Exception as error:
            reason = passing(error)
            if reason is None or begun():
                raise
            pause = wait.next(reason) if away is None else None
            if pause is None:
                raise PrefectAway(reason, "", wait.seconds, vigil.patience.seconds) from error
            await asyncio.sleep(pause)
        else:
            wait.end()
            return value


async def _watch(
    task: asyncio.Future[Any], wait: Wait, looking: Callable[[], bool]
) -> httpx.HTTPError | None:
    """Returns when the task ends, or nobody is to look any more; with a fault when patience is over."""
    while looking() and not (await asyncio.wait({task}, timeout=LOOK))[0]:
        fault = await _absence()
        given_up = fault is not None and wait.next(passing(fault) or "") is None
        if given_up and looking() and not task.done():
            return fault
    return None


async def await_flow_call(
    call: Coroutine[Any, Any, T], body: Body, on_ended: Callable[[], Awaitable[None]] | None = None
) -> T | None:
    """What the call of a flow gives; None where Prefect's server was not told in time how its body ended.

    The call is cancelled with this one, so that the body can end as it does. Once it has, `on_ended` is
    called, and Prefect's server is told for TELLING seconds, where it is there.
    """
    task, ended = asyncio.ensure_future(call), asyncio.ensure_future(body.ended.wait())
    cancelled = False
    try:
        while not (task.done() or ended.done()):
            try:
                await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                cancelled = True
                task.cancel()
                if not body.begun:
                    break
        if body.ended.is_set():
            if on_ended is not None:
                await on_ended()
            await _tell(task, _HURRIED if cancelled else TELLING)
    finally:
        ended.cancel()
        await _drop(task)
    if not body.ended.is_set() and not cancelled:
        return task.result()
    shown = _result_of(task)
    if cancelled and shown is None:
        raise asyncio.CancelledError
    return shown  # where it was cancelled, the body came to its end all the same


async def _tell(task: asyncio.Future[Any], seconds: float) -> None:
    """Gives the end of a flow run so many seconds to be told; none, where there is nobody to tell."""
    if (await asyncio.wait({task}, timeout=_MOMENT))[0]:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds - _MOMENT):
            try:
                await probe()
            except httpx.ConnectError:
                return
            except httpx.HTTPError:
                pass  # it is busy
            await asyncio.wait({task})


def _result_of(task: asyncio.Future[T]) -> T | None:
    """What Prefect made of a body that has ended; None where its server does not know of it."""
    fault = None if task.cancelled() else task.exception()
    if task.cancelled() or isinstance(fault, Exception):
        _LOG.debug("Prefect was not told how a flow ended", exc_info=fault)
        return None
    return task.result()


async def _drop(task: asyncio.Future[Any]) -> None:
    """Ends a call of Prefect's, which tells its server of one cancellation and leaves with the next."""
    cancelled = False
    while not task.done():
        task.cancel()
        try:
            await asyncio.wait({task}, timeout=_GIVEN_UP)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
