"""The journal of turns, on SQLite and on PostgreSQL: kept once, in order, by the run's holder alone."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import select

from blocks.ledger import Fenced, Lease, Ledger, LedgerError, RunStart, TurnRecord
from blocks.ledger.tables.schema import turn as turns
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import finished, run_python, wait_until

ANSWER = TurnRecord(
    step_path="step-1/项",
    content_key="k",
    attempt=1,
    turn=1,
    part="answer",
    request_digest="d",
    body={"text": "回答\x00\ud800", "blocks": [{"type": "text", "n": 2**53 + 1}]},
    usage={"input_tokens": 10, "output_tokens": 2},
    model="claude-opus-5-5",
)


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    with Ledger.open(address, migrate=True) as opened:
        yield opened


def begin(ledger: Ledger, run_id: str = "r-1", tenant: str = "default") -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w", tenant=tenant)))


def keep(ledger: Ledger, lease: Lease, **fields: Any) -> TurnRecord:
    record = dataclasses.replace(ANSWER, **fields)
    asyncio.run(ledger.journal.keep(lease, record))
    return record


def read(ledger: Ledger, run_id: str = "r-1", tenant: str = "default") -> list[TurnRecord]:
    return asyncio.run(ledger.journal.read(tenant, run_id, ANSWER.step_path, ANSWER.content_key))


def test_a_record_comes_back_as_it_was_kept(ledger: Ledger) -> None:
    keep(ledger, begin(ledger))
    assert read(ledger) == [ANSWER]


def test_an_unknown_step_has_no_records(ledger: Ledger) -> None:
    assert read(ledger) == []
    assert asyncio.run(ledger.journal.count("default", "r-1")) == 0
    assert asyncio.run(ledger.journal.costs("default", "r-1")) == []


def test_the_first_writer_wins(ledger: Ledger) -> None:
    lease = begin(ledger)
    keep(ledger, lease, body={"n": 1})
    for body in ({"n": 1}, {"n": 2}):
        keep(ledger, lease, body=body, request_digest="another", model="another")
    (found,) = read(ledger)
    assert (found.body, found.request_digest, found.model) == ({"n": 1}, "d", "claude-opus-5-5")


def test_several_are_kept_in_one_commit_beside_those_that_are_there(ledger: Ledger) -> None:
    lease = begin(ledger)
    keep(ledger, lease, turn=2, body={"first": True})
    several = [dataclasses.replace(ANSWER, turn=number) for number in (1, 2, 3)]
    asyncio.run(ledger.journal.keep_many(lease, several))
    asyncio.run(ledger.journal.keep_many(lease, []))
    assert [(found.turn, "first" in found.body) for found in read(ledger)] == [
        (1, False),
        (2, True),
        (3, False),
    ]


def test_records_come_by_attempt_turn_and_part(ledger: Ledger) -> None:
    lease = begin(ledger)
    parts = ["tool:10", "tool:0", "input:notes", "tool:9", "answer", "tool:1", "input:clock"]
    in_order = ["answer", "input:clock", "input:notes", "tool:0", "tool:1", "tool:9", "tool:10"]
    for attempt, turn in ((2, 1), (1, 10), (1, 9)):
        for part in parts:
            keep(ledger, lease, attempt=attempt, turn=turn, part=part)
    assert [(found.attempt, found.turn, found.part) for found in read(ledger)] == [
        (attempt, turn, part) for attempt, turn in ((1, 9), (1, 10), (2, 1)) for part in in_order
    ]


def test_only_the_step_of_that_key_is_read(ledger: Ledger) -> None:
    lease = begin(ledger)
    for fields in ({"step_path": "step-1"}, {"content_key": "k2"}, {}):
        keep(ledger, lease, **fields)
    assert read(ledger) == [ANSWER]
    assert asyncio.run(ledger.journal.count("default", "r-1")) == 3


def test_tenants_and_runs_have_journals_of_their_own(ledger: Ledger) -> None:
    for tenant, run_id in (("a", "same"), ("b", "same"), ("a", "other")):
        keep(ledger, begin(ledger, run_id, tenant), body={"of": f"{tenant}/{run_id}"})
    for tenant, run_id in (("a", "same"), ("b", "same"), ("a", "other")):
        assert [found.body for found in read(ledger, run_id, tenant)] == [{"of": f"{tenant}/{run_id}"}]
        assert asyncio.run(ledger.journal.count(tenant, run_id)) == 1


def test_what_a_run_has_paid_is_the_usage_of_all_its_records(ledger: Ledger) -> None:
    lease = begin(ledger)
    keep(ledger, lease, usage={"input_tokens": 1}, model="m1")
    keep(ledger, lease, part="tool:0", usage={}, model="")
    keep(ledger, lease, attempt=2, step_path="other", content_key="k2", usage={"input_tokens": 2}, model="m2")
    keep(ledger, lease, usage={"input_tokens": 99})  # it is there already, and paid once
    assert asyncio.run(ledger.journal.costs("default", "r-1")) == [
        (ANSWER.step_path, "m1", {"input_tokens": 1}),
        ("other", "m2", {"input_tokens": 2}),
    ]


def test_a_body_of_a_megabyte_is_kept_and_a_larger_one_refused(ledger: Ledger) -> None:
    lease = begin(ledger)
    whole = 1024 * 1024 - len('{"x":""}')
    keep(ledger, lease, body={"x": "y" * whole})
    assert len(read(ledger)[0].body["x"]) == whole
    with pytest.raises(LedgerError, match="answer of turn 2 in step step-1") as caught:
        keep(ledger, lease, turn=2, body={"x": "y" * (whole + 1)})
    assert "artifact" in caught.value.cure
    assert asyncio.run(ledger.journal.count("default", "r-1")) == 1


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": object()}, {"x": b"b"}])
def test_a_body_that_is_no_json_is_refused(ledger: Ledger, body: Any) -> None:
    with pytest.raises(LedgerError, match="cannot be kept as JSON"):
        keep(ledger, begin(ledger), body=body)


@pytest.mark.parametrize(
    "part", ["", "Answer", "tool:", "tool:x", "tool:-1", "input:", "input:a\x00", "other"]
)
def test_an_unfit_part_is_refused(ledger: Ledger, part: str) -> None:
    with pytest.raises(LedgerError, match="not a part of a turn"):
        keep(ledger, begin(ledger), part=part)


def test_one_unfit_record_of_several_means_none(ledger: Ledger) -> None:
    lease = begin(ledger)
    several = [ANSWER, dataclasses.replace(ANSWER, turn=2, body={"x": object()})]
    with pytest.raises(LedgerError):
        asyncio.run(ledger.journal.keep_many(lease, several))
    # This one fails only in the database: no column holds such a number.
    several[1] = dataclasses.replace(ANSWER, turn=2**80)
    with pytest.raises((LedgerError, OverflowError)):
        asyncio.run(ledger.journal.keep_many(lease, several))
    assert read(ledger) == []


def test_a_holder_that_lost_the_run_keeps_nothing(ledger: Ledger) -> None:
    old = begin(ledger)
    keep(ledger, old)
    asyncio.run(ledger.finish_run(old, "interrupted"))
    ended = dataclasses.replace(ANSWER, turn=2)
    stranger = dataclasses.replace(old, run_id="r-never")
    for _ in range(2):
        for attempt in (
            ledger.journal.keep(old, ended),
            ledger.journal.keep(old, ANSWER),  # which is there already
            ledger.journal.keep_many(old, [ANSWER, ended]),
            ledger.journal.keep(stranger, ended),
        ):
            with pytest.raises(Fenced) as caught:
                asyncio.run(attempt)
            assert caught.value.cure
        new = begin(ledger)  # and the same again, once another holds the run
        asyncio.run(ledger.finish_run(new, "interrupted"))
    assert read(ledger) == [ANSWER]


def test_many_steps_keep_at_once_and_one_bad_record_spoils_none_of_them(ledger: Ledger) -> None:
    async def all_at_once() -> list[Any]:
        lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))
        records = [dataclasses.replace(ANSWER, turn=number, part="tool:1") for number in range(300)]
        records[7] = dataclasses.replace(ANSWER, turn=2**80)
        keeping = (ledger.journal.keep(lease, record) for record in records)
        return await asyncio.gather(*keeping, return_exceptions=True)

    outcomes = asyncio.run(all_at_once())
    assert [number for number, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert [found.turn for found in read(ledger)] == [number for number in range(300) if number != 7]


def test_a_step_is_read_in_one_query(ledger: Ledger) -> None:
    lease = begin(ledger)
    for number in range(5):
        keep(ledger, lease, turn=number)
    asked: list[str] = []
    engine = ledger.reader.read(lambda connection: connection.engine)
    sqlalchemy_event.listen(engine, "before_cursor_execute", lambda _c, _cursor, sql, *_: asked.append(sql))
    assert len(read(ledger)) == 5
    assert len([statement for statement in asked if "SELECT" in statement]) == 1


def test_each_record_has_the_time_it_was_kept_at(ledger: Ledger) -> None:
    lease = begin(ledger)
    for number in range(3):
        keep(ledger, lease, turn=number)
    query = select(turns.c.created, turns.c.epoch).order_by(turns.c.turn)
    rows = ledger.reader.read(lambda connection: connection.execute(query).all())
    run = ledger.reader.get_run("default", "r-1")
    assert run is not None and run.created < rows[0].created < rows[1].created < rows[2].created
    assert {row.epoch for row in rows} == {lease.epoch}


# --- between processes ---

WORKER = """if 1:
    import asyncio, itertools, os, sys
    from blocks.ledger import Ledger, RunStart, TurnRecord
    acknowledged = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def work():
        ledger = Ledger.open(sys.argv[1])
        lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))
        async def write(first):
            for number in itertools.count(first, 50):
                pair = [
                    TurnRecord(
                        step_path="s", content_key="k", attempt=1, turn=number, part=part,
                        request_digest="", body={"x": "y" * 2000},
                    )
                    for part in ("answer", "tool:0")
                ]
                await ledger.journal.keep_many(lease, pair)
                os.write(acknowledged, f"{number}\\n".encode())
        await asyncio.gather(*(write(first) for first in range(50)))

    asyncio.run(work())
