"""The HTTP that the stand-in of the Messages API speaks."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


class Wire:
    """One HTTP/1.1 connection, as far as the SDK needs it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read_request(self) -> tuple[str, str, dict[str, str], bytes] | None:
        """Method, path, headers (lower case) and body; None at the end of the connection."""
        head = await self._reader.readline()
        if not head.strip():
            return None
        method, path, _ = head.decode("latin-1").split(" ", 2)
        headers: dict[str, str] = {}
        while line := (await self._reader.readline()).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return method, path, headers, body

    async def send(
        self, status: int, body: bytes, type_: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole response."""
        self._head(status, type_, {"content-length": str(len(body)), **(headers or {})})
        self._writer.write(body)
        await self._writer.drain()

    async def send_json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        """A whole JSON response."""
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        await self.send(status, body, "application/json", headers)

    async def send_error(
        self,
        status: int,
        type_: str,
        message: str,
        *,
        code: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """An error in the API's shape."""
        error: dict[str, Any] = {"type": type_, "message": message}
        if code:
            error["details"] = {"error_code": code}
        await self.send_json(status, {"type": "error", "error": error}, headers)

    def begin_stream(self, headers: Mapping[str, str] | None = None) -> None:
        """The head of a chunked event stream."""
        self._head(200, "text/event-stream", {"transfer-encoding": "chunked", **(headers or {})})

    async def send_event(self, event: Mapping[str, Any]) -> None:
        """One server-sent event."""
        data = json.dumps(event, ensure_ascii=False)
        await self.send_chunk(f"event: {event['type']}\ndata: {data}\n\n")

    async def send_chunk(self, text: str) -> None:
        """One chunk of a stream."""
        body = text.encode("utf-8", "surrogatepass")
        self._writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        await self._writer.drain()

    async def end_stream(self) -> None:
        """The proper end of a chunked response."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def until_left(self) -> None:
        """Wait until the client closes the connection."""
        await self._reader.read()

    def _head(self, status: int, type_: str, headers: Mapping[str, str]) -> None:
        fields = {
            "date": formatdate(usegmt=True),
            "content-type": type_,
            "request-id": f"req_{uuid.uuid4().hex[:24]}",
            **headers,
        }
        lines = [
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
            *(f"{k}: {v}" for k, v in fields.items()),
        ]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
