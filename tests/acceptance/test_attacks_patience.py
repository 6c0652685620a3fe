"""Time decides, not tries: what is out of order for a while is waited out, by real commands.

A provider that is overloaded, a bucket and a database that go away in the middle of a run and come back; and
what happens when they do not.
"""

from __future__ import annotations

import math
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.catalogs import resume_by_itself
from tests.support.command import Answer, User
from tests.support.line import Line
from tests.support.messages_api import MessagesApi
from tests.support.outages import WORK, Refusals, answer_in_turns, user_at_work, user_of_server
from tests.support.postgres import missing, postgres_cluster
from tests.support.prefect_server import wait_until
from tests.support.s3 import s3_server

TURNS = 6
BESIDE = """
workflow: beside
steps:
  - {id: asks, agent: ann, prompt: Hello., expected_output: said}
  - {id: after, agent: ann, prompt: "And {{ said }}.", inputs: [said]}
  - {id: gives, skill: shared/tool, handler: give, args: {value: 1}}
  - {id: gives-too, skill: shared/tool, handler: give, args: {value: 2}, depends_on: gives}
finally:
  - {id: last, skill: shared/tool, handler: give, args: {value: 3}}
"""
BOUNDED = WORK.replace("workflow: work", "workflow: bounded") + "    timeout: 10\n    retries: 2\n"
IMPATIENT = WORK.replace("workflow: work", "workflow: impatient") + "    patience: 500ms\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    yield from user_of_server(tmp_path_factory, "patience")


@pytest.fixture
def user(shared: User, api: MessagesApi, tmp_path: Path) -> User:
    """Somebody with some patience."""
    return user_at_work(shared, api, tmp_path, "20s", beside=BESIDE, bounded=BOUNDED, impatient=IMPATIENT)


def impatient(user: User) -> User:
    return user.with_variables(PHASELINE_PATIENCE="1s")


def script(api: MessagesApi, at: int = -1, then: Callable[[], object] = lambda: None) -> Refusals:
    return answer_in_turns(api, TURNS, at, then)


def cut_for(line: Line, seconds: float) -> Any:
    """Cuts a line, and mends it so many seconds later."""

    def cut() -> None:
        line.cut()
        threading.Timer(seconds, line.mend).start()

    return cut


# --- the provider ---


def test_an_overload_of_many_tries_is_waited_out(user: User, api: MessagesApi) -> None:
    """Seven refusals were one more than were tried: the run failed, and nothing continued it."""
    script(api).left = 7
    answer = user.phaseline("run", "work", "--run-id", "r", "--json")
    assert answer.completed["steps"][0]["attempts"] == 1
    assert api.count == TURNS + 7
    assert "asks again" in answer.err and "until" in answer.err, answer.err


def test_one_that_lasts_longer_stops_the_run_and_what_is_due_goes_on(user: User, api: MessagesApi) -> None:
    refusals = script(api)
    refusals.left = math.inf
    stopped = impatient(user).phaseline("run", "work", "--run-id", "r", "--json")
    assert stopped.code == 4, stopped
    document = stopped.document
    assert document["status"] == "stopped" and "overloaded" in document["error"]["message"]
    assert "phaseline resume r" in document["error"]["cure"]
    assert [s["status"] for s in document["steps"]] == ["not_started"]
    due = datetime.fromisoformat(document["wake_at"]).timestamp()
    assert time.time() - 5 < due < time.time() + 5
    refusals.left = 0
    wait_until(lambda: time.time() > due + 0.1)
    woken = user.phaseline("wake", "--json")
    assert [w["run_id"] for w in woken.document["woken"]] == ["r"] and woken.code == 0, woken
    shown = user.phaseline("show", "r", "--json").document
    assert shown["status"] == "completed" and shown["steps"][0]["attempts"] == 1, shown


