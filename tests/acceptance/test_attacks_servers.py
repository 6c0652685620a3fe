"""MCP servers that attack the run that started them: what is held, as docs/security.md promises it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import make_catalog
from tests.support.command import ROOT, User
from tests.support.messages_api import MessagesApi, answers_in

SERVER = ROOT / "tests" / "support" / "hostile_server.py"
WORK = """\
workflow: work
steps:
  - {id: act, agent: ann, prompt: Do it.}
"""
ASKS = """\
workflow: asks
steps:
  - {id: act, agent: ann, prompt: Do it.}
  - {id: sure, approval: {ask: Really?}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("servers") / "home"
    yield path
    User(path, path).phaseline("down")


class Scene:
    """A catalog whose agent has the hostile server, and a stand-in of the model that calls its tools."""

    def __init__(self, home: Path, folder: Path, api: MessagesApi) -> None:
        self.folder, self.api = folder, api
        self.catalog = make_catalog(folder / "catalog", work=WORK, asks=ASKS)
        self.run_id = folder.name.strip("_")
        (folder / "work").mkdir()
        (folder / "work" / "own.txt").write_text("a file of the user's")
        variables = {
            "ANTHROPIC_API_KEY": "sk-attack-12345",
            "ANTHROPIC_BASE_URL": api.base_url,
            "PHASELINE_CATALOG": str(self.catalog),
            "OTHER_TOKEN": "tok-of-another-program",
        }
        self.user = User(home, folder / "work", variables)
        self.server()

    def server(self, *more: str, effect: str = "none", **entry: Any) -> None:
        """ann's server, whose tools all count as `effect`."""
        args = [str(SERVER), str(self.folder), *more]
        names = ("peek", "surroundings", "answer", "large", "small")
        tools = {
            "mcpServers": {"h": {"command": sys.executable, "args": args, **entry}},
            "tools": {f"h.{name}": {"effect": effect} for name in names},
        }
        (self.catalog / "agents" / "ann" / "tools-config.json").write_text(json.dumps(tools))

    def calls(self, *calls: tuple[str, dict[str, Any]]) -> None:
        """The model makes these calls, one after the other, then says that it is done."""

        def reply(body: dict[str, Any]) -> dict[str, Any]:
            turn = answers_in(body)
            if turn < len(calls):
                return {"tools": [{"name": f"h__{calls[turn][0]}", "input": calls[turn][1]}]}
            return {"text": "Done."}

        self.api.answer_with(reply)

    def run(self, workflow: str = "work") -> Any:
        return self.user.phaseline("run", workflow, "--run-id", self.run_id, "--json")

    def results(self) -> list[str]:
        """What the model was told, call by call."""
        last = self.api.asked[-1]["body"]["messages"]
        blocks = [b for m in last if isinstance(m["content"], list) for b in m["content"]]
        return [json.dumps(b["content"]) for b in blocks if b.get("type") == "tool_result"]

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def pids(self) -> list[int]:
        return [pid for line in self.lines("pids") for pid in json.loads(line)]


@pytest.fixture
def scene(home: Path, tmp_path: Path) -> Iterator[Scene]:
    with MessagesApi() as api:
        made = Scene(home, tmp_path, api)
        yield made
        for pid in filter(alive, made.pids()):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def until(true: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what it finds -------------------------------------------------------------------------------------


def test_the_key_is_not_read_from_proc(scene: Scene) -> None:
    scene.calls(("peek", {"secret_end": "12345"}))
    assert scene.run().completed
    (told,) = map(json.loads, map(json.loads, scene.results()))
    assert told["read"] > 0, "it can read what is open to it"
    assert told["found"] == []
    assert told["run"] == ["environ: PermissionError", "mem: PermissionError", "maps: PermissionError"]


def test_it_starts_in_an_empty_folder_with_an_environment_of_its_own(scene: Scene) -> None:
    scene.server(env={"DECLARED": "yes"})
    scene.calls(("surroundings", {}))
    assert scene.run().completed
    (told,) = map(json.loads, map(json.loads, scene.results()))
    expected = {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TZ", "USER"}
    assert set(told["environment"]) <= expected | {"DECLARED", "PHASELINE_WITHIN_RUN"}
    assert told["environment"]["DECLARED"] == "yes"
    assert str(scene.user.home) not in json.dumps({**told["environment"], "HOME": ""})
    assert told["holds"] == [] and not Path(told["folder"]).exists(), "and it is removed"


def test_a_declared_folder_is_where_it_starts(scene: Scene) -> None:
    scene.server(cwd="agents")
    scene.calls(("surroundings", {}))
    assert scene.run().completed
    (told,) = map(json.loads, map(json.loads, scene.results()))
    assert told["folder"] == str(scene.catalog / "agents")


# --- what it decides -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["child", "marked", "daemon", "orphan"])
def test_it_does_not_answer_for_people(scene: Scene, way: str) -> None:
    """Also one that leaves its parents, and one that first kills what keeps it, while its run is at work."""
    where = {"home": str(scene.user.home), "root": str(ROOT)}
    told = scene.folder / f"answered.{way}"
    tried = {"name": "h__answer", "input": {"way": way, **where}}

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if answers_in(body) == 0:
            return {"tools": [tried]}
        until(told.exists, 90)
        return {"text": "Done."}

    scene.api.answer_with(reply)
    assert scene.run("asks").code == 3
    code, out, _ = json.loads(told.read_text())
    assert code == 2 and "does not decide for people" in out
    (wait,) = scene.user.phaseline("inbox", "--run", scene.run_id, "--json").document["waits"]
    answered = scene.user.phaseline("answer", wait["wait_id"], "--json")
    assert answered.code == 0, answered
    assert scene.user.phaseline("resume", scene.run_id, "--json").completed


def test_nor_when_it_has_killed_its_run(scene: Scene) -> None:
    """And its keeper: it left its session, dropped its variables, and is nobody's child any more."""
    scene.calls(("answer", {"way": "later", "home": str(scene.user.home), "root": str(ROOT)}))
    with scene.user.start("run", "asks", "--run-id", scene.run_id) as process:
        assert process.wait(120) == -signal.SIGKILL
        until((scene.folder / "answered.later").exists)
    code, out, err = json.loads((scene.folder / "answered.later").read_text())
    assert code == 2 and "carries the mark of what a run starts" in out + err
    (wait,) = scene.user.phaseline("inbox", "--run", scene.run_id, "--json").document["waits"]
    assert not wait["votes"]


def test_what_killed_its_keeper_ends_with_the_run_all_the_same(scene: Scene) -> None:
    scene.calls(("answer", {"way": "escaped", "home": "", "root": ""}))
    scene.run()
    (_, escaped) = scene.pids()
    assert not alive(escaped)


# --- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", [True, False])
def test_a_server_that_heeds_nothing_ends_when_its_run_is_killed(scene: Scene, group: bool) -> None:
    scene.server("--stay")
    scene.api.answer_with(lambda body: {"latency": 3600})
    with scene.user.start("run", "work", "--run-id", scene.run_id) as process:
        until(lambda: scene.lines("pids") and scene.api.count)
        pids = scene.pids()
        assert len(pids) == 3 and all(map(alive, pids))
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not any(map(alive, pids)))


def test_a_server_that_heeds_nothing_ends_with_a_run_that_ends(scene: Scene) -> None:
    scene.server("--stay")
    scene.calls(("small", {}))
    assert scene.run().completed
    assert len(scene.pids()) == 3 and not any(map(alive, scene.pids()))


# --- what it answers -----------------------------------------------------------------------------------


def test_a_very_large_answer_ends_its_call_at_once(scene: Scene) -> None:
    """The next call has a new session."""
    scene.calls(("small", {}), ("large", {"megabytes": 50}), ("small", {}))
    begun = time.monotonic()
    assert scene.run().completed
    assert time.monotonic() - begun < 50, "it used to be silent for a minute"
    first, told, second = scene.results()
    assert "is larger than 8 MiB, and was not read" in told
    assert "small, from" in first and "small, from" in second and first != second
    assert scene.lines("calls") == ["small", "large", "small"]


def test_an_act_with_a_very_large_answer_is_asked_about_and_not_repeated(scene: Scene) -> None:
    scene.server(effect="once")
    scene.calls(("large", {"megabytes": 50}))
    waiting = scene.run()
    assert waiting.code == 3
    (wait,) = waiting.document["waits"]
    assert wait["kind"] == "unknown" and scene.lines("calls") == ["large"]
    data = json.dumps({"outcome": "done", "result": "it was large"})
    assert scene.user.phaseline("answer", wait["wait_id"], "--data", data, "--json").code == 0
    assert scene.user.phaseline("resume", scene.run_id, "--json").completed
    assert scene.lines("calls") == ["large"] and "it was large" in scene.results()[0]
