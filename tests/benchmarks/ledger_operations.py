"""One process: what writing to the ledger costs, on SQLite.

Usage: python -m tests.benchmarks.ledger_operations FOLDER ROUNDS; prints median milliseconds per operation
by name as JSON: one after the other, and by 300 coroutines at once, which share their commits.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from blocks.ledger import EffectIntent, Lease, Ledger, RunStart, StepRecord, TurnRecord

AT_ONCE = 300
IN_TURN = 100
_DIGEST = "d" * 64
_BODY = {"text": "x" * 8000}

Operation = Callable[[int], Awaitable[object]]
"""Called with a number that is never used again."""


def operations(ledger: Ledger, lease: Lease) -> dict[str, Operation]:
    """A turn of 8 KB, an effect from its intention to its outcome, a step with its result."""

    async def keep(number: int) -> None:
        record = TurnRecord(
            step_path=f"s{number}",
            content_key=_DIGEST,
            attempt=1,
            turn=1,
            part="answer",
            request_digest=_DIGEST,
            body=_BODY,
            usage={"input_tokens": 1000, "output_tokens": 100},
            model="model",
        )
        await ledger.journal.keep(lease, record)

    async def effect(number: int) -> None:
        key = f"{number:064d}"
        intent = EffectIntent(
            step_path="s",
            kind="http",
            tool="http_request",
            effect="once",
            effect_key=key,
            idempotency_key=key[:32],
            arguments={"url": "http://127.0.0.1/refund", "usd": number},
            arguments_digest=_DIGEST,
        )
        await ledger.effects.intend(lease, intent)
        await ledger.effects.count_send(lease, key)
        await ledger.effects.settle(lease, key, "done", outcome={"status": 200})

    async def step(number: int) -> None:
        record = StepRecord(
            step_path=f"s{number}",
            state="completed",
            content_key=_DIGEST,
            attempts=1,
            agent="ann",
            usage={"input_tokens": 1000, "output_tokens": 100},
            result={"output": "x" * 500},
            started=1,
            ended=2,
        )
        await ledger.record_step(lease, record)

    return {"keep": keep, "effect": effect, "step": step}


async def measure(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Medians; a first round does not count."""
    times: dict[str, dict[str, list[float]]] = {}
    async with Ledger.open(str(folder / "ledger.db")) as ledger:
        lease = await ledger.begin_run(RunStart(run_id="bench", workflow="w"))
        for number in range(rounds + 1):
            for name, operation in operations(ledger, lease).items():
                first = number * 1000
                in_turn, at_once = await _in_turn(operation, first), await _at_once(operation, first + 500)
                if number:
                    known = times.setdefault(name, {"in turn": [], "at once": []})
                    known["in turn"].append(in_turn)
                    known["at once"].append(at_once)
    return {name: {how: statistics.median(t) for how, t in both.items()} for name, both in times.items()}


async def _in_turn(operation: Operation, first: int) -> float:
    started = time.perf_counter()
    for number in range(IN_TURN):
        await operation(first + number)
    return (time.perf_counter() - started) / IN_TURN * 1000


async def _at_once(operation: Operation, first: int) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(operation(first + number) for number in range(AT_ONCE)))
    return (time.perf_counter() - started) / AT_ONCE * 1000


def main() -> None:
    """Measures and prints."""
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(asyncio.run(measure(folder, rounds))))


if __name__ == "__main__":
    main()
