"""The Anthropic connection: the real SDK, its retries off, every failure translated.

Requests are always streamed: one path for short and long answers, a silence can be told from a long
answer, and a cut is noticed. The SDK costs more than a second to import, so it is imported on first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from blocks.models import Answer, Malformed, ModelError, OnProgress, Request, Retryable, credential_id
from blocks.providers.message_stream import MessageFold, checked_message
from workflows.core.errors import UsageError
from workflows.core.text.cut_text import cut
from workflows.core.usage import Usage

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic


class AnthropicConnection:
    """Answers over the Messages API.

    `idle` is how many seconds the connection may be silent (the API pings while it
    thinks), `total` how many a whole answer may take. Raises UsageError for a key that cannot be sent.
    """

    name = "anthropic"
    offline = False

    def __init__(
        self, api_key: str, base_url: str | None = None, *, idle: float = 300.0, total: float = 3600.0
    ) -> None:
        if not api_key.isascii() or not api_key.isprintable() or " " in api_key or not api_key:
            raise UsageError(
                "the model key has characters a key cannot have",
                "copy the key again, without quotes, spaces or line breaks",
            )
        self.credential = credential_id(api_key, base_url)
        """Names the key and its address in the ledger, without giving it away."""
        self._api_key = api_key
        self._base_url = base_url
        self._idle = idle
        self._total = total
        # One client per event loop: a shared one fails now and then with a connection error.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncAnthropic] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"AnthropicConnection(base_url={self._base_url!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a model connection holds a key and is never pickled; build one per process")

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        """Send once and wait for the whole message. Raises ModelError."""
        started = time.monotonic()
        fold = MessageFold(on_progress)
        with self._translate_errors(fold):
            async with asyncio.timeout(self._total):
                message, request_id = await self._receive(request, fold)
        return Answer(
            message=message,
            usage=Usage.from_json(message["usage"]),
            model=str(message.get("model") or request["model"]),
            request_id=request_id,
            seconds=time.monotonic() - started,
            limits=fold.limits,
        )

    async def models(self) -> list[dict[str, Any]]:
        """The models this key may use now, as the API lists them (`id`, `line`, `created_at`, ...)."""
        with self._translate_errors(MessageFold()):
            return [
                model.to_dict(mode="json", warnings=False)
                async for model in self._client().models.list(lifecycle=["active"], limit=1000)
            ]

    async def close(self) -> None:
        """Close the running event loop's client. Call it in every loop that sent something."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def _receive(self, request: Request, fold: MessageFold) -> tuple[dict[str, Any], str]:
        stream = await self._client().messages.create(**request, stream=True)
        async with stream:
            fold.add_headers(stream.response.headers)
            request_id = stream.response.headers.get("request-id") or ""
            if not stream.response.headers.get("content-type", "").startswith("text/event-stream"):
                return checked_message(_parse_body(await stream.response.aread())), request_id
            async for event in _events(stream):
                fold.add(event)
        return fold.message(), request_id

    def _client(self) -> AsyncAnthropic:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            from anthropic import AsyncAnthropic, Timeout

            self._clients[loop] = AsyncAnthropic(
                api_key=self._api_key,
                base_url=self._base_url,
                max_retries=0,
                timeout=Timeout(self._idle, connect=min(10.0, self._idle)),
            )
        return self._clients[loop]

    @contextlib.contextmanager
    def _translate_errors(self, fold: MessageFold) -> Any:
        """Turn whatever the SDK raises into our own errors, without the key and without the SDK's chain
        (its exceptions hold the request with all its headers)."""
        try:
            yield
        except ModelError as error:
            error.spent, error.limits = fold.spent, fold.limits
            raise
        except TimeoutError:
            translated: ModelError = Retryable(f"no whole answer within {self._total:.0f} s", "timeout")
        except Exception as error:
            from blocks.providers.anthropic_errors import translate

            found = translate(error, self._api_key, _strip_login(self._base_url))
            if found is None:
                raise
            translated = found
        else:
            return
        translated.spent = fold.spent
        translated.limits = translated.limits or fold.limits
        raise translated from None


def _strip_login(address: str | None) -> str | None:
    """An address without the user and the password that it may hold."""
    if not address:
        return None
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _parse_body(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        start = cut(body[:400].decode("utf-8", "replace"), 80)
        raise Malformed(f"the answer is not JSON; it begins with {start!r}", foreign=True) from None


async def _events(stream: Any) -> AsyncIterator[dict[str, Any]]:
    async for event in stream:
        yield event.to_dict(mode="json", warnings=False)