def test_branches_that_do_not_need_it_go_on(user: User, api: MessagesApi) -> None:
    refusals = script(api)
    refusals.left = math.inf
    stopped = impatient(user).phaseline("run", "beside", "--run-id", "r", "--json")
    assert stopped.code == 4, stopped
    ended = {s["id"]: s["status"] for s in stopped.document["steps"]}
    assert ended == {
        "asks": "not_started",
        "after": "not_started",
        "gives": "completed",
        "gives-too": "completed",
        "last": "not_started",
    }
    refusals.left = 0
    done = user.phaseline("resume", "r", "--json")
    assert {s["status"] for s in done.completed["steps"]} == {"completed"}


def test_waiting_is_no_time_of_a_step_s_timeout(user: User, api: MessagesApi) -> None:
    """It stopped the run, or with retries began anew, and the last one failed it."""
    refusals = script(api)
    refusals.left = math.inf
    threading.Timer(15, lambda: setattr(refusals, "left", 0)).start()
    patient = user.with_variables(PHASELINE_PATIENCE="10m")
    answer = patient.phaseline("run", "bounded", "--run-id", "r", "--json")
    assert answer.completed["steps"][0]["attempts"] == 1


def test_a_step_says_for_itself_how_long(user: User, api: MessagesApi) -> None:
    script(api).left = math.inf
    before = time.monotonic()
    assert user.with_variables(PHASELINE_PATIENCE="1h").phaseline("run", "impatient").code == 4
    assert time.monotonic() - before < 60


def test_the_catalog_says_it_for_its_runs(user: User, api: MessagesApi) -> None:
    folder = Path(user.variables["PHASELINE_CATALOG"]) / "orchestrator"
    folder.mkdir(exist_ok=True)
    (folder / "agent.yml").write_text("patience: 1s\n")
    script(api).left = math.inf
    assert user.with_variables(PHASELINE_PATIENCE="").phaseline("run", "work").code == 4


def test_an_unreadable_patience_is_told(user: User) -> None:
    answer = user.with_variables(PHASELINE_PATIENCE="soon").phaseline("run", "work")
    assert answer.code == 2 and "PHASELINE_PATIENCE" in answer.err and "10m" in answer.err


def test_an_address_where_nobody_is_gets_named(user: User) -> None:
    """Said before: "the step may be tried again"."""
    nowhere = impatient(user).with_variables(ANTHROPIC_BASE_URL="http://127.0.0.1:9")
    answer = nowhere.phaseline("run", "work", "--run-id", "r", "--json")
    assert answer.code == 4
    error = answer.document["error"]
    assert "http://127.0.0.1:9" in error["message"] and "ANTHROPIC_BASE_URL" in error["cure"]


def test_a_wait_ends_with_the_command(user: User, api: MessagesApi) -> None:
    script(api).left = math.inf
    for number in (signal.SIGTERM, signal.SIGINT):
        before = api.count
        there = user.with_variables(PHASELINE_PATIENCE="10m")
        with there.start("run", "work", "--run-id", f"r-{number}") as process:
            wait_until(lambda before=before: api.count >= before + 3)
            process.send_signal(number)
            assert process.wait(10) == 1
        assert user.phaseline("show", f"r-{number}", "--json").document["status"] == "cancelled"


# --- the store ---


