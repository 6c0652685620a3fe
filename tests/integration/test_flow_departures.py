"""How units set out together, and that a new run looks for stored results where there may be some."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from prefect import flow

from blocks.storage.artifacts import ArtifactStore
from blocks.storage.results import ResultStorage, ensure_block
from blocks.storage.root import FolderRoot
from flows.launch import Launch
from flows.outcome import RunOutcome
from flows.run import run_plan
from flows.steps.departures import LANES, Departures
from tasks.context import current
from tests.support.flows import FLOW_MARKS, Bench, agent, steps

pytestmark = FLOW_MARKS


def departures() -> Departures:
    """Those of the run whose request is being answered."""
    found: Any = current().departed
    return found.__self__


def test_who_sends_a_request_makes_room_for_the_next(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(LANES + 3)]
    bench = Bench(tmp_path, w=steps(*map(agent, names), also=f"max_concurrent: {len(names)}\n"))
    sending, most = [], []

    def reply(name: str) -> Any:
        async def answer() -> str:
            sending.append(name in departures().leaving)
            most.append(len(departures().leaving))
            return name

        return answer

    bench.model.replies |= {name: [reply(name)] for name in names}
    assert bench.run().outcome.status == "completed"
    assert sending == [False] * len(names)
    assert max(most) <= LANES


def test_a_run_gives_all_places_back(tmp_path: Path) -> None:
    seen: list[Departures] = []

    async def answer() -> str:
        seen.append(departures())
        return "fine"

    skill = "  - id: tool\n    skill: shared/tool\n    handler: give\n    args: {value: 1}\n"
    bench = Bench(tmp_path, w=steps(agent("a"), skill, agent("b", "on_failure: continue"), agent("c")))
    bench.model.replies |= {"a": [answer], "b": [ValueError("no")]}
    assert bench.run().outcome.status == "completed"
    assert list(seen[0].leaving) == []


class Late(FolderRoot):
    """Says late that it has stored the first result below `n`: who waits for it is cut off meanwhile."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.go_on = threading.Event()
        self.stored: list[str] = []

    def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
        """Keeps the bytes."""
        super().write(key, body, media_type=media_type, durable=durable)
        if "/n/a/" in key and not self.stored:
            self.stored.append(key)
            assert self.go_on.wait(60)


def test_what_an_earlier_try_stored_is_not_paid_again(tmp_path: Path) -> None:
    """An inner step is cut off by the timeout of the outer one, right after Prefect has its result."""
    nested = "  - id: n\n    workflow: inner\n    timeout: 3s\n    retries: {max: 1, delay: 10ms}\n"
    bench = Bench(tmp_path, w=steps(nested))
    bench.write("inner", steps(agent("a")))
    late, outcomes = Late(Path(bench.storage)), list[RunOutcome]()

    def told(name: str, _data: dict[str, Any]) -> None:
        if name == "step.attempt_failed":
            late.go_on.set()

    launch = Launch(
        settings=bench.settings,
        environ={},
        run_id="r",
        connections={"ANTHROPIC_API_KEY": bench.model},
        on_event=told,
        on_outcome=outcomes.append,
    )

    async def block_of(store: ArtifactStore) -> ResultStorage:
        return (await ensure_block(store)).attach(late)

    @flow(persist_result=False)
    async def w() -> None:
        await run_plan(bench.plan(), {}, launch, block_of)

    asyncio.run(w())
    assert late.stored and outcomes[0].status == "completed"
    assert bench.model.asked == ["a"]
