"""Ledgers and disks that fail under a run: a clear error, nothing lost, and the run goes on afterwards."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.command import Answer, User, clean_environment
from tests.support.line import Line
from tests.support.messages_api import MessagesApi
from tests.support.outages import answer_in_turns, user_at_work, user_of_server
from tests.support.postgres import missing, postgres_cluster
from tests.support.s3 import s3_server

TURNS = 24


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    yield from user_of_server(tmp_path_factory, "faults")


@pytest.fixture
def user(shared: User, api: MessagesApi, tmp_path: Path) -> User:
    """Somebody with little patience, whose only step takes many turns."""
    return user_at_work(shared, api, tmp_path, "2s")


def script(api: MessagesApi, at: int = -1, then: Callable[[], object] = lambda: None) -> None:
    """Much text."""
    answer_in_turns(api, TURNS, at, then, "x" * 20_000)


def clear(answer: Answer, code: int, *words: str) -> None:
    """It ended with an error that a person can use."""
    assert answer.code == code, answer
    assert "Traceback" not in answer.err, answer.err
    for word in words:
        assert word in answer.err + answer.out, answer


def went_on(user: User, api: MessagesApi, most: int) -> None:
    """Resumed, it completes, and at most `most` requests were asked for a second time."""
    answer = user.phaseline("resume", "r", "--json")
    assert answer.completed["steps"][0]["status"] == "completed"
    assert api.count <= TURNS + most


def test_a_full_disk(user: User, api: MessagesApi) -> None:
    """No file may grow beyond 400 KB: the ledger cannot take the answers any more."""
    script(api)
    words = [sys.executable, "-m", "deployments.cli", "run", "work", "--run-id", "r"]
    ended = subprocess.run(
        ["bash", "-c", f"ulimit -f 400; exec {shlex.join(words)}"],
        cwd=user.folder,
        env=clean_environment(user.home, user.variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    clear(Answer(ended.returncode, ended.stdout, ended.stderr), 1, "the ledger", "disk")
    assert 0 < api.count < TURNS
    went_on(user, api, most=1)


def test_a_newer_ledger(user: User, api: MessagesApi) -> None:
    script(api)
    assert user.phaseline("run", "work", "--run-id", "r").code == 0
    ledger = user.home / "ledger.db"

    def revision(number: str) -> None:
        connection = sqlite3.connect(ledger)
        with connection:
            connection.execute("UPDATE ledger_version SET version_num = ?", (number,))
        connection.close()

    with sqlite3.connect(ledger) as connection:
        (known,) = connection.execute("SELECT version_num FROM ledger_version").fetchone()
    connection.close()
    revision("9999")
    for words in (["resume", "r"], ["run", "work"], ["inbox"], ["answer", "w-1"], ["runs"], ["wake"]):
        clear(user.phaseline(*words), 1, "newer phaseline", "upgrade phaseline")
    revision(known)
    assert user.phaseline("show", "r", "--json").document["status"] == "completed"


def test_a_bucket_that_goes_away(user: User, api: MessagesApi) -> None:
    with s3_server() as s3, Line(urlsplit(s3.endpoint).port or 0) as line:
        bucket = s3.make_bucket()
        script(api, at=TURNS - 1, then=line.cut)
        there = user.with_variables(**{**s3.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.here}"})
        answer = there.phaseline("run", "work", "--run-id", "r", "--storage", f"s3://{bucket}/x")
        clear(answer, 4, f"s3://{bucket}/x")
        line.mend()
        went_on(there, api, most=0)


@pytest.mark.cluster
def test_a_database_that_goes_away(user: User, api: MessagesApi) -> None:
    if reason := missing():
        pytest.skip(reason)
    with postgres_cluster() as cluster:
        address = cluster.make_database("faults")
        port = urlsplit(address).port or 0
        with Line(port) as line:
            script(api, at=10, then=line.cut)
            there = user.with_variables(PHASELINE_DATABASE_URL=address.replace(f":{port}/", f":{line.here}/"))
            assert there.phaseline("up", "--json").code == 0, "brings the tables about"
            try:
                answer = there.phaseline("run", "work", "--run-id", "r")
                clear(answer, 4, "the ledger", "PHASELINE_DATABASE_URL")
                clear(there.phaseline("inbox"), 1, "the ledger")
                line.mend()
                went_on(there, api, most=1)
            finally:
                there.phaseline("down")


def test_a_database_that_was_never_there(user: User) -> None:
    there = user.with_variables(PHASELINE_DATABASE_URL="postgresql://me:secret-word@127.0.0.1:1/x")
    for words in (["run", "work"], ["resume", "r"], ["inbox"], ["answer", "w-1", "--reject"]):
        answer = there.phaseline(*words)
        clear(answer, 1, "the ledger")
        assert "secret-word" not in answer.err + answer.out
