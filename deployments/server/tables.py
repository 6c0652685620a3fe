"""The tables of a new Prefect database, written in one step instead of by a hundred migrations.

Prefect builds its SQLite database by running every migration it ever had: 6 of the 10 seconds of a first
start. prefect_schema.sql is what those migrations make, without a row of data but the migration they
end at. Prefect checks that row at each start and runs what is missing, so a stale file costs
time, never correctness; a test compares the file with what the installed Prefect makes.

`python -m deployments.server.tables` writes the file anew after an upgrade of Prefect.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

from deployments.server.folder import ServerError, installed_prefect

SCHEMA = Path(__file__).with_name("prefect_schema.sql")


def lay_out(database: Path, release: str) -> bool:
    """Make `database` with the tables of the Prefect `release`, as in "prefect-3.9.1".

    False: it exists already, or SCHEMA is for another release; Prefect then does it in its own time.
    Raises ServerError when it cannot be written.
    """
    if database.exists() or not SCHEMA.is_file():
        return False
    text = SCHEMA.read_text("utf-8")
    if not text.startswith(_heading(release)):
        return False
    try:
        _write(database, text)
    except (OSError, sqlite3.Error) as error:
        raise ServerError(
            f"the database of the local Prefect server cannot be written: {database} ({error})",
            "make room on the disk, or name another folder in PHASELINE_HOME",
        ) from error
    return True


def _write(database: Path, statements: str) -> None:
    database.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = database.with_name(f"{database.name}.new")
    fresh.unlink(missing_ok=True)  # of a process that was killed here
    with contextlib.closing(sqlite3.connect(fresh)) as connection:
        connection.executescript(f"BEGIN;\n{statements}\nCOMMIT;")
    fresh.chmod(0o600)
    fresh.replace(database)


def describe(database: Path, release: str) -> str:
    """The statements that make the tables, indexes and migration mark of `database`, in a fixed order."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        objects = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'table' DESC, name"
        ).fetchall()
        marks = connection.execute("SELECT version_num FROM alembic_version ORDER BY 1").fetchall()
    statements = [f"{sql};" for (sql,) in objects]
    statements += [f"INSERT INTO alembic_version VALUES ('{mark}');" for (mark,) in marks]  # noqa: S608
    return _heading(release) + "\n".join(statements) + "\n"


def migrate() -> None:
    """Run Prefect's own migrations on the database its settings name."""
    from prefect.server.database import provide_database_interface

    async def create() -> None:
        interface = provide_database_interface()
        await interface.create_db()
        await (await interface.engine()).dispose()

    asyncio.run(create())


def _heading(release: str) -> str:
    return f"-- The tables of {release} (Apache-2.0), written by deployments/server/tables.py\n"


def main() -> None:
    """Write SCHEMA from a database made by the installed Prefect."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["PREFECT_HOME"] = home  # before Prefect is imported
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{home}/prefect.db"
        migrate()
        SCHEMA.write_text(describe(Path(home, "prefect.db"), installed_prefect()), "utf-8")


if __name__ == "__main__":
    main()
