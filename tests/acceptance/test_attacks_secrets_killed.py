"""The search for told secrets (see test_attacks_secrets) after a SIGKILL in each stage, and elsewhere.

One run is killed again and again, each time a little further on; it calls another workflow, acts, waits, is
answered, publishes, and is taken back. Then `wake`, `prove`, a worker of Prefect's, a ledger on PostgreSQL.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, User, clean_environment
from tests.support.messages_api import MessagesApi
from tests.support.planted import everything, found_in, leaks
from tests.support.postgres import missing, postgres_cluster
from tests.support.prefect_api import PrefectApi
from tests.support.telling import Scene, talk

OUTER = """\
workflow: outer
inputs:
  story: {type: file}
  note: {type: string}
  list: {type: json}
steps:
  - id: act
    skill: shared/tool
    handler: act
    args: {where: WHERE}
    undo: {skill: shared/tool, handler: unact, args: {where: WHERE}}
  - id: act_again
    skill: shared/tool
    handler: act
    args: {where: WHERE}
    undo: {skill: shared/tool, handler: unactless, args: {where: WHERE}}
  - id: inner
    depends_on: act
    workflow: tells
    args: {story: "{{ story }}", note: "{{ note }}", list: "{{ list }}"}
"""
WAITS = """\
workflow: waits
inputs: {story: {type: file}, note: {type: string}, list: {type: json}}
steps:
  - {id: read, skill: shared/tool, handler: echo, args: {where: WHERE}}
  - id: ask
    inputs: [read]
    approval: {ask: "May it? {{ read }} {{ note }}", deadline: 1s, on_timeout: approve}
  - {id: after, depends_on: ask, skill: shared/tool, handler: explode, args: {where: WHERE}}
"""
PROVED = """\
workflow: proved
inputs: {note: {type: string}}
steps:
  - {id: read, skill: shared/tool, handler: act, args: {where: WHERE}}
  - {id: talk, agent: bob, inputs: [read], prompt: "Talk about {{ note }}."}
  - {id: ask, depends_on: talk, approval: {ask: "May it? {{ note }}"}}
  - id: after
    depends_on: ask
    skill: shared/tool
    handler: explode
    args: {where: WHERE}
    on_failure: continue
"""
KILLED = """\
import os, signal, sys
from blocks import boundaries
from deployments.cli import main

boundaries.arm(lambda name, path, subject: name == sys.argv[1] and os.kill(os.getpid(), signal.SIGKILL))
sys.exit(main(sys.argv[2:]))
"""
STAGES = (
    *("run.given", "run.described", "step.running", "a call of act", "effect.sending", "effect.performed"),
    *("effect.settled", "artifact.stored", "step.stored", "a call of echo", "input.kept", "turn.sending"),
    *("a request", "turn.answered", "turn.kept", "a call of whoami", "tool.answered", "a call of explode"),
    *("tool.kept", "wait.opened"),
)
"""Where the run is killed, in this order: at a boundary, or in the middle of what is under way."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home with its Prefect server for all tests of the module."""
    path = tmp_path_factory.mktemp("killed-secrets") / "home"
    yield path
    User(path, path).phaseline("down")


@pytest.fixture
def scene(home: Path, tmp_path: Path) -> Iterator[Scene]:
    with MessagesApi() as api:
        scene = Scene(home, tmp_path, api)
        for name, text in (("outer", OUTER), ("waits", WAITS), ("proved", PROVED)):
            (scene.catalog / f"{name}.yaml").write_text(text.replace("WHERE", str(scene.told)))
        api.answer_with(lambda body: scene.reply(body))
        yield scene


def kill_in(scene: Scene, stage: str, *words: str) -> None:
    """A command that is killed there."""
    call = scene.told.with_suffix(f".kill-{stage.removeprefix('a call of ')}")
    killed: list[int] = []

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if stage == "a request":
            os.kill(killed[0], signal.SIGKILL)
            return {"latency": 3600}
        return talk(body, str(scene.told))

    scene.reply = reply
    with scene.user.started("-c", KILLED, stage, *words) as process:
        killed.append(process.pid)
        if stage.startswith("a call of "):
            call.with_suffix(".new").write_text(str(process.pid))
            call.with_suffix(".new").rename(call)
        assert process.wait(90) == -signal.SIGKILL, stage
    call.unlink(missing_ok=True)
    scene.reply = lambda body: talk(body, str(scene.told))


def test_a_run_that_is_killed_in_every_stage_and_taken_back(scene: Scene) -> None:
    run = ("run", "outer", "--run-id", scene.run_id, *scene.given("outer"))
    kill_in(scene, "run.announced", "run", "outer", "--run-id", f"{scene.run_id}-0", *scene.given("outer"))
    since = 0.0
    for stage in STAGES:
        began = time.time() - 1
        kill_in(scene, stage, *(run if stage == STAGES[0] else ("resume", scene.run_id)))
        scene.assert_nothing_told(since=since)
        since = began
    waits = scene.phaseline("resume", scene.run_id, "--json")
    assert waits.code == 3, waits
    scene.look()
    said = scene.phaseline("answer", scene.wait_id("inner/ask"), "-f", f"why={everything()}")
    assert said.code == 0, said
    assert scene.phaseline("event", "done", "--data", json.dumps({"all": everything()})).code == 0
    kill_in(scene, "outputs.published", "resume", scene.run_id)
    kill_in(scene, "run.finished", "resume", scene.run_id)
    scene.assert_nothing_told(since=since)
    assert scene.phaseline("resume", scene.run_id, "--json").completed
    back = scene.phaseline("cancel", scene.run_id, "--undo", "--json").document
    assert sorted(one["done"] for one in back["undone"]) == [False, True], back
    scene.phaseline("show", scene.run_id, "--events", "--json")
    scene.phaseline("runs")
    scene.outputs.append(scene.user.log.read_text("utf-8"))
    scene.assert_nothing_told()


