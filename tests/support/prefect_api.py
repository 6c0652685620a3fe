"""Questions to a Prefect server over plain HTTP, as a person with curl would ask them."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

BUSY_TRIES = 20


@dataclass(frozen=True)
class PrefectApi:
    """One server: its API address and auth string."""

    url: str
    auth: str

    @classmethod
    def of(cls, exports: Mapping[str, str]) -> PrefectApi:
        """The server that `phaseline env` names."""
        return cls(exports["PREFECT_API_URL"], exports["PREFECT_API_AUTH_STRING"])

    def ask(self, path: str, body: Any = None, method: str = "") -> tuple[int, Any]:
        """Status and JSON answer of a GET, or of a POST when there is a body.

        503 is asked again, as every client of Prefect does: SQLite was busy and nothing was done.
        """
        data = None if body is None else json.dumps(body).encode()
        credentials = base64.b64encode(self.auth.encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method or None)
        for _ in range(BUSY_TRIES):
            status, answer = self._asked(request)
            if status != 503:
                break
            time.sleep(0.5)
        return status, answer

    @staticmethod
    def _asked(request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, _parsed(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _parsed(error.read())

    def get(self, path: str) -> Any:
        """The answer of a GET that must succeed."""
        return self._good(path, None)

    def post(self, path: str, body: Any) -> Any:
        """The answer of a POST that must succeed."""
        return self._good(path, body)

    def _good(self, path: str, body: Any) -> Any:
        status, answer = self.ask(path, body)
        assert status in (200, 201), f"{path}: {status} {answer}"
        return answer

    def task_runs(self, flow_run: str, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """The task runs of a flow run, once `count` of them are there in a final state.

        The server records them a moment after the run ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            where = {"flow_runs": {"id": {"any_": [flow_run]}}}
            found: list[dict[str, Any]] = self.post("/task_runs/filter", where)
            if len(found) >= count and all(run["end_time"] for run in found):
                return found
            assert time.monotonic() < deadline, f"{len(found)} of {count} task runs: {found}"
            time.sleep(0.2)

    def step_edges(self, flow_run: str, nodes: int, seconds: float = 30) -> set[tuple[str, str]]:
        """The edges between steps of a graph of `nodes` nodes, the parts of a step folded into it.

        Waits until the server has recorded all of them, a moment after the run ends.
        """
        deadline = time.monotonic() + seconds
        while True:
            graph = self.get(f"/flow_runs/{flow_run}/graph-v2")["nodes"]
            if len(graph) >= nodes and all(node["end_time"] for _, node in graph):
                break
            assert time.monotonic() < deadline, f"{len(graph)} of {nodes} nodes: {graph}"
            time.sleep(0.2)
        found = {str(node["id"]): node for _, node in graph}
        steps = {run["id"]: step_of_run(run) for run in self.task_runs(flow_run, len(found))}
        edges = {
            (steps[parent["id"]], steps[id_]) for id_, node in found.items() for parent in node["parents"]
        }
        return {(before, after) for before, after in edges if before != after}

    def flow_run(self, id_: str, states: Iterable[str], seconds: float = 90) -> dict[str, Any]:
        """A flow run once it is in one of these states (types such as COMPLETED)."""
        deadline, wanted = time.monotonic() + seconds, set(states)
        while True:
            run: dict[str, Any] = self.get(f"/flow_runs/{id_}")
            if run["state_type"] in wanted:
                return run
            assert time.monotonic() < deadline, f"the flow run stays {run['state_type']}: {run['state']}"
            time.sleep(0.2)

    def everything(self) -> str:
        """All that the server tells of runs, logs, blocks, artifacts, variables and events, as text."""
        paths = ("flow_runs", "task_runs", "logs", "block_documents", "artifacts", "deployments", "variables")
        pages = [self._all(f"/{path}/filter") for path in paths]
        events = self.post("/events/filter", {"filter": {}, "limit": 50})
        pages.append([events])
        return json.dumps(pages, ensure_ascii=False)

    def _all(self, path: str) -> list[Any]:
        found: list[Any] = []
        while page := self.post(path, {"limit": 200, "offset": len(found)}):
            found += page
        return found


def step_of_run(task_run: Mapping[str, Any]) -> str:
    """The step a task run belongs to: its tag (calls of a workflow have one), else its name's first word."""
    tagged = [tag.removeprefix("step:") for tag in task_run["tags"] if tag.startswith("step:")]
    return tagged[0] if tagged else str(task_run["name"]).split()[0]


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")
