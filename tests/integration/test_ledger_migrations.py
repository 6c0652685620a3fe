"""How the ledger's tables come about, and which ledgers are refused."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import blocks.ledger
from blocks.ledger import Ledger, LedgerError, NewerLedger, Owner, RunStart, StepRecord, TurnRecord
from blocks.ledger.database.engine import Database, make_engine
from blocks.ledger.runs.effects import EffectIntent
from blocks.ledger.tables.schema import REVISION, SCHEMA, VERSION_TABLE, metadata
from blocks.ledger.waits.waits import WaitStart
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import finished, run_python
from workflows.core.errors import UsageError

needs_postgresql = pytest.mark.cluster

OPENER = """if 1:
    import sys
    from blocks.ledger import Ledger
    with Ledger.open(sys.argv[1], migrate=True) as ledger:
        print(len(ledger.reader.list_runs("default")))
"""


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


FIRST_ROWS = (
    """INSERT INTO run (tenant, run_id, workflow, state, offline, storage, plan_digest, models, inputs,
        labels, outputs, usage, active_us, created, updated, ended, heartbeat, root_run_id, version, last_seq,
        lease_epoch)
    VALUES ('default', 'r-old', '交付', 'failed', TRUE, 'file:///s', 'd', '{"m":"id"}', '{"goal":"一"}', '{}',
        '{"o":1}', '{"usd":2}', 7, 1, 2, 3, 4, 'r-old', 5, 0, 6)""",
    """INSERT INTO run (tenant, run_id, workflow, state, offline, created, updated)
    VALUES ('other', 'r-old', 'w', 'completed', FALSE, 1, 2)""",
    """INSERT INTO step (tenant, run_id, step_path, content_key, state, attempts, result, started, ended,
        epoch)
    VALUES ('default', 'r-old', 'step-1/项', 'k', 'completed', 2, '{"x":"结果"}', 1, 9007199254740993, 6)""",
    f"""INSERT INTO artifact (tenant, run_id, step_path, name, sha256, kind, media_type, size, summary, uri,
        offline, created)
    VALUES ('default', 'r-old', 'step-1/项', 'spec', '{1:064x}', 'spec', 'text/markdown', 1, 's', 'file:///x',
        TRUE, 1)""",
)
"""What a ledger of the first revision holds."""


SECOND_ROWS = (
    """INSERT INTO run (tenant, run_id, workflow, state, offline, created, updated, ended, last_seq,
        lease_epoch)
    VALUES ('default', 'r-2', '交付', 'waiting', FALSE, 1, 2, 3, 1, 4)""",
    """INSERT INTO step (tenant, run_id, step_path, content_key, state, attempts, started, epoch, generation)
    VALUES ('default', 'r-2', 'half', 'k', 'running', 2, 1, 4, 3)""",
    """INSERT INTO turn (tenant, run_id, step_path, content_key, attempt, turn, part, request_digest, body,
        usage, model, epoch, created)
    VALUES ('default', 'r-2', 'half', 'k', 1, 1, 'answer', 'd', '{"content":["付款"]}', '{"output":7}', 'm',
            4, 1),
        ('default', 'r-2', 'half', 'k', 1, 1, 'tool:1', 'd', '{"told":"1"}', '{}', '', 4, 1)""",
    """INSERT INTO effect (tenant, run_id, effect_key, step_path, kind, tool, effect, arguments,
        arguments_digest, idempotency_key, state, sent, epoch, intended)
    VALUES ('default', 'r-2', 'e-key', 'half', 'mcp', 'pay', 'once', '{"usd":3}', 'd', 'i-key', 'intended',
        1, 4, 1)""",
    """INSERT INTO wait (tenant, wait_id, run_id, step_path, wait_key, kind, ask, assignees, quorum, state,
        event_type, event_key, created, decided_by)
    VALUES ('default', 'w-ask', 'r-2', 'ask', 'k1', 'approval', '发布?', '["kim","noa"]', 2, 'open', '', '',
            1, '[{"voter":"kim","at":1,"decision":"approve","note":"好","data":{}}]'),
        ('default', 'w-event', 'r-2', 'event', 'k2', 'event', '', '[]', 1, 'open', 'paid', 'o-1', 1, '[]'),
        ('default', 'w-done', 'r-2', 'done', 'k3', 'event', '', '[]', 1, 'answered', 'paid', 'o-2', 1,
            '[]')""",
    """INSERT INTO vote (tenant, wait_id, voter, decision, note, created)
    VALUES ('default', 'w-ask', 'kim', 'approve', '好', 1)""",
    """INSERT INTO signal (tenant, type, event_id, key, payload, wait_id, created)
    VALUES ('default', 'paid', 'id-2', 'o-2', '{"usd":2}', 'w-done', 1),
        ('default', 'paid', 'id-9', 'o-9', '{"usd":9}', '', 2)""",
    """INSERT INTO event (tenant, run_id, seq, name, created)
    VALUES ('default', 'r-2', 1, 'run.started', 1)""",
)
"""What a ledger of the second revision holds of a run that waits, half of a step of it done."""


@pytest.fixture
def first_address(address: str) -> str:
    """A ledger of the first revision, with rows."""
    return ledger_of(address, "0001", FIRST_ROWS)


@pytest.fixture
def second_address(address: str) -> str:
    """A ledger of the second revision, with rows."""
    return ledger_of(address, "0002", SECOND_ROWS)


def ledger_of(address: str, revision: str, rows: Sequence[str]) -> str:
    """Makes a ledger as an earlier version made it; its address."""
    database = Database.parse(address)
    if database.path is not None:
        database.path.parent.mkdir(parents=True)
    config = Config()
    config.set_main_option("script_location", str(Path(blocks.ledger.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    engine = make_engine(database, write=True)
    with engine.begin() as connection:
        if not database.sqlite:
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with engine.begin() as connection:
        for statement in rows:
            connection.exec_driver_sql(statement)
    engine.dispose()
    return address


FIRST_TABLES = ("run", "step", "artifact")
SECOND_TABLES = (*FIRST_TABLES, "turn", "effect", "wait", "vote", "signal", "event")


def rows_of(address: str, tables: Sequence[str] = FIRST_TABLES) -> dict[str, list[dict[str, object]]]:
    """The revision and the rows of some tables."""

    def read(connection: Connection, table: str) -> list[dict[str, object]]:
        return [dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {table}"))]

    engine = make_engine(Database.parse(address), write=False)
    with engine.connect() as connection, connection.begin():
        found = {table: read(connection, table) for table in (VERSION_TABLE, *tables)}
    engine.dispose()
    return found


def test_a_ledger_of_the_first_revision_is_brought_up_to_date_with_nothing_lost(first_address: str) -> None:
    before = rows_of(first_address)
    assert before[VERSION_TABLE] == [{"version_num": "0001"}] and len(before["run"]) == 2
    Ledger.open(first_address, migrate=True).close()
    after = rows_of(first_address)
    assert after.pop(VERSION_TABLE) == [{"version_num": REVISION}]
    for table, rows in after.items():
        old_columns = [{name: row[name] for name in before[table][0]} for row in rows]
        assert sorted(old_columns, key=str) == sorted(before[table], key=str)
    added = {name: after["run"][0][name] for name in after["run"][0].keys() - before["run"][0].keys()}
    assert added == {"wake_at": None, "wake_reason": "", "cancel_requested": None}


def test_a_run_of_the_first_revision_is_read_and_continued(first_address: str) -> None:
    with Ledger.open(first_address, migrate=True) as ledger:
        row = ledger.reader.get_run("default", "r-old")
        assert row is not None and (row.workflow, row.state, row.inputs) == ("交付", "failed", {"goal": "一"})
        step = ledger.reader.get_step("default", "r-old", "step-1/项")
        assert step is not None and step.result == {"x": "结果"}
        assert (step.ended, step.generation) == (2**53 + 1, 0)
        assert [item.ref.summary for item in ledger.reader.artifacts("default", "r-old")] == ["s"]
        lease = asyncio.run(ledger.begin_run(RunStart(run_id="r-old", workflow="交付"), Owner.current()))
        assert lease.epoch == 7 and not lease.created
        turn = TurnRecord(
            step_path="s", content_key="k", attempt=1, turn=1, part="answer", request_digest="", body={}
        )
        asyncio.run(ledger.journal.keep(lease, turn))
        assert asyncio.run(ledger.events.append(lease, [("run.resumed", "", {})])) == 1


def test_a_ledger_of_the_second_revision_is_brought_up_to_date_with_nothing_lost(second_address: str) -> None:
    before = rows_of(second_address, SECOND_TABLES)
    assert before.pop(VERSION_TABLE) == [{"version_num": "0002"}]
    Ledger.open(second_address, migrate=True).close()
    after = rows_of(second_address, SECOND_TABLES)
    assert after.pop(VERSION_TABLE) == [{"version_num": REVISION}]
    added = set()
    for table, rows in before.items():
        names = rows[0].keys() if rows else ()
        kept = [{name: row[name] for name in names} for row in after[table]]
        assert sorted(kept, key=str) == sorted(rows, key=str)
        added |= {(name, row[name]) for row in after[table] for name in row.keys() - names if rows}
    assert added == {("tries", 0)}


def test_a_run_that_waits_in_the_second_revision_goes_on(second_address: str) -> None:
    """Answered, told of events, and continued in the middle of a step, nothing of which happens twice."""
    with Ledger.open(second_address, migrate=True) as ledger:
        again = ledger.waits.deliver("default", "paid", "o-2", "id-2", {"usd": 2})
        assert again.duplicate and not again.differs and again.wait is not None
        assert again.wait.wait_id == "w-done"
        other = ledger.waits.deliver("default", "paid", "o-1", "id-2", {"usd": 1})
        assert other.wait is not None and (other.wait.wait_id, other.duplicate) == ("w-event", False)
        decided = ledger.waits.vote("default", "w-ask", "noa", "approve", account="1001")
        assert decided.state == "answered" and [v["voter"] for v in decided.decided_by] == ["kim", "noa"]
        asyncio.run(_goes_on(ledger))


async def _goes_on(ledger: Ledger) -> None:
    lease = await ledger.begin_run(RunStart(run_id="r-2", workflow="交付"))
    assert lease.epoch == 5
    started = WaitStart(
        run_id="r-2",
        step_path="late",
        wait_key="k4",
        kind="event",
        ask="",
        event_type="paid",
        event_key="o-9",
    )
    late = await ledger.waits.open(lease, started)
    assert late.state == "answered" and (late.answer or {}).get("data") == {"usd": 9}
    turns = await ledger.journal.read("default", "r-2", "half", "k")
    assert [(t.part, t.body) for t in turns] == [
        ("answer", {"content": ["付款"]}),
        ("tool:1", {"told": "1"}),
    ]
    await ledger.journal.keep(lease, replace(turns[1], body={"told": "2"}))
    assert await ledger.journal.read("default", "r-2", "half", "k") == turns
    intent = EffectIntent(
        step_path="half",
        kind="mcp",
        tool="pay",
        effect="once",
        effect_key="e-key",
        idempotency_key="i-key",
        arguments={"usd": 3},
        arguments_digest="d",
    )
    found = await ledger.effects.intend(lease, intent)
    assert (found.fresh, found.state, found.sent, found.arguments) == (False, "intended", 1, {"usd": 3})
    assert await ledger.events.append(lease, [("run.resumed", "", {})]) > 1


def test_processes_that_open_an_old_ledger_together_bring_it_up_to_date_once(first_address: str) -> None:
    processes = [run_python(OPENER, first_address) for _ in range(4)]
    assert [finished(process).strip() for process in processes] == ["1"] * 4
    assert rows_of(first_address)[VERSION_TABLE] == [{"version_num": REVISION}]


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(first_address: str) -> None:
    before = rows_of(first_address)
    engine = make_engine(Database.parse(first_address), write=True)
    with engine.begin() as connection:
        # The last table that the migration makes: all before it must be taken back.
        connection.execute(text("CREATE TABLE credential (of_somebody_else INTEGER)"))
    with pytest.raises(LedgerError, match="already exists") as caught:
        Ledger.open(first_address, migrate=True)
    assert caught.value.cure and rows_of(first_address) == before
    with engine.begin() as connection:
        assert not engine.dialect.has_table(connection, "turn")
        connection.execute(text("DROP TABLE credential"))
    engine.dispose()
    Ledger.open(first_address, migrate=True).close()


def test_a_ledger_that_may_not_be_changed_is_refused_as_outdated(first_address: str) -> None:
    before = rows_of(first_address)
    with pytest.raises(LedgerError, match=f"revision 0001, needed {REVISION}") as caught:
        Ledger.open(first_address, migrate=False)
    assert "phaseline up" in caught.value.cure and rows_of(first_address) == before


def test_a_newer_ledger_with_rows_is_refused_and_left_alone(first_address: str) -> None:
    newer = f"{int(REVISION) + 1:04}"
    engine = make_engine(Database.parse(first_address), write=True)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{newer}'"))
    engine.dispose()
    before = rows_of(first_address)
    for migrate in (True, False):
        with pytest.raises(NewerLedger, match=f"revision {newer}, this one knows {REVISION}"):
            Ledger.open(first_address, migrate=migrate)
    assert rows_of(first_address) == before


def test_processes_that_open_a_new_ledger_together_all_succeed(address: str) -> None:
    processes = [run_python(OPENER, address) for _ in range(4)]
    assert [finished(process).strip() for process in processes] == ["0"] * 4


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
