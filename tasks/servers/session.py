"""One open MCP server, and what became of a call that it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2
import mcp.types as types
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from blocks.schemas.checking import Unchecked, foreign_problems
from tasks.effects.calls import NotPerformed, Unreached, Unsure
from tasks.secrets import Secrets, scrub_text, scrub_value
from tasks.servers.attempts import ANSWER_BYTES, ATTEMPT, Attempt, WatchedHttp, plain_http, watch_transport
from tasks.servers.stdio import StdioServer
from tasks.tools import ToolError
from workflows.core.errors import PhaselineError
from workflows.core.models.agent import McpServer
from workflows.core.text.cut_text import cut

CALL_SECONDS = 60.0
"""Of one call when the server's entry has no `timeout`."""
OPEN_SECONDS = 60.0
"""A server may be fetched by its package runner when it is first started."""
CLOSE_SECONDS = 10.0
PAGES = 100
KEY = "phaseline/idempotency-key"
"""Where a call carries its idempotency key, in its `_meta`."""

_CLOSED, _TIMED_OUT = -32000, -32001
_NOT_PERFORMED = frozenset((-32601, -32602, -32020, -32021, -32022, -32042))
"""Unknown method, wrong parameters, header mismatch, missing capability, unknown version, visit a URL."""
_IN_DOUBT = frozenset((_CLOSED, _TIMED_OUT, -32600, -32603, -32700))
"""The SDK makes these itself of answers it cannot read, so that the call may have been performed."""
_SESSION_LOST = "Session terminated"
_EVENT_FAILED = "SSE stream failed"
_DEFINITE_4XX = frozenset(range(400, 500)) - {408, 409, 425, 429}
_NO_ANSWER = (httpx2.NetworkError, httpx2.ConnectTimeout)
_SAID = 1500
_TOO_LARGE = f"is larger than {ANSWER_BYTES // 2**20} MiB"
_LOG = logging.getLogger(__name__)


class ServerUnavailable(PhaselineError):
    """An MCP server could not be opened."""


class ServerUnreached(ServerUnavailable):
    """Nothing answers at a server's address: a little later something may."""


class NeverLeft(Exception):
    """The session was gone before the call was written to it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A server wants to know something before it goes on; both are JSON."""

    requests: dict[str, Any]
    state: str | None


