"""How far a call of an MCP server's tool came: handed over, sent, answered, or lost on the way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass
class Attempt:
    """What is known of one request beside its answer."""

    written: bool = False
    not_sent: str = ""
    lost: str = ""
    status: int = 0


ATTEMPT: ContextVar[Attempt | None] = ContextVar("phaseline_mcp_attempt", default=None)
"""Of the call that is being made."""


class WatchedHttp(httpx2.AsyncClient):
    """Notes how far a call came. A failure of one request must not end the session of all others."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As the base class, but what fails in transport comes back as an answer of status 502."""
        attempt = ATTEMPT.get()
        if attempt is None:
            return await super().send(request, **options)
        try:
            response = await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            attempt.not_sent = str(error) or type(error).__name__
        except httpx2.TransportError as error:
            attempt.lost = str(error) or type(error).__name__
        else:
            attempt.status = response.status_code
            return response
        return httpx2.Response(502, request=request)


class _Writer:
    """The sending side of a transport, which notes that a call was handed over."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def send(self, item: Any) -> None:
        attempt = ATTEMPT.get()
        if attempt is not None:
            attempt.written = True
        await self._inner.send(item)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> _Writer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@contextlib.asynccontextmanager
async def watched(transport: Any) -> AsyncIterator[Any]:
    """A transport of the SDK that notes what is handed over to it."""
    async with transport as (reading, writing):
        yield reading, _Writer(writing)