"""


@pytest.mark.parametrize("acknowledged", [1, 400])
def test_a_kill_loses_no_acknowledged_record_and_leaves_none_half(
    ledger: Ledger, address: str, tmp_path: Path, acknowledged: int
) -> None:
    told = tmp_path / "acknowledged"
    worker = run_python(WORKER, address, str(told))
    try:
        wait_until(lambda: lines_of(told) >= acknowledged or worker.poll() is not None)
        assert worker.poll() is None, worker.communicate()
    finally:
        worker.kill()
        worker.communicate()
    found = asyncio.run(ledger.journal.read("default", "r-1", "s", "k"))
    answers = {record.turn for record in found if record.part == "answer"}
    assert answers == {record.turn for record in found if record.part == "tool:0"}
    assert {int(number) for number in told.read_text().split()} <= answers
    assert begin(ledger).epoch == 2


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


RACER = """if 1:
    import asyncio, os, sys, time
    from pathlib import Path
    from blocks.ledger import Lease, Ledger, TurnRecord
    address, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    lease = Lease("default", "r-1", 1, sys.argv[4], False, None)

    async def race():
        async with Ledger.open(address) as ledger:
            (folder / name).touch()
            while len(list(folder.glob("racer-*"))) < 2:
                time.sleep(0.01)
            records = [
                TurnRecord(
                    step_path="s", content_key="k", attempt=1, turn=number, part="answer",
                    request_digest="", body={"by": name},
                )
                for number in range(100)
            ]
            await asyncio.gather(*(ledger.journal.keep(lease, record) for record in records))

    asyncio.run(race())
"""


def test_of_two_processes_one_keeps_each_record_and_the_other_goes_on(
    ledger: Ledger, address: str, tmp_path: Path
) -> None:
    lease = begin(ledger)
    racers = [run_python(RACER, address, str(tmp_path), f"racer-{n}", lease.token) for n in range(2)]
    for racer in racers:
        finished(racer)
    found = asyncio.run(ledger.journal.read("default", "r-1", "s", "k"))
    assert [record.turn for record in found] == list(range(100))
    assert {record.body["by"] for record in found} <= {"racer-0", "racer-1"}
