"""`phaseline run` when something is off: signals, odd inputs, a server that ends, and how to go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.server import kept_server as local_server
from tests.support.catalogs import make_catalog
from tests.support.command import Answer, User, clean_environment
from tests.support.flows import HANDLERS

WAITS = """\
workflow: waits
inputs:
  started: {type: string}
  until: {type: string}
  text: {type: string, default: x}
  data: {type: json, default: {}}
  names: {type: list, default: []}
steps:
  - id: one
    skill: shared/tool
    handler: block
    args: {started: "{{ started }}", until: "{{ until }}"}
    expected_output: waited
    output: {type: json}
    timeout: 600
  - id: two
    skill: shared/tool
    handler: give
    args: {value: "{{ text | length }}", text: "of {{ data.x | default('') | length }}"}
    expected_output: given
    output: {type: json}
finally:
  - id: last
    skill: shared/tool
    handler: give
    expected_output: tidied
    output: {type: json}
"""
ASKS = """\
workflow: asks
inputs:
  brief: {type: file}
steps:
  - id: one
    agent: ann
    inputs: [brief]
    expected_output: answer
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A workflow whose first step waits for a file, and one with an agent."""
    root = make_catalog(tmp_path / "my catalog", waits=WAITS, asks=ASKS)
    for name, text in HANDLERS.items():
        (root / "skills/shared/tool/handlers" / f"{name}.py").write_text(text)
    harmless = (
        "handlers: [{name: count, effect: none}, {name: give, effect: none}, {name: block, effect: none}]\n"
    )
    (root / "skills/shared/tool/config.yaml").write_text(harmless)
    return root


def words(catalog: Path, folder: Path, *more: str) -> list[str]:
    """`run waits` with its files in `folder`."""
    files = ["-i", f"started={folder / 'started'}", "-i", f"until={folder / 'until'}"]
    return ["--catalog", str(catalog), "run", "waits", *files, *more]


def refused(answer: Answer, *expected: str) -> None:
    """Exit code 2 before anything starts: no run, no traceback."""
    assert answer.code == 2, answer
    assert "Traceback" not in answer.err
    assert "run waits" not in answer.err
    for word in expected:
        assert word in answer.err


def started(user: User, catalog: Path, *more: str) -> subprocess.Popen[str]:
    """`run waits --json`, once its first step runs; what it writes is captured."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", *words(catalog, user.folder, "--json", *more)],
        cwd=user.folder,
        env=clean_environment(user.home, user.variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    deadline = time.monotonic() + 90
    while not (user.folder / "started").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def completed_steps(user: User, home: Path, run_id: str) -> list[str]:
    """The steps of a run that are recorded as completed so far."""
    answer = user.phaseline("--home", str(home), "show", run_id, "--json")
    steps = answer.document["steps"] if answer.code == 0 else []
    return [step["id"] for step in steps if step["status"] == "completed"]


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 8])
def test_a_signal_cancels_the_run(user: User, catalog: Path, number: signal.Signals, times: int) -> None:
    """Also several of them: one document, exit code 1, `finally` done after one, the ledger knows."""
    run_id = f"cancelled-{number.name.lower()}-{times}"
    with started(user, catalog, "--run-id", run_id) as process:
        for _ in range(times):
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    document = json.loads(out)
    assert document["status"] == "cancelled"
    states = {s["id"]: s["status"] for s in document["steps"]}
    assert (states["one"], states["last"]) == ("cancelled", "completed")
    assert user.phaseline("show", run_id, "--json").document["status"] == "cancelled"


# ---------------------------------------------------------------- inputs


