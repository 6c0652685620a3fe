"""Prefect's server killed, stopped or overrun: it is only a picture, and no run is lost by it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, Owner
from blocks.ledger.database.access import run_order
from blocks.ledger.runs.interrupted import MOST_REVIVALS, mark_revived
from deployments.server import kept_server as local_server
from tests.support.catalogs import make_catalog, resume_by_itself
from tests.support.command import User, clean_environment
from tests.support.flows import HANDLERS
from tests.support.messages_api import MessagesApi
from tests.support.prefect_server import wait_until

TWO = """
workflow: two
steps:
  - {id: a, agent: ann, prompt: Hello.}
  - {id: b, agent: bob, prompt: Again., depends_on: a}
"""
BLOCK = "  - {id: a, skill: shared/tool, handler: block, args: {started: BEGUN, until: UNTIL}}\n"
GIVE = "  - {id: i, skill: shared/tool, handler: give, args: {value: 1}}\n"
PLAIN = f"workflow: plain\nsteps:\n{BLOCK}"
NEST = f"workflow: nest\nsteps:\n{BLOCK}  - {{id: n, workflow: inner, depends_on: a, for_each: [1, 2]}}\n"
INNER = f"workflow: inner\nsteps:\n{GIVE}"
WITHIN = "workflow: within\nsteps:\n  - {id: n, workflow: blocked}\n"
BLOCKED = f"workflow: blocked\nsteps:\n{BLOCK}{GIVE}"
AT_ONCE = 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose kept server the tests of the module attack."""
    path = tmp_path_factory.mktemp("attacked") / "home"
    yield path
    local_server.down(path)


@pytest.fixture
def user(home: Path, api: MessagesApi, tmp_path: Path) -> User:
    catalog = make_catalog(tmp_path / "catalog", two=TWO)
    variables = {
        "ANTHROPIC_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": api.base_url,
        "PHASELINE_CATALOG": str(catalog),
        "PHASELINE_PATIENCE": "3m",
    }
    return User(home, tmp_path, variables)


def server_of(user: User) -> local_server.ServerInfo:
    answer = user.phaseline("up", "--json", timeout=300)
    assert answer.code == 0, answer
    info = local_server.status(user.home)
    assert info is not None
    return info


def status(user: User, run_id: str) -> Any:
    return user.phaseline("show", run_id, "--json").document


def test_a_server_that_is_killed_in_the_middle_is_waited_for(user: User, api: MessagesApi) -> None:
    """Its supervisor starts it again, at the address that the run knows."""
    before, done = server_of(user), threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if not done.is_set():
            done.set()
            os.kill(before.pid, signal.SIGKILL)
        return {"text": "Done."}

    api.answer_with(reply)
    answer = user.phaseline("run", "two", "--run-id", "killed", "--json", timeout=300)
    assert [s["attempts"] for s in answer.completed["steps"]] == [1, 1]
    wait_until(lambda: local_server.status(user.home), 120)
    after = local_server.status(user.home)
    assert after is not None and after.pid != before.pid
    assert (after.api_url, after.auth) == (before.api_url, before.auth)


def test_a_server_that_is_stopped_for_some_seconds_is_waited_for(user: User, api: MessagesApi) -> None:
    before, done = server_of(user), threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if not done.is_set():
            done.set()
            os.kill(before.pid, signal.SIGSTOP)
            threading.Timer(10, os.kill, (before.pid, signal.SIGCONT)).start()
        return {"text": "Done."}

    api.answer_with(reply)
    answer = user.phaseline("run", "two", "--run-id", "stopped", "--json", timeout=300)
    assert [s["attempts"] for s in answer.completed["steps"]] == [1, 1]


@pytest.fixture
def blocks(user: User) -> Blocks:
    return Blocks(user)


@dataclass
class Blocks:
    """A run that stands still in a step until something was done to the server."""

    user: User

    def __post_init__(self) -> None:
        folder = self.user.folder
        self.begun, self.until = folder / "begun", folder / "until"
        catalog = Path(self.user.variables["PHASELINE_CATALOG"])
        tool = catalog / "skills" / "shared" / "tool"
        for name in HANDLERS:
            (tool / "handlers" / f"{name}.py").write_text(HANDLERS[name])
        (tool / "config.yaml").write_text(
            "handlers:\n  - {name: give, effect: none}\n  - {name: block, effect: none}\n"
        )
        for name, text in (("plain", PLAIN), ("nest", NEST), ("inner", INNER), ("within", WITHIN)):
            self.write(catalog, name, text)
        self.write(catalog, "blocked", BLOCKED)

    def write(self, catalog: Path, name: str, text: str) -> None:
        text = text.replace("BEGUN", str(self.begun)).replace("UNTIL", str(self.until))
        (catalog / f"{name}.yaml").write_text(text)

    @contextmanager
    def running(self, workflow: str) -> Iterator[subprocess.Popen[str]]:
        """The run, up to where it stands."""
        server_of(self.user)
        (process,) = started(self.user, 1, self.user.folder.name, workflow)
        try:
            wait_until(self.begun.exists, 240)
            yield process
        finally:
            process.kill()
            process.wait()

    def ended(self, process: subprocess.Popen[str]) -> tuple[Any, str]:
        """Lets it go on; its document, and what it told meanwhile."""
        self.until.touch()
        out, err = process.communicate(timeout=540)
        assert process.returncode == 0, f"{process.returncode}\n{out[-2000:]}\n{err[-4000:]}"
        return json.loads(out), err


