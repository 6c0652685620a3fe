"""A stand-in of the Messages API on loopback, for the real SDK.

It is strict where the real API is (see messages_api_rules), answers usefully by default and can be told
to answer or fail in any way. In a test:

    with MessagesApi() as api:
        api.queue({"fault": "overloaded"}, {"text": "done"})
        ...  # ANTHROPIC_BASE_URL=api.base_url, any key
        assert api.count == 2

As a command (one JSON line on standard output says where it listens; it ends with SIGTERM, or when
its standard input ends if `--until-eof` is given):

    python -m tests.support.messages_api --port 0 --latency 0.2 --script FILE.json

A script is `{"queue": [REPLY, ...], "rules": [RULE, ...], "default": REPLY}`. A rule is
`{"match": REGEX, "turn": N, "model": ID, "replies": [REPLY, ...], "times": N}`: `match` is searched in all
text of the request, `turn` is the number of answers it already holds; its replies are used in order, `times`
(null for ever) repeats the list. Each request takes the first of: the queue, the first rule that fits, the
default, a generic answer. For REPLY see messages_api_replies. `GET /_requests` shows what was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.messages_api_replies import PromptCache, message_of, send_fault, send_message
from tests.support.messages_api_rules import MODELS, Refusal, check_headers, check_request
from tests.support.messages_api_wire import Wire

Reply = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


class Rule:
    """One rule of a script; counts how often it was used."""

    def __init__(self, written: Mapping[str, Any]) -> None:
        unknown = set(written) - {"match", "turn", "model", "replies", "reply", "times"}
        if unknown:
            raise ValueError(f"unknown keys in a rule: {sorted(unknown)}")
        self._match = re.compile(written.get("match", ""), re.S)
        self._turn = written.get("turn")
        self._model = written.get("model")
        self._replies: list[Reply] = list(written.get("replies") or [written["reply"]])
        times = written.get("times", 1)
        self._left = None if times is None else times * len(self._replies)
        self._used = 0

    def take(self, request: Mapping[str, Any]) -> Reply | None:
        """The next reply when the rule fits the request and is not used up."""
        if self._left is not None and self._used >= self._left:
            return None
        if self._turn is not None and self._turn != answers_in(request):
            return None
        if self._model not in (None, request.get("model")) or not self._match.search(request_text(request)):
            return None
        self._used += 1
        return self._replies[(self._used - 1) % len(self._replies)]


class MessagesApi:
    """The stand-in inside this process, in a thread of its own. A context manager.

    `latency` (seconds) is slept before each answer; `keys` limits which keys are accepted.
    """

    def __init__(
        self,
        script: Mapping[str, Any] | None = None,
        *,
        latency: float = 0.0,
        port: int = 0,
        keys: set[str] | None = None,
    ) -> None:
        script = script or {}
        unknown = set(script) - {"queue", "rules", "default"}
        if unknown:
            raise ValueError(f"unknown keys in a script: {sorted(unknown)}")
        self.latency = latency
        self.requests: list[dict[str, Any]] = []
        self.max_in_flight = 0
        self.default: Reply | None = script.get("default")
        self._keys = keys
        self._port = port
        self._queue: list[Reply] = list(script.get("queue", []))
        self._rules = [Rule(rule) for rule in script.get("rules", [])]
        self._callables: list[Callable[[dict[str, Any]], Reply | None]] = []
        self._in_flight = 0
        self._cache = PromptCache()
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._serve, name="messages-api", daemon=True)
        self._ready = threading.Event()
        self._ended: asyncio.Event | None = None
        self._failed: BaseException | None = None

    def __enter__(self) -> MessagesApi:
        self._thread.start()
        self._ready.wait(30)
        if self._failed:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        if self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    @property
    def base_url(self) -> str:
        """For ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def count(self) -> int:
        """How many messages were asked for, refused ones included."""
        return len(self.asked)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The records of `POST /v1/messages`: path, at, status, fault, body."""
        with self._lock:
            return [record for record in self.requests if record["path"] == "/v1/messages"]

    def queue(self, *replies: Reply) -> None:
        """Use these replies, in order, before anything else."""
        with self._lock:
            self._queue.extend(replies)

    def rule(self, match: str = "", *replies: Reply, **more: Any) -> None:
        """Add a rule; see the module's docstring."""
        with self._lock:
            self._rules.append(Rule({"match": match, "replies": list(replies), **more}))

    def answer_with(self, function: Callable[[dict[str, Any]], Reply | None]) -> None:
        """Ask a function, after the queue and before the rules; None passes the request on."""
        with self._lock:
            self._callables.append(function)

    def _choose(self, body: dict[str, Any]) -> Reply:
        with self._lock:
            if self._queue:
                return self._queue.pop(0)
            chosen = [function(body) for function in self._callables]
            chosen += [None] if any(chosen) else [self._by_rule(body)]
            return next((reply for reply in chosen if reply is not None), None) or self.default or {}

    def _by_rule(self, body: dict[str, Any]) -> Reply | None:
        for rule in self._rules:
            reply = rule.take(body)
            if reply is not None:
                return reply
        return None

    # ---- the server

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        self._ended = asyncio.Event()
        try:
            server = await asyncio.start_server(self._connected, "127.0.0.1", self._port, backlog=2048)
        except OSError as error:
            self._failed = error
            self._ready.set()
            return
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        wire = Wire(reader, writer)
        try:
            while await self._serve_one(wire):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the stand-in ends
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve_one(self, wire: Wire) -> bool:
        """One request of a connection; False when the connection is to be closed."""
        asked = await wire.read_request()
        if asked is None:
            return False
        method, path, headers, raw = asked
        plain = path.partition("?")[0]
        if plain.startswith("/_"):
            await wire.send_json(200, self._overview())
            return True
        record: dict[str, Any] = {"path": plain, "at": time.time(), "status": 200, "fault": None}
        with self._lock:
            self.requests.append(record)
        try:
            check_headers(headers, self._keys)
            if method == "GET" and plain == "/v1/models":
                await wire.send_json(
                    200, {"data": MODELS, "has_more": False, "first_id": None, "last_id": None}
                )
                return True
            record["body"] = body = _parsed(raw)
            if plain == "/v1/messages/count_tokens":
                await wire.send_json(200, {"input_tokens": tokens_of(body)})
                return True
            if plain != "/v1/messages" or method != "POST":
                raise Refusal(404, "not_found_error", f"no such endpoint: {method} {plain}")
            check_request(body)
        except Refusal as refusal:
            record["status"] = refusal.status
            record["fault"] = refusal.message
            await wire.send_error(refusal.status, refusal.type, refusal.message)
            return True
        return await self._answer(wire, body, record)

    async def _answer(self, wire: Wire, body: dict[str, Any], record: dict[str, Any]) -> bool:
        reply = self._choose(body)
        record["fault"] = reply.get("fault")
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            await asyncio.sleep(reply.get("latency", self.latency))
            if "fault" in reply:
                record["status"], goes_on = await send_fault(wire, body, reply)
                return goes_on
            await send_message(wire, message_of(body, reply, self._cache), bool(body.get("stream")), reply)
            return True
        finally:
            self._in_flight -= 1

    def _overview(self) -> dict[str, Any]:
        with self._lock:
            asked = [record for record in self.requests if record["path"] == "/v1/messages"]
            return {
                "count": len(asked),
                "answered": sum(1 for record in asked if record["status"] == 200 and not record["fault"]),
                "max_in_flight": self.max_in_flight,
                "requests": asked,
            }


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise Refusal(400, "invalid_request_error", f"the request body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_request_error", "the request body must be an object")
    return body


