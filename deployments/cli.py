"""The command `phaseline`: reads the command line, calls one command, turns errors into exit codes.

Exit codes: 0 done, 1 failed or cancelled, 2 invalid definition or usage, 3 waiting for a person, 4 stopped
by a budget or provider quota. Only the standard library is imported here, and a command's own module once
it is known which one is meant: `--version` should not pay for the rest.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments import provenance

if TYPE_CHECKING:
    from deployments.display import Out

CANCELLED = 1
INVALID = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. `argv` is without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    _speak_utf8()
    json_mode = "--json" in words
    if wrong := provenance.intruder():
        _report_intruder(*wrong, json_mode)
        return INVALID
    from blocks.ending import ending_in_time
    from deployments.display import Out, OutputClosed

    out = Out(json_mode)
    try:
        with ending_in_time(stays=argv is None):
            code = _run(words, out)
            out.flush()
            if argv is None:
                _ends_with(code)
    except OutputClosed:
        _silence_output()
        return CANCELLED
    return code


def _run(words: list[str], out: Out) -> int:
    from deployments.arguments import Answered, read
    from workflows.core.errors import PhaselineError

    try:
        args = read(words)
        return int(_command(args.module).execute(args, out))
    except Answered as answer:
        out.document(answer.document)
        out.line(answer.text)
        return 0
    except PhaselineError as fault:
        out.error(fault)
        return fault.exit_code
    except KeyboardInterrupt:
        out.error(PhaselineError("cancelled"))
        return CANCELLED


def _command(name: str) -> Any:
    import importlib

    return importlib.import_module(f"deployments.commands.{name}")


def _ends_with(code: int) -> None:
    """Everything is said: a signal that comes while Python ends does not change the exit code."""

    def handle(handler: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)

    handle(lambda *_: os._exit(code))
    atexit.register(handle, signal.SIG_IGN)  # last, Python puts its own handlers back to the system's


def _speak_utf8() -> None:
    """UTF-8 in every locale; what cannot be encoded (a file name's odd byte) is spelt out.

    A stream that was closed before we began (`phaseline runs >&-`) is replaced by one that goes nowhere.
    """
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # absent where a test put its own stream
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")


def _silence_output() -> None:
    """Give the interpreter somewhere to flush to at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _report_intruder(message: str, cure: str, json_mode: bool) -> None:
    """By hand: with a foreign `workflows` on the path our own error type cannot be imported."""
    if json_mode:
        sys.stdout.write(
            json.dumps({"status": "invalid", "error": {"message": message, "cure": cure}}) + "\n"
        )
    else:
        sys.stderr.write(f"error: {message}\n  cure: {cure}\n")


if __name__ == "__main__":
    provenance.ignore_working_folder()
    sys.exit(main())
