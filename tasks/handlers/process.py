"""Runs one handler of a skill in a process of its own.

Enforced now: a new process per call, ended with all it started when it returns, times out or is cancelled,
and when our own process dies (process_keeper; on Linux also what went into a session of its own); the code
from a private copy of the pinned files, without bytecode (pinned_code.py); an environment of PATH, HOME,
TMPDIR, LANG, a thread setting and the mark of a run, so that no key of ours is handed over; our own
environment and memory closed to it in `/proc` (blocks.process.privacy; not to root); a scratch folder as
working directory, removed afterwards; documents as read-only files in it; limits on memory
(Linux), processor time, file size and open files; caps on the result and on what is printed; the result
on a pipe of its own and read as untrusted JSON.

Not enforced yet: the handler runs as our own user, so it can read and write whatever we can, use the network,
start processes (memory counts per process), and kill the process that keeps it. A key it returns or prints
into an error is replaced before it is stored or sent on (tasks.secrets), which stops accidents, not a handler
that encodes it or sends it away itself. Run handlers you would run yourself. `_launch` is the one place that
decides how the process is started; full containment replaces what it returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.process.privacy import WITHIN_RUN
from blocks.secrecy import secrets
from tasks.handlers.faults import HandlerCrashed, HandlerError, HandlerOutput, HandlerTimeout
from tasks.handlers.files import code_folder, remove_scratch, write_files
from tasks.handlers.pinned_code import Code
from tasks.process_keeper import kill_escaped
from tasks.values import DocumentFile

OUTPUT_LIMIT = 8 * 2**20
MEMORY = 2 * 2**30
"""Bytes a handler may use on top of the interpreter when its skill names no limit."""
PRINT_KEPT = 64 * 2**10
PRINT_LIMIT = 16 * 2**20
FILE_SIZE = 256 * 2**20
OPEN_FILES = 256

_CHILD = Path(__file__).with_name("child.py")
_GRACE = 5.0  # seconds to read what a process that has ended left in its pipes


@dataclass(frozen=True, slots=True)
class _Launch:
    """How the process is started."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    descriptors: tuple[int, ...]


async def run_handler(
    *,
    code: Code,
    function: str,
    arguments: Mapping[str, Any],
    documents: Mapping[str, DocumentFile | Sequence[DocumentFile]],
    timeout: float,  # noqa: ASYNC109  the call's limit is part of what a skill declares
    memory: int | None = None,
    output_limit: int = OUTPUT_LIMIT,
    scratch_root: Path | None = None,
) -> Any:
    """Call `function` of the file that `code` names and give its result, which is JSON.

    `documents` maps the parameters annotated `Path` (or `list[Path]`) to their documents; `arguments` holds
    the others. `timeout` is seconds of wall time, the copy of the code and the start of the process included;
    `memory` bytes (None: `MEMORY`); `output_limit` bytes of the result's JSON; the scratch folder is made in
    `scratch_root` (None: the system's place for temporary files). Raises HandlerError, HandlerTimeout,
    HandlerCrashed, HandlerOutput, and what `code.copy` raises. A cancelled call leaves no process of the
    handler's group and no scratch folder.
    """
    made = await asyncio.to_thread(tempfile.mkdtemp, prefix="phaseline-handler-", dir=scratch_root)
    scratch = Path(made)
    try:
        call = {
            "function": function,
            "arguments": dict(arguments),
            "limits": _limits(timeout, MEMORY if memory is None else memory, output_limit),
        }
        running = _Running(function, output_limit, _Names(code_folder(scratch), code.shown))
        try:
            async with asyncio.timeout(timeout):
                call |= await _write_scratch(scratch, code, documents)
                return await running.result(json.dumps(call).encode(), scratch)
        except TimeoutError:
            cure = "give the skill a longer timeout, or the handler less to do"
            message = f"{function} took longer than {timeout:g} s and was stopped"
            raise HandlerTimeout(message, cure, running.printed) from None
        finally:
            await asyncio.shield(running.end())
    finally:
        await asyncio.shield(asyncio.to_thread(remove_scratch, scratch))


async def _write_scratch(
    scratch: Path, code: Code, documents: Mapping[str, DocumentFile | Sequence[DocumentFile]]
) -> dict[str, Any]:
    """What `write_files` gives. Cut off, it writes no more once this returns: its folder is removed then."""
    over = threading.Event()
    writing = asyncio.create_task(asyncio.to_thread(write_files, scratch, code, documents, over))
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        over.set()
        writing.add_done_callback(
            lambda ended: ended.cancelled() or ended.exception()
        )  # nobody asks any more
        await asyncio.wait({writing}, timeout=_GRACE)
        raise


def _launch(scratch: Path, answer: int, lifeline: int) -> _Launch:
    """The command, environment and folder of a handler's process. Containment is decided here alone."""
    work = scratch / "work"
    work.mkdir()
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(work),
        "TMPDIR": str(work),
        "LANG": "C.UTF-8",
        # Else every core adds address space for a thread of linear algebra, against the memory limit.
        "OPENBLAS_NUM_THREADS": "1",
        WITHIN_RUN: "1",
    }
    # -I: no PYTHON* variables, no user site, not the working folder; installed packages stay importable.
    argv = (sys.executable, "-I", "-B", "-X", "utf8", str(_CHILD), str(answer), str(lifeline))
    return _Launch(argv, env, work, (answer, lifeline))


def _limits(timeout: float, memory: int, output: int) -> dict[str, int]:
    """For the child. Processor time only backs the timeout up, so that every core may be used."""
    return {
        "cpu": math.ceil(timeout) * (os.cpu_count() or 1) + 5,
        "memory": memory,
        "file_size": FILE_SIZE,
        "open_files": OPEN_FILES,
        "output": output,
    }


