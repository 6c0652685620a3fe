"""Races of real processes over waits and budgets, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from blocks.ledger import Amount, Lease, Ledger, RunStart, WaitStart
from blocks.ledger.tables.process_identity import Owner
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import finished, run_python, wait_until

DAY = "agent/a/2025-01-01"


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made = new_address(request, request.param, tmp_path)
    Ledger.open(made, migrate=True).close()
    return made


def begin(ledger: Ledger, run_id: str = "r-1", owner: Owner | None = None) -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w"), owner))


def ask(ledger: Ledger, lease: Lease, count: int, **fields: object) -> list[str]:
    """That many open waits; their ids."""

    async def ask_all() -> list[str]:
        given = {"run_id": lease.run_id, "kind": "approval", "ask": "?", **fields}
        keys = [{"wait_key": f"k-{number}", "step_path": f"s-{number}"} for number in range(count)]
        starts = [WaitStart(**given, **key) for key in keys]  # type: ignore[arg-type]
        return [row.wait_id for row in await asyncio.gather(*(ledger.waits.open(lease, s) for s in starts))]

    return asyncio.run(ask_all())


# A race begins when all racers are ready; each prints what it achieved.
TOGETHER = """if 1:
    import asyncio, os, sys, time
    from pathlib import Path
    from blocks.ledger import Amount, Ledger, RunStart, WaitClosed, WaitStart
    address, folder, name, racers = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

    def together(point="ready"):
        (folder / f"{point}-{name}").touch()
        while len(list(folder.glob(f"{point}-*"))) < racers:
            time.sleep(0.005)
"""


def race(program: str, address: str, folder: Path, racers: int, *arguments: str) -> list[list[str]]:
    """The printed lines of all racers, in words."""
    processes = start(program, address, folder, racers, *arguments)
    return [line.split() for process in processes for line in finished(process).splitlines()]


def start(
    program: str, address: str, folder: Path, racers: int, *arguments: str
) -> list[subprocess.Popen[str]]:
    return [
        run_python(TOGETHER + program, address, str(folder), f"p{n}", str(racers), *arguments)
        for n in range(racers)
    ]


VOTER = """
    with Ledger.open(address) as ledger:
        waits, agreed = sys.argv[5].split(), sys.argv[6]  # a quorum approves one and the same
        together()
        for wait_id in waits:
            try:
                row = ledger.waits.vote("default", wait_id, name, "approve", {"text": agreed or name})
                print("counted", wait_id, row.state)
            except WaitClosed as error:
                print("closed", wait_id, error.cure.split()[0])
"""


@pytest.mark.parametrize("quorum", [1, 2])
def test_of_two_answers_exactly_as_many_count_as_are_needed(
    address: str, tmp_path: Path, quorum: int
) -> None:
    racers, agreed = quorum + 1, "yes" if quorum > 1 else ""
    with Ledger.open(address) as ledger:
        # Not by this process: what it starts would not answer for people.
        lease = begin(ledger, owner=replace(Owner.current(), host="elsewhere"))
        waits = ask(ledger, lease, 30, quorum=quorum)
        lines = race(VOTER, address, tmp_path, racers, " ".join(waits), agreed)
        counted = Counter(wait_id for outcome, wait_id, _ in lines if outcome == "counted")
        assert counted == dict.fromkeys(waits, quorum)
        assert [outcome for outcome, _, _ in lines].count("closed") == 30
        for row in ledger.waits.of_run_blocking("default", "r-1"):
            voters = [vote["voter"] for vote in row.decided_by]
            assert row.state == "answered" and row.answer is not None and len(voters) == quorum
            assert row.answer["data"] == {"text": agreed or voters[-1]}
            losers = [
                said for outcome, wait_id, said in lines if [outcome, wait_id] == ["closed", row.wait_id]
            ]
            assert losers == [voters[0]], "a loser was told another winner"
        events = ledger.events.of_run("default", "r-1")
        assert Counter(event.name for event in events)["wait.answered"] == 30
        assert [event.seq for event in events] == list(range(1, len(events) + 1))


SWEEPER = """
    with Ledger.open(address) as ledger:
        together()
        for row in ledger.waits.expire_due("default"):
            print("expired", row.wait_id)
        for row in ledger.waits.remind_due("default", 0 if name == "p0" else 3_600_000_000):
            print("reminded", row.wait_id)
