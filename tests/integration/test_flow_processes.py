"""The real command while a step runs: killed, ended, started twice, failing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, Answer, clean_environment
from tests.support.flows import HANDLERS, Bench, agent, steps
from tests.support.prefect_server import wait_until

pytestmark = pytest.mark.usefixtures("prefect_server")


@dataclass
class Commands:
    """Commands over one bench; whatever is still running at the end is killed."""

    bench: Bench
    mark: Path
    until: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`phaseline WORDS` in the background, against the session's server."""
        server = {n: os.environ[n] for n in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}
        where = {"PHASELINE_CATALOG": str(self.bench.catalog), "PHASELINE_STORAGE": self.bench.storage}
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.cli", *words],
            cwd=ROOT,
            env=clean_environment(self.bench.home, {**server, **where}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def run(self) -> subprocess.Popen[str]:
        """The workflow, always the same run."""
        return self.start("run", "w", "--offline", "--json", "--run-id", "r")

    def blocked(self, times: int) -> None:
        """Wait until the blocking handler was started so often."""
        wait_until(lambda: self.mark.exists() and len(self.mark.read_text()) >= times)

    def runs(self) -> list[dict[str, Any]]:
        """`phaseline runs`."""
        return list(ended(self.start("runs", "--json")).document["runs"])


def ended(process: subprocess.Popen[str]) -> Answer:
    out, err = process.communicate(timeout=120)
    return Answer(process.returncode, out, err)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    mark, until = tmp_path / "mark", tmp_path / "until"
    args = f'args: {{started: "{mark}", until: "{until}"}}'
    block = f"  - id: block\n    skill: shared/tool\n    handler: block\n    depends_on: [a]\n    {args}\n"
    bench = Bench(
        tmp_path, w=steps(agent("a"), block, agent("b", after="block")) + "finally:\n" + agent("last")
    )
    # What may have happened is otherwise asked, and not done again.
    harmless = "".join(f"  - {{name: {name}, effect: none}}\n" for name in HANDLERS)
    (bench.catalog / "skills/shared/tool/config.yaml").write_text(f"handlers:\n{harmless}")
    made = Commands(bench, mark, until)
    yield made
    until.touch()  # a handler that outlived its command ends by itself
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_killed_command_is_continued_at_once(commands: Commands) -> None:
    first = commands.run()
    commands.blocked(1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (run,) = commands.runs()
    assert run["status"] == "interrupted" and run["held_by"] is None
    assert commands.bench.rows()["block"].state == "running"
    commands.until.touch()
    answer = ended(commands.run())
    assert answer.code == 0, answer
    assert {s["id"]: s["reused"] for s in answer.document["steps"]} == {
        "a": True,
        "block": False,
        "b": False,
        "last": False,
    }
    assert [r["status"] for r in commands.runs()] == ["completed"]


def test_an_ended_command_is_cancelled(commands: Commands) -> None:
    first = commands.run()
    commands.blocked(1)
    first.send_signal(signal.SIGTERM)
    answer = ended(first)
    assert answer.code == 1, answer
    assert "Traceback" not in answer.err
    document = answer.document
    assert document["status"] == "cancelled"
    assert {s["id"]: s["status"] for s in document["steps"]} == {
        "a": "completed",
        "block": "cancelled",
        "b": "not_started",
        "last": "completed",
    }
    assert commands.bench.row().state == "cancelled"
    commands.until.touch()
    assert ended(commands.run()).code == 0


def test_the_second_command_on_a_run_is_told_who_holds_it(commands: Commands) -> None:
    first = commands.run()
    commands.blocked(1)
    second = ended(commands.run())
    assert second.code == 1 and "Traceback" not in second.err
    assert f"process {first.pid}" in second.document["error"]["message"]
    commands.until.touch()
    answer = ended(first)
    assert answer.code == 0 and answer.document["status"] == "completed"
    assert len(commands.mark.read_text()) == 1


def test_a_failing_step_shows_its_error_and_no_traceback(commands: Commands) -> None:
    give = '  - id: give\n    skill: shared/tool\n    handler: give\n    args: {value: "{{ 0 - 1 }}"}\n'
    commands.bench.write("w", steps(give, agent("b", after="give")))
    answer = ended(commands.run())
    assert answer.code == 1
    assert "Traceback" not in answer.err and "below zero" in answer.err
    document = json.loads(answer.out)
    assert document["status"] == "failed" and document["steps"][1]["status"] == "not_started"
