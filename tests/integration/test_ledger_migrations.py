"""How the ledger's tables come about, and which ledgers are refused."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import blocks.ledger
from blocks.ledger import Ledger, LedgerError, NewerLedger, RunStart, StepRecord
from blocks.ledger.engine import Database, make_engine
from blocks.ledger.schema import REVISION, VERSION_TABLE, metadata
from tests.support.ledgers import DATABASES, new_address
from tests.support.postgres import Cluster, postgres_cluster
from tests.support.prefect_server import finished, run_python
from workflows.core.errors import UsageError

needs_postgresql = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgres_cluster() as running:
        yield running


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


def test_the_migrations_make_exactly_the_tables_of_the_schema(address: str) -> None:
    Ledger.open(address, migrate=True).close()
    engine = make_engine(Database.parse(address), write=False)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()


def test_the_known_revision_is_the_newest_one() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(blocks.ledger.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_a_newer_ledger_is_refused(address: str) -> None:
    Ledger.open(address, migrate=True).close()
    engine = make_engine(Database.parse(address), write=True)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(NewerLedger, match=r"newer phaseline \(revision 9999") as caught:
        Ledger.open(address, migrate=True)
    assert "upgrade" in caught.value.cure


def test_processes_that_open_a_new_ledger_together_all_succeed(address: str) -> None:
    program = """if 1:
        import sys
        from blocks.ledger import Ledger
        with Ledger.open(sys.argv[1], migrate=True) as ledger:
            print(ledger.reader.list_runs("default"))
    """
    processes = [run_python(program, address) for _ in range(4)]
    assert [finished(process).strip() for process in processes] == ["[]"] * 4


@needs_postgresql
def test_tables_on_postgresql_are_made_only_when_asked_for(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = new_address(request, "postgresql", tmp_path)
    with pytest.raises(LedgerError, match="no tables") as caught:
        Ledger.open(address)
    assert "phaseline up" in caught.value.cure


@needs_postgresql
def test_the_ledger_shares_a_database_with_tables_of_the_same_name(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import psycopg

    address = new_address(request, "postgresql", tmp_path)
    with psycopg.connect(address) as connection:
        connection.execute("CREATE TABLE artifact (id int); CREATE TABLE alembic_version (version_num text)")
        connection.execute("INSERT INTO alembic_version VALUES ('of another program')")
    asyncpg = address.replace("postgresql://", "postgresql+asyncpg://")
    with Ledger.open(asyncpg, migrate=True) as ledger:
        asyncio.run(ledger.begin_run(RunStart(run_id="r", workflow="w")))
        assert ledger.reader.artifacts("default", "r") == []


@needs_postgresql
def test_a_connection_cut_between_two_writes_is_made_anew(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    import psycopg

    address = new_address(request, "postgresql", tmp_path)
    with Ledger.open(address, migrate=True) as ledger:
        lease = asyncio.run(ledger.begin_run(RunStart(run_id="r", workflow="w")))
        with psycopg.connect(address) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        asyncio.run(ledger.record_step(lease, StepRecord(step_path="s", state="completed")))
        assert len(ledger.reader.steps("default", "r")) == 1


@needs_postgresql
def test_a_missing_database_and_a_closed_port_are_named(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    address = new_address(request, "postgresql", tmp_path)
    with pytest.raises(LedgerError, match="does not exist") as caught:
        Ledger.open(address + "_not_there")
    assert "make the database" in caught.value.cure
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LedgerError) as caught:
        Ledger.open(f"postgresql://user:very-secret@127.0.0.1:{port}/x")
    assert "very-secret" not in str(caught.value) and str(port) in caught.value.message
    assert "PHASELINE_DATABASE_URL" in caught.value.cure


def test_without_psycopg_the_cure_says_what_to_install() -> None:
    program = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "psycopg" else found(name, *a)
from blocks.ledger import Ledger, LedgerError
try:
    Ledger.open("postgresql+asyncpg://u@h/d")
except LedgerError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "psycopg" in shown and "pip install" in shown


@pytest.mark.parametrize(
    "address", ["sqlite://", "sqlite:///:memory:", "mysql://u:very-secret@h/d", "postgresql://:/:@:", "://"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        Ledger.open(address)
    assert caught.value.cure and "very-secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "sqlite:///", "sqlite+aiosqlite:///"])
def test_every_spelling_of_a_file(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "l.db"
    Ledger.open(f"{prefix}{path}").close()
    assert path.is_file()


def refused(path: Path) -> LedgerError:
    with pytest.raises(LedgerError) as caught:
        Ledger.open(path)
    assert caught.value.cure and str(path) in caught.value.message
    return caught.value


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    assert "not a database" in refused(path).message


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    refused(tmp_path)


def test_a_file_in_place_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "l.db")


def test_a_read_only_ledger_is_an_error_with_a_cure() -> None:
    # Root may write anything, so the child gives that up; below a folder that another user may enter.
    program = """if 1:
        import asyncio, os, sys
        from blocks.ledger import Ledger, LedgerError, RunStart
        def write(path, run_id):
            with Ledger.open(path) as ledger:
                asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w")))
        write(sys.argv[1] + "/l.db", "r-1")
        for name in os.listdir(sys.argv[1]):
            os.chmod(sys.argv[1] + "/" + name, 0o444)
        os.chmod(sys.argv[1], 0o555)
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            write(sys.argv[1] + "/l.db", "r-2")
        except LedgerError as error:
            print(error)
    """
    with tempfile.TemporaryDirectory() as folder:
        shown = finished(run_python(program, folder))
        Path(folder).chmod(0o755)
    assert "cure:" in shown and "writ" in shown


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    program = """if 1:
        import asyncio, resource, sys
        from blocks.ledger import Ledger, LedgerError, RunStart, StepRecord
        async def fill():
            ledger = Ledger.open(sys.argv[1])
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
            written = 0
            try:
                for n in range(100):
                    step = StepRecord(step_path=f"s-{n}", state="completed", result={"x": "y" * 30_000})
                    await ledger.record_step(lease, step)
                    written += 1
            except LedgerError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            await ledger.record_step(lease, StepRecord(step_path="after", state="completed"))
            print(written)
            ledger.close()
        asyncio.run(fill())
    """
    path = tmp_path / "l.db"
    shown = finished(run_python(program, str(path)))
    assert "disk" in shown and "cure:" in shown
    with Ledger.open(path) as ledger:
        assert len(ledger.reader.steps("default", "r")) == int(shown.split()[-1]) + 1 > 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