def bad_inputs() -> dict[str, tuple[Callable[[Path], list[str]], str]]:
    """Words of the command, given the folder, and what is said."""

    def file(name: str, text: str) -> Callable[[Path], list[str]]:
        def make(folder: Path) -> list[str]:
            (folder / name).write_text(text)
            return ["-i", f"data=@{name}"]

        return make

    def fifo(folder: Path) -> list[str]:
        os.mkfifo(folder / "pipe.md")
        return ["-i", "text=@pipe.md"]

    return {
        "deep file": (file("deep.json", "[" * 200_000 + "]" * 200_000), "nest it less"),
        "deep value": (lambda _: ["-i", "data=" + "[" * 5000 + "]" * 5000], "nest it less"),
        "nan in a file": (file("nan.json", '{"a": NaN}'), "NaN is no JSON"),
        "infinity": (lambda _: ["-i", 'data={"a": -Infinity}'], "-Infinity is no JSON"),
        "overflow": (lambda _: ["-i", "names=[1e999]"], "finite"),
        "byte": (lambda _: ["-i", "text=a\udcff"], "UTF-8"),
        "half a pair": (lambda _: ["-i", 'data="\\ud800"'], "UTF-8"),
        "twice": (lambda _: ["-i", "text=a", "-i", "text=b"], "given twice"),
        "nobody's file": (lambda _: ["-i", "text=@~nobody-at-all/x.md"], "no home folder"),
        "fifo": (fifo, "no regular file"),
        "folder": (lambda folder: [(folder / "d.md").mkdir() or "-i", "text=@d.md"], "d.md is a folder"),
        "no file": (lambda _: ["-i", "text=@nope"], "there is no file nope"),
        "wide row": (file("wide.csv", "a,b\n1,2,3\n"), "wide.csv:2: it has 3 cells"),
        "two at once": (lambda _: ["-i", "data=[", "-i", "texts=a"], "2 inputs cannot be used"),
        "no run id": (lambda _: ["--run-id", ""], "not a run id"),
        "odd run id": (lambda _: ["--run-id", "../x"], "begin with a letter or digit"),
        "no storage": (lambda _: ["--storage", ""], "--storage is empty"),
        "half an address": (lambda _: ["--storage", "s3:/bucket"], "not a storage address: s3:/..."),
        "nobody's storage": (lambda _: ["--storage", "~nobody-at-all/x"], "no home folder"),
    }


@pytest.mark.parametrize("case", bad_inputs())
def test_what_cannot_be_used_is_refused(user: User, catalog: Path, case: str) -> None:
    make, expected = bad_inputs()[case]
    refused(user.phaseline(*words(catalog, user.folder, *make(user.folder))), expected)


def test_a_new_run_id_has_no_earlier_inputs(user: User, catalog: Path) -> None:
    """Nothing is continued: a missing input is told before there is a run."""
    answer = user.phaseline("--catalog", str(catalog), "run", "asks", "--offline", "--run-id", "new")
    refused(answer, "missing input: brief (no run 'new' is there that could have it)", "-i brief=@FILE")
    assert "new" not in {run["id"] for run in user.phaseline("runs", "--json").document["runs"]}


def test_a_forgotten_at_sign(user: User, catalog: Path) -> None:
    asks = ("--catalog", str(catalog), "run", "asks", "--offline", "-i")
    (user.folder / "notes").write_text("text")
    refused(user.phaseline(*asks, "brief=brief.md"), "did you mean -i brief=@brief.md?")
    refused(user.phaseline(*asks, "brief=notes"), "did you mean -i brief=@notes?")
    (user.folder / "inputs.yaml").write_text("brief: brief.csv\n")
    refused(user.phaseline(*asks[:-1], "--inputs", "inputs.yaml"), "@brief.csv")
    assert user.phaseline(*asks, "brief=Write about notes.", "--json").completed


def test_nobodys_home_is_no_traceback(user: User) -> None:
    for name in ("PHASELINE_HOME", "PHASELINE_STORAGE", "PHASELINE_CATALOG", "PHASELINE_DATABASE_URL"):
        answer = user.with_variables(**{name: "~nobody-at-all/x"}).phaseline("runs")
        refused(answer, "no home folder of '~nobody-at-all'", name)
    refused(user.phaseline("--catalog", "~nobody-at-all/x", "check"), "--catalog")
    refused(user.phaseline("--home", "~nobody-at-all/x", "runs"), "--home")


def test_the_catalog_in_the_home_folder(user: User) -> None:
    """`~` means the same wherever a catalog is named."""
    make_catalog(user.home / "user" / "mine", asks=ASKS)
    for answer in (
        user.phaseline("--catalog=~/mine", "check"),
        user.with_variables(PHASELINE_CATALOG="~/mine").phaseline("check"),
    ):
        assert answer.code == 0, answer
        assert "1 workflow" in answer.out


