"""The process a handler runs in. Started by file path with `python -I -B`; imports the standard library only.

Arguments: the descriptor to answer on, and the lifeline of process_keeper.py, in whose child the handler
runs: it and all it started end with the call, or with the process that made it. Standard input: the call as
JSON (`file`, `function`, `arguments`, `documents`, `limits`). The answer is eight bytes of length, then JSON:
`{"ok": value}`, `{"error": {...}}` when the handler raised, `{"unfit": text}` when its value is not JSON.
An error says by `nothing_done` that the handler was not called, or that its exception has that attribute.
What the handler prints is never the answer.
"""

import asyncio
import contextlib
import importlib.util
import inspect
import json
import os
import resource
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_MESSAGE_CHARS = 32_000  # cut again by who shows it, once it holds no secret: half of one is not known
_FRAMES = 8


def main() -> None:
    answer, lifeline = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(answer, False)  # what the handler executes must not answer for it
    _continue_kept(lifeline, (0, 1, 2, answer))
    call = json.load(sys.stdin.buffer)
    _leave_standard_input()
    _set_limits(call["limits"])
    said = _make_answer(call)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the handler may have closed it
            stream.flush()
    _send(answer, said)
    os._exit(0)  # threads and exit hooks of the handler do not hold the process


def _leave_standard_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _continue_kept(lifeline: int, ours: tuple[int, ...]) -> None:
    """Goes on in a kept child."""
    beside = Path(__file__).parents[1] / "process_keeper.py"
    keeper = _load(beside, beside.stem)
    keeper.keep(lambda: None, lifeline, 0.0, ours)


def _set_limits(limits: dict[str, int]) -> None:
    """Bind this process and its children. Memory counts what the interpreter holds already on top."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu"],
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":  # elsewhere the kernel refuses or ignores it
        wanted[resource.RLIMIT_AS] = limits["memory"] + _memory_in_use()
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _memory_in_use() -> int:
    """Bytes of address space this process has already."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _make_answer(call: dict[str, Any]) -> bytes:
    file, begun = Path(call["file"]), False
    try:
        function = _load_function(file, call["function"])
        begun = True
        value = _call_function(function, call)
    except (SystemExit, KeyboardInterrupt):
        raise  # the handler ended its process; the exit status tells
    except BaseException as exc:  # noqa: BLE001  whatever a handler raises is its answer
        nothing = not begun or getattr(exc, "nothing_done", False) is True
        return _pack({"error": {**_describe_error(exc, file.parent), "nothing_done": nothing}})
    try:
        body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError, MemoryError) as exc:
        return _pack({"unfit": _text(exc)})
    if len(body) > call["limits"]["output"]:
        return _pack({"unfit": "", "size": len(body)})
    return b'{"ok":' + body + b"}"


def _load_function(file: Path, name: str) -> Callable[..., object]:
    sys.path.insert(0, str(file.parent))  # a handler may import its neighbours
    # A name of its own: a handler called `json` must not become the module `json`.
    function: Callable[..., object] = getattr(_load(file, f"skill_handler__{file.stem}"), name)
    return function


def _call_function(function: Callable[..., object], call: dict[str, Any]) -> object:
    documents = {
        name: [Path(p) for p in given] if isinstance(given, list) else Path(given)
        for name, given in call["documents"].items()
    }
    value = function(**call["arguments"], **documents)
    return asyncio.run(_wait(value)) if inspect.isawaitable(value) else value


async def _wait(value: Awaitable[object]) -> object:
    return await value


def _load(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _describe_error(exc: BaseException, folder: Path) -> dict[str, Any]:
    """The error, and where in the skill's own files it came from."""
    frames = []
    for frame in traceback.extract_tb(exc.__traceback__):
        if Path(frame.filename).parent == folder:
            frames.append(
                _cut(f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}", 3_000)
            )
    return {"type": type(exc).__name__, "message": _text(exc), "frames": frames[-_FRAMES:]}


def _text(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001  a handler's own exception class may be broken
        text = "(its message cannot be shown)"
    return _cut(text, _MESSAGE_CHARS)


def _cut(text: str, most: int) -> str:
    """Its beginning and a mark, as `cut` has it, which is not there in this process."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _pack(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()


def _send(answer: int, said: bytes) -> None:
    rest = memoryview(len(said).to_bytes(8, "big") + said)
    while rest:
        rest = rest[os.write(answer, rest) :]


if __name__ == "__main__":
    main()
