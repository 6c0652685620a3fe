"""The command `phaseline`: reads the command line, calls one command, turns errors into exit codes.

Exit codes: 0 done, 1 failed or cancelled, 2 invalid definition or usage, 3 waiting for a person, 4 stopped
by a budget or provider quota. Only the standard library is imported here, and a command's own module once
it is known which one is meant: `--version` should not pay for the rest.
"""

# The search path is cleaned first: even `from __future__` would be an import before that.

from deployments.startup import search_path

if __name__ == "__main__":
    search_path.ignore_working_folder()
if __name__ == "__main__" or search_path.is_program():
    search_path.forget_working_folder()

import atexit
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployments.startup import provenance

if TYPE_CHECKING:
    from types import TracebackType

    from deployments.terminal.display import Out

CANCELLED = 1
INVALID = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. `argv` is without the program's name."""
    words = list(sys.argv[1:] if argv is None else argv)
    _speak_utf8()
    json_mode = "--json" in words
    if argv is None:
        search_path.forget_working_folder()
    try:
        provenance.refuse_intruders()
        return _main(words, argv is None, json_mode)
    except provenance.Intruder as wrong:
        message, cure = wrong.args
        _report_intruder(message, cure, json_mode)
        return INVALID


def _main(words: list[str], is_program: bool, json_mode: bool) -> int:
    from blocks.paths import come_back
    from blocks.process.ending import ending_in_time
    from blocks.process.job_control import stops_put_off
    from deployments.terminal.display import Out, OutputClosed

    if is_program:
        from blocks.process.privacy import adopt_orphans, close_memory

        close_memory()
        adopt_orphans()
        sys.excepthook = _mask_traceback
    out = Out(json_mode)
    # What is ours is ours to use, whatever the umask: no mask takes the owner's own rights.
    os.umask(os.umask(0o077) & 0o077)
    try:
        with ending_in_time(stays=is_program), stops_put_off():
            code = _run(words, out)
            out.flush()
            if is_program:
                _ends_with(code)
    except OutputClosed:
        _silence_output()
        return CANCELLED
    finally:
        if not is_program:
            come_back()
    return code


def _run(words: list[str], out: "Out") -> int:
    from deployments.startup.working_folder import guard_imports
    from deployments.terminal.arguments import HOMELESS, Answered, read
    from workflows.core.errors import PhaselineError

    try:
        args = read(words)
        if args.module not in HOMELESS:
            _close_home(args.home, out)
        _learn_secrets(getattr(args, "catalog", None))
        with guard_imports(args.home):
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


def _close_home(home: Path, out: "Out") -> None:
    """Refuses a home that others may have put things into; closes one that they could only read."""
    from blocks.home import check_home

    if check_home(home):
        out.note(f"the home {home} was open to other users; it is closed now (mode 0700)", "yellow")


def _learn_secrets(catalog: Path | None) -> None:
    """What the catalog's agents take keys and servers' entries from is a secret to every command."""
    from blocks.secrecy import secrets

    def names() -> frozenset[str]:
        from workflows.core.tools.secret_names import variables_of_catalog

        return variables_of_catalog(Path(catalog)) if catalog is not None else frozenset()

    secrets.learn_from(names)


def _mask_traceback(kind: type[BaseException], fault: BaseException, trace: "TracebackType | None") -> None:
    """A fault of our own is shown whole, but for known secrets."""
    import traceback

    from blocks.secrecy import secrets

    sys.stderr.write(secrets.current_secrets().text("".join(traceback.format_exception(kind, fault, trace))))


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
    sys.exit(main())
