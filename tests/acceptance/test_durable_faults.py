"""Ledgers and disks that fail under a run: a clear error, nothing lost, and the run goes on afterwards."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.catalogs import make_catalog
from tests.support.command import Answer, User, clean_environment
from tests.support.flows import HANDLERS
from tests.support.line import Line
from tests.support.messages_api import MessagesApi, answers_in
from tests.support.postgres import missing, postgres_cluster
from tests.support.s3 import s3_server

TURNS = 24
WORK = "workflow: work\nsteps:\n  - id: work\n    agent: ann\n    prompt: Do it step by step.\n"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Whose Prefect server all tests of the module use."""
    folder = tmp_path_factory.mktemp("faults")
    user = User(folder / "home", folder)
    yield user.with_variables(**user.exports())
    user.phaseline("down")


@pytest.fixture
def user(shared: User, api: MessagesApi, tmp_path: Path) -> User:
    """Somebody with a home and a catalog of their own, whose only step takes many turns."""
    catalog = make_catalog(tmp_path / "catalog", work=WORK)
    tool = catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "give.py").write_text(HANDLERS["give"])
    (tool / "config.yaml").write_text("handlers:\n  - {name: give, effect: none}\n")
    variables = {
        **shared.variables,
        "ANTHROPIC_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": api.base_url,
        "PHASELINE_CATALOG": str(catalog),
        "PHASELINE_PATIENCE": "2s",
    }
    return User(tmp_path / "home", tmp_path, variables)


def script(api: MessagesApi, at: int = -1, then: Callable[[], None] = lambda: None) -> None:
    """Answers turn after turn with much text; before the answer of turn `at`, once, `then` is called."""
    done = threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        turn = answers_in(body)
        if turn == at and not done.is_set():
            done.set()
            then()
        if turn == TURNS - 1:
            return {"text": "All done."}
        return {
            "text": "x" * 20_000,
            "tools": [{"name": "tool__give", "input": {"value": turn}}],
        }

    api.answer_with(reply)


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
