"""One stopped process freezes nobody: Ctrl-Z, SIGSTOP and locks, against the real command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.ledger import Ledger, RunStart, StepRecord
from blocks.ledger.waits.waits import WaitStart
from blocks.process import file_locks
from tests.support.command import ROOT, User, clean_environment
from tests.support.durable import eventually
from tests.support.ledgers import user_with
from tests.support.stopped import is_stopped, stopped_in_a_write, stopped_with_a_lock

READING = [("runs",), ("show", "w"), ("inbox",)]
WRITING = [("answer", "WAIT"), ("cancel", "w"), ("event", "paid", "--key", "4711")]


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody with a run that waits for an answer, and whose deadline for another one has passed."""
    return user_with(tmp_path, _begun)


async def _begun(ledger: Ledger) -> None:
    lease = await ledger.begin_run(RunStart(run_id="w", workflow="w"))
    await ledger.record_step(lease, StepRecord(step_path="ask", state="waiting"))
    for key, deadline in (("one", None), ("late", 1)):
        start = WaitStart(
            run_id="w", step_path=key, wait_key=key, kind="approval", ask="Ship?", deadline=deadline
        )
        await ledger.waits.open(lease, start)
    await ledger.finish_run(lease, "waiting")


def wait_id(user: User) -> str:
    with Ledger.open(user.home / "ledger.db") as ledger:
        return next(w.wait_id for w in ledger.waits.list_open("default") if w.step_path == "one")


@pytest.fixture
def stopped(user: User) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody else's process, stopped in the middle of a write to the same ledger."""
    with stopped_in_a_write(user.home / "ledger.db") as process:
        yield process


@pytest.mark.parametrize("words", READING)
def test_reading_goes_on_and_names_who_holds_up_the_rest(
    user: User, stopped: subprocess.Popen[bytes], words: tuple[str, ...]
) -> None:
    answer = user.phaseline(*words, timeout=30)
    assert answer.code == 0, answer
    assert "w" in answer.out
    assert f"is held by process {stopped.pid}" in answer.err and "is stopped" in answer.err
    assert f"kill -CONT {stopped.pid}" in answer.err
    assert user.phaseline(*words, "--json", timeout=30).document


@pytest.mark.parametrize("words", WRITING)
def test_writing_ends_within_its_bound_with_the_cure(
    user: User, stopped: subprocess.Popen[bytes], words: tuple[str, ...]
) -> None:
    given = [wait_id(user) if word == "WAIT" else word for word in words]
    answer = user.phaseline(*given, timeout=60)
    assert answer.code == 1, answer
    assert "waiting for the ledger" in answer.err
    assert f"is held by process {stopped.pid}" in answer.err and "is stopped" in answer.err
    assert f"kill -CONT {stopped.pid}" in answer.err and "Traceback" not in answer.err
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.wait(30) == 0
    again = user.phaseline(*given)
    assert again.code == 0, again
    assert "is held by" not in again.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_at_once(
    user: User, stopped: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    with user.start("answer", wait_id(user)) as process:
        eventually(lambda: "waiting for the ledger" in user.log.read_text())
        process.send_signal(number)
        assert process.wait(5) == 1
    assert "Traceback" not in user.log.read_text()


def test_what_was_refused_is_not_written_later(user: User, stopped: subprocess.Popen[bytes]) -> None:
    assert user.phaseline("answer", wait_id(user)).code == 1
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.wait(30) == 0
    with Ledger.open(user.home / "ledger.db") as ledger:
        assert {row.state for row in ledger.waits.list_open("default")} == {"open"}


def test_the_first_command_of_a_new_version_waits_no_longer(
    user: User, stopped: subprocess.Popen[bytes]
) -> None:
    """What makes or renews the tables takes the same lock."""
    database = user.home / "ledger.db"
    other = database.with_name("other.db")
    other.with_name("other.db.lock").touch()
    with stopped_with_a_lock(other.with_name("other.db.lock")) as holder:
        elsewhere = user.with_variables(PHASELINE_DATABASE_URL=str(other))
        answer = elsewhere.phaseline("runs", timeout=60)
    assert answer.code == 1 and f"process {holder.pid}" in answer.err, answer
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("lock", ["start.lock", "busy.lock"])
def test_the_server_s_locks_are_no_different(user: User, lock: str) -> None:
    folder = user.home / "server"
    folder.mkdir(mode=0o700)
    (folder / lock).touch()
    with stopped_with_a_lock(folder / lock) as holder:
        answer = user.phaseline("up", timeout=60)
        with user.start("up") as process:
            eventually(lambda: "waiting for the local Prefect server" in user.log.read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 1
    assert answer.code == 1, answer
    assert f"process {holder.pid}" in answer.err and f"kill -CONT {holder.pid}" in answer.err
    assert not (folder / "server.json").exists()


WRITER = """if 1:
    import sys, time
    from pathlib import Path
    from blocks.process.job_control import stops_put_off
    from blocks.ledger import Ledger
    inside = Path(sys.argv[2])
    def slow(connection):
        inside.touch()
        time.sleep(1)
        return True
    with stops_put_off(), Ledger.open(sys.argv[1]) as ledger:
        ledger.access.write_blocking(slow, "test")
        inside.with_name("written").touch()
"""


def test_ctrl_z_waits_for_the_end_of_a_write(user: User, tmp_path: Path) -> None:
    """The terminal's stop signal, unlike SIGSTOP, can be put off: nothing is held up at all."""
    database, inside = user.home / "ledger.db", tmp_path / "inside"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(database), str(inside)],
        env=clean_environment(user.home),
        cwd=ROOT,
        process_group=0,  # of this session: signals of a terminal do not stop an orphaned group
    )
    try:
        eventually(inside.exists)
        assert not file_locks.is_free(Path(f"{database}.lock"))
        process.send_signal(signal.SIGTSTP)
        eventually(lambda: is_stopped(process.pid))
        assert file_locks.is_free(Path(f"{database}.lock"))
        assert user.phaseline("cancel", "w", timeout=30).code == 0
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(30) == 0
        assert inside.with_name("written").exists()
    finally:
        process.kill()
        process.wait()


WAITER = """if 1:
    import sys, time
    from pathlib import Path
    from blocks.process.job_control import stops_put_off
    with stops_put_off():
        Path(sys.argv[1]).touch()
        while not Path(sys.argv[2]).exists():
            time.sleep(0.05)
"""


def test_a_command_stops_and_goes_on_by_ctrl_z(user: User, tmp_path: Path) -> None:
    """What waits for a person at a terminal is stopped as ever, again and again."""
    begun, over = tmp_path / "begun", tmp_path / "over"
    process = subprocess.Popen(
        [sys.executable, "-c", WAITER, str(begun), str(over)],
        env=clean_environment(user.home),
        cwd=ROOT,
        process_group=0,
    )
    try:
        eventually(begun.exists)
        for _ in range(2):
            process.send_signal(signal.SIGTSTP)
            eventually(lambda: is_stopped(process.pid))
            os.kill(process.pid, signal.SIGCONT)
            eventually(lambda: not is_stopped(process.pid))
        over.touch()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
