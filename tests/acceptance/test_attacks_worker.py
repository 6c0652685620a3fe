"""Workers that are killed under a run, and runs that a worker goes on with by itself: a real one, SIGKILL."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import resume_by_itself
from tests.support.command import ROOT, User, clean_environment
from tests.support.durable import Desk, eventually
from tests.support.prefect_api import PrefectApi

DEPLOY = """\
set -euo pipefail
"$PYTHON" -m prefect work-pool create phaseline --type process
"$PYTHON" -m prefect --no-prompt deploy --name run-workflow
"""
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Somebody whose catalog says `resume: auto`, with a server and the deployment of the generic flow."""
    folder = tmp_path_factory.mktemp("workers")
    plain = User(folder / "home", folder)
    shutil.copy(ROOT / "prefect.yaml", folder)
    try:
        exports = plain.exports()
        desk = Desk.make(plain.with_variables(**exports, PREFECT_WORKER_QUERY_SECONDS="1"))
        resume_by_itself(desk.catalog)
        desk.user = desk.user.with_variables(PHASELINE_CATALOG=str(desk.catalog), PHASELINE_WAKE="on")
        variables = {**desk.user.variables, "PYTHON": sys.executable}
        deployed = subprocess.run(
            ["bash", "-c", DEPLOY],
            cwd=folder,
            env=clean_environment(plain.home, variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        yield desk
    finally:
        plain.phaseline("down", "--json")


@pytest.fixture
def api(desk: Desk) -> PrefectApi:
    return PrefectApi.of(desk.user.variables)


def worker(desk: Desk) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """A process worker; ended on leaving with what it started in its session."""
    return desk.user.started("-m", "prefect", "worker", "start", "--pool", "phaseline", "--type", "process")


def start(api: PrefectApi, workflow: str, run_id: str) -> str:
    """A flow run of the deployment; its id."""
    (deployment,) = api.post("/deployments/filter", {"deployments": {"name": {"any_": ["run-workflow"]}}})
    parameters = {"workflow": workflow, "run_id": run_id, "offline": True}
    created = api.post(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
    return str(created["id"])


def flow_runs(api: PrefectApi, run_id: str) -> list[dict[str, Any]]:
    """Those of the deployment that are about a run, the first one first."""
    found = api.post("/flow_runs/filter", {"sort": "START_TIME_ASC"})
    return [r for r in found if r["deployment_id"] and r["parameters"].get("run_id") == run_id]


def kill_with_children(pid: int) -> None:
    """SIGKILL for a process, first, and then for all that descends from it."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    doomed = [pid]
    for one in doomed:
        doomed += [child for child, parent in parents.items() if parent == one]
    for one in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def status(desk: Desk, run_id: str) -> Any:
    return desk.json("show", run_id)["status"]


def test_a_run_whose_worker_is_killed_goes_on_with_the_next_one(desk: Desk, api: PrefectApi) -> None:
    """Said before: nothing. The flow run stayed Running, and kept its place at the worker, for ever."""
    desk.write(
        "long",
        desk.step("first"),
        desk.step("held", "depends_on: first", until="go"),
        desk.step("last", "depends_on: held"),
    )
    first = start(api, "long", "lost")
    with worker(desk) as process:
        eventually(lambda: desk.marks == ["first", "held"], 120)
        kill_with_children(process.pid)
        process.wait()
    eventually(lambda: status(desk, "lost") == "interrupted")
    assert api.get(f"/flow_runs/{first}")["state_type"] == "RUNNING", "Prefect has noticed nothing"
    assert "the run lost goes on in the background" in desk.user.phaseline("runs").err
    second = eventually(lambda: flow_runs(api, "lost")[1:], 60)[0]["id"]
    assert api.get(f"/flow_runs/{first}")["state_type"] == "CRASHED"
    assert desk.json("wake", "lost")["woken"] == [], "it is on its way; the pause until the next is growing"
    desk.path("go").touch()
    with worker(desk):
        assert api.flow_run(second, ENDED, 120)["state_type"] == "COMPLETED"
    assert desk.marks == ["first", "held", "held", "last"]
    assert status(desk, "lost") == "completed"
    desk.user.phaseline("runs")
    desk.user.phaseline("wake")
    assert len(flow_runs(api, "lost")) == 2


def test_a_deadline_wakes_a_suspended_run_on_its_worker(desk: Desk, api: PrefectApi) -> None:
    """Nobody gives a command: Prefect's schedule does it, once."""
    asked = "  - {id: ask, approval: {ask: Ship?, deadline: 5s, on_timeout: approve}}\n"
    desk.write("asking", asked, desk.step("shipped", "depends_on: ask"))
    flow_run = start(api, "asking", "asking")
    with worker(desk):
        held = api.flow_run(flow_run, ("PAUSED", *ENDED), 120)
        assert held["state_name"] == "Suspended", held["state"]
        eventually(lambda: status(desk, "asking") == "completed", 120)
        wakes = flow_runs(api, "asking")[1:]
        assert [api.flow_run(w["id"], ENDED, 60)["state_type"] for w in wakes] == ["COMPLETED"]
    assert desk.marks.count("shipped") == 1
