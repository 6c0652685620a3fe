"""Runs of small workflows in this process: written in a few lines, answered by a script."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.exceptions import Pause

from blocks.ledger import Ledger, RunRow, StepRecord
from blocks.models import Answer, OnProgress, Request
from blocks.patience import Patience
from blocks.settings import Settings
from deployments.server.kept_server import ServerInfo
from flows.compiled import LAUNCH, build_flow
from flows.launch import Launch
from flows.outcome import RunOutcome
from tests.support.catalogs import compiled, make_catalog
from tests.support.prefect_api import PrefectApi, step_of_run
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import Plan
from workflows.core.usage import Usage

PRICES = {"input": 100_000.0, "output": 200_000.0, "cache_read": 0.0, "cache_write": 0.0}
"""USD per million tokens: an answer of the script (10 in, 5 out) costs 2.00."""

FLOW_MARKS = [
    pytest.mark.usefixtures("prefect_server"),
    # Prefect asks the server for its default storage with a client that it never closes; `Bench.run`
    # collects it, so that the warning falls into the test that caused it.
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]
"""What every test that runs flows in this process needs."""

Reply = str | BaseException | Callable[[], Awaitable[str]]

HANDLERS = {
    "give": '''"""Gives."""


def give(value: int = 0, text: str = "") -> dict[str, object]:
    """Give back what was given.

    Args:
        value: A number; below zero it fails.
        text: A text.
    """
    if value < 0:
        raise ValueError("below zero")
    return {"value": value, "text": text}
''',
    "block": '''"""Blocks."""

import time
from pathlib import Path


def block(started: str, until: str) -> dict[str, str]:
    """Say that it started, then wait for a file.

    Args:
        started: File to append a character to.
        until: File to wait for.
    """
    with Path(started).open("a") as file:
        file.write("x")
    while not Path(until).exists():
        time.sleep(0.02)
    return {"until": until}
''',
}
"""Handlers of the skill `shared/tool`, beside its `count`."""


@dataclass
class Script:
    """A model connection that answers by what stands in brackets in the instruction: `prompt: "[a] ..."`.

    Replies are used up in turn, the last one stays: a text, an error to raise, or a coroutine function.
    """

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0
    closed: int = 0
    requests: list[Request] = field(default_factory=list)
    name: str = "script"
    offline: bool = False

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        """The next reply."""
        word = _word(request)
        self.asked.append(word)
        self.requests.append(request)
        self.log.append(f"begin {word}")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            reply = await self._reply(word)
        finally:
            self.running -= 1
            self.log.append(f"end {word}")
        message = {"role": "assistant", "content": [{"type": "text", "text": reply}]}
        return Answer(
            {**message, "stop_reason": "end_turn"},
            Usage(input_tokens=10, output_tokens=5),
            str(request["model"]),
        )

    async def _reply(self, word: str) -> str:
        await asyncio.sleep(0)
        queue = self.replies.get(word, [f"The answer to {word}."])
        reply = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply if isinstance(reply, str) else await reply()

    async def close(self) -> None:
        """Counts."""
        self.closed += 1


def _word(request: Request) -> str:
    content = request["messages"][0]["content"]
    text = content if isinstance(content, str) else "\n".join(b.get("text", "") for b in content)
    found = re.search(r"^\[([^\]]+)\]", text, re.MULTILINE)
    return found[1] if found else ""


@dataclass
class Ran:
    """One start of a run: what Prefect and people see of it."""

    outcome: RunOutcome
    state: Any
    events: list[tuple[str, dict[str, Any]]]

    @property
    def statuses(self) -> dict[str, str]:
        """Status by step id."""
        return {s["id"]: s["status"] for s in self.outcome.steps}

    @property
    def reused(self) -> dict[str, bool]:
        """Whether it was reused, by step id."""
        return {s["id"]: s["reused"] for s in self.outcome.steps}

    def step(self, step_id: str) -> dict[str, Any]:
        """One entry of `steps`."""
        return next(s for s in self.outcome.steps if s["id"] == step_id)

    def told(self, name: str) -> list[dict[str, Any]]:
        """The data of every event of that name."""
        return [data for event, data in self.events if event == name]


class Bench:
    """A catalog, a home and a script, in one folder."""

    def __init__(self, folder: Path, **workflows: str) -> None:
        self.folder = folder
        self.model = Script()
        self.catalog = folder / "catalog"
        self.home = folder / "home"
        self.storage = str(folder / "storage")
        self.tenant = "default"
        self.priced = True
        make_catalog(self.catalog)
        handlers = self.catalog / "skills" / "shared" / "tool" / "handlers"
        for name, body in HANDLERS.items():
            (handlers / f"{name}.py").write_text(body)
        for name, text in workflows.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Write or replace a workflow; without a `workflow:` line it gets its name."""
        header = "" if text.lstrip().startswith("workflow:") else f"workflow: {name}\n"
        (self.catalog / f"{name}.yaml").write_text(header + text)

    def plan(self, name: str = "w") -> Plan:
        """The compiled workflow."""
        return compiled(self.catalog, name)

    @property
    def settings(self) -> Settings:
        """Where this bench keeps its things."""
        return Settings(self.home, self.storage, str(self.home / "ledger.db"), self.catalog)

    async def go(
        self,
        name: str = "w",
        run_id: str = "r",
        *,
        offline: bool = False,
        listen: Any = None,
        redo: tuple[str, ...] = (),
        repeat_effects: bool = False,
        woken: bool = False,
        environ: Mapping[str, str] | None = None,
        patience: Patience | None = None,
        **given: Any,
    ) -> Ran:
        """One start of a run as the command does it, up to its end."""
        plan = self.plan(name)
        events: list[tuple[str, dict[str, Any]]] = []
        outcomes: list[RunOutcome] = []
        faults: list[PhaselineError] = []

        def on_event(event: str, data: dict[str, Any]) -> None:
            events.append((event, data))
            if listen is not None:
                listen(event, data)

        launch = Launch(
            settings=self.settings,
            environ=environ or {},
            patience=patience or Patience(),
            run_id=run_id,
            offline=offline,
            tenant=self.tenant,
            prices={a.model.id: PRICES for s in plan.steps for a in s.agents} if self.priced else {},
            connections={} if offline else {"ANTHROPIC_API_KEY": self.model},
            lift_parks=not woken,
            woken=woken,
            redo=redo,
            repeat_effects=repeat_effects,
            on_event=on_event,
            on_outcome=outcomes.append,
            on_fault=faults.append,
        )
        token = LAUNCH.set(launch)
        try:
            state = await build_flow(plan)(**given, run_id=run_id, return_state=True)
        except Pause as pause:
            state = pause.state
        finally:
            LAUNCH.reset(token)
        if faults:
            raise faults[0]
        if not outcomes:
            fault = await state.aresult(raise_on_failure=False)
            raise fault if isinstance(fault, BaseException) else AssertionError(state)
        return Ran(outcomes[-1], state, events)

    def run(self, name: str = "w", run_id: str = "r", **options: Any) -> Ran:
        """`go`, from outside of an event loop."""
        try:
            return asyncio.run(self.go(name, run_id, **options))
        finally:
            gc.collect()

    def cancelled(self, when: Callable[[str, dict[str, Any]], bool], run_id: str = "r") -> Ran:
        """A run that is cancelled at the first event for which `when` holds."""

        async def main() -> Ran:
            def listen(event: str, data: dict[str, Any]) -> None:
                if when(event, data) and not seen:
                    seen.append(event)
                    # Not at once: what told the event goes on to where it waits.
                    asyncio.get_running_loop().call_later(0.05, task.cancel)

            seen: list[str] = []
            task = asyncio.create_task(self.go("w", run_id, listen=listen))
            return await task

        try:
            return asyncio.run(main())
        finally:
            gc.collect()

    def row(self, run_id: str = "r") -> RunRow:
        """The ledger's row of a run."""
        with Ledger.open(self.settings.database) as ledger:
            row = ledger.reader.get_run(self.tenant, run_id)
        assert row is not None
        return row

    def rows(self, run_id: str = "r") -> dict[str, StepRecord]:
        """The ledger's rows of a run's steps by path."""
        with Ledger.open(self.settings.database) as ledger:
            return {s.step_path: s for s in ledger.reader.steps(self.tenant, run_id)}

    def output(self, ran: Ran, name: str) -> str:
        """The published body of an output."""
        return Path(ran.outcome.places[name]).read_text()


