"""A real MCP server in a process of its own, over stdio or streamable HTTP, that writes down every call.

Run as a program: `mcp_server.py CALLS [--http] [--key HEX]`. `CALLS` is a file of one JSON line per call that
did something: tool, arguments, key (from the call's `_meta`), pid. With `--http` the port is the first line
of standard output.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
from mcp.server import MCPServer
from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp.server.request_state import RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp.types import ImageContent, ToolAnnotations
from pydantic import BaseModel

KEY = "phaseline/idempotency-key"
SECRET = "ab" * 32
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def asked_file(calls: Path) -> Path:
    """Where each call that leads to a question is written down, beside what was done."""
    return calls.with_name(f"{calls.name}.asked")


class Calls:
    """The file of calls, read by the tests."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def all(self, tool: str = "") -> list[dict[str, Any]]:
        """Every call that did something, in order."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [call for line in lines if (call := json.loads(line))["tool"] == tool or not tool]

    def keys(self, tool: str = "") -> list[str]:
        """Their idempotency keys."""
        return [call["key"] for call in self.all(tool)]

    def asked(self, amount: int) -> int:
        """How often the server was called to move that amount, whether or not it did."""
        file = asked_file(self.file)
        return file.read_text().split().count(str(amount)) if file.exists() else 0

    def entry(self, **more: Any) -> dict[str, Any]:
        """The server's entry of a tools-config.json, over stdio."""
        return {"command": sys.executable, "args": [__file__, str(self.file)], **more}


@contextmanager
def http_server(calls: Calls, key: str = SECRET, port: int = 0) -> Iterator[str]:
    """The server over streamable HTTP, at a port that is free or the given one; gives its address."""
    argv = [sys.executable, __file__, str(calls.file), "--http", "--key", key, "--port", str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"
        finally:
            process.kill()


class Sure(BaseModel):
    """Whether somebody is sure."""

    sure: bool
    reason: str = ""


class Code(BaseModel):
    """A number."""

    code: int


def make_server(calls: Path, key: str) -> Any:
    """The server with its tools."""
    server = MCPServer(
        "bank", request_state_security=RequestStateSecurity(keys=[bytes.fromhex(key)], ttl=3600)
    )

    async def ask_sure(amount: int) -> Elicit[Sure]:
        """The question of `move` and `vault`."""
        with asked_file(calls).open("a") as file:
            file.write(f"{amount}\n")
        return Elicit(f"Really move {amount}?", Sure)

    async def ask_code(sure: Annotated[ElicitationResult[Sure], Resolve(ask_sure)]) -> Elicit[Code]:
        """The second question of `vault`."""
        return Elicit("Which code?", Code)

    def note(ctx: Context, tool: str, **arguments: Any) -> int:
        meta = ctx.request_context.meta or {}
        line = {"tool": tool, "arguments": arguments, "key": meta.get(KEY, ""), "pid": os.getpid()}
        with calls.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return len(calls.read_text().splitlines())

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def balance(account: str, ctx: Context) -> dict[str, Any]:
        """The balance of an account."""
        note(ctx, "balance", account=account)
        return {"account": account, "amount": 12}

    @server.tool(annotations=ToolAnnotations(idempotent_hint=True))
    def set_limit(account: str, limit: int, ctx: Context) -> str:
        """Set the limit of an account."""
        return f"limit {limit}, call {note(ctx, 'set_limit', account=account, limit=limit)}"

    @server.tool()
    def pay(to: str, amount: int, ctx: Context, idempotency_key: str = "") -> str:
        """Pay somebody."""
        count = note(ctx, "pay", to=to, amount=amount, argument=idempotency_key)
        return f"paid {amount} to {to}, receipt {count}"

    @server.tool()
    async def slow(seconds: float, ctx: Context) -> str:
        """Take a while."""
        note(ctx, "slow", seconds=seconds)
        await anyio.sleep(seconds)
        return "slept"

    @server.tool()
    def die(how: str, ctx: Context) -> str:
        """End the server's process, after doing something. With `once` only the first time."""
        if how != "once" or note(ctx, "die", how=how) == 1:
            os._exit(7)
        return "survived"

    @server.tool()
    def fail(how: str) -> str:
        """Fail in one of several ways."""
        if how == "tool":
            raise ToolError("there is no money")
        if how == "own":
            raise MCPError(4711, "closed on Sundays")
        if how == "wrong":
            raise MCPError(-32602, "amount is odd")
        raise MCPError(-32603, "something broke")

    @server.tool()
    def tell() -> str:
        """What the server was started with."""
        return os.environ.get("BANK_LOGIN", "nothing")

    @server.tool()
    def picture() -> list[Any]:
        """A picture with words."""
        pixel = ImageContent(type="image", mime_type="image/png", data=PIXEL)
        large = base64.b64encode(bytes(60_000)).decode()
        return ["one pixel", pixel, ImageContent(type="image", mime_type="image/png", data=large)]

    @server.tool()
    def move(amount: int, ctx: Context, sure: Annotated[ElicitationResult[Sure], Resolve(ask_sure)]) -> str:
        """Move an amount, when somebody is sure."""
        if sure.action != "accept" or not sure.data.sure:
            return f"not moved: {sure.action}"
        return f"moved {amount}, call {note(ctx, 'move', amount=amount, reason=sure.data.reason)}"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def vault(
        amount: int,
        ctx: Context,
        sure: Annotated[ElicitationResult[Sure], Resolve(ask_sure)],
        code: Annotated[ElicitationResult[Code], Resolve(ask_code)],
    ) -> str:
        """Look into the vault, with two answers one after the other."""
        return f"{sure.data.sure} {code.data.code}"

    return server


def main() -> None:
    """The program."""
    given = argparse.ArgumentParser()
    given.add_argument("calls", type=Path)
    given.add_argument("--http", action="store_true")
    given.add_argument("--key", default=SECRET)
    given.add_argument("--port", type=int, default=0)
    options = given.parse_args()
    server = make_server(options.calls, options.key)
    if not options.http:
        server.run()
        return
    import socket

    import uvicorn

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", options.port))
    listening.listen()
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="error")).run(sockets=[listening])


if __name__ == "__main__":
    main()
