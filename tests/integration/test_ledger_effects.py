"""Effects, on SQLite and on PostgreSQL: written ahead once, moved only where they may go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import text

from blocks.ledger import (
    EffectIntent,
    EffectRow,
    EffectState,
    Fenced,
    Lease,
    Ledger,
    LedgerError,
    RunStart,
    TurnRecord,
)
from blocks.ledger.database.engine import Database, make_engine
from blocks.ledger.runs.effects import _Intend, _intent_values, read_effects
from tests.support.ledgers import DATABASES, new_address
from tests.support.prefect_server import finished, run_python, wait_until

INTENT = EffectIntent(
    step_path="step-1/项",
    kind="mcp",
    tool="payments/refund",
    effect="once",
    effect_key="e" * 64,
    idempotency_key="1" * 32,
    arguments={"order": "订单\x00", "cents": 500},
    arguments_digest="d" * 64,
)
KEY = INTENT.effect_key
WAYS: dict[str, list[str]] = {
    "intended": [],
    "done": ["done"],
    "refused": ["refused"],
    "unknown": ["unknown"],
    "not_done": ["unknown", "not_done"],
    "abandoned": ["unknown", "abandoned"],
    "undone": ["done", "undone"],
}
"""How an effect that was intended comes into each state."""
ALLOWED = {
    ("intended", "done"),
    ("intended", "refused"),
    ("intended", "unknown"),
    ("intended", "not_done"),
    ("intended", "abandoned"),
    ("unknown", "done"),
    ("unknown", "not_done"),
    ("unknown", "abandoned"),
    ("abandoned", "unknown"),
    ("done", "undone"),
}


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    with Ledger.open(address, migrate=True) as opened:
        yield opened


def begin(ledger: Ledger, run_id: str = "r-1", tenant: str = "default") -> Lease:
    return asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w", tenant=tenant)))


def intend(ledger: Ledger, lease: Lease, **fields: Any) -> EffectRow:
    return asyncio.run(ledger.effects.intend(lease, dataclasses.replace(INTENT, **fields)))


def settle(ledger: Ledger, lease: Lease, state: Any, key: str = KEY, **known: Any) -> None:
    asyncio.run(ledger.effects.settle(lease, key, state, **known))


def send(ledger: Ledger, lease: Lease, key: str = KEY) -> int:
    return asyncio.run(ledger.effects.count_send(lease, key))


def get(ledger: Ledger, key: str = KEY) -> EffectRow:
    row = asyncio.run(ledger.effects.get("default", "r-1", key))
    assert row is not None
    return row


def test_an_effect_is_written_ahead_once_and_found_again(ledger: Ledger) -> None:
    lease = begin(ledger)
    first = intend(ledger, lease)
    assert first.fresh and first.state == "intended" and (first.sent, first.epoch) == (0, 1)
    assert (first.outcome, first.error, first.wait_id, first.ended) == (None, None, "", None)
    assert {name: getattr(first, name) for name in INTENT.__slots__} == dataclasses.asdict(INTENT)
    again = intend(ledger, lease, arguments={"cents": 900}, arguments_digest="other")
    assert again == dataclasses.replace(first, fresh=False)
    run = ledger.reader.get_run("default", "r-1")
    assert run is not None and run.created < first.intended


def test_an_unknown_effect_is_none(ledger: Ledger) -> None:
    assert asyncio.run(ledger.effects.get("default", "r-1", KEY)) is None
    assert asyncio.run(ledger.effects.of_run("default", "r-1")) == []


def test_effects_come_in_the_order_they_were_intended(ledger: Ledger) -> None:
    lease = begin(ledger)
    for key in ("c", "a", "b"):
        intend(ledger, lease, effect_key=key)
    settle(ledger, lease, "done", "a")
    found = asyncio.run(ledger.effects.of_run("default", "r-1"))
    assert [(row.effect_key, row.state) for row in found] == [
        ("c", "intended"),
        ("a", "done"),
        ("b", "intended"),
    ]
    assert ledger.reader.read(lambda connection: read_effects(connection, "default", "r-1")) == found


def test_tenants_and_runs_have_effects_of_their_own(ledger: Ledger) -> None:
    for tenant, run_id in (("a", "same"), ("b", "same"), ("a", "other")):
        assert intend(ledger, begin(ledger, run_id, tenant), tool=f"{tenant}/{run_id}").fresh
    for tenant, run_id in (("a", "same"), ("b", "same"), ("a", "other")):
        (row,) = asyncio.run(ledger.effects.of_run(tenant, run_id))
        assert row.tool == f"{tenant}/{run_id}"


def test_an_outcome_is_kept_for_whoever_asks_again(ledger: Ledger) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    assert send(ledger, lease) == 1
    outcome = {"id": "refund-7", "text": "已退款\ud800"}
    settle(ledger, lease, "done", outcome=outcome)
    asyncio.run(ledger.finish_run(lease, "interrupted"))
    found = intend(ledger, begin(ledger))
    assert (found.state, found.outcome, found.sent, found.fresh) == ("done", outcome, 1, False)
    assert found.ended is not None and found.ended > found.intended


@pytest.mark.parametrize("before", get_args(EffectState))
def test_an_effect_moves_only_where_it_may(ledger: Ledger, before: str) -> None:
    lease = begin(ledger)
    for number, after in enumerate(state for state in get_args(EffectState) if state != "intended"):
        key = f"key-{number}"
        intend(ledger, lease, effect_key=key)
        for state in WAYS[before]:
            settle(ledger, lease, state, key)
        if (before, after) in ALLOWED or before == after:
            settle(ledger, lease, after, key)
            assert get(ledger, key).state == after
            continue
        with pytest.raises(LedgerError, match=f"is recorded as {before}; it cannot be {after}") as caught:
            settle(ledger, lease, after, key)
        assert caught.value.cure and get(ledger, key).state == before


def test_nothing_is_settled_as_intended(ledger: Ledger) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    with pytest.raises(LedgerError, match="no effect is settled as intended"):
        settle(ledger, lease, "intended")


def test_settling_alike_is_fine_and_otherwise_names_what_differs(ledger: Ledger) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    settle(ledger, lease, "done", outcome={"a": 1, "b": 2})
    first = get(ledger)
    for outcome in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, None):
        settle(ledger, lease, "done", outcome=outcome)
    assert get(ledger) == first
    with pytest.raises(LedgerError, match="recorded as done; it cannot be done with another outcome"):
        settle(ledger, lease, "done", outcome={"a": 2})
    with pytest.raises(LedgerError, match="with another error and wait_id"):
        settle(ledger, lease, "done", error={"message": "m"}, wait_id="w-1")
    assert get(ledger) == first


def test_taking_back_leaves_the_outcome_that_was_taken_back(ledger: Ledger) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    settle(ledger, lease, "done", outcome={"id": 7})
    settle(ledger, lease, "undone")
    assert (get(ledger).state, get(ledger).outcome) == ("undone", {"id": 7})


def test_an_unknown_effect_gets_its_wait_later_but_not_another_one(ledger: Ledger) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    settle(ledger, lease, "unknown", error={"message": "timeout"})
    for _ in range(2):
        settle(ledger, lease, "unknown", wait_id="w-1")
    assert (get(ledger).wait_id, get(ledger).error) == ("w-1", {"message": "timeout"})
    with pytest.raises(LedgerError, match="recorded as unknown; it cannot be unknown with another wait_id"):
        settle(ledger, lease, "unknown", wait_id="w-2")
    settle(ledger, lease, "done", outcome={"by": "a person"})
    assert (get(ledger).wait_id, get(ledger).state) == ("w-1", "done")


@pytest.mark.parametrize("state", ["intended", "refused", "not_done"])
def test_what_has_not_happened_may_be_sent_again(ledger: Ledger, state: str) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    assert send(ledger, lease) == 1
    for step in WAYS[state]:
        settle(ledger, lease, step, error={"message": "m"}, wait_id="w-1")
    assert send(ledger, lease) == 2
    row = get(ledger)
    assert (row.state, row.sent, row.error, row.wait_id, row.ended) == ("intended", 2, None, "", None)
    settle(ledger, lease, "done", outcome={"second": True})


@pytest.mark.parametrize("state", ["done", "unknown", "abandoned", "undone"])
def test_what_has_or_may_have_happened_is_not_sent_again(ledger: Ledger, state: str) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    for step in WAYS[state]:
        settle(ledger, lease, step)
    before = get(ledger)
    with pytest.raises(LedgerError, match=f"is recorded as {state}; it cannot be sent again"):
        send(ledger, lease)
    assert get(ledger) == before


def test_an_effect_that_was_never_intended_is_refused(ledger: Ledger) -> None:
    lease = begin(ledger)
    for attempt in (lambda: settle(ledger, lease, "done"), lambda: send(ledger, lease)):
        with pytest.raises(LedgerError, match="run r-1 has no effect"):
            attempt()


@pytest.mark.parametrize("arguments", [{"x": "y" * 70_000}, {"x": b""}])
def test_arguments_that_do_not_fit_are_refused_before_a_send(ledger: Ledger, arguments: Any) -> None:
    lease = begin(ledger)
    with pytest.raises(LedgerError, match="the call of payments/refund"):
        intend(ledger, lease, arguments=arguments)
    assert asyncio.run(ledger.effects.of_run("default", "r-1")) == []


def test_a_holder_that_lost_the_run_neither_intends_sends_nor_settles(ledger: Ledger) -> None:
    old = begin(ledger)
    intend(ledger, old)
    before = get(ledger)
    asyncio.run(ledger.finish_run(old, "interrupted"))
    for _ in range(2):
        for attempt in (
            ledger.effects.intend(old, INTENT),  # which is there already
            ledger.effects.intend(old, dataclasses.replace(INTENT, effect_key="new")),
            ledger.effects.count_send(old, KEY),
            ledger.effects.settle(old, KEY, "done"),
            ledger.effects.count_send(old, "never"),
        ):
            with pytest.raises(Fenced) as caught:
                asyncio.run(attempt)
            assert caught.value.cure
        new = begin(ledger)  # and the same again, once another holds the run
        asyncio.run(ledger.finish_run(new, "interrupted"))
    assert asyncio.run(ledger.effects.of_run("default", "r-1")) == [before]


def test_an_intent_repeated_after_a_lost_commit_is_still_fresh(address: str, ledger: Ledger) -> None:
    lease = begin(ledger)
    engine = make_engine(Database.parse(address), write=True)

    def run(operation: Any) -> EffectRow:
        with engine.begin() as connection:
            row: EffectRow = operation(connection)
            return row

    mine, another = (_Intend(lease, _intent_values(lease, INTENT)) for _ in range(2))
    try:
        fresh = [run(operation).fresh for operation in (mine, mine, another, mine)]
    finally:
        engine.dispose()
    assert fresh == [True, True, False, True]


def test_a_settlement_repeated_after_a_lost_commit_is_one(ledger: Ledger) -> None:
    lease = begin(ledger)
    for key in ("a", "b"):
        intend(ledger, lease, effect_key=key)

    async def both_at_once() -> list[Any]:
        attempts = [
            ledger.effects.settle(lease, "a", "done", outcome={"n": 1}),
            ledger.effects.settle(lease, "a", "done", outcome={"n": 1}),
            ledger.effects.settle(lease, "b", "done", outcome={"n": 1}),
            ledger.effects.settle(lease, "b", "unknown", wait_id="w-1"),
        ]
        return await asyncio.gather(*attempts, return_exceptions=True)

    outcomes = asyncio.run(both_at_once())
    assert outcomes[:3] == [None, None, None] and isinstance(outcomes[3], LedgerError)
    assert get(ledger, "b").state == "done"


# --- between processes ---

RACER = """if 1:
    import asyncio, sys, time
    from pathlib import Path
    from blocks.ledger import EffectIntent, Lease, Ledger, LedgerError
    address, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    lease = Lease("default", "r-1", 1, sys.argv[4], False, None)

    def intent(number):
        return EffectIntent(
            step_path="s", kind="tool", tool="t", effect="once", effect_key=f"k-{number}",
            idempotency_key="i", arguments={}, arguments_digest="d",
        )

    async def race():
        async with Ledger.open(address) as ledger:
            (folder / name).touch()
            while len(list(folder.glob("racer-*"))) < 2:
                time.sleep(0.01)
            rows = await asyncio.gather(*(ledger.effects.intend(lease, intent(n)) for n in range(100)))
            for number, row in enumerate(rows):
                if row.fresh:
                    print("fresh", number)
            for number in range(100):
                try:
                    await ledger.effects.settle(lease, f"k-{number}", "done", outcome={"by": name})
                    print("settled", number)
                except LedgerError:
                    pass

    asyncio.run(race())