def request_text(request: Mapping[str, Any]) -> str:
    """All text of a request (system, messages, tool results), as rules see it."""
    parts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            parts.append(value)
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, dict):
            for key in ("system", "messages", "content", "text", "input"):
                collect(
                    value.get(key) if key != "input" else json.dumps(value.get(key, ""), ensure_ascii=False)
                )

    collect(dict(request))
    return "\n".join(parts)


def answers_in(request: Mapping[str, Any]) -> int:
    """How many answers of the model a request already holds."""
    return sum(1 for message in request.get("messages", []) if message.get("role") == "assistant")


def tokens_of(request: Mapping[str, Any]) -> int:
    """A rough count: four characters a token."""
    return max(1, len(json.dumps({k: request.get(k) for k in ("system", "tools", "messages")})) // 4)


@contextlib.contextmanager
def messages_api_process(
    script: Mapping[str, Any] | None = None, *, latency: float = 0.0, folder: Path
) -> Iterator[str]:
    """The stand-in as a process of its own; gives its base URL and ends it. `folder` takes the script."""
    file = folder / "messages-api-script.json"
    file.write_text(json.dumps(script or {}), encoding="utf-8")
    command = [sys.executable, "-m", "tests.support.messages_api", "--latency", str(latency), "--until-eof"]
    process = subprocess.Popen(
        [*command, "--script", str(file)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    try:
        line = process.stdout.readline()
        assert line, "the stand-in did not start"
        yield json.loads(line)["base_url"]
    finally:
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main(arguments: list[str] | None = None) -> None:
    """Run the stand-in until it is told to end."""
    parser = argparse.ArgumentParser(description="A stand-in of the Messages API on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 chooses a free one")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--script", type=Path, help="JSON file with queue, rules and default")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    options = parser.parse_args(arguments)
    script = json.loads(options.script.read_text(encoding="utf-8")) if options.script else {}
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with MessagesApi(script, latency=options.latency, port=options.port) as api:
        print(json.dumps({"base_url": api.base_url, "pid": os.getpid()}), flush=True)
        if options.until_eof:
            threading.Thread(target=_set_at_eof, args=(ended,), daemon=True).start()
        ended.wait()


def _set_at_eof(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main()
