"""Where the ledger's database lies, how it is connected to, and how its tables come about."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from blocks.home import FILE_MODE, make_file, make_folder
from blocks.ledger.tables.errors import LedgerBusy, LedgerError, NewerLedger
from blocks.ledger.tables.schema import REVISION, SCHEMA, VERSION_TABLE
from blocks.process import file_locks
from blocks.process.job_control import not_stopped
from blocks.secrecy.secrets import is_secret
from workflows.core.errors import UsageError

# Of one try: SQLite waits in C, where no signal is heard. How long in all is blocks.patience's to say.
_BUSY_MS = 2_000
_CONNECT_SECONDS = 5
# PostgreSQL ends the transaction of a process that was stopped in it, and so lets go of its rows.
_LIMITS_MS = {
    "lock_timeout": 20_000,
    "statement_timeout": 25_000,
    "idle_in_transaction_session_timeout": 15_000,
}
# A host that vanished without a word is noticed by the kernel; a server that hangs by silence.py.
_CONNECTION: dict[str, Any] = {
    "connect_timeout": _CONNECT_SECONDS,
    "tcp_user_timeout": 20_000,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
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
            return cls(_postgresql_url(url.set(drivername=driver)), None)
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


def _postgresql_url(url: URL) -> URL:
    if find_spec("psycopg") is None:
        raise LedgerError(
            "a ledger on PostgreSQL needs the package psycopg, which is not installed",
            "pip install 'psycopg[binary]>=3.3'",
        )
    if "ssl" in url.query:  # asyncpg's name of the option
        url = url.difference_update_query(["ssl"]).update_query_dict({"sslmode": url.query["ssl"]})
    given = url.query.get("options", f"-csearch_path={SCHEMA}")
    options = given if isinstance(given, str) else " ".join(given)
    limits = " ".join(f"-c{name}={ms}" for name, ms in _LIMITS_MS.items() if name not in options)
    return url.update_query_dict({"options": f"{options} {limits}".strip()})


class Turns:
    """Whose turn it is to write to a SQLite file: SQLite's own waiting polls seldom, and starves. The kernel
    drops the turn of a killed process; for that of a stopped one nobody waits for long. On other databases
    always everybody's."""

    def __init__(self, database: Database) -> None:
        path = database.path
        self._what = f"the ledger {database.shown}"
        self._path = None if path is None else Path(f"{path}.lock")
        self._fd = None if path is None else _open_lock(path)
        self._given_up_on: int | None = None

    @contextlib.contextmanager
    def hold(self, given_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold the turn, and let no Ctrl-Z stop us in it. Not for two threads of one process at once.

        Raises LedgerBusy when another holds it for too long, or `given_up` says that nobody waits any more.
        """
        if self._fd is None or self._path is None:
            yield
            return
        with contextlib.ExitStack() as held:
            attempt = partial(self._try_turn, held)
            # Whom we gave up on is not waited for again as long: an ending command may write several times.
            patience = 1.0 if self._stopped_still(self._path) else file_locks.STOPPED_S
            try:
                file_locks.wait_for(
                    attempt, self._path, self._what, stopped_bound=patience, given_up=given_up
                )
            except file_locks.StillHeld as error:
                self._given_up_on = error.holder.pid if error.holder else None
                raise busy_ledger(self._what, error) from None
            self._given_up_on = None
            yield

    def _try_turn(self, held: contextlib.ExitStack) -> bool:
        """Take the turn if it is free. `held` gives it back."""
        assert self._fd is not None
        with contextlib.ExitStack() as tried:
            tried.enter_context(not_stopped())
            if not file_locks.try_lock(self._fd):
                return False
            tried.callback(fcntl.flock, self._fd, fcntl.LOCK_UN)
            file_locks.sign(self._fd)
            held.push(tried.pop_all())
        return True

    def _stopped_still(self, path: Path) -> bool:
        if self._given_up_on is None:
            return False
        holder = file_locks.find_holder(path)
        return holder is not None and holder.stopped and holder.pid == self._given_up_on

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _open_lock(database: Path) -> int:
    """Beside the file and open to whom the file is: a ledger that people opened to others is theirs too."""
    lock = database.with_name(f"{database.name}.lock")
    with contextlib.suppress(FileNotFoundError):
        make_file(lock, database.stat().st_mode & 0o666)
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def busy_ledger(what: str, error: file_locks.StillHeld) -> LedgerBusy:
    """The refusal while another process keeps the ledger's lock."""
    waited = f"{error.waited:.0f} s" if error.waited >= 1 else "a moment"
    return LedgerBusy(f"{what} is held by {error.shown}; nothing was written after {waited}", error.cure)


def stopped_holder(database: Database) -> file_locks.StillHeld | None:
    """The process that keeps the ledger from being written because it is stopped; None when there is none."""
    if database.path is None:
        return None
    path = Path(f"{database.path}.lock")
    if file_locks.is_free(path):  # or whoever wrote last would be taken for it
        return None
    holder = file_locks.find_holder(path)
    return file_locks.StillHeld(holder, 0.0) if holder is not None and holder.stopped else None


def make_engine(database: Database, *, write: bool, migrating: bool = False) -> Engine:
    """An engine whose transactions are real on both databases. Connects at the first use.

    migrating: an answer of PostgreSQL may take as long as it takes.
    """
    if not database.sqlite:
        connect = {name: value for name, value in _CONNECTION.items() if name not in database.url.query}
        engine = create_engine(database.url, pool_size=4, max_overflow=0, connect_args=connect)
        if not migrating:
            event.listen(engine, "do_connect", _connect_bounded)
        return engine
    engine = create_engine(database.url, connect_args={"timeout": _BUSY_MS / 1000})
    event.listen(engine, "connect", _prepare_sqlite)
    begin = "BEGIN IMMEDIATE" if write else "BEGIN"
    # A deferred transaction that writes later fails at once where another wrote meanwhile.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _connect_bounded(_dialect: object, _record: object, args: Any, options: Any) -> Any:
    from blocks.ledger.database.silence import BoundedConnection

    return BoundedConnection.connect(*args, **options)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN loses updates
    for pragma in (f"busy_timeout={_BUSY_MS}", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def prepare(database: Database, *, migrate: bool) -> None:
    """Make sure that the database is there with tables of our revision.

    `migrate` brings it up to date; else an outdated one is refused. A newer one always is.
    """
    with explain_faults(database):
        if database.path is not None:
            make_folder(database.path.parent)
            make_file(database.path)  # SQLite gives its other files the mode of this one
        revision = _read_revision(database)
        if revision == REVISION:
            return
        _refuse_revision(database, revision, migrate)
        _migrate(database)


def _refuse_revision(database: Database, revision: str | None, migrate: bool) -> None:
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
    engine, turns = make_engine(database, write=True, migrating=True), Turns(database)
    try:
        with _MIGRATING, turns.hold():
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
    config.set_main_option(
        "script_location", str(Path(__file__).parents[1] / "migrations").replace("%", "%%")
    )
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        _lock_for_migration(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _lock_for_migration(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))


@contextlib.contextmanager
def explain_faults(database: Database) -> Iterator[None]:
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


def without_names(told: str) -> str:
    """What a database says, without the names in it, which may be any words."""
    return re.sub(r"\"[^\"]*\"|'[^']*'", "", told)


def explanation(error: BaseException, database: Database) -> LedgerError:
    """The LedgerError for a fault of the database: its first line, and what to do about it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
    if is_secret(password := str(database.url.password or "")):
        reason = reason.replace(password, "********")
    low = without_names(reason).lower()
    cure = next((cure for words, cure in _CURES if any(word in low for word in words)), _CURE)
    return LedgerError(f"the ledger {database.shown} fails: {reason}", cure)
