"""SIGTERM and SIGINT end every command within five seconds, in the middle of what takes it long."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.command import User, clean_environment
from tests.support.durable import Desk

WITHIN_S = 15
"""The promise is five; this tells a command that hangs from a machine that is busy."""
HELD = "never"
ASK = "  - id: ask\n    approval: {ask: Shall it go on?}\n"


@dataclass
class Work:
    """A command that takes long, and whether it is in the middle of it."""

    desk: Desk
    words: list[str]
    busy: Callable[[], bool]


@pytest.fixture
def desk(newcomer: User) -> Iterator[Desk]:
    made = Desk.make(newcomer)
    yield made
    made.path(HELD).touch()


def _held(desk: Desk, *words: str) -> Work:
    """A command whose run is held by a handler that never ends."""
    before = len(desk.marks)
    return Work(desk, list(words), lambda: len(desk.marks) > before)


def _run(desk: Desk) -> Work:
    desk.write("w", desk.step("hold", until=HELD))
    return _held(desk, *desk.words("w"))


def _resume(desk: Desk) -> Work:
    work = _run(desk)
    with desk.user.start(*work.words) as process:
        _await(work.busy, process)
        process.kill()
        process.wait()
    return _held(desk, "resume", "w")


def _asked(desk: Desk) -> str:
    desk.write("w", ASK, desk.step("hold", "depends_on: ask", until=HELD))
    desk.json(*desk.words("w"), code=3)
    (wait,) = desk.json("inbox")["waits"]
    return str(wait["wait_id"])


def _answer(desk: Desk) -> Work:
    return _held(desk, "answer", _asked(desk), "--resume")


def _wake(desk: Desk) -> Work:
    desk.json("answer", _asked(desk))
    return _held(desk, "wake")


def _prove(desk: Desk) -> Work:
    desk.write("w", desk.step("mark"), desk.step("again", "depends_on: mark"))
    scratch = desk.path("scratch")
    scratch.mkdir()
    desk.user = desk.user.with_variables(TMPDIR=str(scratch))
    words = ["--catalog", str(desk.catalog), "prove", "w"]
    return Work(desk, words, lambda: any(scratch.glob("phaseline-prove-*/case-*/records")))


def _large(desk: Desk) -> None:
    text = "".join(f"  - {{id: s{n}, agent: ann, prompt: Say it.}}\n" for n in range(15_000))
    for number in range(30):
        (desk.catalog / f"large{number}.yaml").write_text(f"workflow: large{number}\nsteps:\n{text}")


def _reading(desk: Desk, command: str) -> Work:
    """A command that reads files which are large; it is into them a second after its start."""
    _large(desk)
    begun: list[float] = []

    def busy() -> bool:
        begun.append(time.monotonic())
        return begun[-1] - begun[0] > 1

    return Work(desk, ["--catalog", str(desk.catalog), command], busy)


def _up(desk: Desk) -> Work:
    desk.user = desk.user.with_variables(PREFECT_API_URL="")
    server = desk.user.home / "server"
    return Work(desk, ["up"], lambda: (server / "server.log").exists() or any(server.glob("*.log")))


COMMANDS: dict[str, Callable[[Desk], Work]] = {
    "run": _run,
    "resume": _resume,
    "answer --resume": _answer,
    "wake": _wake,
    "prove": _prove,
    "check": lambda desk: _reading(desk, "check"),
    "robots": lambda desk: _reading(desk, "robots"),
    "up": _up,
}
SILENT = {
    "show": ["show", "w"],
    "runs": ["runs"],
    "inbox": ["inbox"],
    "event": ["event", "paid", "--key", "7"],
    "cancel": ["cancel", "w"],
    "wake of a silent ledger": ["wake"],
}
"""Commands whose ledger is a database that accepts the connection and says nothing."""


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, signal.SIGTERM) for name in COMMANDS] + [(name, signal.SIGINT) for name in ("wake", "prove")],
)
def test_a_signal_ends_a_command_in_the_middle_of_its_work(
    desk: Desk, name: str, number: signal.Signals
) -> None:
    work = COMMANDS[name](desk)
    with desk.user.start(*work.words) as process:
        _await(work.busy, process)
        _assert_ended_by(process, number)
    assert "Traceback" not in desk.user.log.read_text()
    if name == "prove":
        assert list(desk.path("scratch").iterdir()) == []
    if name == "up":
        desk.user.phaseline("down")


@pytest.mark.parametrize("name", SILENT)
def test_a_signal_ends_a_command_that_waits_for_its_ledger(desk: Desk, name: str) -> None:
    pytest.importorskip("psycopg")
    with _silent_database() as (address, connected):
        user = desk.user.with_variables(PHASELINE_DATABASE_URL=address)
        with user.start(*SILENT[name]) as process:
            _await(connected, process)
            _assert_ended_by(process, signal.SIGTERM)
        assert "Traceback" not in user.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_proof_whenever_it_is_ended(desk: Desk, number: signal.Signals) -> None:
    """Before its server begins, while that starts, in the middle of a case, and of several of them."""
    work = _prove(desk)
    scratch = desk.path("scratch")
    moments: list[Callable[[], bool]] = [
        lambda: any(scratch.iterdir()),
        lambda: any(scratch.glob("phaseline-prove-*/server/*/*.log")),
        lambda: any(scratch.glob("phaseline-prove-*/case-*/records")),
        lambda: any(scratch.glob("phaseline-prove-*/case-00003")),
    ]
    for moment in moments:
        with desk.user.start(*work.words) as process:
            _await(moment, process)
            process.send_signal(number)
            process.wait(WITHIN_S)
            _await(lambda: not list(scratch.iterdir()) and not _processes_of(scratch))


KILLED_BEFORE_ITS_FORK = """\
import os, signal, sys
from deployments import cli
os.fork = lambda: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ['phaseline', *sys.argv[1:]]
sys.exit(cli.main())
"""


def test_nothing_is_left_of_a_proof_that_is_killed_before_there_is_anybody_to_remove_it(desk: Desk) -> None:
    words = _prove(desk).words
    with desk.user.started("-c", KILLED_BEFORE_ITS_FORK, *words) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert list(desk.path("scratch").iterdir()) == []


STUCK = """\
import os, sys, time, types
from deployments import cli
from deployments.prover.apart import run_apart
def stuck():
    print(os.getpid(), flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
def execute(args, out):
    return run_apart(stuck, out)
sys.modules['deployments.commands.robots'] = types.SimpleNamespace(execute=execute)
sys.argv = ['phaseline', 'robots']
sys.exit(cli.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_who_proves_is_ended_also_where_it_hears_no_signal(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], env=clean_environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        try:
            code = process.wait(WITHIN_S)
            assert code in (1, -number, 128 + number)
            if code == 1:  # else it had no time to see to its child, which real ones follow by themselves
                assert not Path(f"/proc/{child}").exists()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _await(reached: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not reached():
        assert process is None or process.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _assert_ended_by(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    assert process.wait(WITHIN_S) in (1, 128 + number)


@contextlib.contextmanager
def _silent_database() -> Iterator[tuple[str, Callable[[], bool]]]:
    """The address of a database that never answers, and whether somebody has asked it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        held: list[socket.socket] = []

        def connected() -> bool:
            with contextlib.suppress(BlockingIOError):
                held.append(listener.accept()[0])
            return bool(held)

        try:
            yield f"postgresql://me@127.0.0.1:{listener.getsockname()[1]}/ledger", connected
        finally:
            for each in held:
                each.close()


def _processes_of(folder: Path) -> list[str]:
    """Processes that have to do with a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (place / "cmdline").read_bytes() + (place / "environ").read_bytes():
                found.append(place.name)
    return found