def test_large_values_travel_as_artifacts(user: User, catalog: Path) -> None:
    """More than Prefect takes as parameters: a text and a JSON value, given in two ways."""
    (user.folder / "until").touch()
    (user.folder / "text.txt").write_text("t" * 700_000)
    (user.folder / "data.json").write_text(json.dumps({"x": "d" * 600_000}))
    files = user.phaseline(
        *words(catalog, user.folder, "-i", "text=@text.txt", "-i", "data=@data.json", "--json")
    ).completed
    (user.folder / "inputs.json").write_text(
        json.dumps({"text": "t" * 700_000, "data": {"x": "d" * 200_000}})
    )
    inline = user.phaseline(*words(catalog, user.folder, "--inputs", "inputs.json", "--json")).completed
    for document, length in ((files, 600_000), (inline, 200_000)):
        given = json.loads(Path(document["places"]["given"]).read_text("utf-8"))
        assert given == {"value": 700_000, "text": f"of {length}"}


# ---------------------------------------------------------------- going on


def test_the_command_that_continues_it_works_as_printed(user: User, catalog: Path, tmp_path: Path) -> None:
    """From another folder, with a path, a catalog, a storage and a home that were given; without inputs."""
    home, storage = tmp_path / "other home", tmp_path / "the storage"
    (user.folder / "mine.yaml").write_text(WAITS.replace("workflow: waits", "workflow: mine"))
    files = ["-i", f"started={user.folder / 'started'}", "-i", f"until={user.folder / 'until'}"]
    places = ["--catalog", str(catalog), "--home", str(home)]
    run = [*places, "run", "mine.yaml", *files, "--storage", str(storage), "--run-id", "again"]
    user = user.with_variables(**user.exports())
    with user.start(*run) as process:
        deadline = time.monotonic() + 90
        while not (user.folder / "started").exists() or completed_steps(user, home, "again") != ["two"]:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
    shown = user.phaseline("--home", str(home), "show", "again")
    (line,) = [x for x in shown.out.splitlines() if x.startswith("continue it with: ")]
    (told,) = [x for x in user.log.read_text("utf-8").splitlines() if x.strip().startswith("go on ")]
    command = line.removeprefix("continue it with: ")
    assert told.split(None, 2)[2] == command
    (user.folder / "until").touch()
    elsewhere = User(user.home, tmp_path, user.variables)
    document = elsewhere.phaseline(*shlex.split(command)[1:], "--json").completed
    assert [s["reused"] for s in document["steps"] if s["id"] == "two"] == [True]
    assert Path(document["places"]["waited"]).is_relative_to(storage)


def test_a_routed_run_is_continued_by_its_text(user: User) -> None:
    answer = user.phaseline("run", "--text", "从需求到上线的 完整方案", "--offline", "--run-id", "routed")
    assert answer.code == 0, answer
    shown: Any = user.phaseline("run", "--text", "从需求到上线的 完整方案", "--run-id", "routed", "--json")
    assert all(s["reused"] for s in shown.completed["steps"])


def test_a_real_run_without_a_key_asks_for_the_key(user: User, catalog: Path) -> None:
    asks = ["--catalog", str(catalog), "run", "asks", "-i", "brief=Write.", "--run-id", "real"]
    nobody = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "sk-none"}
    with user.with_variables(**nobody).start(*asks) as process:
        deadline = time.monotonic() + 90
        while user.phaseline("show", "real", "--json").code != 0:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        process.wait(60)
    answer = user.phaseline(*asks)
    refused(answer, "began with a real model", "cure: set ANTHROPIC_API_KEY")
    assert "--offline" not in answer.err
    refused(user.phaseline(*asks, "--offline"), "leave --offline")


# ---------------------------------------------------------------- the local server ends


def test_a_local_server_that_is_killed(catalog: Path, tmp_path: Path) -> None:
    """The run still comes to its end; one line says what is missing, none is Prefect's."""
    folder = tmp_path / "folder"
    folder.mkdir()
    user = User(tmp_path / "own-home", folder, {"PREFECT_CLIENT_MAX_RETRIES": "1"})
    try:
        assert user.phaseline("up", "--json").code == 0
        server = local_server.status(user.home)
        assert server is not None
        with started(user, catalog, "--run-id", "orphan") as process:
            for pid in (server.supervisor_pid, server.pid):  # with its supervisor: nobody starts it again
                os.kill(pid, signal.SIGKILL)
            (folder / "until").touch()
            out, err = process.communicate(timeout=90)
        assert (process.returncode, json.loads(out)["status"]) == (0, "completed"), err
        assert "the local Prefect server ended" in err
        for word in ("ERROR", "EventsWorker", "Error logging", "Traceback", "PREFECT_API_URL"):
            assert word not in err
        assert user.phaseline("show", "orphan", "--json").document["status"] == "completed"
    finally:
        user.phaseline("down")