class Session:
    """One open server. A task of its own holds it: what it enters must be left where it was entered."""

    def __init__(self, name: str, server: McpServer, secrets: Secrets, root: Path) -> None:
        self.name = name
        self.seconds = server.timeout or CALL_SECONDS
        self.tools: tuple[types.Tool, ...] = ()
        self._server, self._secrets = server, secrets
        self._process = StdioServer(server, root) if server.command is not None else None
        self._results: dict[str, Any] = {}
        """What its tools say of their results: JSON Schemas by tool."""
        self._client: Client | None = None
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._holder: asyncio.Task[None] | None = None
        self._lost = False

    @property
    def alive(self) -> bool:
        """Whether calls can be made, as far as is known."""
        return not self._lost and self._holder is not None and not self._holder.done()

    async def open(self) -> None:
        """Starts or reaches the server and lists its tools. Raises ServerUnavailable (ServerUnreached)."""
        self._holder = asyncio.create_task(self._hold_session(), name=f"mcp server {self.name}")
        try:
            async with asyncio.timeout(max(OPEN_SECONDS, self.seconds)):
                await asyncio.shield(self._ready)
        except TimeoutError:
            await self._end()
            raise self._unavailable(
                f"it was not ready within {max(OPEN_SECONDS, self.seconds):g} s"
            ) from None
        except asyncio.CancelledError:
            await self._end()
            raise

    async def call(
        self,
        tool: str,
        arguments: dict[str, Any],
        key: str,
        responses: dict[str, Any] | None,
        state: str | None,
    ) -> types.CallToolResult | Asked:
        """One request. Raises NeverLeft, NotPerformed, Unsure, ToolError."""
        assert self._client is not None
        attempt = Attempt()
        token = ATTEMPT.set(attempt)
        try:
            result = await self._client.session.call_tool(
                tool,
                arguments,
                read_timeout_seconds=self.seconds,
                meta=cast(Any, {KEY: key}),
                input_responses=_parse_responses(responses),
                request_state=state,
                allow_input_required=True,
            )
        except MCPError as error:
            raise self._call_fault(error, attempt) from None
        except RuntimeError as error:
            if not attempt.written:
                raise NeverLeft(f"the MCP server '{self.name}' is closed") from None
            raise Unsure(f"the MCP server '{self.name}' failed: {self._clean(str(error))}.") from None
        except OSError as error:
            self._lost = True
            why = self._clean(str(error))
            raise Unsure(f"the connection to the MCP server '{self.name}' was lost: {why}.") from None
        finally:
            ATTEMPT.reset(token)
        if isinstance(result, types.InputRequiredResult):
            asked = {
                k: v.model_dump(mode="json", by_alias=True) for k, v in (result.input_requests or {}).items()
            }
            # The state goes back to the server as it is; kept, it is masked, and the server begins again.
            return Asked(scrub_value(asked, self._secrets), result.request_state)
        self._check(tool, result)
        return result

    def _check(self, tool: str, result: types.CallToolResult) -> None:
        """Raises ToolError for data that is not as its tool promises; a promise nobody can check is none."""
        schema = self._results.get(tool)
        if result.is_error or not isinstance(schema, dict):
            return
        try:
            problems = foreign_problems(schema, result.structured_content)
        except Unchecked as error:  # the call was answered all the same
            _LOG.info("the output schema of %s of the MCP server %s: %s", tool, self.name, error)
            return
        if problems:
            told = self._clean("; ".join(problems))
            raise ToolError(f"The answer breaks the tool's own output schema: {told}")

    async def close(self) -> None:
        """Ends the session. Harmless when repeated."""
        self._closing.set()
        if self._holder is not None:
            await asyncio.wait({self._holder}, timeout=CLOSE_SECONDS)
        await self._end()

    async def _end(self) -> None:
        self._lost = True
        if self._holder is not None:
            self._holder.cancel()
            await asyncio.gather(self._holder, return_exceptions=True)

    async def _hold_session(self) -> None:
        try:
            async with (
                self._transport() as transport,
                Client(transport, read_timeout_seconds=self.seconds, elicitation_callback=_decline) as client,
            ):
                self.tools = await _all_tools(client)
                self._client = client
                if not self._ready.done():
                    self._ready.set_result(None)
                await self._closing.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - handed to whoever opens it
            self._note_end(error, await self._process.last_words(self._clean) if self._process else "")
        finally:
            self._lost = True

    def _note_end(self, error: BaseException, said: str) -> None:
        if self._ready.done():
            _LOG.info("the session of the MCP server %s ended: %s", self.name, _why(error))
            return
        why = f"an answer of it {_TOO_LARGE}" if self._overflown else _why(error)
        kind = ServerUnreached if isinstance(_leaf(error), _NO_ANSWER) else ServerUnavailable
        fault = error if isinstance(error, PhaselineError) else self._unavailable(why, said, kind)
        self._ready.set_exception(fault)

    @property
    def _overflown(self) -> bool:
        return self._process is not None and self._process.too_large

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[Any]:
        server = self._server
        if self._process is not None:
            yield watch_transport(self._process.transport(), self._results)
            return
        assert server.url is not None
        if server.type == "sse":
            client = sse_client(
                server.url,
                headers=dict(server.headers),
                sse_read_timeout=86_400,
                httpx_client_factory=plain_http,
            )
            yield watch_transport(client, self._results)
            return
        timeout = httpx2.Timeout(30.0, read=self.seconds + 30)
        async with WatchedHttp(headers=dict(server.headers), timeout=timeout) as http:
            client = streamable_http_client(server.url, http_client=http, max_sse_event_size=ANSWER_BYTES)
            yield watch_transport(client, self._results)

    def _unavailable(
        self, why: str, said: str = "", kind: type[ServerUnavailable] = ServerUnavailable
    ) -> ServerUnavailable:
        server = self._server
        told = f"; it said: {said}" if said else ""
        what = f"command {server.command}" if server.command is not None else "url"
        cure = f"try the server by itself, and check its {what} in tools-config.json"
        return kind(
            self._clean(f"the MCP server '{self.name}' could not be opened: {why}{told}"), self._clean(cure)
        )

    def _call_fault(self, error: MCPError, attempt: Attempt) -> Exception:
        who, told = f"the MCP server '{self.name}'", self._clean(error.message)
        if error.code == _CLOSED or told == _SESSION_LOST:
            self._lost = True
        if attempt.written and (attempt.too_large or self._overflown):
            # It came, so that the call was most likely performed; the same again would be as large.
            return Unsure(f"the answer of {who} {_TOO_LARGE}, and was not read.", passing=False)
        if attempt.written and told.startswith(_EVENT_FAILED):
            return Unsure(f"the answer of {who} could not be read: {told}.", passing=False)
        if not attempt.written or told == _SESSION_LOST:
            return NeverLeft(f"{who} had closed the session")
        if attempt.not_sent:
            return Unreached(f"{who} could not be reached: {self._clean(attempt.not_sent)}.")
        if attempt.status in _DEFINITE_4XX and error.code in _IN_DOUBT:
            return NotPerformed(f"{who} refused the call with HTTP {attempt.status}.")
        if attempt.lost:
            return Unsure(f"the connection to {who} was lost: {self._clean(attempt.lost)}.")
        if error.code == _TIMED_OUT:
            return Unsure(f"{who} did not answer within {self.seconds:g} s.")
        if error.code == _CLOSED:
            return Unsure(f"{who} closed the connection during the call.")
        if error.code in _NOT_PERFORMED:
            return NotPerformed(
                f"{who} refused the call: {told}{self._clean(_addresses(error))} ({error.code})"
            )
        if error.code in _IN_DOUBT:
            return Unsure(f"{who} failed: {told} ({error.code}).")
        return ToolError(f"{who} answered with an error: {told} ({error.code})")

    def _clean(self, text: str) -> str:
        return cut(scrub_text(text, self._secrets), _SAID)


