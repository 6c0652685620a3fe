"""A real HTTP receiver on this machine: records every request, and ends each as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = int | str | tuple[int, dict[str, str], bytes]
"""A status; or `hang` (no answer before the test ends), `close` (the connection is lost after reading),
`cut` (200, then lost in the middle of the body); or status, headers and body."""


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        """Its idempotency key, as an API or a webhook carries it."""
        return self.headers.get("idempotency-key") or self.headers.get("webhook-id") or ""

    def json(self) -> Any:
        """Its body as data."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """`answers` are used up one by one, then `otherwise` for ever."""

    answers: list[Answer] = field(default_factory=list)
    otherwise: Answer = 200
    on_request: Callable[[Received], None] | None = None
    received: list[Received] = field(default_factory=list)
    _released: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Receiver:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                owner._answer(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def keys(self) -> list[str]:
        """The idempotency keys it saw, in order."""
        return [request.key for request in self.received]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Received(handler.command, handler.path, headers, handler.rfile.read(length))
        with self._lock:
            self.received.append(request)
            answer = self.answers.pop(0) if self.answers else self.otherwise
        if self.on_request is not None:
            self.on_request(request)
        if isinstance(answer, str):
            self._fail(handler, answer)
            return
        status, more, body = (answer, {}, b"") if isinstance(answer, int) else answer
        handler.send_response(status)
        for name, value in more.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _fail(self, handler: BaseHTTPRequestHandler, how: str) -> None:
        handler.close_connection = True
        if how == "hang":
            self._released.wait()
        if how == "cut":
            handler.send_response(200)
            handler.send_header("content-length", "1000")
            handler.end_headers()
            handler.wfile.write(b"only the beg")
