"""Commands killed with SIGKILL and continued by new ones; what really happened is counted outside."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import make_catalog, resume_by_itself
from tests.support.command import User
from tests.support.durable import Desk
from tests.support.flows import HANDLERS
from tests.support.mcp_server import Calls
from tests.support.messages_api import MessagesApi, answers_in
from tests.support.receiver import Receiver

TURNS = 20
KILLED_AT = 15
LONG = """\
workflow: long
steps:
  - id: work
    agent: ann
    prompt: Do it step by step.
"""
ACTS = """\
workflow: acts
steps:
  - id: act
    agent: ann
    prompt: Do it.
  - id: beside
    agent: bob
    prompt: Something else.
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home with its Prefect server for all tests of the module."""
    path = tmp_path_factory.mktemp("killed") / "home"
    yield path
    User(path, path).phaseline("down")


class Scene:
    """A catalog, a person, and a stand-in of the model that holds a request until the command was killed."""

    def __init__(self, home: Path, folder: Path, api: MessagesApi) -> None:
        self.api = api
        self.calls = Calls(folder / "calls.jsonl")
        self.catalog = make_catalog(folder / "catalog", long=LONG, acts=ACTS)
        tool = self.catalog / "skills" / "shared" / "tool"
        (tool / "handlers" / "give.py").write_text(HANDLERS["give"])
        (tool / "config.yaml").write_text(
            "handlers:\n  - {name: give, effect: none}\n  - {name: count, effect: none}\n"
        )
        variables = {
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": api.base_url,
            "PHASELINE_CATALOG": str(self.catalog),
        }
        work = folder / "work"
        work.mkdir()
        self.user = User(home, work, variables)
        self.run_id = folder.name.strip("_")

    def start(self, workflow: str) -> Any:
        """`phaseline run`, as a process group of its own."""
        return self.user.start("run", workflow, "--run-id", self.run_id)

    def kill_when(self, workflow: str, reached: Any, group: bool) -> None:
        """Runs it until `reached()` holds, then kills the process or its whole group."""
        with self.start(workflow) as process:
            deadline = time.monotonic() + 90
            while not reached():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
            process.wait()

    def resume(self) -> Any:
        """`phaseline resume` in a new process."""
        return self.user.phaseline("resume", self.run_id, "--json")

    def answer(self, **data: Any) -> None:
        """Answers the only open wait of the run."""
        waits = self.user.phaseline("inbox", "--run", self.run_id, "--json").document["waits"]
        (wait,) = waits
        answered = self.user.phaseline("answer", wait["wait_id"], "--data", json.dumps(data), "--json")
        assert answered.code == 0, answered

    def tools(self, text: str) -> None:
        """ann's tools-config.json."""
        (self.catalog / "agents" / "ann" / "tools-config.json").write_text(text)


@pytest.fixture
def scene(home: Path, tmp_path: Path) -> Iterator[Scene]:
    with MessagesApi() as api:
        yield Scene(home, tmp_path, api)


@pytest.mark.parametrize("group", [True, False])
def test_a_long_step_goes_on_at_its_unpaid_turn(scene: Scene, group: bool) -> None:
    held = threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        turn = answers_in(body)
        if turn == KILLED_AT and not held.is_set():
            held.set()
            return {"latency": 3600}
        if turn == TURNS - 1:
            return {"text": "All done."}
        return {"tools": [{"name": "tool__give", "input": {"value": turn}}]}

    scene.api.answer_with(reply)
    scene.kill_when("long", held.is_set, group)
    paid = scene.api.count - 1
    assert paid == KILLED_AT
    (seen,) = [r for r in scene.user.phaseline("runs", "--json").document["runs"] if r["id"] == scene.run_id]
    assert seen["status"] == "interrupted", "not running for ever"
    resumed = scene.resume()
    assert "was at work when an earlier process ended" in resumed.err
    document = resumed.completed
    assert scene.api.count == TURNS + 1, "only the request under way was asked again"
    asked = [json.dumps(r["body"], sort_keys=True) for r in scene.api.asked]
    assert sorted(asked.count(a) for a in set(asked)) == [1] * (TURNS - 1) + [2]
    (step,) = document["steps"]
    assert step["attempts"] == 1
    per_request = step["usage"]["output_tokens"]
    assert per_request > 0
    again = scene.resume()
    assert again.code == 0 and scene.api.count == TURNS + 1, "a completed run is left alone"


@pytest.mark.parametrize(("tool", "arguments", "sent"), [("pay", {"to": "bob", "amount": 7}, 1)])
def test_a_payment_over_mcp_is_made_once(
    scene: Scene, tool: str, arguments: dict[str, Any], sent: int
) -> None:
    """Killed after the payment and before the answer to the model: a person says that it happened."""
    scene.tools(json.dumps({"mcpServers": {"bank": scene.calls.entry()}}))
    held = threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any] | None:
        if "Something else" in json.dumps(body["messages"][0]):
            return {"text": "Done beside."}
        if answers_in(body) == 0:
            return {"tools": [{"name": f"bank__{tool}", "input": arguments}]}
        if not held.is_set():
            held.set()
            return {"latency": 3600}
        return {"text": "Paid."}

    scene.api.answer_with(reply)
    scene.kill_when("acts", held.is_set, group=True)
    assert len(scene.calls.all(tool)) == sent
    document = scene.resume().completed
    assert len(scene.calls.all(tool)) == sent, "its outcome was recorded"
    assert {s["id"]: s["reused"] for s in document["steps"]} == {"act": False, "beside": True}