async def _decline(context: Any, params: Any) -> types.ElicitResult:
    """Servers of older protocols ask in the middle of a call, which cannot wait for days."""
    return types.ElicitResult(action="decline")


async def _all_tools(client: Client) -> tuple[types.Tool, ...]:
    """Every tool, by name: the order a server lists them in says nothing."""
    tools: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tuple(sorted(tools, key=lambda tool: tool.name))


def _parse_responses(given: dict[str, Any] | None) -> Any:
    if given is None:
        return None
    return {key: types.ElicitResult.model_validate(value) for key, value in given.items()}


def _leaf(error: BaseException) -> BaseException:
    """The first of what a group of exceptions holds."""
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _why(error: BaseException) -> str:
    """What went wrong when a server was opened, in one sentence."""
    leaf = _leaf(error)
    if isinstance(leaf, FileNotFoundError):
        where = "; a relative one starts at `cwd`" if os.sep in str(leaf.filename) else ""
        return f"the command or its folder was not found ({leaf.filename or leaf}){where}"
    if isinstance(leaf, MCPError):
        return "it ended at once" if leaf.code == _CLOSED else f"it answered: {leaf.message}"
    if isinstance(leaf, httpx2.ConnectError):
        return f"nothing answers at its address ({leaf})"
    return f"{type(leaf).__name__}: {leaf}".rstrip(": ")


def _addresses(error: MCPError) -> str:
    found = error.data.get("elicitations") if isinstance(error.data, dict) else None
    urls = [str(entry.get("url")) for entry in found or () if isinstance(entry, dict)]
    return f" Visit {', '.join(urls)}." if urls else ""
