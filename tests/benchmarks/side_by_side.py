"""One process: the same 1-N-1 graph as a phaseline workflow and as a hand-written Prefect flow.

Usage: python -m tests.benchmarks.side_by_side FOLDER WIDTH ROUNDS; prints median seconds as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow, task

from blocks.settings import Settings
from flows.compiled import LAUNCH, build_flow
from flows.run import Launch
from tests.support.catalogs import compiled, make_catalog


def workflow(width: int) -> str:
    """One step, `width` steps that read its output, one that reads theirs."""
    lines = ["workflow: w", "steps:", "  - {id: first, agent: ann, skills: [], prompt: Begin.}"]
    for n in range(width):
        lines.append(f"  - {{id: s{n}, agent: ann, skills: [], inputs: [first], prompt: Write part {n}.}}")
    names = ", ".join(f"s{n}" for n in range(width))
    lines.append(f"  - {{id: last, agent: bob, skills: [], inputs: [{names}], prompt: Put it together.}}")
    return "\n".join(lines) + "\n"


@task(persist_result=True, result_serializer="json")
async def by_hand(name: str, inputs: list[Any]) -> str:
    """A step as people write it."""
    return f"{name} from {len(inputs)}"


@flow(persist_result=False)
async def hand_written(width: int) -> None:
    """The graph as people write it."""
    first = await by_hand("first", [], return_state=True)
    middle = await asyncio.gather(*(by_hand(f"s{n}", [first], return_state=True) for n in range(width)))
    await by_hand("last", list(middle), return_state=True)


async def ours(plan: Any, settings: Settings, number: int) -> None:
    """One phaseline run with the offline model."""
    launch = Launch(settings=settings, environ=dict(os.environ), run_id=f"side-{number}", offline=True)
    token = LAUNCH.set(launch)
    try:
        state = await build_flow(plan)(return_state=True)
    finally:
        LAUNCH.reset(token)
    if not state.is_completed():
        raise SystemExit(str(state))


def main() -> None:
    """Alternates the two, so that a slower moment of the machine meets both."""
    folder, width, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    root = make_catalog(folder / "catalog", w=workflow(width))
    settings = Settings.read(os.environ, catalog=str(root))
    plan = compiled(root)
    times: dict[str, list[float]] = {"phaseline": [], "prefect": []}
    for number in range(rounds + 1):
        for name, work in (("phaseline", ours(plan, settings, number)), ("prefect", hand_written(width))):
            started = time.perf_counter()
            asyncio.run(work)  # type: ignore[arg-type]
            if number:  # the first round warms both up
                times[name].append(time.perf_counter() - started)
    print(json.dumps({name: statistics.median(values) for name, values in times.items()}))


if __name__ == "__main__":
    main()
