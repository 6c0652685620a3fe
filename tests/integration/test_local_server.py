"""The kept local server with real processes: started once, found again, killed, hung, idle, ended.

A start costs some seconds, so the tests share one home; each of them works from whatever state the one
before left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.server import folder as server_folder
from deployments.server import kept_server as local_server
from deployments.server import supervisor as shared
from deployments.server import tables as server_schema
from deployments.server.kept_server import ServerInfo
from tests.support.prefect_server import alive, finished, http_status, run_python, wait_until

ENSURE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from deployments.server import kept_server as local_server
info, how = local_server.ensure(Path(sys.argv[1]), wait=180)
print(json.dumps({**asdict(info), "how": how}))
"""

FLOW = """
import asyncio
from prefect import flow, get_client, task

@task
async def double(number):
    return number * 2

@flow
async def twenty():
    return sum(await asyncio.gather(*(double(n) for n in range(20))))

async def main():
    state = await twenty(return_state=True)
    assert await state.result() == 380
    async with get_client() as client:
        print(client.server_type.value, state.state_details.flow_run_id)

asyncio.run(main())
"""

COUNT = """
import asyncio, sys, uuid
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

async def main():
    only = FlowRunFilter(id=FlowRunFilterId(any_=[uuid.UUID(sys.argv[1])]))
    async with get_client() as client:
        for _ in range(240):
            runs = await client.read_task_runs(flow_run_filter=only)
            states = [run.state_type.value for run in runs if run.state_type]
            if states.count("COMPLETED") == 20:
                break
            await asyncio.sleep(0.25)
        print(*states)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("server-home")
    yield folder
    local_server.down(folder)


def ensure(home: Path, **options: object) -> tuple[ServerInfo, str]:
    return local_server.ensure(home, wait=180, **options)  # type: ignore[arg-type]


def short_idle(seconds: int) -> dict[str, str]:
    return {**os.environ, "PHASELINE_SERVER_IDLE": str(seconds)}


def test_five_processes_at_once_start_one_server(home: Path) -> None:
    local_server.down(home)
    answers = [json.loads(finished(process)) for process in [run_python(ENSURE, str(home)) for _ in range(5)]]
    ways = [answer.pop("how") for answer in answers]
    assert ways.count("started") == 1
    assert all(answer == answers[0] for answer in answers)
    assert ensure(home)[1] == "warm"
    found = local_server.status(home)
    assert found is not None
    assert found.pid == answers[0]["pid"]


def test_the_server_is_private(home: Path) -> None:
    info, _ = ensure(home)
    probe = f"{info.api_url}/admin/version"
    assert http_status(probe) == 401
    assert http_status(probe, "phaseline:wrong") == 401
    assert http_status(probe, info.auth) == 200
    folder = home / "server"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / shared.RECORD).stat().st_mode) == 0o600
    listening = [
        line.split()[1].split(":")[0]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{info.port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == ["0100007F"], "127.0.0.1 and nothing else"
    for pid in (info.pid, info.supervisor_pid):
        assert info.auth.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_user_interface_is_served_and_asks_for_the_auth_string(home: Path) -> None:
    import urllib.request

    info, _ = ensure(home)
    with urllib.request.urlopen(f"{info.ui_url}/ui-settings", timeout=30) as answer:
        settings = json.load(answer)
    assert settings["api_url"] == info.api_url
    assert settings["auth"] == "BASIC"
    assert settings["available_uis"]
    assert http_status(info.ui_url) == 200


def test_no_other_web_page_may_read_its_answers(home: Path) -> None:
    """Prefect lets them all; its login keeps them out, and here they are not even invited."""
    import urllib.request

    info, _ = ensure(home)
    allowed = {}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", info.ui_url):
        request = urllib.request.Request(f"{info.api_url}/health", headers={"Origin": origin})
        with urllib.request.urlopen(request, timeout=30) as answer:
            allowed[origin] = answer.headers.get("Access-Control-Allow-Origin")
    assert allowed.pop(info.ui_url) == info.ui_url
    assert set(allowed.values()) == {None}


def test_a_flow_records_every_task_run(home: Path) -> None:
    info, _ = ensure(home)
    variables = local_server.prefect_environment(info, home, {}) | {
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING"
    }
    flow = run_python(FLOW, **variables)
    kind, flow_run = finished(flow).split()
    assert kind == "SERVER", "not the in-process mode"
    assert finished(run_python(COUNT, flow_run, **variables)).split() == ["COMPLETED"] * 20


def test_after_kill_9_of_the_server_its_supervisor_starts_it_again_where_it_was(home: Path) -> None:
    before, _ = ensure(home)
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: (now := local_server.status(home)) and now.pid != before.pid, 180)
    after = local_server.status(home)
    assert after is not None
    assert (after.api_url, after.auth, after.supervisor_pid) == (
        before.api_url,
        before.auth,
        before.supervisor_pid,
    )
    assert http_status(f"{after.api_url}/admin/version", before.auth) == 200


def binds(foreign: socket.socket, port: int) -> bool:
    try:
        foreign.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def test_where_its_port_is_taken_another_one_comes_up_elsewhere(home: Path) -> None:
    before, _ = ensure(home)
    for pid in (before.supervisor_pid, before.pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(before.supervisor_pid) and not alive(before.pid))
    assert local_server.status(home) is None
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_until(lambda: binds(foreign, before.port))  # the killed one lets go of it a moment later
        foreign.listen()
        after, how = ensure(home)
    assert how == "started"
    assert after.port != before.port
    assert after.auth == before.auth
    assert http_status(f"{after.api_url}/admin/version", before.auth) == 200


@pytest.mark.parametrize("damage", [b"no database at all" * 100, None])
def test_a_broken_database_is_set_aside_since_it_is_only_a_picture(
    home: Path, damage: bytes | None, capfd: pytest.CaptureFixture[str]
) -> None:
    ensure(home)
    local_server.down(home)
    database = home / "server" / shared.PREFECT_HOME / shared.DATABASE
    whole = database.read_bytes()
    # Pages in the middle are gone, as after a disk that lied; or the whole file is something else.
    database.write_bytes(damage or whole[:8192] + b"x" * 65536 + whole[8192 + 65536 :])
    _, how = ensure(home)
    assert how == "started"
    aside = [
        f for f in database.parent.glob(f"{database.name}.broken-*") if not f.name.endswith(("wal", "shm"))
    ]
    assert len(aside) == 1
    assert str(aside[0]) in capfd.readouterr().err
    for file in database.parent.glob(f"{database.name}.broken-*"):
        file.unlink()
    local_server.down(home)
    ensure(home)
    assert not list(database.parent.glob(f"{database.name}.broken-*"))


def test_after_kill_9_of_the_supervisor_the_server_ends_and_its_address_comes_back(home: Path) -> None:
    before, _ = ensure(home)
    os.kill(before.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: not alive(before.supervisor_pid))
    after, how = ensure(home)
    assert how == "started"
    assert not alive(before.pid)
    assert (after.api_url, after.auth) == (before.api_url, before.auth)


def test_a_server_of_another_release_is_replaced_once_nobody_uses_it(home: Path) -> None:
    before, _ = ensure(home)
    record = shared.read_record(home / "server")
    assert record is not None
    shared.write_record(home / "server", {**record, "release": "prefect-2.0/0"})
    with local_server.busy(home):
        assert ensure(home) == (before, "warm")
    after, how = ensure(home)
    assert how == "started"
    assert not alive(before.pid)
    assert after.auth == before.auth


def test_a_server_that_stays_silent_is_replaced_after_some_patience(home: Path) -> None:
    before, _ = ensure(home)
    os.kill(before.pid, signal.SIGSTOP)  # it can neither answer nor end when asked to
    after, how = ensure(home, patience=0.5)
    assert how == "started"
    assert after.pid != before.pid
    assert not alive(before.pid)


def test_a_server_for_one_command_ends_with_the_last_that_uses_it(home: Path) -> None:
    local_server.down(home)
    once = {**os.environ, "PHASELINE_SERVER": "command"}
    once.pop("PREFECT_API_URL", None)
    told: list[ServerInfo] = []
    with local_server.for_command(home, once, wait=180, meanwhile=told.append) as first:
        assert first is not None
        assert told == [first], "the address is known while the server still loads"
        with local_server.for_command(home, once) as second:
            assert second == first
        assert local_server.status(home) == first, "the first command still uses it"
    assert local_server.status(home) is None
    assert not alive(first.pid)
    assert local_server.down(home) is False


def test_a_kept_server_stays_until_it_is_told_to_end(home: Path) -> None:
    local_server.down(home)
    with local_server.busy(home):
        info, how = ensure(home, environ=short_idle(1))
        assert how == "started"
        time.sleep(2.5)
        assert local_server.status(home) == info, "a command is running"
        assert ensure(home, keep=True) == (info, "warm")
    time.sleep(2.5)
    assert local_server.status(home) == info, "it is kept"
    assert local_server.down(home) is True
    assert not alive(info.pid)
    assert not alive(info.supervisor_pid)
    assert not (home / "server" / shared.KEEP).exists()
    assert local_server.down(home) is False


def test_an_idle_server_ends_by_itself(home: Path) -> None:
    local_server.down(home)
    info, _ = ensure(home, environ=short_idle(1))
    wait_until(lambda: not alive(info.supervisor_pid))
    assert not alive(info.pid)
    assert local_server.status(home) is None


def test_a_request_is_a_use(home: Path) -> None:
    info, _ = ensure(home)
    used = home / "server" / shared.USED
    os.utime(used, ns=(1, 1))
    assert http_status(f"{info.api_url}/admin/version", info.auth) == 200
    assert used.stat().st_mtime_ns == 1, "a probe is none"
    time.sleep(1.1)  # uses are noted once a second
    assert http_status(f"{info.api_url}/admin/settings", info.auth) == 200
    assert used.stat().st_mtime_ns > 1


def test_a_server_ends_with_its_home(tmp_path: Path) -> None:
    info, _ = ensure(tmp_path / "home", keep=True)
    shutil.rmtree(tmp_path / "home")
    wait_until(lambda: not alive(info.supervisor_pid))
    assert not alive(info.pid)
    assert local_server.down(tmp_path / "home") is False


def test_a_first_start_keeps_what_the_migrations_made_for_the_next_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, kept = server_folder.installed_prefect(), tmp_path / "cache" / "layout.sql"
    monkeypatch.setattr(server_schema, "layout_of", lambda release: kept)
    ensure(tmp_path / "one")
    migrated, laid_out = tmp_path / "one" / "server" / "prefect" / "prefect.db", tmp_path / "laid-out.db"
    assert kept.read_text("utf-8").startswith(f"-- Generated: the tables of {release} ")
    assert server_schema.lay_out(laid_out, release)
    theirs, ours = (lines_of(server_schema.describe(path, release)) for path in (migrated, laid_out))
    assert ours == theirs and any("INSERT INTO alembic_version" in line for line in ours)
    ensure(tmp_path / "two")
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    local_server.down(tmp_path / "one")
    local_server.down(tmp_path / "two")


def lines_of(statements: str) -> list[str]:
    """The lines in any order: Prefect's migrations rebuild tables with their constraints in hash order."""
    return sorted(line.strip().rstrip(",") for line in statements.splitlines())


def test_the_session_server_is_the_one_prefect_talks_to(prefect_server: ServerInfo) -> None:
    from prefect.settings import PREFECT_API_URL

    assert PREFECT_API_URL.value() == prefect_server.api_url
    assert http_status(f"{prefect_server.api_url}/admin/version", prefect_server.auth) == 200
