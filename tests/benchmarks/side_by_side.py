"""One process: the same 1-N-1 graph as a phaseline workflow and as a hand-written Prefect flow.

Usage: python -m tests.benchmarks.side_by_side FOLDER WIDTH ROUNDS LATENCY; prints median seconds by name as
JSON, and those the process computed. Both answer after LATENCY seconds, without a network and without a limit
on how many at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow, task

from blocks.models import Answer, OnProgress, Request
from blocks.settings import Settings
from flows.compiled import LAUNCH, build_flow
from flows.launch import Launch
from tests.benchmarks.rounds import Spent, alternating
from tests.support.catalogs import compiled, make_catalog
from tests.support.prefect_api import PrefectApi
from workflows.core.usage import Usage


class Sleeper:
    """A model connection that answers after some seconds; its credential is governed like a real one."""

    name = "sleeper"
    offline = False
    credential = "benchmark"

    def __init__(self, latency: float) -> None:
        self._latency = latency

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        """One short text."""
        await asyncio.sleep(self._latency)
        content = [{"type": "text", "text": "A short answer."}]
        message = {"role": "assistant", "content": content, "stop_reason": "end_turn"}
        return Answer(message, Usage(input_tokens=100, output_tokens=10), str(request["model"]))

    async def close(self) -> None:
        """Nothing is open."""


def workflow(width: int) -> str:
    """One step, `width` steps that read its output, one that reads theirs."""
    lines = ["workflow: w", "max_concurrent: 1000", "steps:"]
    lines.append("  - {id: first, agent: ann, skills: [], prompt: Begin.}")
    for n in range(width):
        lines.append(f"  - {{id: s{n}, agent: ann, skills: [], inputs: [first], prompt: Write part {n}.}}")
    names = ", ".join(f"s{n}" for n in range(width))
    lines.append(f"  - {{id: last, agent: bob, skills: [], inputs: [{names}], prompt: Put it together.}}")
    return "\n".join(lines) + "\n"


@task(persist_result=True, result_serializer="json")
async def by_hand(name: str, inputs: list[Any], latency: float) -> str:
    """A step as people write it."""
    await asyncio.sleep(latency)
    return f"{name} from {len(inputs)}"


@flow(persist_result=False)
async def hand_written(width: int, latency: float) -> None:
    """The graph as people write it."""
    first = await by_hand("first", [], latency, return_state=True)
    wide = (by_hand(f"s{n}", [first], latency, return_state=True) for n in range(width))
    await by_hand("last", list(await asyncio.gather(*wide)), latency, return_state=True)


class Recorded:
    """Waits until the server has recorded the task runs of a work: it does so after the work has ended."""

    def __init__(self, api: PrefectApi, number: int) -> None:
        self._api, self._number = api, number
        self._before = self._count()

    def __call__(self) -> None:
        """Raises SystemExit when they do not come."""
        self._before += self._number
        deadline = time.monotonic() + 120
        while self._count() < self._before:
            if time.monotonic() > deadline:
                raise SystemExit("the server has not recorded all task runs")
            time.sleep(0.1)

    def _count(self) -> int:
        ended = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        return int(self._api.post("/task_runs/count", ended))


async def ours(plan: Any, settings: Settings, name: str, latency: float) -> None:
    """One phaseline run."""
    launch = Launch(
        settings=settings,
        environ={},
        run_id=name,
        connections={"ANTHROPIC_API_KEY": Sleeper(latency)},
    )
    token = LAUNCH.set(launch)
    try:
        state = await build_flow(plan)(return_state=True)
    finally:
        LAUNCH.reset(token)
    if not state.is_completed():
        raise SystemExit(str(state))


def main() -> None:
    """Alternates the two, so that a slower moment of the machine meets both."""
    folder, width, rounds, latency = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    root = make_catalog(folder / "catalog", w=workflow(width))
    settings = Settings.read(os.environ, catalog=str(root))
    plan = compiled(root)

    async def phaseline(number: int) -> Spent:
        started = Spent()
        await ours(plan, settings, f"{folder.name}-{number}", latency)
        return Spent().since(started)

    async def prefect(_number: int) -> Spent:
        started = Spent()
        await hand_written(width, latency)
        return Spent().since(started)

    works = {"phaseline": phaseline, "prefect": prefect}
    print(json.dumps(alternating(works, rounds, Recorded(PrefectApi.of(os.environ), width + 2))))


if __name__ == "__main__":
    main()
