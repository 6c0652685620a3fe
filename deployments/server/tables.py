"""The tables of a new Prefect database, written in one step instead of by a hundred migrations.

Prefect builds its SQLite database by running every migration it ever had: most of a first start. What those
migrations make, without a row of data but the migration they end at, is kept as a text beside the compiled
Python of this installation: by the first start that had to run them, or by `python -m
deployments.server.tables`, as `make setup` does. Prefect checks that row at each start and runs what is
missing, so such a text costs time where it is stale or missing, never correctness.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import sqlite3
import tempfile
from pathlib import Path

from deployments.server.folder import ServerError, installed_prefect


def layout_of(release: str) -> Path:
    """Where the tables of the Prefect `release` are kept: generated, and no part of the sources."""
    return Path(importlib.util.cache_from_source(__file__)).with_name(f"{release}.sql")


def lay_out(database: Path, release: str) -> bool:
    """Make `database` with the tables of the Prefect `release`, as in "prefect-3.9.1".

    False: it exists already, or nothing is kept of that release; Prefect then does it in its own time.
    Raises ServerError when it cannot be written.
    """
    if database.exists() or not layout_of(release).is_file():
        return False
    text = layout_of(release).read_text("utf-8")
    try:
        _write(database, text)
    except (OSError, sqlite3.Error) as error:
        raise ServerError(
            f"the database of the local Prefect server cannot be written: {database} ({error})",
            "make room on the disk, or name another folder in PHASELINE_HOME",
        ) from error
    return True


def keep_layout(database: Path, release: str) -> None:
    """Keep what the migrations of `release` have made of a new `database`, for those that come after it.

    Where this installation is not ours to write, each new one costs its migrations.
    """
    layout = layout_of(release)
    fresh = layout.with_name(f"{layout.name}.{os.getpid()}")
    if layout.is_file():
        return
    with contextlib.suppress(OSError, sqlite3.Error):
        layout.parent.mkdir(exist_ok=True)
        fresh.write_text(describe(database, release), "utf-8")
        fresh.replace(layout)


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
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!' "
            "ORDER BY type = 'table' DESC, name"
        ).fetchall()
        marks = connection.execute("SELECT version_num FROM alembic_version ORDER BY 1").fetchall()
    statements = [f"{sql};" for (sql,) in objects]
    statements += [f"INSERT INTO alembic_version VALUES ('{mark}');" for (mark,) in marks]  # noqa: S608
    return f"-- Generated: the tables of {release} (Apache-2.0)\n" + "\n".join(statements) + "\n"


def migrate() -> None:
    """Run Prefect's own migrations on the database its settings name."""
    from prefect.server.database import provide_database_interface

    async def create() -> None:
        interface = provide_database_interface()
        await interface.create_db()
        await (await interface.engine()).dispose()

    asyncio.run(create())


def main() -> None:
    """Keep the tables of the installed Prefect, from a database that it makes."""
    if layout_of(installed_prefect()).is_file():
        return
    with tempfile.TemporaryDirectory() as home:
        os.environ["PREFECT_HOME"] = home  # before Prefect is imported
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{home}/prefect.db"
        migrate()
        keep_layout(Path(home, "prefect.db"), installed_prefect())


if __name__ == "__main__":
    main()
