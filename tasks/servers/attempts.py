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
    too_large: bool = False


ANSWER_BYTES = 8 * 2**20
"""Of one message of a server: as much as a handler may give."""

ATTEMPT: ContextVar[Attempt | None] = ContextVar("phaseline_mcp_attempt", default=None)
"""Of the call that is being made."""


class TooLarge(httpx2.StreamError):
    """An answer is longer than one may be."""

    def __init__(self) -> None:
        super().__init__(f"the answer is larger than {ANSWER_BYTES // 2**20} MiB")


class PlainHttp(httpx2.AsyncClient):
    """Takes answers as they are: a small packed one may be a very large one."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As the base class. Raises RemoteProtocolError for a packed answer."""
        request.headers["accept-encoding"] = "identity"
        response = await super().send(request, **options)
        packed = response.headers.get("content-encoding", "identity")
        if packed.strip().lower() != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("it packs its answers although that was not asked for")
        return response


def plain_http(
    headers: dict[str, str] | None = None,
    timeout: httpx2.Timeout | None = None,
    auth: httpx2.Auth | None = None,
) -> httpx2.AsyncClient:
    """A client for the SDK, which asks for one by these names."""
    return PlainHttp(headers=headers, timeout=timeout, auth=auth)


class WatchedHttp(PlainHttp):
    """Notes how far a call came. A failure of one request must not end the session of all others."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """As the base class, but what fails in transport comes back as an answer of status 502."""
        attempt = ATTEMPT.get()
        try:
            response = await super().send(request, **options)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as error:
            if attempt is None:
                raise
            attempt.not_sent = str(error) or type(error).__name__
        except httpx2.TransportError as error:
            if attempt is None:
                raise
            attempt.lost = str(error) or type(error).__name__
        else:
            if attempt is not None:
                attempt.status = response.status_code
            # The SDK holds events to a limit itself, one by one.
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                response.stream = _Limited(response.stream, attempt)
            return response
        return httpx2.Response(502, request=request)


class _Limited(httpx2.AsyncByteStream):
    """A body that ends with TooLarge where it is longer than an answer may be."""

    def __init__(self, inner: Any, attempt: Attempt | None) -> None:
        self._inner, self._attempt = inner, attempt

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for piece in self._inner:
            seen += len(piece)
            if seen > ANSWER_BYTES:
                if self._attempt is not None:
                    self._attempt.too_large = True
                raise TooLarge
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


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


class _Reader:
    """The receiving side of a transport. What tools say of their results is kept from the SDK.

    It would hold answers against these schemas while all else waits, with whatever patterns are in them.
    """

    def __init__(self, inner: Any, schemas: dict[str, Any]) -> None:
        self._inner, self._schemas = inner, schemas

    @property
    def last_context(self) -> Any:
        """Of the sender of the last message, where the transport tells."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Any:
        return self._without(await self._inner.receive())

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Any:
        return self._without(await self._inner.__anext__())

    def _without(self, item: Any) -> Any:
        result = getattr(getattr(item, "message", None), "result", None)
        tools = result.get("tools") if isinstance(result, dict) else None
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict) and "outputSchema" in tool:
                self._schemas[str(tool.get("name"))] = tool.pop("outputSchema")
        return item

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> _Reader:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@contextlib.asynccontextmanager
async def watch_transport(transport: Any, schemas: dict[str, Any]) -> AsyncIterator[Any]:
    """A transport of the SDK that notes what is handed over to it.

    `schemas` is filled with what the tools of the server say of their results, by name.
    """
    async with transport as (reading, writing):
        yield _Reader(reading, schemas), _Writer(writing)