class _Names:
    """What people read names the author's folder, not the copy that runs."""

    def __init__(self, copy: Path, folder: str) -> None:
        self._copies = sorted({str(copy), str(copy.resolve())}, key=len, reverse=True)
        self._folder = folder

    def restore_paths(self, text: str) -> str:
        """A text of the handler for people."""
        for copy in self._copies:
            text = text.replace(copy, self._folder)
        return text

    def restore_paths_in(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """The same for an error it answered with."""
        return {name: self.restore_paths(v) if isinstance(v, str) else v for name, v in error.items()}


class _Running:
    """One handler's process with its pipes."""

    def __init__(self, function: str, output_limit: int, names: _Names) -> None:
        self._function = function
        self._names = names
        self._limit = output_limit
        self._kept = bytearray()
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None
        self._pipes: list[asyncio.ReadTransport] = []
        self._tasks: list[asyncio.Task[Any]] = []

    @property
    def printed(self) -> str:
        """The beginning of what it printed."""
        return self._names.restore_paths(self._kept.decode("utf-8", "replace"))

    async def result(self, call: bytes, scratch: Path) -> Any:
        """Start the process and give the value the handler returned."""
        process, answer, output = await self._begin(scratch)
        answering = self._start(self._read_answer(answer))
        printing = self._start(self._drain(output))
        ending = self._start(process.wait())
        self._start(_give(process, call))
        waiting: set[asyncio.Task[Any]] = {answering, printing, ending}
        while not (answering.done() or ending.done()):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if printing in done:
                printing.result()  # raises HandlerOutput when it printed too much
        if not answering.done() or answering.result() is None:
            # No answer can come any more. Whatever it started must not hold the pipes open and us waiting.
            self._let_go()
            await asyncio.wait({answering, printing}, timeout=_GRACE)
        if printing.done():
            printing.result()
        body = answering.result() if answering.done() else None
        if body is None:
            raise HandlerCrashed(self._function, await process.wait(), self.printed)
        return self._value(body)

    async def _begin(
        self, scratch: Path
    ) -> tuple[asyncio.subprocess.Process, asyncio.StreamReader, asyncio.StreamReader]:
        answer, answer_end = await self._pipe()
        try:
            output, output_end = await self._pipe()
        except BaseException:
            os.close(answer_end)
            raise
        lifeline, self._lifeline = os.pipe()
        try:
            launch = _launch(scratch, answer_end, lifeline)
            self._process = await asyncio.create_subprocess_exec(
                *launch.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=output_end,
                stderr=output_end,
                env=launch.env,
                cwd=launch.cwd,
                pass_fds=launch.descriptors,
                start_new_session=True,
            )
        finally:
            for descriptor in (answer_end, output_end, lifeline):
                os.close(descriptor)
        return self._process, answer, output

    async def _pipe(self) -> tuple[asyncio.StreamReader, int]:
        """A pipe read by this loop, and the descriptor to write to it."""
        reading, writing = os.pipe()
        stream = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
            )
        except BaseException:
            os.close(writing)
            raise
        self._pipes.append(transport)
        return stream, writing

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def _read_answer(self, stream: asyncio.StreamReader) -> bytes | None:
        """The answer's body; None when the pipe closed before it was whole."""
        try:
            length = int.from_bytes(await stream.readexactly(8), "big")
            if length > self._limit + 4_096:  # the child itself answers for honest results that are too large
                raise self._too_large(length)
            return await stream.readexactly(length)
        except asyncio.IncompleteReadError:
            return None

    async def _drain(self, output: asyncio.StreamReader) -> None:
        """Read what is printed, keep its beginning. Raises HandlerOutput past the limit."""
        seen = 0
        while piece := await output.read(2**16):
            seen += len(piece)
            self._kept += piece[: PRINT_KEPT - len(self._kept)]
            if seen > PRINT_LIMIT:
                message = f"{self._function} printed more than {PRINT_LIMIT // 2**20} MiB and was stopped"
                raise HandlerOutput(message, "return data, print little", self.printed)

    def _value(self, body: bytes) -> Any:
        try:
            answer = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict) and "ok" in answer:
            return answer["ok"]
        if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
            raise HandlerError(self._function, self._names.restore_paths_in(answer["error"]), self.printed)
        if isinstance(answer, dict) and isinstance(answer.get("size"), int):
            raise self._too_large(answer["size"])
        unfit = str(answer["unfit"]) if isinstance(answer, dict) and "unfit" in answer else ""
        detail = f": {secrets.current_secrets().text(unfit)[:500]}" if unfit else ""
        cure = "return dicts with text keys, lists, text, finite numbers, booleans and None only"
        raise HandlerOutput(
            f"{self._function} returned something that is not JSON{detail}", cure, self.printed
        )

    def _too_large(self, size: int) -> HandlerOutput:
        message = f"{self._function} returned {size:,} bytes; {self._limit:,} is the most"
        return HandlerOutput(message, "return less, such as a summary or the first rows", self.printed)

    def _let_go(self) -> None:
        """Whoever keeps the handler kills all that is left of it."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    async def end(self) -> None:
        """Kill whatever is left, reap the process, close the pipes."""
        self._let_go()
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), _GRACE)
            except TimeoutError:  # stopped by its own handler, say
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                await self._process.wait()
            await asyncio.to_thread(kill_escaped, self._process.returncode)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pipe in self._pipes:
            pipe.close()


async def _give(process: asyncio.subprocess.Process, call: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it has ended; its status tells why
        process.stdin.write(call)
        await process.stdin.drain()
    process.stdin.close()


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
