"""The ledger between processes: races, deaths and takeovers, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from blocks.ledger import Lease, Ledger, RunHeld, RunStart, StepRecord
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import finished, run_python, wait_until
from tests.support.stopped import is_stopped, stopped_in_a_write

START = RunStart(run_id="r-1", workflow="w")


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    made = new_address(request, request.param, tmp_path)
    Ledger.open(made, migrate=True).close()
    return made


RACER = """if 1:
    import asyncio, os, sys, time
    from pathlib import Path
    from blocks.ledger import Ledger, RunHeld, RunStart
    address, folder, name, runs, racers = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), 4

    def together(point):
        (folder / f"{point}-{name}").touch()
        while len(list(folder.glob(f"{point}-*"))) < racers:
            time.sleep(0.01)

    async def race():
        async with Ledger.open(address) as ledger:
            together("ready")
            for number in range(runs):
                try:
                    await ledger.begin_run(RunStart(run_id=f"r-{number}", workflow="w"))
                    print("won", number, os.getpid())
                except RunHeld as error:
                    print("held", number, error.message.split("process ")[1].split()[0])
            together("done")  # who won stays alive until all have asked

    asyncio.run(race())
"""


def test_of_four_processes_exactly_one_holds_a_run(address: str, tmp_path: Path) -> None:
    runs = 25
    racers = [run_python(RACER, address, str(tmp_path), f"p{n}", str(runs)) for n in range(4)]
    lines = [line.split() for racer in racers for line in finished(racer).splitlines()]
    winners = {number: pid for outcome, number, pid in lines if outcome == "won"}
    assert Counter(outcome for outcome, _, _ in lines) == {"won": runs, "held": 3 * runs}
    assert len(winners) == runs
    assert all(winners[number] == pid for _, number, pid in lines), "a loser was told the wrong holder"


WORKER = """if 1:
    import asyncio, itertools, os, sys
    from blocks.ledger import Ledger, RunStart, StepRecord
    acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def work():
        ledger = Ledger.open(sys.argv[1])
        lease = await ledger.begin_run(RunStart(run_id=sys.argv[3], workflow="w"))
        async def write(first):
            for number in itertools.count(first, 50):
                step = StepRecord(step_path=f"s-{number}", state="completed", result={"x": "y" * 500})
                await ledger.record_step(lease, step)
                os.write(acknowledged, f"s-{number}\\n".encode())
        await asyncio.gather(*(write(first) for first in range(50)))

    asyncio.run(work())
"""


def killed_worker(address: str, journal: Path, run_id: str = "r-1", acknowledged: int = 300) -> None:
    """A process that writes steps without end, killed once so many were acknowledged."""
    process = run_python(WORKER, address, str(journal), run_id)
    try:
        wait_until(lambda: seen(journal) >= acknowledged or process.poll() is not None)
        assert process.poll() is None, process.communicate()
    finally:
        process.kill()
        process.communicate()


def seen(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


@pytest.mark.parametrize("acknowledged", [1, 120, 700])
def test_a_kill_loses_no_acknowledged_step(address: str, tmp_path: Path, acknowledged: int) -> None:
    journal = tmp_path / "acknowledged"
    killed_worker(address, journal, acknowledged=acknowledged)
    with Ledger.open(address) as ledger:
        stored = {step.step_path for step in ledger.reader.steps("default", "r-1")}
    told = journal.read_text().split()
    assert len(told) >= acknowledged and set(told) <= stored


def test_a_killed_processes_run_is_interrupted_and_taken_over_at_once(address: str, tmp_path: Path) -> None:
    killed_worker(address, tmp_path / "acknowledged", acknowledged=1)
    with Ledger.open(address) as ledger:
        row = ledger.reader.get_run("default", "r-1")
        assert row is not None and row.state == "interrupted" and row.holder is None
        lease = asyncio.run(ledger.begin_run(START))
        assert lease.epoch == 2 and lease.previous is not None and lease.previous.state == "interrupted"


ZOMBIE = """if 1:
    import asyncio, sys, time
    from pathlib import Path
    from blocks.ledger import Fenced, Ledger, RunStart, StepRecord
    address, folder = sys.argv[1], Path(sys.argv[2])

    async def hold():
        async with Ledger.open(address, lease_seconds=0.001) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))
            (folder / "holding").touch()
            while not (folder / "go on").exists():
                time.sleep(0.01)
            try:
                await ledger.record_step(lease, StepRecord(step_path="late", state="completed"))
            except Fenced:
                print("fenced")

    asyncio.run(hold())
"""


def test_a_process_that_comes_back_after_a_takeover_writes_nothing(address: str, tmp_path: Path) -> None:
    zombie = run_python(ZOMBIE, address, str(tmp_path))
    try:
        wait_until((tmp_path / "holding").exists)
        with Ledger.open(address) as ledger:
            lease = take_over(ledger)
            (tmp_path / "go on").touch()
            assert finished(zombie).strip() == "fenced"
            asyncio.run(ledger.record_step(lease, StepRecord(step_path="mine", state="completed")))
            assert [step.step_path for step in ledger.reader.steps("default", "r-1")] == ["mine"]
    finally:
        zombie.kill()
        zombie.communicate()


def take_over(ledger: Ledger) -> Lease:
    """The run of a living process whose lease is about to be over."""
    while True:
        try:
            return asyncio.run(ledger.begin_run(START))
        except RunHeld:
            continue


FORKER = """if 1:
    import asyncio, os, sys
    from blocks.ledger import Ledger, LedgerError, RunStart
    ledger = Ledger.open(sys.argv[1])
    asyncio.run(ledger.begin_run(RunStart(run_id="r-1", workflow="w")))
    if os.fork() == 0:
        for attempt in (
            lambda: asyncio.run(ledger.begin_run(RunStart(run_id="r-2", workflow="w"))),
            lambda: ledger.reader.list_runs("default"),
        ):
            try:
                attempt()
            except LedgerError:
                print("refused", flush=True)
        os._exit(0)
    os.wait()
    print(ledger.reader.get_run("default", "r-2"))
    ledger.close()
"""


def test_a_forked_child_does_not_use_its_parents_ledger(address: str) -> None:
    assert finished(run_python(FORKER, address)).split() == ["refused", "refused", "None"]


@pytest.mark.cluster
@pytest.mark.parametrize("address", DATABASES[1:], indirect=True)
def test_postgresql_lets_go_of_what_a_stopped_process_holds(address: str) -> None:
    """Its rows are free again after some seconds, while it is still stopped; it goes on where it can."""
    with Ledger.open(address) as ledger:
        lease = asyncio.run(ledger.begin_run(START))
        asyncio.run(ledger.finish_run(lease, "waiting"))
        with stopped_in_a_write(address) as stopped:
            assert ledger.steering.request_cancel("default", "r-1") == "cancelled"
            assert is_stopped(stopped.pid)
            os.kill(stopped.pid, signal.SIGCONT)
            assert stopped.wait(60) == 0
        assert ledger.reader.list_runs("default")[0].state == "cancelled"