"""


def test_every_deadline_is_acted_on_once(address: str, tmp_path: Path) -> None:
    with Ledger.open(address) as ledger:
        waits = ask(ledger, begin(ledger), 30, deadline=1, on_timeout="reject")
        lines = race(SWEEPER, address, tmp_path, 3)
        assert Counter(wait_id for _, wait_id in lines) == dict.fromkeys(waits, 1)
        names = [event.name for event in ledger.events.of_run("default", "r-1")]
        assert names.count("wait.rejected") == 30


REMINDER = """
    with Ledger.open(address) as ledger:
        together()
        for row in ledger.waits.remind_due("default", 3_600_000_000):
            print("reminded", row.wait_id)
"""


def test_everybody_is_reminded_once(address: str, tmp_path: Path) -> None:
    with Ledger.open(address) as ledger:
        waits = ask(ledger, begin(ledger), 30)

        execute(ledger, "UPDATE wait SET created = 1")
        lines = race(REMINDER, address, tmp_path, 3)
        assert Counter(wait_id for _, wait_id in lines) == dict.fromkeys(waits, 1)


MEETING = """
    async def opener(ledger):
        lease = await ledger.begin_run(RunStart(run_id="r-" + name, workflow="w"))
        together()
        for n in range(60):
            start = WaitStart(run_id=lease.run_id, step_path=f"s-{n}", wait_key=f"k-{n}", kind="event",
                              ask="", event_type="paid", event_key=f"o-{n}")
            await ledger.waits.open(lease, start)

    with Ledger.open(address) as ledger:
        if name == "p0":
            asyncio.run(opener(ledger))
        else:
            together()
            for n in range(60):
                ledger.waits.signal("default", "paid", f"o-{n}", f"e-{n}", {"n": n})
"""


def test_a_signal_and_its_wait_never_miss_each_other(address: str, tmp_path: Path) -> None:
    race(MEETING, address, tmp_path, 2)
    with Ledger.open(address) as ledger:
        rows = ledger.waits.of_run_blocking("default", "r-p0")
        assert len(rows) == 60 and {row.state for row in rows} == {"answered"}
        assert all(row.answer and row.wait_key == f"k-{row.answer['data']['n']}" for row in rows)


@pytest.mark.cluster
@pytest.mark.parametrize("address", DATABASES[1:], indirect=True)
def test_a_signal_that_comes_while_its_wait_is_committed_is_seen(address: str) -> None:
    with Ledger.open(address) as ledger, Ledger.open(address) as outside:
        lease = begin(ledger)
        start = WaitStart(
            run_id="r-1", step_path="s", wait_key="k", kind="event", ask="", event_type="paid", event_key="o"
        )
        busy, go_on = threading.Event(), threading.Event()

        def occupy(_: Connection) -> None:
            busy.set()
            go_on.wait(60)

        def signalled(_: Connection) -> bool:
            return outside.waits.signal("default", "paid", "o", "e", {}) is None

        async def in_one_batch() -> tuple[str, bool]:
            first = asyncio.create_task(ledger.access.write(occupy, "a"))
            await asyncio.to_thread(busy.wait, 60)
            # The writer is occupied, so that these two share a transaction: first the wait, then the signal.
            opening = asyncio.create_task(ledger.waits.open(lease, start))
            unseen = asyncio.create_task(ledger.access.write(signalled, "z"))
            await asyncio.sleep(0)
            go_on.set()
            await first
            return (await opening).state, await unseen

        assert asyncio.run(in_one_batch()) == ("answered", True)


SEVERAL = """
    with Ledger.open(address) as ledger:
        together()
        for n in range(20):
            row = ledger.waits.signal("default", "paid", "", f"{name}-{n}", {})
            print(row.wait_id if row else "none")
