"""The local server as far as it can be judged without starting one: settings, errors, imports."""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.server import kept_server as local_server
from deployments.server import tables as server_schema
from deployments.server.kept_server import ServerInfo
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of
from workflows.core.errors import PhaselineError, UsageError

INFO = ServerInfo("http://127.0.0.1:4300/api", "http://127.0.0.1:4300", "phaseline:hush", 11, 4300, 10)

MUFFLED = ("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL")


def test_the_auth_string_is_not_in_the_representation() -> None:
    assert "hush" not in repr(INFO)
    assert "hush" not in str(INFO)


def test_environment_points_at_the_server_and_closes_the_in_process_mode(tmp_path: Path) -> None:
    variables = local_server.prefect_environment(INFO, tmp_path, {})
    assert variables["PREFECT_API_URL"] == INFO.api_url
    assert variables["PREFECT_API_AUTH_STRING"] == INFO.auth
    assert variables["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert Path(variables["PREFECT_HOME"]).is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"])
def test_a_prefect_home_or_profile_of_the_user_stays(tmp_path: Path, name: str) -> None:
    assert "PREFECT_HOME" not in local_server.prefect_environment(INFO, tmp_path, {name: "mine"})


def test_only_what_is_needed_overrides_the_user(tmp_path: Path) -> None:
    theirs = {"PREFECT_API_AUTH_STRING": "old", "DO_NOT_TRACK": "0", "PREFECT_LOGGING_LEVEL": "DEBUG"}
    variables = local_server.prefect_environment(INFO, tmp_path, theirs)
    assert variables.keys() & theirs.keys() == {"PREFECT_API_AUTH_STRING"}


@pytest.mark.parametrize(("level", "told"), [("DEBUG", None), (None, "CRITICAL")])
def test_the_terminal_is_quiet_unless_a_log_level_was_chosen(
    monkeypatch: pytest.MonkeyPatch, level: str | None, told: str | None
) -> None:
    for name in ("PREFECT_LOGGING_LEVEL", *MUFFLED):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    if level is not None:
        monkeypatch.setenv("PREFECT_LOGGING_LEVEL", level)
    TerminalHost(Out(json_mode=False)).export({})
    assert {os.environ.get(name) for name in MUFFLED} == {told}
    assert "PREFECT_LOGGING_TO_API_ENABLED" not in os.environ


def test_a_server_named_by_the_user_is_used_and_nothing_is_started(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with local_server.for_command(home, {"PREFECT_API_URL": "http://prefect.example/api"}) as info:
        assert info is None
    assert not home.exists()


def test_an_unknown_lifetime_is_refused_with_a_cure(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="did you mean 'command'"),
        local_server.for_command(tmp_path, {"PHASELINE_SERVER": "comand"}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_an_idle_limit_that_is_no_time_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match="PHASELINE_SERVER_IDLE"):
        local_server.ensure(tmp_path, environ={"PHASELINE_SERVER_IDLE": value})


def test_a_home_that_cannot_be_written_names_the_cure(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(PhaselineError, match="PHASELINE_HOME"):
        local_server.ensure(tmp_path / "home")


def test_nothing_runs_in_a_home_that_does_not_exist(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert local_server.status(home) is None
    assert local_server.down(home) is False
    assert local_server.in_use(home) is False
    assert not home.exists()


def test_the_server_does_not_inherit_keys_or_settings_of_one_command() -> None:
    given = {
        "ANTHROPIC_API_KEY": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite:///x",
        "PYTHONWARNINGS": "error",
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": "/opt/lib",
    }
    assert local_server._inherited_variables(given).keys() == {"PATH", "LC_ALL", "PYTHONPATH"}


def test_the_client_is_imported_without_prefect_or_third_party_packages() -> None:
    program = (
        "import sys; sys.path.insert(0, '.'); import deployments.server.kept_server; "
        "print(*sorted(m for m in ('prefect', 'pydantic', 'asyncio', 'http', 'ssl') if m in sys.modules))"
    )
    root = Path(local_server.__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == ""


def test_a_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "packages" / "uvicorn.py"
    broken.parent.mkdir()
    broken.write_text("raise TypeError('broken on purpose')\n")
    with pytest.raises(PhaselineError) as caught:
        local_server.ensure(tmp_path / "home", wait=15, environ={"PYTHONPATH": str(broken.parent)})
    assert "TypeError: broken on purpose" in caught.value.message
    assert "server.log" in caught.value.cure
    assert local_server.status(tmp_path / "home") is None


RELEASE = "prefect-0.0"
LAYOUT = "CREATE TABLE flow_run (id);\nCREATE TABLE alembic_version (version_num);\n"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "kept" / f"{RELEASE}.sql"
    monkeypatch.setattr(server_schema, "layout_of", lambda release: file.with_name(f"{release}.sql"))
    file.parent.mkdir()
    file.write_text(LAYOUT)
    return file


def test_a_new_database_has_the_kept_tables_and_no_rows(tmp_path: Path, layout: Path) -> None:
    database = tmp_path / "prefect" / "prefect.db"
    assert server_schema.lay_out(database, RELEASE)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
    connection.close()
    assert [path.name for path in database.parent.iterdir()] == ["prefect.db"]


def test_tables_are_not_laid_out_over_a_database_or_for_another_prefect(tmp_path: Path, layout: Path) -> None:
    assert not server_schema.lay_out(tmp_path / "prefect.db", "prefect-2.0")
    assert not (tmp_path / "prefect.db").exists()
    (tmp_path / "prefect.db").write_bytes(b"theirs")
    assert not server_schema.lay_out(tmp_path / "prefect.db", RELEASE)
    assert (tmp_path / "prefect.db").read_bytes() == b"theirs"


def test_tables_are_kept_once_without_rows_or_what_is_sqlites_own(tmp_path: Path, layout: Path) -> None:
    database = tmp_path / "prefect.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE a (n INTEGER PRIMARY KEY AUTOINCREMENT);"
            "CREATE TABLE alembic_version (version_num);"
            "INSERT INTO alembic_version VALUES ('head'); INSERT INTO a VALUES (1); ANALYZE;"
        )
    server_schema.keep_layout(database, RELEASE)
    assert layout.read_text() == LAYOUT
    server_schema.keep_layout(database, "prefect-1.0")
    assert sorted(path.name for path in layout.parent.iterdir()) == [f"{RELEASE}.sql", "prefect-1.0.sql"]
    assert server_schema.lay_out(tmp_path / "again.db", "prefect-1.0")
    with contextlib.closing(sqlite3.connect(tmp_path / "again.db")) as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchone() == (0,)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("head",)]


def test_who_calls_is_known_whatever_the_environment_says_of_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHASELINE_STORAGE", "ftp://nowhere")
    monkeypatch.delenv("PHASELINE_DATABASE_URL", raising=False)
    args = argparse.Namespace(catalog=tmp_path, home=tmp_path, named={})
    assert caller_of(args).account == str(os.getuid())
    monkeypatch.setenv("PHASELINE_DATABASE_URL", "postgresql://db/ledger")
    assert caller_of(args).account.startswith(f"{os.getuid()}@"), "a number is one machine's"
