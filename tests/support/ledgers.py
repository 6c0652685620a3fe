"""Ledgers to test with: one address per database this machine can run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger
from blocks.ledger.tables.records import DEPLOYED
from tests.support.command import User
from tests.support.postgres import Cluster, missing

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.cluster)]

DAY = 24 * 3600 * 1_000_000
"""In microseconds, as the ledger counts."""
_MOVED = {
    "run": ("created", "updated", "heartbeat", "ended", "lease_until", "wake_at"),
    "wait": ("created", "deadline", "remind_at"),
    "reservation": ("created", "expires"),
    "seen_time": ("latest",),
}

_numbers = itertools.count()


def new_address(request: pytest.FixtureRequest, database: str, folder: Path) -> str:
    """An empty database: a file, or one of the fixture `cluster`. Skips where there is no PostgreSQL."""
    if database == "sqlite":
        return str(folder / "ledger" / "ledger.db")
    if reason := missing():
        pytest.skip(reason)
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.make_database(f"ledger_{os.getpid()}_{next(_numbers)}")


def user_with(folder: Path, begin: Callable[[Ledger], Coroutine[Any, Any, None]], **options: Any) -> User:
    """Somebody in an empty folder, whose ledger holds what `begin` writes."""
    home, empty = folder / "home", folder / "empty"
    home.mkdir(mode=0o700)
    empty.mkdir()
    with Ledger.open(home / "ledger.db", **options) as ledger:
        asyncio.run(begin(ledger))
    return User(home, empty)


def mark_deployed(database: Path, run_id: str) -> None:
    """Lets a ledger say that a worker runs this run."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        query = "SELECT flow_run_id, labels FROM run WHERE run_id = ?"
        flow_run, labels = connection.execute(query, (run_id,)).fetchone()
        changed = json.dumps({**json.loads(labels), DEPLOYED: flow_run})
        connection.execute("UPDATE run SET labels = ? WHERE run_id = ?", (changed, run_id))


def make_older(database: Path, days: float, *, boot: str | None = None, asleep: bool = False) -> None:
    """Everything in a ledger of SQLite is that much older: as if this machine's clock had been set ahead.

    boot: the machine was started anew. asleep: it ran on, or slept, for as long.
    """
    back = int(days * DAY)
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, columns in _MOVED.items():
            moved = ", ".join(f"{c} = {c} - {back}" for c in columns)
            connection.execute(f"UPDATE {table} SET {moved}")
        if boot is not None:
            connection.execute("UPDATE seen_time SET boot = ?", (boot,))
        if asleep:
            connection.execute("UPDATE seen_time SET since_boot = since_boot - ?", (back,))