def test_a_model_that_thinks_of_secrets(scene: Scene) -> None:
    """Thinking is signed: where it was masked it is left out, and its calls are told in words."""

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        first = "tool__echo" not in json.dumps(body["messages"])
        calls = [{"name": "tool__echo", "input": {"where": str(scene.told)}}]
        return {
            "thinking": everything(),
            **({"text": "", "tools": calls} if first else {"text": "# Done\n\nIt is."}),
        }

    scene.reply = reply
    (scene.catalog / "thinks.yaml").write_text(
        "workflow: thinks\nsteps: [{id: a, agent: bob, prompt: Think.}]\n"
    )
    run = ("run", "thinks", "--run-id", scene.run_id)
    with scene.user.started("-c", KILLED, "tool.kept", *run) as process:
        assert process.wait(90) == -signal.SIGKILL
    assert scene.phaseline("resume", scene.run_id, "--json").completed
    assert [request["status"] for request in scene.api.asked] == [200, 200]
    again = json.dumps(scene.api.asked[1]["body"]["messages"])
    assert "tool__echo" in again and "[secret DB_PASS]" in again, "it is told what its call gave"
    scene.assert_nothing_told()


def test_a_run_that_wakes_by_itself(scene: Scene) -> None:
    """Its deadline decides, and what follows fails in the process that woke it."""
    assert scene.run("waits", "--json").code == 3
    time.sleep(1.1)
    woken = scene.phaseline("wake", scene.run_id, "--json")
    assert woken.code == 1 and woken.document["woken"], woken
    scene.phaseline("wake", scene.run_id)
    scene.look()
    scene.assert_nothing_told()


def test_a_workflow_that_is_proved(scene: Scene) -> None:
    """Report, output, and what is kept of cases that differ."""
    report, kept = scene.folder / "report.md", scene.folder / "kept"
    words = ("prove", "proved", "-i", f"note={everything()}", "--report", str(report), "--keep", str(kept))
    proved = scene.phaseline(*words, "--only", "effect.*", "--limit", "1", "--json")
    assert proved.code in (0, 1) and proved.document["boundaries"], proved
    scene.outputs.append(report.read_text("utf-8"))
    scene.assert_nothing_told(*([kept] if kept.exists() else []))


def test_a_worker_of_prefect(scene: Scene) -> None:
    """Its environment holds them; the run's inputs, which are in Prefect's database before us, tell none."""
    shutil.copy(ROOT / "prefect.yaml", scene.user.folder)
    assert scene.phaseline("up", "--json").code == 0
    exported = scene.user.exports()
    api = PrefectApi.of(exported)
    scene.user = scene.user.with_variables(**exported, PREFECT_WORKER_QUERY_SECONDS="1")
    for line in ("work-pool create phaseline --type process", "--no-prompt deploy --name run-workflow"):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *line.split()],
            cwd=scene.user.folder,
            env=clean_environment(scene.user.home, scene.user.variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done
        scene.outputs += [done.stdout, done.stderr]
    (deployment,) = api.post("/deployments/filter", {})
    given = {"note": "plain", "story": "# Story\n\nplain", "list": ["plain"]}
    words = ("-m", "prefect", "worker", "start", "--pool", "phaseline", "--type", "process", "--limit", "2")
    runs = []
    with scene.user.started(*words):
        for workflow in ("tells", "fails"):
            inputs = given if workflow == "tells" else {"note": "plain"}
            parameters = {"workflow": workflow, "inputs": inputs, "run_id": f"{scene.run_id}-{workflow}"}
            path = f"/deployments/{deployment['id']}/create_flow_run"
            runs.append(api.post(path, {"parameters": parameters})["id"])
        ended = [api.flow_run(run, ("PAUSED", "COMPLETED", "FAILED", "CRASHED")) for run in runs]
        assert [run["state_type"] for run in ended] == ["PAUSED", "FAILED"], ended
        for body in ({"flow_runs": {"id": {"any_": [run]}}} for run in runs):
            scene.outputs.append(json.dumps(api.post("/task_runs/filter", body), ensure_ascii=False))
    scene.outputs.append(scene.user.log.read_text("utf-8"))
    scene.assert_nothing_told()


@pytest.mark.cluster
def test_a_ledger_on_postgresql(scene: Scene) -> None:
    """What the server keeps (also of rows that were replaced) and every row tell none."""
    if reason := missing():
        pytest.skip(reason)
    with postgres_cluster() as cluster:
        address = cluster.make_database("secrets")
        scene.user = scene.user.with_variables(PHASELINE_DATABASE_URL=address)
        assert scene.phaseline("up", "--json").code == 0, "brings the tables about"
        kill_in(scene, "turn.kept", "run", "tells", "--run-id", scene.run_id, *scene.given("tells"))
        assert scene.phaseline("resume", scene.run_id, "--json").code == 3
        said = scene.phaseline("answer", scene.wait_id("ask"), "-f", f"why={everything()}")
        assert said.code == 0, said
        assert scene.phaseline("event", "done", "--data", json.dumps({"all": everything()})).code == 0
        assert scene.phaseline("resume", scene.run_id, "--json").completed
        failed = scene.phaseline("run", "fails", "--run-id", f"{scene.run_id}-2", *scene.given("fails"))
        assert failed.code == 1, failed
        scene.assert_nothing_told()
        rows = {place: found for place, row in cluster.rows(address) if (found := found_in(row.encode()))}
        assert rows == {} and leaks(cluster.folder) == {}
        assert sum(1 for _ in cluster.rows(address)) > 50, "rows were looked at"
