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
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, Owner
from blocks.ledger.access import run_order
from blocks.ledger.interrupted import MOST_REVIVALS, mark_revived
from deployments import local_server
from tests.support.catalogs import make_catalog, resume_by_itself
from tests.support.command import User, clean_environment
from tests.support.messages_api import MessagesApi
from tests.support.prefect_server import wait_until

TWO = """
workflow: two
steps:
  - {id: a, agent: ann, prompt: Hello.}
  - {id: b, agent: bob, prompt: Again., depends_on: a}
"""
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


def started(user: User, count: int, name: str) -> list[subprocess.Popen[str]]:
    words = [sys.executable, "-m", "deployments.cli", "run", "two", "--json", "--run-id"]
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
            assert ledger.access.write_now(counting, run_order("default", "deadly"))
    again = user.with_variables(PHASELINE_WAKE="on")
    assert again.phaseline("wake", "--json").document["woken"] == []
    assert "the run deadly was interrupted" in again.phaseline("runs").err, "a person decides"