@pytest.mark.parametrize("workflow", ["nest", "within"])
@pytest.mark.parametrize("all_of_it", [False, True], ids=["server", "supervisor too"])
def test_an_inner_workflow_goes_on_without_it(blocks: Blocks, workflow: str, all_of_it: bool) -> None:
    """It failed the step and the run, after minutes without a word."""
    with blocks.running(workflow) as process:
        info = local_server.status(blocks.user.home)
        assert info is not None
        for pid in (info.supervisor_pid, info.pid) if all_of_it else (info.pid,):
            os.kill(pid, signal.SIGKILL)
        document, told = blocks.ended(process)
    assert document["status"] == "completed" and {s["status"] for s in document["steps"]} == {"completed"}
    if all_of_it:
        assert "does not show the end of this run" in told, told
        assert workflow == "within" or "Prefect server" in told, told
    assert status(blocks.user, document["run_id"])["status"] == "completed"


def test_how_it_ended_is_told_to_people_before_the_server(blocks: Blocks) -> None:
    """It said nothing for minutes, and a signal then ended it hard: nobody ever saw the result."""
    with blocks.running("plain") as process:
        info = local_server.status(blocks.user.home)
        assert info is not None and process.stdout is not None
        os.kill(info.pid, signal.SIGSTOP)
        try:
            blocks.until.touch()
            document = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=120)
        finally:
            os.kill(info.pid, signal.SIGCONT)
    assert document["status"] == "completed" and process.returncode == 0, told
    assert "ended hard" not in told


def test_one_that_nobody_answers_at_leaves_a_row_that_goes_on(user: User) -> None:
    """Said before, for the local server too: "check PREFECT_API_URL", and no row."""
    nowhere = user.with_variables(PREFECT_API_URL="http://127.0.0.1:9/api", PHASELINE_PATIENCE="3s")
    answer = nowhere.phaseline("run", "two", "--run-id", "nowhere", "--json")
    assert answer.code == 4, answer
    assert "PREFECT_API_URL" in answer.document["error"]["cure"]
    shown = status(user, "nowhere")
    assert shown["status"] == "stopped", shown
    wait_until(lambda: json.loads(user.phaseline("wake", "--json").out)["woken"])
    assert status(user, "nowhere")["status"] == "completed"


def started(user: User, count: int, name: str, workflow: str = "two") -> list[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "deployments.cli", "run", workflow, "--json", "--run-id"]
    environ = clean_environment(user.home, user.variables)
    return [
        subprocess.Popen(
            [*words, f"{name}-{number}"],
            cwd=user.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("state", ["cold", "warm"])
def test_twenty_commands_at_once(user: User, state: str) -> None:
    there = user.with_variables(PHASELINE_PATIENCE="10m")
    if state == "cold":
        local_server.down(user.home)
    else:
        server_of(user)
    processes = started(there, AT_ONCE, state)
    try:
        ends = [process.communicate(timeout=540) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    failed = [(p.returncode, out[-500:], err[-1500:]) for p, (out, err) in zip(processes, ends, strict=True)]
    failed = [one for one in failed if one[0] != 0]
    assert failed == []
    with sqlite3.connect(user.home / "ledger.db") as ledger:
        rows = ledger.execute("SELECT state FROM run WHERE run_id LIKE ?", (f"{state}-%",)).fetchall()
    ledger.close()
    assert rows == [("completed",)] * AT_ONCE


def killed_at_work(user: User, api: MessagesApi, run_id: str) -> None:
    """Its catalog says `resume: auto`, and its process died while the first answer was under way."""
    resume_by_itself(Path(user.variables["PHASELINE_CATALOG"]))
    server_of(user)
    asked, killed = threading.Event(), threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        killed.wait(120)
        return {"text": "Done."}

    api.answer_with(reply)
    with user.start("run", "two", "--run-id", run_id) as process:
        wait_until(asked.is_set, 120)
        process.kill()
        process.wait()
    killed.set()


def test_a_run_whose_process_died_goes_on_by_itself_where_the_catalog_says_so(
    user: User, api: MessagesApi
) -> None:
    killed_at_work(user, api, "died")
    there = user.with_variables(PHASELINE_WAKE="on")
    assert "goes on in the background" in there.phaseline("runs").err
    wait_until(lambda: status(user, "died")["status"] == "completed", 180)


def test_a_run_that_kills_its_process_is_not_restarted_for_ever(user: User, api: MessagesApi) -> None:
    killed_at_work(user, api, "deadly")
    with Ledger.open(user.home / "ledger.db") as ledger:
        for _ in range(MOST_REVIVALS):
            counting = partial(mark_revived, tenant="default", run_id="deadly", viewer=Owner.current())
            assert ledger.access.write_blocking(counting, run_order("default", "deadly"))
    again = user.with_variables(PHASELINE_WAKE="on")
    assert again.phaseline("wake", "--json").document["woken"] == []
    assert "the run deadly was interrupted" in again.phaseline("runs").err, "a person decides"
