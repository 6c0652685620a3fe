"""Locks of files: who has one is told, and every wait for one ends."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from blocks.process import file_locks
from tests.support.prefect_server import ROOT, wait_until
from tests.support.stopped import stopped_with_a_lock

SLEEPER = "import sys, time; print(flush=True); time.sleep(600)"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "a.lock"
    path.touch()
    return path


@contextmanager
def inherited(lock: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child that was left the lock, as by a command that has ended."""
    with lock.open("r+b") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        child = subprocess.Popen([sys.executable, "-c", SLEEPER], pass_fds=(file.fileno(),))
        file_locks.sign(file.fileno(), child.pid)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_nobody_has_a_free_lock(lock: Path) -> None:
    assert file_locks.is_free(lock) and file_locks.is_free(lock.with_name("none"))
    assert file_locks.find_holder(lock) is None


def test_who_was_left_a_lock_is_its_holder(lock: Path) -> None:
    with inherited(lock) as child:
        assert not file_locks.is_free(lock)
        holder = file_locks.find_holder(lock)
        assert holder is not None and (holder.pid, holder.stopped) == (child.pid, False)
        assert f"kill {child.pid}" in holder.cure
    wait_until(lambda: file_locks.is_free(lock))


def test_a_signature_of_another_place_names_nobody(lock: Path) -> None:
    with inherited(lock) as child:
        lock.write_text(f"{child.pid} another-boot/pid:[1]")
        holder = file_locks.find_holder(lock)
        assert holder is None or holder.pid != child.pid


def test_a_stopped_holder_is_not_waited_for_as_long(lock: Path) -> None:
    said: list[str] = []
    with stopped_with_a_lock(lock) as stopped, lock.open("rb") as file:
        with pytest.raises(file_locks.StillHeld) as caught:
            file_locks.wait_for(
                lambda: file_locks.try_lock(file.fileno()),
                lock,
                "the thing",
                bound=60,
                stopped_bound=2,
                say=said.append,
            )
        assert caught.value.holder is not None and caught.value.holder.pid == stopped.pid
        assert caught.value.waited < 30
    assert said[0].startswith(f"waiting for the thing: it is held by process {stopped.pid}")
    assert f"kill -CONT {stopped.pid}" in said[1]


def test_a_wait_ends_when_nobody_wants_it_any_more(lock: Path) -> None:
    asked: list[int] = []
    with inherited(lock), lock.open("rb") as file, pytest.raises(file_locks.StillHeld):
        file_locks.wait_for(
            lambda: file_locks.try_lock(file.fileno()),
            lock,
            "the thing",
            given_up=lambda: asked.append(1) or len(asked) > 3,
        )


def test_arguments_of_commands_are_not_shown(lock: Path) -> None:
    words = ["-c", SLEEPER, "deployments.cli", "--catalog", "/c", "run", "w", "-i", "key=sk-secret"]
    child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        shown = file_locks.Holder(child.pid, file_locks._command(child.pid), 3.0, True).shown
    finally:
        child.kill()
        child.wait()
        child.stdout.close()  # type: ignore[union-attr]
    assert shown == f"process {child.pid} (phaseline run), for 3 s, and is stopped"
