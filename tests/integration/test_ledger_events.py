"""The events of a run, on SQLite and on PostgreSQL: numbered without gaps, whoever adds them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from blocks.ledger import EventRow, Fenced, Lease, Ledger, LedgerError, RunStart
from blocks.ledger.database.access import run_order
from blocks.ledger.database.engine import Database, make_engine
from blocks.ledger.runs.events import _Append, _event_values, add_event, lock_run
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import run_python, wait_until


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    with Ledger.open(address, migrate=True) as opened:
        yield opened


def begin(ledger: Ledger, run_id: str = "r-1", tenant: str = "default") -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w", tenant=tenant)))


def append(ledger: Ledger, lease: Lease, *names: str) -> int:
    return asyncio.run(ledger.events.append(lease, [(name, "", {}) for name in names]))


def add(ledger: Ledger, name: str, run_id: str = "r-1") -> None:
    """As a vote or a sweep does, which holds no lease."""
    operation = lambda connection: add_event(connection, "default", run_id, name, "s", {"by": "p"})  # noqa: E731
    ledger.access.write_blocking(operation, run_order("default", run_id))


def names(found: list[EventRow]) -> list[tuple[int, str]]:
    return [(row.seq, row.name) for row in found]


def gapless(found: list[EventRow]) -> bool:
    return [row.seq for row in found] == list(range(1, len(found) + 1))


def test_an_event_comes_back_as_it_was_added(ledger: Ledger) -> None:
    lease = begin(ledger)
    data = {"text": "答\x00\ud800", "n": 2**53 + 1}
    assert asyncio.run(ledger.events.append(lease, [("turn.kept", "step-1/项", data), ("b", "", {})])) == 2
    first, second = ledger.events.of_run("default", "r-1")
    assert (first.run_id, first.seq, first.name, first.step_path, first.data) == (
        "r-1",
        1,
        "turn.kept",
        "step-1/项",
        data,
    )
    run = ledger.reader.get_run("default", "r-1")
    assert run is not None and run.created <= first.created == second.created <= run.updated


def test_numbers_go_on_over_calls_and_over_lives_of_the_run(ledger: Ledger) -> None:
    lease = begin(ledger)
    assert append(ledger, lease) == 0
    assert append(ledger, lease, "a", "b") == 2
    assert append(ledger, lease, "c") == 3 == append(ledger, lease)
    asyncio.run(ledger.finish_run(lease, "interrupted"))
    assert append(ledger, begin(ledger), "d") == 4
    assert names(ledger.events.of_run("default", "r-1")) == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


def test_events_are_read_page_by_page(ledger: Ledger) -> None:
    append(ledger, begin(ledger), *(f"e{number}" for number in range(1, 8)))
    read = ledger.events.of_run
    assert names(read("default", "r-1", limit=3)) == [(1, "e1"), (2, "e2"), (3, "e3")]
    assert names(read("default", "r-1", after=3, limit=3)) == [(4, "e4"), (5, "e5"), (6, "e6")]
    assert names(read("default", "r-1", after=6, limit=3)) == [(7, "e7")]
    assert read("default", "r-1", after=7) == [] == read("default", "never")


def test_tenants_have_events_of_their_own(ledger: Ledger) -> None:
    for tenant in ("a", "b"):
        assert append(ledger, begin(ledger, "same", tenant), tenant) == 1
        assert names(ledger.events.of_run(tenant, "same")) == [(1, tenant)]


def test_a_holder_that_lost_the_run_adds_nothing(ledger: Ledger) -> None:
    old = begin(ledger)
    append(ledger, old, "mine")
    asyncio.run(ledger.finish_run(old, "interrupted"))
    new = begin(ledger)
    for lease in (old, dataclasses.replace(new, run_id="r-never")):
        for late in (["late"], []):
            with pytest.raises(Fenced):
                append(ledger, lease, *late)
    assert append(ledger, new, "next") == 2
    assert gapless(ledger.events.of_run("default", "r-1"))


def test_whoever_holds_no_lease_adds_inside_an_operation_of_theirs(ledger: Ledger) -> None:
    lease = begin(ledger)
    append(ledger, lease, "a")
    add(ledger, "wait.answered")
    append(ledger, lease, "b")
    asyncio.run(ledger.finish_run(lease, "completed"))
    add(ledger, "wait.expired")  # also when nobody works on the run
    found = ledger.events.of_run("default", "r-1")
    assert names(found) == [(1, "a"), (2, "wait.answered"), (3, "b"), (4, "wait.expired")]
    assert (found[1].step_path, found[1].data) == ("s", {"by": "p"})


def test_an_event_goes_with_the_operation_that_adds_it(ledger: Ledger) -> None:
    begin(ledger)

    def failing(connection: Connection) -> None:
        assert lock_run(connection, "default", "r-1")
        add_event(connection, "default", "r-1", "half", "", {})
        raise LedgerError("no", "none")

    with pytest.raises(LedgerError):
        ledger.access.write_blocking(failing, run_order("default", "r-1"))
    add(ledger, "whole")
    assert names(ledger.events.of_run("default", "r-1")) == [(1, "whole")]


def test_an_event_of_no_run_is_refused(ledger: Ledger) -> None:
    begin(ledger)
    with pytest.raises(LedgerError, match="there is no run r-never"):
        add(ledger, "x", "r-never")
    assert ledger.reader.read(lambda connection: lock_run(connection, "default", "r-1"))
    assert not ledger.reader.read(lambda connection: lock_run(connection, "default", "r-never"))


@pytest.mark.parametrize(
    "entry",
    [
        ("", "", {}),
        ("x" * 201, "", {}),
        ("a\n", "", {}),
        ("a", "s\x00", {}),
        ("a", "", {"x": "y" * 70_000}),
        ("a", "", {"x": b""}),
    ],
)
def test_an_event_that_does_not_fit_is_refused_with_all_of_its_call(ledger: Ledger, entry: Any) -> None:
    lease = begin(ledger)
    with pytest.raises(LedgerError) as caught:
        asyncio.run(ledger.events.append(lease, [("good", "", {}), entry]))
    assert caught.value.cure
    assert append(ledger, lease, "next") == 1


def test_an_append_repeated_after_a_lost_commit_adds_its_events_once(address: str, ledger: Ledger) -> None:
    lease = begin(ledger)
    append(ledger, lease, "same")
    entries = [_event_values("default", "r-1", "same", "", {}) for _ in range(2)]
    engine = make_engine(Database.parse(address), write=True)

    def run(operation: Any, *, commit: bool) -> Any:
        with engine.connect() as connection, connection.begin() as transaction:
            value = operation(connection)
            if not commit:
                transaction.rollback()
            return value

    committed, rolled_back = _Append(lease, entries), _Append(lease, entries)
    try:
        assert [run(committed, commit=True) for _ in range(3)] == [3, 3, 3]
        assert run(rolled_back, commit=False) == 5
        append(ledger, lease, "same", "same")  # takes the very numbers
        assert run(rolled_back, commit=True) == 7
    finally:
        engine.dispose()
    found = ledger.events.of_run("default", "r-1")
    assert gapless(found) and len(found) == 7


def test_many_coroutines_and_strangers_leave_no_gap_and_keep_their_order(ledger: Ledger) -> None:
    async def all_at_once() -> None:
        lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))

        async def step(number: int) -> None:
            for turn in range(3):
                entries = [(f"{number}", "", {"at": 2 * turn + part}) for part in range(2)]
                await ledger.events.append(lease, entries)

        async def stranger(number: int) -> None:
            await asyncio.to_thread(add, ledger, f"s{number}")

        await asyncio.gather(
            *(step(number) for number in range(60)), *(stranger(number) for number in range(20))
        )

    asyncio.run(all_at_once())
    found = ledger.events.of_run("default", "r-1")
    assert gapless(found) and len(found) == 60 * 6 + 20
    for number in range(60):
        assert [row.data["at"] for row in found if row.name == str(number)] == list(range(6))


# --- between processes ---

WORKER = """if 1:
    import asyncio, itertools, os, sys
    from blocks.ledger import Ledger, RunStart
    acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def work():
        ledger = Ledger.open(sys.argv[1])
        lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))
        async def write():
            while True:
                last = await ledger.events.append(lease, [("turn", "s", {"x": "y" * 200})] * 3)
                os.write(acknowledged, f"{last}\\n".encode())
        await asyncio.gather(*(write() for _ in range(50)))

    asyncio.run(work())
"""


def test_a_kill_leaves_no_gap_and_loses_nothing_acknowledged(
    ledger: Ledger, address: str, tmp_path: Path
) -> None:
    told = tmp_path / "acknowledged"
    worker = run_python(WORKER, address, str(told))
    try:
        wait_until(lambda: lines_of(told) or worker.poll() is not None)
        for number in range(20):  # strangers add to the run of the living process
            add(ledger, f"s{number}")
        wait_until(lambda: lines_of(told) >= 300 or worker.poll() is not None)
        assert worker.poll() is None, worker.communicate()
    finally:
        worker.kill()
        worker.communicate()
    last = append(ledger, begin(ledger), "after")
    found = ledger.events.of_run("default", "r-1", limit=1_000_000)
    assert gapless(found) and len(found) == last and len(found) % 3 == 0  # 3n + 20 + 1
    assert {int(number) for number in told.read_text().split()} < {row.seq for row in found}


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
