"""A private PostgreSQL cluster for tests, run by the programs of the Debian packages."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_VERSIONS = Path("/usr/lib/postgresql")


def missing() -> str:
    """Why there is no PostgreSQL here; empty when there is."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    if _programs() is None:
        return "no PostgreSQL programs under /usr/lib/postgresql"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return ""


@dataclass(frozen=True)
class Cluster:
    """A running cluster on a loopback port."""

    port: int
    folder: Path
    """All that the server keeps, logs included."""

    def make_database(self, name: str) -> str:
        """A new, empty database; its address."""
        import psycopg

        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
        return self._address(name)

    def rows(self, address: str) -> Iterator[tuple[str, str]]:
        """Every row of every table of a database as text, with the table's name."""
        import psycopg

        tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT LIKE '%schema' AND "
        with psycopg.connect(address) as connection:
            for names in connection.execute(tables + "schemaname <> 'pg_catalog'").fetchall():
                table = '"{}"."{}"'.format(*names)
                for row in connection.execute(f"SELECT * FROM {table}"):  # type: ignore[arg-type]
                    yield table, str(row)

    def _address(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """A cluster in a folder of its own; ended and removed on leaving."""
    programs = _programs()
    assert programs is not None
    # Not below pytest's folder: PostgreSQL runs as another user, who may not enter there.
    folder = Path(tempfile.mkdtemp(prefix="phaseline-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    data = folder / "data"
    try:
        _run(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        port = _free_port()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        _run(programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
        try:
            yield Cluster(port, folder)
        finally:
            _run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    found = sorted(_VERSIONS.glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    return found[-1].parent if found else None


def _run(program: Path, *arguments: object) -> None:
    command = [str(program), *map(str, arguments)]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    # Output to a file: the server inherits it and would keep a pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/")
        output.seek(0)
        assert done.returncode == 0, output.read().decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