"""


def test_of_two_processes_exactly_one_intends_and_one_settles(
    ledger: Ledger, address: str, tmp_path: Path
) -> None:
    lease = begin(ledger)
    racers = [run_python(RACER, address, str(tmp_path), f"racer-{n}", lease.token) for n in range(2)]
    lines = Counter(line for racer in racers for line in finished(racer).splitlines())
    assert lines == Counter(f"{what} {number}" for what in ("fresh", "settled") for number in range(100))
    found = asyncio.run(ledger.effects.of_run("default", "r-1"))
    assert {row.state for row in found} == {"done"} and len(found) == 100


WORKER = """if 1:
    import asyncio, itertools, os, sys
    from blocks.ledger import EffectIntent, Ledger, RunStart
    told = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def work():
        ledger = Ledger.open(sys.argv[1])
        lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))
        async def act(first):
            for number in itertools.count(first, 40):
                key = f"k-{number}"
                await ledger.effects.intend(lease, EffectIntent(
                    step_path="s", kind="tool", tool="t", effect="once", effect_key=key,
                    idempotency_key="i", arguments={}, arguments_digest="d",
                ))
                await ledger.effects.count_send(lease, key)
                os.write(told, f"sent {key}\\n".encode())
                await ledger.effects.settle(lease, key, "done", outcome={"n": number})
                os.write(told, f"done {key}\\n".encode())
        await asyncio.gather(*(act(first) for first in range(40)))

    asyncio.run(work())
