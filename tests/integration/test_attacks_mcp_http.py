"""MCP servers over HTTP whose answers are too large, packed, or hold schemas that point elsewhere."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger
from tasks.servers.client import McpServers
from tasks.servers.session import ServerUnavailable
from tasks.servers.tools import mcp_tools
from tasks.tools import ToolResult, ToolSet
from tasks.waiting import Waiting
from tests.support.gates import GateDesk
from tests.support.plans import agent
from workflows.core.models.agent import McpServer
from workflows.core.plans.plan import ServerPlan, ToolRulePlan

LARGE = 50 * 2**20


class Odd:
    """A server that speaks just enough, in plain JSON; `tools` and `answer` are what it says."""

    def __init__(self) -> None:
        self.tools: list[dict[str, Any]] = [{"name": "act", "inputSchema": {"type": "object"}}]
        self.answer: dict[str, Any] = {"content": [{"type": "text", "text": "fine"}]}
        self.called = 0
        self.paths: list[str] = []
        self.packed = self.stream = False
        self.listed_bytes = 0

    def result(self, method: str) -> dict[str, Any] | None:
        if method == "initialize":
            server = {"name": "odd", "version": "1"}
            return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": server}
        if method == "tools/list":
            return {"tools": self.tools, "_meta": {"pad": "x" * self.listed_bytes}}
        if method == "tools/call":
            self.called += 1
            return self.answer
        return None

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        odd = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if "id" not in asked:
                    return self.give(202, b"")
                result = odd.result(asked["method"])
                said = {"jsonrpc": "2.0", "id": asked["id"]}
                error = {"code": -32601, "message": "unknown"}
                whole = {**said, **({"error": error} if result is None else {"result": result})}
                body = json.dumps(whole).encode()
                calling = asked["method"] == "tools/call"
                if calling and odd.packed:
                    return self.give(200, gzip.compress(body), ("content-encoding", "gzip"))
                if calling and odd.stream:
                    event = b"event: message\ndata: " + body + b"\n\n"
                    return self.give(200, event, ("content-type", "text/event-stream"))
                self.give(200, body)

            def do_GET(self) -> None:
                odd.paths.append(self.path)
                self.give(405, b"")

            def give(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
                self.send_response(status)
                for name, value in {"content-type": "application/json", **dict(headers)}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                return

        return Handler


class Bench:
    """A run whose agent has the server."""

    def __init__(self, desk: GateDesk, odd: Odd, url: str) -> None:
        self.desk, self.odd, self.url, self.effect = desk, odd, url, "none"

    def several(self, count: int = 1, **arguments: Any) -> list[ToolResult]:
        server = ServerPlan(name="odd", server=McpServer(url=f"{self.url}/mcp"))
        rules = (ToolRulePlan(name="odd.act", effect=self.effect),)
        plan = agent("ann").model_copy(update={"servers": (server,), "tool_rules": rules})

        async def step(gate: Any, context: Any) -> list[ToolResult]:
            servers = McpServers({}, context.secrets)
            try:
                tools = ToolSet(tuple(t.through(gate) for t in await mcp_tools(plan, servers, gate)))
                return [await tools.call("odd__act", arguments) for _ in range(count)]
            finally:
                await servers.close()

        return self.desk.work(step)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    odd = Odd()
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), odd.handler()) as server,
        Ledger.open(tmp_path / "ledger.db") as ledger,
    ):
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield Bench(GateDesk(ledger, tmp_path, {}), odd, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_it_speaks_well_enough(bench: Bench) -> None:
    assert bench.several(2) == [ToolResult("fine")] * 2 and bench.odd.called == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("effect", ["none", "idempotent", "once"])
def test_a_very_large_answer_is_not_read(bench: Bench, effect: str, stream: bool) -> None:
    bench.effect, bench.odd.stream = effect, stream
    bench.odd.answer = {"content": [{"type": "text", "text": "x" * LARGE}]}
    if effect == "once":
        with pytest.raises(Waiting) as caught:
            bench.several()
        told = caught.value.message
    else:
        (result,) = bench.several()
        assert result.is_error
        told = str(result.content)
    assert ("could not be read" if stream else "is larger than 8 MiB, and was not read") in told
    assert bench.odd.called == 1, "the same again would be as large"


def test_the_next_call_is_made_as_ever(bench: Bench) -> None:
    fine, bench.odd.answer = bench.odd.answer, {"content": [{"type": "text", "text": "x" * LARGE}]}
    inner = bench.odd.result

    def result(method: str) -> dict[str, Any] | None:
        if method == "tools/call" and bench.odd.called == 1:
            bench.odd.answer = fine
        return inner(method)

    bench.odd.result = result  # type: ignore[method-assign]
    first, second = bench.several(2)
    assert first.is_error and second == ToolResult("fine")


def test_a_packed_answer_is_not_unpacked(bench: Bench) -> None:
    bench.odd.packed = True
    bench.odd.answer = {"content": [{"type": "text", "text": "x" * LARGE}]}
    (result,) = bench.several()
    assert result.is_error and "packs its answers" in str(result.content)


def test_a_very_large_list_of_tools_is_not_read(bench: Bench) -> None:
    bench.odd.listed_bytes = LARGE
    with pytest.raises(ServerUnavailable, match="could not be opened"):
        bench.several()


@pytest.mark.parametrize("name", ["inputSchema", "outputSchema"])
def test_a_schema_that_points_elsewhere_is_not_followed(bench: Bench, name: str) -> None:
    local = {"$ref": "#/$defs/a", "$dynamicRef": f"{bench.url}/schema", "$defs": {"a": {"type": "object"}}}
    (bench.odd.tools[0])[name] = {"type": "object", **local}
    bench.odd.answer = {"content": [{"type": "text", "text": "fine"}], "structuredContent": {"a": 1}}
    (result,) = bench.several()
    assert not result.is_error and str(result.content).startswith("fine")
    assert bench.odd.called == 1 and "/schema" not in bench.odd.paths


def test_data_that_breaks_its_own_schema_is_an_error(bench: Bench) -> None:
    kind = {"type": "object", "properties": {"a": {"type": "string"}}}
    bench.odd.tools[0]["outputSchema"] = kind
    bench.odd.answer = {"content": [], "structuredContent": {"a": 1}}
    (result,) = bench.several()
    assert result.is_error and "$.a: 1 is not of type 'string'" in str(result.content)


@pytest.mark.parametrize("effect", ["none", "once"])
def test_a_schema_that_takes_too_long_holds_up_no_answer(bench: Bench, effect: str) -> None:
    bench.effect = effect
    part = {"type": "string", "pattern": "^(a|aa)+$"}
    bench.odd.tools[0]["outputSchema"] = {"type": "object", "properties": {"a": part}}
    bench.odd.answer = {"content": [], "structuredContent": {"a": "a" * 5000 + "!"}}
    (result,) = bench.several()
    assert not result.is_error and bench.odd.called == 1