def test_a_payment_in_doubt_is_asked_about(scene: Scene) -> None:
    """Killed while the call was under way: never a blind retry."""
    scene.tools(json.dumps({"mcpServers": {"bank": scene.calls.entry()}}))
    scene.api.answer_with(
        lambda body: (
            {"tools": [{"name": "bank__slow", "input": {"seconds": 60}}]}
            if answers_in(body) == 0 and "Something else" not in json.dumps(body["messages"][0])
            else {"text": "Done."}
        )
    )
    scene.kill_when("acts", lambda: scene.calls.all("slow"), group=True)
    waiting = scene.resume()
    assert waiting.code == 3, waiting
    assert [w["kind"] for w in waiting.document["waits"]] == ["unknown"]
    assert "phaseline answer" in waiting.document["error"]["cure"]
    assert len(scene.calls.all("slow")) == 1
    scene.answer(outcome="done", result="slept")
    before = scene.api.count
    assert scene.resume().completed["steps"][1]["reused"] is True
    assert (len(scene.calls.all("slow")), scene.api.count - before) == (1, 1)


def test_an_idempotent_call_is_repeated_with_its_key(scene: Scene) -> None:
    rules = {"bank.slow": {"effect": "idempotent"}}
    scene.tools(json.dumps({"mcpServers": {"bank": scene.calls.entry()}, "tools": rules}))
    seconds = {"seconds": 2}
    scene.api.answer_with(
        lambda body: (
            {"tools": [{"name": "bank__slow", "input": seconds}]}
            if answers_in(body) == 0 and "Something else" not in json.dumps(body["messages"][0])
            else {"text": "Done."}
        )
    )
    scene.kill_when("acts", lambda: scene.calls.all("slow"), group=True)
    assert scene.resume().code == 0
    keys = scene.calls.keys("slow")
    assert len(keys) == 2 and len(set(keys)) == 1 and keys[0]


def test_a_request_in_doubt_is_asked_about(scene: Scene) -> None:
    """A POST that was received and never answered."""
    with Receiver(answers=["hang"]) as receiver:
        config = scene.catalog / "agents" / "ann" / "config.yaml"
        host = receiver.url.removeprefix("http://").rstrip("/")
        config.write_text(
            f"{config.read_text()}  permissions:\n"
            f'    - {{network_access: true, allowed_endpoints: ["http://{host}"]}}\n'
        )
        call = {"method": "POST", "url": f"{receiver.url}/refund", "body": '{"usd": 7}'}
        scene.api.answer_with(
            lambda body: (
                {"tools": [{"name": "http_request", "input": call}]}
                if answers_in(body) == 0 and "Something else" not in json.dumps(body["messages"][0])
                else {"text": "Done."}
            )
        )
        scene.kill_when("acts", lambda: receiver.received, group=False)
        assert scene.resume().code == 3
        scene.answer(outcome="not_done")
        assert scene.resume().code == 0
        assert [r.method for r in receiver.received] == ["POST", "POST"]
        assert len({r.key for r in receiver.received}) == 1, "the same idempotency key"


def test_two_resumes_at_once(scene: Scene) -> None:
    held = threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if not held.is_set():
            held.set()
            return {"latency": 3600}
        return {"text": "Done.", "latency": 2}

    scene.api.answer_with(reply)
    scene.kill_when("long", held.is_set, group=True)
    with (
        scene.user.start("resume", scene.run_id) as first,
        scene.user.start("resume", scene.run_id) as second,
    ):
        codes = sorted((first.wait(90), second.wait(90)))
    assert codes == [0, 1], scene.user.log.read_text()
    assert "is being worked on by" in scene.user.log.read_text()
    assert scene.api.count == 2


def test_a_run_that_never_was(scene: Scene) -> None:
    answer = scene.user.phaseline("resume", "never-was")
    assert answer.code == 2 and "Traceback" not in answer.err
    assert "never-was" in answer.err


KILLS = """\
import os, signal, sys
from blocks import boundaries
from deployments.cli import main

boundaries.arm(lambda name, path, subject: name == sys.argv[1] and os.kill(os.getpid(), signal.SIGKILL))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("boundary", ["run.announced", "run.given"])
def test_a_run_killed_at_its_announcement_never_goes_on_with_defaults(
    home: Path, tmp_path: Path, boundary: str
) -> None:
    desk = Desk.make(User(home, tmp_path))
    amount = 'inputs:\n  amount: {type: string, default: "5"}\n'
    desk.write("paying", desk.step("pay", text="{{ amount }}"), also=amount)
    resume_by_itself(desk.catalog)
    run_id = f"paying-{boundary.replace('.', '-')}"
    words = ["--catalog", str(desk.catalog), "run", "paying", "--offline", "--run-id", run_id]
    with desk.user.started("-c", KILLS, boundary, *words, "-i", "amount=999") as process:
        assert process.wait(60) == -signal.SIGKILL
    if boundary == "run.announced":
        for others in (["resume", run_id], words):
            refused = desk.user.phaseline(*others)
            assert refused.code == 2 and "Traceback" not in refused.err, refused
        refused = desk.user.phaseline("resume", run_id)
        assert "defaults" in refused.err and "-i amount=..." in refused.err, refused
        woken = desk.user.phaseline("wake", run_id, "--json")
        assert woken.code == 1 and "-i amount=..." in woken.document["woken"][0]["error"]["cure"], woken
        told = desk.user.with_variables(PHASELINE_WAKE="on").phaseline("runs")
        assert "-i amount=..." in told.err and "goes on" not in told.err, told
        assert desk.marks == []
        again = desk.user.phaseline(*words, "-i", "amount=999", "--json")
    else:
        again = desk.user.phaseline("resume", run_id, "--json")
    assert again.completed["run_id"] == run_id
    assert desk.marks == ["999"]
    assert desk.user.phaseline("resume", run_id, "--from", "pay", "--json").completed
    assert set(desk.marks) == {"999"}