"""


def test_signals_of_one_key_answer_one_wait_each(address: str, tmp_path: Path) -> None:
    with Ledger.open(address) as ledger:
        runs = [begin(ledger, f"r-{number}") for number in range(4)]
        waits = [name for run in runs for name in ask(ledger, run, 15, kind="event", event_type="paid")]
        lines = race(SEVERAL, address, tmp_path, 3)
        assert len(lines) == 60
        assert ledger.waits.list_open("default") == []
        told = Counter(word for (word,) in lines)
        # One may have been answered on behalf of a neighbour that had not looked yet.
        assert set(told) - {"none"} <= set(waits) and all(told[name] <= 1 for name in waits)


SPENDER = """
    async def spend(ledger):
        lease = await ledger.begin_run(RunStart(run_id="r-" + name, workflow="w"))
        own, day = f"run/r-{name}", sys.argv[5]
        await ledger.budgets.set_limits(lease, own, {"tokens": None}, lease.run_id)
        out = os.open(folder / f"sent-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        together()

        async def requests(number):
            for turn in range(int(sys.argv[6])):
                held = f"{name}-{number}-{turn}"
                if await ledger.budgets.reserve(lease, held, [own, day], Amount(10), "s", 60_000_000):
                    return
                os.write(out, b".")  # the request is sent
                await asyncio.sleep(0)
                await ledger.budgets.settle(lease, held, Amount(int(sys.argv[7])))

        await asyncio.gather(*(requests(number) for number in range(20)))
        print("done")

    with Ledger.open(address) as ledger:
        asyncio.run(spend(ledger))
"""


def test_an_agents_day_is_never_overspent_by_four_processes(address: str, tmp_path: Path) -> None:
    with Ledger.open(address) as ledger:
        asyncio.run(ledger.budgets.set_limits(begin(ledger), DAY, {"tokens": 1005}))
        processes = start(SPENDER, address, tmp_path, 4, DAY, "1000", "10")
        while any(process.poll() is None for process in processes):
            seen = ledger.budgets.get("default", DAY)
            assert seen is not None and seen.spent.tokens + seen.reserved.tokens <= 1005
            time.sleep(0.01)
        assert [finished(process) for process in processes] == ["done\n"] * 4
        row = ledger.budgets.get("default", DAY)
        assert row is not None and row.reserved == Amount()
        assert row.spent.tokens == 10 * sent(tmp_path) == 1000


def test_killed_processes_leave_their_share_charged_and_nothing_held(address: str, tmp_path: Path) -> None:
    limit = 40_000
    with Ledger.open(address) as ledger:
        asyncio.run(ledger.budgets.set_limits(begin(ledger), DAY, {"tokens": limit}))
        processes = start(SPENDER, address, tmp_path, 4, DAY, "25", "7")
        try:
            wait_until(lambda: sent(tmp_path) > 100 or any(p.poll() is not None for p in processes))
            for process in processes[:2]:
                process.kill()
            assert all(finished(process) == "done\n" for process in processes[2:])
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        execute(ledger, "UPDATE reservation SET expires = 1")
        reaped = asyncio.run(ledger.budgets.reap("default"))
        row = ledger.budgets.get("default", DAY)
        assert row is not None and row.reserved == Amount()
        assert 7 * sent(tmp_path) <= row.spent.tokens <= limit
        known = [held for n in range(4) for held in ledger.budgets.reservations("default", f"r-p{n}")]
        assert row.spent.tokens == sum(10 if held.state == "forfeited" else 7 for held in known)
        assert {held.run_id for held in reaped} <= {"r-p0", "r-p1"}
        for n in range(4):
            own = ledger.budgets.get("default", f"run/r-p{n}")
            assert own is not None and own.reserved == Amount()


def sent(folder: Path) -> int:
    """The requests that all processes have sent."""
    return sum(path.stat().st_size for path in folder.glob("sent-*"))


def execute(ledger: Ledger, statement: str) -> None:
    def operation(connection: Connection) -> None:
        connection.execute(text(statement))

    ledger.access.write_blocking(operation, "test")
