"""What an HTTP exchange says about the call it carried: performed, refused, or nobody knows."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from tasks.effects.calls import AlreadySo, NotPerformed, Unreached, Unsure

if TYPE_CHECKING:
    import httpx2

_CHARSETS = frozenset(
    {
        *("utf-8", "ascii", "utf-16", "utf-16-le", "utf-16-be", "koi8-r", "koi8-u"),
        *("gbk", "gb2312", "gb18030", "big5", "big5hkscs", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"),
        *(f"iso8859-{part}" for part in range(1, 17)),
        *(f"cp{page}" for page in range(1250, 1259)),
    }
)
"""Encodings of text that are read. Python knows others that are no such thing, or take the square of the
length (`punycode`), and a server would choose."""

UNSURE_4XX = frozenset((408, 409, 425, 429))
"""Client errors that do not say that nothing happened: the request, or an equal one before, may have run."""


NOT_THERE = frozenset((404, 410))
"""What a DELETE wants, whoever has done it."""


def judge(status: int, told: str, method: str) -> None:
    """Raises NotPerformed or Unsure for a status that is not an outcome; `told` is the text for the agent."""
    if status >= 500 or status in UNSURE_4XX:
        raise Unsure(told)
    if method == "DELETE" and status in NOT_THERE:
        raise AlreadySo(told)
    if status >= 400:
        raise NotPerformed(told)


@asynccontextmanager
async def exchange(who: str, seconds: float) -> AsyncIterator[None]:
    """An exchange with `who` (a host, never a whole address) of at most `seconds`.

    Its failures leave as NotPerformed when nothing was sent, else as Unsure.
    """
    import httpx2

    not_sent = (
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        httpx2.ProxyError,
        httpx2.UnsupportedProtocol,
        httpx2.LocalProtocolError,
        httpx2.InvalidURL,
    )
    try:
        async with asyncio.timeout(seconds):
            yield
    except not_sent as error:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            raise Unreached(f"{who} could not be reached: {_why(error)}.") from None
        raise NotPerformed(f"{who} could not be reached: {_why(error)}.") from None
    except TimeoutError:
        raise Unsure(f"{who} did not answer within {seconds:g} s.") from None
    except httpx2.HTTPError as error:
        raise Unsure(f"the connection to {who} was lost: {_why(error)}.") from None


def _why(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")


def text_of(body: bytes, charset: str | None) -> str:
    """A body as text, in the encoding its sender names where that is one of text; else as UTF-8."""
    name = "utf-8"
    if charset and len(charset) <= 40:
        with suppress(LookupError, ValueError):
            known = codecs.lookup(charset).name
            name = known if known in _CHARSETS else name
    return body.decode(name, "replace")


async def body_of(response: httpx2.Response, limit: int) -> tuple[bytes, bool]:
    """At most `limit` bytes of a streamed response, and whether there were more."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > limit:
            return bytes(body[:limit]), True
    return bytes(body), False