def agent(step_id: str, *more: str, after: str = "", by: str = "ann") -> str:
    """An agent step whose script word is its id. `more` are further lines of it."""
    lines = [f"id: {step_id}", f"agent: {by}", f'prompt: "[{step_id}] go"']
    lines += [f"depends_on: [{after}]"] if after else []
    return "  - " + "\n    ".join([*lines, *more]) + "\n"


def steps(*written: str, also: str = "") -> str:
    """A workflow of these steps."""
    return f"{also}steps:\n{''.join(written)}"


@dataclass(frozen=True)
class Graph:
    """A flow run's graph with the parts of each step folded into it."""

    nodes: dict[str, list[str]]
    """Labels of the task and flow runs, by step id."""
    edges: set[tuple[str, str]]
    double: list[str]
    """Nodes that follow one task run in two ways."""
    states: dict[str, str]
    """State type by label."""


def graph_of(server: ServerInfo, flow_run_id: str, nodes: int) -> Graph:
    """The graph, once it has `nodes` nodes that have all ended."""
    api = PrefectApi(server.api_url, server.auth)
    deadline = time.monotonic() + 60
    while True:
        found = {str(n["id"]): n for _, n in api.get(f"/flow_runs/{flow_run_id}/graph-v2")["nodes"]}
        runs = _runs_by_node(api, flow_run_id)
        if len(found) >= nodes and all(n["end_time"] for n in found.values()) and set(found) <= set(runs):
            return _folded(found, runs)
        assert time.monotonic() < deadline, f"{len(found)} of {nodes} nodes: {found}"
        time.sleep(0.2)


def _runs_by_node(api: PrefectApi, flow_run_id: str) -> dict[str, dict[str, Any]]:
    """Task runs by the id of their node: a subflow stands for the task run that called it."""
    runs: list[dict[str, Any]] = []
    where = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "limit": 200}
    while page := api.post("/task_runs/filter", {**where, "offset": len(runs)}):
        runs += page
    below = {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run_id]}}}
    called = {f["parent_task_run_id"]: f["id"] for f in api.post("/flow_runs/filter", below)}
    return {called.get(r["id"], r["id"]): r for r in runs}


def _folded(found: Mapping[str, Any], runs: Mapping[str, Any]) -> Graph:
    step = {i: step_of_run(runs[i]) for i in found}
    nodes: dict[str, list[str]] = {}
    for i, node in found.items():
        nodes.setdefault(step[i], []).append(node["label"])
    pairs = {(step[str(p["id"])], step[i]) for i, node in found.items() for p in node["parents"]}
    double = [node["label"] for i, node in found.items() if _repeats(runs[i]["task_inputs"])]
    states = {node["label"]: str(node["state_type"]) for node in found.values()}
    return Graph(nodes, {(a, b) for a, b in pairs if a != b}, double, states)


def _repeats(task_inputs: Mapping[str, Any]) -> bool:
    followed = [source["id"] for sources in task_inputs.values() for source in sources if "id" in source]
    return len(set(followed)) != len(followed)