"""


def test_after_a_kill_nothing_that_was_sent_looks_as_if_it_was_not(
    ledger: Ledger, address: str, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    worker = run_python(WORKER, address, str(told))
    try:
        wait_until(
            lambda: (told.exists() and told.read_bytes().count(b"done") >= 200) or worker.poll() is not None
        )
        assert worker.poll() is None, worker.communicate()
    finally:
        worker.kill()
        worker.communicate()
    found = {row.effect_key: row for row in asyncio.run(ledger.effects.of_run("default", "r-1"))}
    seen = {(what, key) for what, _, key in (line.partition(" ") for line in told.read_text().splitlines())}
    assert all(found[key].sent == 1 for what, key in seen if what == "sent")
    assert all(found[key].state == "done" for what, key in seen if what == "done")
    assert all(row.sent == 1 and row.outcome is not None for row in found.values() if row.state == "done")


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_takeover_that_is_not_committed_yet_is_waited_for(ledger: Ledger, address: str) -> None:
    lease = begin(ledger)
    intend(ledger, lease)
    turn = TurnRecord(
        step_path="s", content_key="k", attempt=1, turn=1, part="answer", request_digest="", body={}
    )

    async def late() -> list[Any]:
        attempts = [
            asyncio.ensure_future(attempt)
            for attempt in (
                ledger.journal.keep(lease, turn),
                ledger.effects.intend(lease, dataclasses.replace(INTENT, effect_key="new")),
                ledger.effects.intend(lease, INTENT),
                ledger.effects.count_send(lease, KEY),
                ledger.effects.settle(lease, KEY, "done"),
                ledger.events.append(lease, [("late", "", {})]),
            )
        ]
        with engine.connect() as connection, connection.begin():
            connection.execute(text("UPDATE run SET lease_epoch = lease_epoch + 1"))
            done, _ = await asyncio.wait(attempts, timeout=0.2)
            assert not done, "written although the run's row is about to change"
        return await asyncio.gather(*attempts, return_exceptions=True)

    engine = make_engine(Database.parse(address), write=True)
    try:
        outcomes = asyncio.run(late())
    finally:
        engine.dispose()
    assert [type(outcome) for outcome in outcomes] == [Fenced] * 6
    assert asyncio.run(ledger.journal.count("default", "r-1")) == 0 == get(ledger).sent
    assert len(asyncio.run(ledger.effects.of_run("default", "r-1"))) == 1
    assert ledger.events.of_run("default", "r-1") == []


ZOMBIE = """if 1:
    import asyncio, sys, time
    from pathlib import Path
    from blocks.ledger import EffectIntent, Fenced, Ledger, RunStart, TurnRecord
    address, folder = sys.argv[1], Path(sys.argv[2])
    intent = EffectIntent(
        step_path="s", kind="tool", tool="t", effect="once", effect_key="k",
        idempotency_key="i", arguments={}, arguments_digest="d",
    )
    turn = TurnRecord(
        step_path="s", content_key="k", attempt=1, turn=1, part="answer", request_digest="", body={},
    )

    async def hold():
        async with Ledger.open(address, lease_seconds=0) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r-1", workflow="w"))
            await ledger.effects.intend(lease, intent)
            (folder / "holding").touch()
            while not (folder / "go on").exists():
                time.sleep(0.01)
            for late in (
                ledger.journal.keep(lease, turn),
                ledger.effects.intend(lease, intent),
                ledger.effects.count_send(lease, "k"),
                ledger.effects.settle(lease, "k", "done"),
                ledger.events.append(lease, [("late", "", {})]),
            ):
                try:
                    await late
                except Fenced:
                    print("fenced")

    asyncio.run(hold())
"""


def test_a_process_that_comes_back_after_a_takeover_writes_nothing(
    ledger: Ledger, address: str, tmp_path: Path
) -> None:
    zombie = run_python(ZOMBIE, address, str(tmp_path))
    try:
        wait_until((tmp_path / "holding").exists)
        lease = begin(ledger)
        (tmp_path / "go on").touch()
        assert finished(zombie).split() == ["fenced"] * 5
    finally:
        zombie.kill()
        zombie.communicate()
    assert lease.epoch == 2 and asyncio.run(ledger.journal.count("default", "r-1")) == 0
    (row,) = asyncio.run(ledger.effects.of_run("default", "r-1"))
    assert (row.state, row.sent, row.epoch) == ("intended", 0, 1)
    assert ledger.events.of_run("default", "r-1") == []
