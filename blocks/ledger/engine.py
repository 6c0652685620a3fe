"""Where the ledger's database lies, how it is connected to, and how its tables come about."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from blocks.ledger.errors import LedgerError, NewerLedger
from blocks.ledger.schema import REVISION, SCHEMA, VERSION_TABLE
from workflows.core.errors import UsageError

_BUSY_MS = 2_000  # of one try; how long in all is blocks.patience's to say
_CONNECT_SECONDS = 5
_MIGRATING = threading.Lock()  # Alembic keeps its context in module globals
_MIGRATION_LOCK = 0x70686173656C696E  # any number that nobody else locks in that database
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


@dataclass(frozen=True, slots=True)
class Database:
    """One database; `path` is the file of a SQLite one."""

    url: URL
    path: Path | None

    @property
    def sqlite(self) -> bool:
        return self.path is not None

    @property
    def shown(self) -> str:
        """For people, without the password."""
        plain = self.url.set(drivername="postgresql", query={})
        return str(self.path) if self.path else plain.render_as_string(hide_password=True)

    @classmethod
    def parse(cls, address: str | Path) -> Database:
        """From a file's path, or a sqlite:// or postgresql:// address of any driver."""
        text = str(address)
        if "://" not in text:
            path = Path(text).expanduser().absolute()
            return cls(URL.create("sqlite", database=str(path)), path)
        try:
            url = make_url(text)
        except (ArgumentError, ValueError):
            raise _no_address() from None
        if url.drivername not in _DRIVERS:
            raise _no_address()
        driver = _DRIVERS[url.drivername]
        if driver != "sqlite":
            return cls(_postgresql(url.set(drivername=driver)), None)
        if not url.database or url.database == ":memory:":
            raise UsageError("the ledger cannot live in memory", "write sqlite:///path/to/ledger.db")
        path = Path(url.database).expanduser().absolute()
        return cls(URL.create("sqlite", database=str(path)), path)


def _no_address() -> UsageError:
    # The address itself is not shown: it may hold a password.
    return UsageError(
        "not a database address in PHASELINE_DATABASE_URL",
        "write a path, sqlite:///path/to/ledger.db or postgresql://user:password@host/database",
    )


def _postgresql(url: URL) -> URL:
    if find_spec("psycopg") is None:
        raise LedgerError(
            "a ledger on PostgreSQL needs the package psycopg, which is not installed",
            "pip install 'psycopg[binary]>=3.3'",
        )
    if "ssl" in url.query:  # asyncpg's name of the option
        url = url.difference_update_query(["ssl"]).update_query_dict({"sslmode": url.query["ssl"]})
    if "options" not in url.query:
        url = url.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    return url


class Turns:
    """Whose turn it is to write to a SQLite file: FIFO between processes, where SQLite's own waiting polls
    and starves. The kernel drops the turn of a killed process. On other databases always everybody's."""

    def __init__(self, path: Path | None) -> None:
        self._fd = None if path is None else os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o666)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn. Not for two threads of one process at once."""
        if self._fd is None:
            yield
            return
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def make_engine(database: Database, *, write: bool) -> Engine:
    """An engine whose transactions are real on both databases. Connects at the first use."""
    if not database.sqlite:
        connect = {"connect_timeout": _CONNECT_SECONDS}
        return create_engine(database.url, pool_size=4, max_overflow=0, connect_args=connect)
    engine = create_engine(database.url, connect_args={"timeout": _BUSY_MS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    begin = "BEGIN IMMEDIATE" if write else "BEGIN"
    # A deferred transaction that writes later fails at once where another wrote meanwhile.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN loses updates
    for pragma in (f"busy_timeout={_BUSY_MS}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def prepare(database: Database, *, migrate: bool) -> None:
    """Make sure that the database is there with tables of our revision.

    `migrate` brings it up to date; else an outdated one is refused. A newer one always is.
    """
    with explained(database):
        if database.path is not None:
            database.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        revision = _read_revision(database)
        if revision == REVISION:
            return
        _refuse(database, revision, migrate)
        _migrate(database)


def _refuse(database: Database, revision: str | None, migrate: bool) -> None:
    if revision is not None and revision > REVISION:
        raise NewerLedger(
            f"the ledger {database.shown} was made by a newer phaseline (revision {revision}, "
            f"this one knows {REVISION})",
            "upgrade phaseline here, or name another ledger in PHASELINE_DATABASE_URL",
        )
    if not migrate:
        raise LedgerError(
            f"the ledger {database.shown} has no tables of this phaseline "
            f"(revision {revision or 'none'}, needed {REVISION})",
            "run `phaseline up` once to bring it up to date",
        )


def _migrate(database: Database) -> None:
    engine, turns = make_engine(database, write=True), Turns(database.path)
    try:
        with _MIGRATING, turns.taken():
            if database.sqlite:
                _switch_to_wal(engine)
            _upgrade(engine)
    finally:
        turns.close()
        engine.dispose()


def _read_revision(database: Database) -> str | None:
    """The stored revision, without importing Alembic (0.1 s); None for a database without our tables."""
    engine = make_engine(database, write=False)
    try:
        with engine.connect() as connection:
            if not engine.dialect.has_table(connection, VERSION_TABLE):
                return None
            found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
            return None if found is None else str(found)
    finally:
        engine.dispose()


def _switch_to_wal(engine: Engine) -> None:
    # Under the turn: where another holds the file, this switch does not wait but fails.
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode=WAL")
    finally:
        raw.close()


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        _lock_for_migration(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _lock_for_migration(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))


@contextlib.contextmanager
def explained(database: Database) -> Iterator[None]:
    """Turns what the database or the disk refuses into a LedgerError with a cure."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise explanation(error, database) from error


_CURES = (
    (
        ("disk is full", "no space left", "disk quota"),
        "free some space on that disk, then run the command again",
    ),
    (("readonly", "read-only", "permission denied"), "make it writable, or name another ledger"),
    (("not a database", "malformed"), "move that file away, or restore it from a backup"),
    (("disk i/o",), "check the disk: is it full, or does it fail?"),
    (("locked", "busy"), "another program holds the file for long: end it, then run the command again"),
    (
        ("unable to open", "not a directory", "is a directory", "file exists"),
        "name a file in a folder you may write",
    ),
    (("password", "authentication", "role "), "check user and password in PHASELINE_DATABASE_URL"),
    (("does not exist",), "make the database, or check its name in PHASELINE_DATABASE_URL"),
)
_CURE = "check that the database runs and that PHASELINE_DATABASE_URL leads to it"


def explanation(error: BaseException, database: Database) -> LedgerError:
    """The LedgerError for a fault of the database: its first line, and what to do about it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
    if database.url.password:
        reason = reason.replace(str(database.url.password), "********")
    low = reason.lower()
    cure = next((cure for words, cure in _CURES if any(word in low for word in words)), _CURE)
    return LedgerError(f"the ledger {database.shown} fails: {reason}", cure)
