"""Locks, signatures, the record and the idle clock that client and supervisor share."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blocks.process import file_locks
from deployments.server import folder as server_folder
from deployments.server import kept_server as local_server
from deployments.server import supervisor as shared
from workflows.core.errors import PhaselineError

RECORD = {
    "api_url": "http://127.0.0.1:1/api",
    "ui_url": "http://127.0.0.1:1",
    "auth": "phaseline:hush",
    "port": 1,
    "pid": 2,
    "supervisor_pid": 3,
    "release": "prefect-3/1",
    "lifetime": "kept",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return server_folder.prepare(tmp_path)


def test_the_folder_is_closed_to_others_even_when_it_was_open(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir(mode=0o755)
    assert stat.S_IMODE(server_folder.prepare(tmp_path).stat().st_mode) == 0o700


def test_a_lock_is_held_until_its_descriptor_closes(folder: Path) -> None:
    lock = folder / shared.SUPERVISOR_LOCK
    assert not server_folder.is_held(lock)
    fd = file_locks.take(lock)
    assert fd is not None
    assert server_folder.is_held(lock)
    assert file_locks.take(lock) is None
    os.close(fd)
    assert not server_folder.is_held(lock)


def test_taking_a_lock_wipes_the_signature_of_the_last_holder(folder: Path) -> None:
    lock = folder / shared.SUPERVISOR_LOCK
    lock.write_text(f"1 {file_locks.place()}")
    fd = file_locks.take(lock)
    assert fd is not None
    assert server_folder.holder(lock) is None
    file_locks.sign(fd, 4711)
    assert server_folder.holder(lock) == 4711
    os.close(fd)


def test_a_holder_in_another_container_is_never_signalled(folder: Path) -> None:
    fd = file_locks.take(folder / shared.SUPERVISOR_LOCK)
    assert fd is not None
    os.pwrite(fd, f"{os.getpid()} elsewhere".encode(), 0)
    with pytest.raises(PhaselineError, match="another container or on another host"):
        local_server.down(folder.parent)
    with pytest.raises(PhaselineError, match="PHASELINE_HOME"):
        local_server.ensure(folder.parent)
    os.close(fd)


def test_the_record_is_for_its_owner_only_and_whole(folder: Path) -> None:
    shared.write_record(folder, RECORD)
    assert stat.S_IMODE((folder / shared.RECORD).stat().st_mode) == 0o600
    assert shared.read_record(folder) == RECORD
    assert [path.name for path in folder.glob(f"{shared.RECORD}*")] == [shared.RECORD]


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"port": 1})])
def test_an_unusable_record_counts_as_none(folder: Path, text: str) -> None:
    (folder / shared.RECORD).write_text(text)
    assert shared.read_record(folder) is None


def test_a_record_counts_only_while_the_supervisor_that_wrote_it_lives(folder: Path) -> None:
    shared.write_record(folder, RECORD)
    assert server_folder.live_record(folder) is None
    fd = file_locks.take(folder / shared.SUPERVISOR_LOCK)
    assert fd is not None
    file_locks.sign(fd, 4)
    assert server_folder.live_record(folder) is None, "written by an earlier supervisor"
    file_locks.sign(fd, 3)
    assert server_folder.live_record(folder) == RECORD
    os.close(fd)


def test_the_port_is_kept_when_free_and_replaced_when_taken() -> None:
    with shared.listen(0) as first:
        port = first.getsockname()[1]
        with shared.listen(port) as second:
            assert second.getsockname()[0] == "127.0.0.1"
            assert second.getsockname()[1] != port
    with shared.listen(port) as again:
        assert again.getsockname()[1] == port


def test_the_idle_clock_starts_again_with_every_use(folder: Path) -> None:
    used = folder / shared.USED
    idle = shared.Idle(used, limit=0.0)
    used.touch()
    os.utime(used, ns=(1, 1))
    idle.over()  # sees the change
    time.sleep(0.01)
    assert idle.over()
    long = shared.Idle(used, limit=3600)
    os.utime(used, ns=(2, 2))
    assert not long.over(), "a file time of long ago is a use like any other: the wall clock may jump"


def test_busy_commands_share_and_exclude_whoever_would_end_the_server(tmp_path: Path) -> None:
    with local_server.busy(tmp_path), local_server.busy(tmp_path):
        assert local_server.in_use(tmp_path)
        with server_folder.alone(tmp_path / "server") as nobody_busy:
            assert not nobody_busy
    assert not local_server.in_use(tmp_path)
    with (
        server_folder.alone(tmp_path / "server") as nobody_busy,
        pytest.raises(PhaselineError, match="being ended"),
        local_server.busy(tmp_path, wait=0),
    ):
        pass
    assert nobody_busy


def test_a_start_that_takes_too_long_elsewhere_is_told(folder: Path) -> None:
    fd = file_locks.take(folder / shared.START_LOCK)
    assert fd is not None
    with pytest.raises(PhaselineError, match="still being started"):
        local_server.ensure(folder.parent, wait=0)
    os.close(fd)


def test_a_process_that_ignores_the_request_to_end_is_killed(folder: Path) -> None:
    program = (
        "import signal, sys, time; from pathlib import Path; from blocks.process import file_locks as s; "
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); import os; "
        "s.sign(s.take(Path(sys.argv[1])), os.getpid()); print('ready', flush=True); time.sleep(600)"
    )
    lock = folder / shared.SERVER_LOCK
    with subprocess.Popen(
        [sys.executable, "-c", program, str(lock)],
        cwd=Path(shared.__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert server_folder._end(lock, grace=0.1)
        assert process.wait(30) == -signal.SIGKILL
    assert not server_folder._end(lock, grace=0.1)
