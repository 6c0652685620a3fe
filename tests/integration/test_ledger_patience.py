"""A database that is away or locked for a while: what was to be written is kept, once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from blocks.ledger import Ledger, LedgerError, RunStart, TurnRecord
from blocks.ledger.tables.errors import LedgerAway
from blocks.patience import Patience, Vigil
from tests.support.ledgers import new_address
from tests.support.line import Line
from workflows.core.errors import PhaselineError

TURN = TurnRecord(
    step_path="s",
    content_key="k",
    attempt=1,
    turn=1,
    part="answer",
    request_digest="d",
    body={"message": "Paid."},
    usage={"input_tokens": 1},
)


@pytest.fixture
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Line, str]]:
    """A PostgreSQL behind a line that can be cut, and the address by that line."""
    address = new_address(request, "postgresql", tmp_path)
    Ledger.open(address, migrate=True).close()
    port = urlsplit(address).port or 0
    with Line(port) as cable:
        yield cable, address.replace(f":{port}/", f":{cable.here}/")


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Somebody else writes to a SQLite file for so long."""
    holder = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, holder.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        holder.close()


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with Ledger.open(path, vigil=Vigil(Patience(60))) as ledger:
        with locked(path, 4):
            asyncio.run(ledger.begin_run(RunStart(run_id="r", workflow="w")))
        assert ledger.reader.get_run("default", "r") is not None


def test_one_that_stays_locked_ends_with_its_cure(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with (
        Ledger.open(path, vigil=Vigil(Patience(1))) as ledger,
        locked(path, 12),
        pytest.raises(LedgerAway, match="locked") as caught,
    ):
        asyncio.run(ledger.begin_run(RunStart(run_id="r", workflow="w")))
    assert caught.value.exit_code == 4 and "another program holds the file" in caught.value.cure


@pytest.mark.cluster
def test_what_is_written_while_the_database_is_away_is_kept_once(line: tuple[Line, str]) -> None:
    cable, address = line
    told: list[tuple[str, dict[str, Any]]] = []

    async def use() -> None:
        with Ledger.open(address, vigil=Vigil(Patience(60), lambda *event: told.append(event))) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            cable.cut()
            threading.Timer(3, cable.mend).start()
            keeping = asyncio.create_task(ledger.journal.keep(lease, TURN))
            reading = asyncio.create_task(ledger.get_run("default", "r"))
            await ledger.renew(lease)
            await keeping
            assert await reading is not None
            assert await ledger.journal.count("default", "r") == 1

    asyncio.run(use())
    assert [name for name, _ in told if name == "fault.passed"]
    assert {data["part"] for _, data in told} == {"ledger"}


@pytest.mark.cluster
def test_when_patience_is_over_it_says_what_is_lost_and_nothing_waits_anew(line: tuple[Line, str]) -> None:
    cable, address = line

    async def use() -> None:
        with Ledger.open(address, vigil=Vigil(Patience(1))) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            cable.cut()
            with pytest.raises(
                LedgerAway, match=r"turn 1 of s \(its answer\) could not be kept and .* paid again"
            ):
                await ledger.journal.keep(lease, TURN)
            began = time.monotonic()
            for _ in range(5):
                with pytest.raises(LedgerError):
                    await ledger.journal.keep(lease, TURN)
            assert time.monotonic() - began < 60

    asyncio.run(use())


@pytest.mark.cluster
def test_a_server_process_that_was_stopped_is_not_waited_for_without_bound(line: tuple[Line, str]) -> None:
    _, address = line

    async def use() -> None:
        with Ledger.open(address, vigil=Vigil(Patience(300))) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            with stopped_servers(address):
                await ledger.journal.keep(lease, TURN)
                assert await ledger.get_run("default", "r") is not None
            await ledger.renew(lease)
            assert await ledger.journal.count("default", "r") == 1

    asyncio.run(use())


@pytest.mark.cluster
def test_a_silent_database_ends_the_heartbeat_too(line: tuple[Line, str]) -> None:
    cable, address = line
    lost: list[PhaselineError] = []

    async def use() -> None:
        vigil = Vigil(Patience(0.5))
        with Ledger.open(address, vigil=vigil, lease_seconds=1.5) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            told = asyncio.Event()
            cable.hush()
            async with ledger.keep_lease(lease, lambda error: (lost.append(error), told.set())):
                async with asyncio.timeout(20):
                    await told.wait()
            cable.cut()

    asyncio.run(use())
    assert len(lost) == 1 and "did not answer" in lost[0].message


@contextlib.contextmanager
def stopped_servers(address: str) -> Iterator[None]:
    """PostgreSQL's own processes that serve this database are stopped."""
    import psycopg

    with psycopg.connect(address.partition("?")[0], autocommit=True) as connection:
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        pids = [row[0] for row in connection.execute(query)]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.cluster
def test_a_refused_login_is_not_waited_for(line: tuple[Line, str]) -> None:
    _, address = line
    wrong = address.replace("postgres@", "nobody-of-that-name@")
    began = time.monotonic()
    with pytest.raises(LedgerError) as caught:
        Ledger.open(wrong, vigil=Vigil(Patience(6000)))
    assert not isinstance(caught.value, LedgerAway)
    assert time.monotonic() - began < 60
