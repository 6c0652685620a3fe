"""An MCP server as a process of ours, spoken to in lines of JSON over its standard input and output.

The SDK's own transport reads a line of any length, and what it starts outlives us when the server does not
heed the end of its input. Here a line has a limit, and the server runs below process_keeper.py, which ends it
and all it started when we let go or die.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import mcp.types as types
from mcp.shared.message import SessionMessage

from blocks.process.privacy import WITHIN_RUN
from tasks.process_keeper import kill_escaped
from tasks.servers.attempts import ANSWER_BYTES
from workflows.core.models.agent import McpServer
from workflows.core.text.cut_text import MARK, cut_before

GRACE = 2.0
"""Seconds a server has after the end of its input, and again after a SIGTERM."""

_END_SECONDS = 2 * GRACE + 4
_FLUSH_SECONDS = 0.5
_SAID_BYTES, _SAID_CHARS = 8_000, 1_500
_PIECE = 64 * 1024
_KEEPER = Path(__file__).parents[1] / "process_keeper.py"
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TZ", "USER")
"""What every program expects. Nothing of ours: no key, no PHASELINE_*, no PREFECT_*, not where we work."""


def server_environment(entry: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """All a server gets: a few variables of ours, what its entry says, and the mark of a run."""
    inherited = {name: ours[name] for name in _INHERITED if name in ours}
    return {**inherited, **entry, WITHIN_RUN: "1"}


class StdioServer:
    """One server's process. `server` is expanded; a relative `cwd` starts at `root`."""

    def __init__(self, server: McpServer, root: Path) -> None:
        self.too_large = False
        """Whether it sent a message over ANSWER_BYTES; nothing is read from it after that."""
        self._server, self._root = server, root
        self._said = bytearray()
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def transport(self) -> AsyncIterator[Any]:
        """The streams the SDK works with. Raises OSError when it cannot be started."""
        with tempfile.TemporaryDirectory(prefix="phaseline-server-", ignore_cleanup_errors=True) as empty:
            # Never the folder we work in: a server finds a user's files there only where its entry says so.
            folder = self._root / self._server.cwd if self._server.cwd is not None else Path(empty)
            read_in, read_out = anyio.create_memory_object_stream[Any](0)
            write_in, write_out = anyio.create_memory_object_stream[SessionMessage](0)
            with read_in, read_out, write_in, write_out:
                async with self._process(folder) as process:
                    self._work(self._read_messages(process, read_in))
                    writing = self._work(_write(process, write_out, read_in))
                    try:
                        yield read_out, write_in
                    finally:
                        read_out.close()
                        write_in.close()
                        await asyncio.wait({writing}, timeout=_FLUSH_SECONDS)

    async def last_words(self, clean: Callable[[str], str]) -> str:
        """The end of what it printed to its error stream, its last lines, cut once they are `clean`."""
        if self._tasks:
            await asyncio.wait({self._tasks[0]}, timeout=_FLUSH_SECONDS)
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines() if line.strip()]
        if len(self._said) >= _SAID_BYTES:  # the first was cut
            lines = lines[1:] if len(lines) > 1 else [MARK + line for line in lines]
        return cut_before(clean(" / ".join(lines[-3:])), _SAID_CHARS)

    @contextlib.asynccontextmanager
    async def _process(self, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        """The process, started; ended with everything it started when this is left."""
        environment = server_environment(self._server.env, os.environ)
        command = _find_command(self._server.command or "", folder, environment.get("PATH"))
        keeper = (sys.executable, "-I", "-S", "-B", str(_KEEPER))
        lifeline, ours = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(*keeper, str(lifeline), str(GRACE), command, *self._server.args),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd=folder,
                pass_fds=(lifeline,),
                start_new_session=True,
                limit=ANSWER_BYTES,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(lifeline)
        self._work(self._listen(process))
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            os.close(ours)
            await asyncio.shield(_end(process, self._tasks))

    def _work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def _read_messages(self, process: asyncio.subprocess.Process, into: Any) -> None:
        """Messages, until the end of its output or one that is too large; what comes then is thrown away."""
        assert process.stdout is not None
        async with into:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                while (line := await self._read_line(process.stdout)) is not None:
                    if line.strip():
                        await into.send(_parse_message(line))
        with contextlib.suppress(ConnectionError):
            while await process.stdout.read(_PIECE):
                pass

    async def _read_line(self, output: asyncio.StreamReader) -> bytes | None:
        try:
            return await output.readuntil(b"\n")
        except asyncio.LimitOverrunError:
            self.too_large = True
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # its output has ended; half a line is no message
        return None

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keeps the end of its error stream, which must never fill up."""
        assert process.stderr is not None
        with contextlib.suppress(ConnectionError):
            while piece := await process.stderr.read(_PIECE):
                self._said += piece
                del self._said[:-_SAID_BYTES]


async def _write(process: asyncio.subprocess.Process, given: Any, answers: Any) -> None:
    assert process.stdin is not None
    try:
        async with given:
            async for message in given:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(line.encode() + b"\n")
                await process.stdin.drain()
    except OSError:
        await answers.aclose()  # it reads no more: the session sees the connection end


def _parse_message(line: bytes) -> Any:
    """A line as the SDK takes it; what is no message is handed over as the error."""
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


def _find_command(command: str, folder: Path, path: str | None) -> str:
    """The command as it can be started from that folder. Raises FileNotFoundError."""
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(folder))
    if os.sep in command:
        found = command if (folder / command).exists() else None
    else:
        found = shutil.which(command, path=path)
    if found is None:
        raise FileNotFoundError(2, "no such command", command)
    return found


async def _end(process: asyncio.subprocess.Process, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Waits until it is gone: its keeper sees to that. Its pipes may still be held by what escaped."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _END_SECONDS
    while process.returncode is None and loop.time() < deadline:  # noqa: ASYNC110 - `wait` waits for the pipes too
        await asyncio.sleep(0.01)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await asyncio.to_thread(kill_escaped, process.returncode)
    await asyncio.wait(tasks, timeout=_FLUSH_SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    transport = getattr(process, "_transport", None)  # nothing public closes it
    if transport is not None:
        with contextlib.suppress(PermissionError):
            transport.close()
