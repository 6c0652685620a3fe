"""A fault is waited out once, whatever needs the part that has it: not by each step, item or part anew."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger.tables.errors import LedgerAway
from blocks.models import Retryable
from blocks.patience import PROVIDER, Patience
from tests.support.flows import FLOW_MARKS, Bench, agent, steps
from tests.support.s3 import s3_server

pytestmark = FLOW_MARKS

PATIENCE = Patience(3.0)
SLOTS = 2
SHAPES = {
    "steps": steps(*(agent(f"s{n}") for n in range(6)), also=f"max_concurrent: {SLOTS}\n"),
    "items": steps(agent("a", "for_each: range(12) | list", f"max_concurrent: {SLOTS}")),
    "batches": steps(agent("a", "for_each: range(101) | list", f"max_concurrent: {SLOTS}")),
    "workflows": steps(
        *(f"  - id: {name}\n    workflow: inner\n" for name in "nm"), also=f"max_concurrent: {SLOTS}\n"
    ),
}
WORDS = ("a", "last", *(f"{kind}{n}" for kind in "si" for n in range(6)))
INNER = steps(*(agent(f"i{n}") for n in range(6))) + "finally:\n" + agent("last")


@pytest.fixture(params=SHAPES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, w=SHAPES[request.param], inner=INNER)


def span(told: list[dict[str, Any]]) -> timedelta:
    """From when the first of these waits began to when the last would end, by the whole seconds told."""
    moments = [datetime.fromisoformat(data[name]) for data in told for name in ("since", "until")]
    return max(moments) - min(moments) if moments else timedelta()


def most_pauses(seconds: float) -> int:
    """How many pauses for the provider there are in so many seconds at most."""
    count = 0
    while seconds > 0:
        count += 1
        seconds -= PATIENCE.pause(PROVIDER, count, 1.0)
    return count


def test_of_the_provider(bench: Bench) -> None:
    async def busy() -> str:
        raise Retryable("busy", "overloaded")

    bench.model.replies = {word: [busy] for word in WORDS}
    ran = bench.run(patience=PATIENCE)
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
    assert ran.outcome.wake_at is not None and ran.outcome.wake_at > datetime.now(UTC) - timedelta(minutes=1)
    waits = ran.told("request.retry")
    assert len({data["step"] for data in waits}) <= SLOTS, "who comes later does not begin to wait"
    assert 0 < len(waits) <= SLOTS * most_pauses(PATIENCE.seconds)
    assert span(waits) <= timedelta(seconds=PATIENCE.seconds + 1)


def test_of_the_store(bench: Bench) -> None:
    with s3_server() as server:
        bench.storage = f"s3://{server.make_bucket()}/x"
        failing_with_the_first_answer(bench, server.process.kill)
        ran = bench.run(patience=PATIENCE, environ=server.environ)
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
    assert ran.outcome.error is not None and ran.outcome.error["type"] == "StoreAway"
    assert ran.outcome.wake_at is not None and set(ran.statuses.values()) == {"not_started"}
    assert 0 < len(bench.model.asked) <= SLOTS, "what could not be kept is not paid"
    waits = [data for data in ran.told("fault.waiting") if data["part"] == "store"]
    assert waits and span(waits) <= timedelta(seconds=PATIENCE.seconds + 1)


def test_of_the_ledger(bench: Bench) -> None:
    with locked(bench) as lock:
        failing_with_the_first_answer(bench, lock)
        with pytest.raises(LedgerAway) as caught:
            bench.run(patience=PATIENCE)
    assert caught.value.exit_code == 4 and "phaseline resume r" in caught.value.cure
    assert 0 < len(bench.model.asked) <= SLOTS, "what could not be kept is not paid"


def failing_with_the_first_answer(bench: Bench, fail: Callable[[], object]) -> None:
    """From the first answer on the part is away."""

    failing: list[object] = []

    async def answer() -> str:
        if not failing:
            failing.append(fail())
        return "Paid."

    bench.model.replies = {word: [answer] for word in WORDS}


@contextlib.contextmanager
def locked(bench: Bench) -> Iterator[Callable[[], object]]:
    """What takes the lock of the ledger's file, which is given back in the end."""
    held: list[sqlite3.Connection] = []

    def lock() -> None:
        held.append(sqlite3.connect(bench.settings.database, isolation_level=None, check_same_thread=False))
        held[0].execute("BEGIN IMMEDIATE")

    try:
        yield lock
    finally:
        for connection in held:
            connection.close()