def test_a_bucket_that_is_gone_for_some_seconds(user: User, api: MessagesApi) -> None:
    with s3_server() as s3, Line(urlsplit(s3.endpoint).port or 0) as line:
        script(api, at=TURNS - 1, then=cut_for(line, 3))
        there = user.with_variables(**{**s3.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.here}"})
        answer = there.phaseline("run", "work", "--storage", f"s3://{s3.make_bucket()}/x", "--json")
        assert answer.completed["steps"][0]["attempts"] == 1
        assert "waits for the store" in answer.err and "the store is back" in answer.err, answer.err
    assert api.count == TURNS


def test_a_bucket_that_stays_away_stops_the_run(user: User, api: MessagesApi) -> None:
    with s3_server() as s3, Line(urlsplit(s3.endpoint).port or 0) as line:
        script(api, at=TURNS - 1, then=line.cut)
        there = user.with_variables(**{**s3.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.here}"})
        storage = f"s3://{s3.make_bucket()}/x"
        answer = impatient(there).phaseline("run", "work", "--run-id", "r", "--storage", storage, "--json")
        assert answer.code == 4 and answer.document["status"] == "stopped", answer
        assert answer.document["wake_at"]
        assert answer.document["error"]["cure"].endswith("or now: phaseline resume r")
        looked = impatient(there).phaseline("resume", "r", "--plan")
        line.mend()
        assert there.phaseline("resume", "r", "--json").completed
        line.cut()
        undone = impatient(there).phaseline("cancel", "r", "--undo")
    assert api.count == TURNS, "every answer was kept"
    for answer in (looked, undone):
        assert answer.code == 4, answer
        assert "once it answers, run the command again" in answer.err, answer
        assert "by itself" not in answer.err and "RUN_ID" not in answer.err, answer


# --- the ledger ---


def test_a_ledger_that_stays_away_is_told_and_its_run_goes_on_where_the_catalog_says_so(
    user: User, api: MessagesApi
) -> None:
    """No time to wake can be written down: the next command finds that nobody works on the run any more."""
    resume_by_itself(Path(user.variables["PHASELINE_CATALOG"]))
    held: list[sqlite3.Connection] = []

    def lock() -> None:
        held.append(sqlite3.connect(user.home / "ledger.db", isolation_level=None, check_same_thread=False))
        held[0].execute("BEGIN IMMEDIATE")

    script(api, at=3, then=lock)
    answer = impatient(user).phaseline("run", "work", "--run-id", "r", "--json")
    held[0].close()
    told_what_is_lost(answer)
    goes_on_by_itself(user, api)


def told_what_is_lost(answer: Answer) -> None:
    """How the command ended, what it could not keep, and how the run goes on."""
    assert answer.code == 4, answer
    error = answer.document["error"]
    assert "turn 4 of work" in error["message"] and "paid again" in error["message"], error
    assert "once it answers" in error["cure"] and "phaseline resume r" in error["cure"], error


def goes_on_by_itself(user: User, api: MessagesApi) -> None:
    """The next command sees to it, and one answer alone is asked for again."""
    assert user.phaseline("show", "r", "--json").document["status"] == "interrupted"
    there = user.with_variables(PHASELINE_WAKE="on")
    assert "the run r goes on in the background" in there.phaseline("runs").err
    wait_until(lambda: user.phaseline("show", "r", "--json").document["status"] == "completed", 120)
    assert api.count == TURNS + 1


@pytest.mark.cluster
def test_a_database_that_is_gone_for_some_seconds(user: User, api: MessagesApi) -> None:
    """What was answered meanwhile is kept: no answer is asked for twice."""
    if reason := missing():
        pytest.skip(reason)
    with postgres_cluster() as cluster:
        address = cluster.make_database("patience")
        port = urlsplit(address).port or 0
        with Line(port) as line:
            script(api, at=3, then=cut_for(line, 12))
            there = user.with_variables(PHASELINE_DATABASE_URL=address.replace(f":{port}/", f":{line.here}/"))
            assert there.phaseline("up", "--json").code == 0, "brings the tables about"
            try:
                answer = there.phaseline("run", "work", "--run-id", "r", "--json")
                assert answer.completed["steps"][0]["attempts"] == 1
                assert "waits for the ledger" in answer.err, answer.err
                assert api.count == TURNS
            finally:
                there.phaseline("down")


@pytest.mark.cluster
def test_a_database_that_stays_away_says_what_is_lost(user: User, api: MessagesApi) -> None:
    if reason := missing():
        pytest.skip(reason)
    resume_by_itself(Path(user.variables["PHASELINE_CATALOG"]))
    with postgres_cluster() as cluster:
        address = cluster.make_database("patience")
        port = urlsplit(address).port or 0
        with Line(port) as line:
            script(api, at=3, then=line.cut)
            there = user.with_variables(PHASELINE_DATABASE_URL=address.replace(f":{port}/", f":{line.here}/"))
            assert there.phaseline("up", "--json").code == 0, "brings the tables about"
            try:
                answer = impatient(there).phaseline("run", "work", "--run-id", "r", "--json")
                line.mend()
                told_what_is_lost(answer)
                goes_on_by_itself(there, api)
            finally:
                there.phaseline("down")
