"""A whole run by the services alone: a front that is no command line, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.support.command import ROOT, User, clean_environment
from tests.support.durable import Desk

FRONT = """
import os, sys
from pathlib import Path

from deployments.runs.caller import Caller
from deployments.runs.host import Host, RunEnd
from deployments.services.answer import AnswerRequest, answer_wait
from deployments.services.cancel import CancelRequest, cancel_run
from deployments.services.resume import NotResumed, ResumeRequest, resume_run
from deployments.services.show import (
    RunsRequest, ShowRequest, WaitsRequest, list_runs, list_waits, show_run,
)
from deployments.services.start import StartRequest, start_run


class Front(Host):
    def __init__(self):
        self.notices, self.ends, self.events = [], [], []

    def notify(self, notice):
        self.notices.append(notice.kind)

    def export(self, variables):
        os.environ.update(variables)

    def on_event(self, name, data):
        self.events.append(name)

    def on_end(self, end):
        self.ends.append(end.document["status"])


def begin(caller, run_id, host):
    return start_run(StartRequest(caller, "w", run_id=run_id, offline=True), host)


def main(catalog, home):
    caller = Caller("default", "ann", catalog, home, dict(os.environ))
    host = Front()
    begun = begin(caller, "one", host)
    assert (begun.exit_code, begun.document["status"]) == (3, "waiting"), begun
    assert [run["status"] for run in list_runs(RunsRequest(caller), host).document["runs"]] == ["waiting"]
    shown = show_run(ShowRequest(caller, "one", events=True), host).document
    assert [wait["state"] for wait in shown["waits"]] == ["open"]
    (wait,) = list_waits(WaitsRequest(caller, "one"), host)
    still = resume_run(ResumeRequest(caller, "one"), host)
    assert isinstance(still, NotResumed) and (still.why, still.exit_code) == ("waiting", 3)
    answered = answer_wait(AnswerRequest(caller, wait["wait_id"], note="paid"), host)
    assert (answered.voter, answered.document["state"], answered.after.due) == ("ann", "answered", True)
    (vote,) = answered.document["decided_by"]
    assert vote["voter"] == "ann" and "by_admin" not in vote, "without an account nobody speaks for others"
    end = resume_run(ResumeRequest(caller, "one"), host)
    assert isinstance(end, RunEnd) and end.document["status"] == "completed", end
    assert begin(caller, "two", host).exit_code == 3
    cancelled = cancel_run(CancelRequest(caller, "two"), host)
    assert (cancelled.exit_code, cancelled.document["status"]) == (0, "cancelled")
    other = Caller("other", "eve", catalog, home, dict(os.environ))
    assert list_runs(RunsRequest(other), host).document == {"runs": []}
    assert list_waits(WaitsRequest(other), host) == []
    assert host.ends == ["waiting", "completed", "waiting"] and "run.started" in host.events


main(Path(sys.argv[1]), Path(sys.argv[2]))
fronts = ("deployments.cli", "deployments.commands", "deployments.terminal")
assert [name for name in sys.modules if name.startswith(fronts)] == []
print("done")
"""


def test_a_run_is_started_answered_continued_and_cancelled_without_the_command_line(
    newcomer: User,
) -> None:
    desk = Desk.make(newcomer)
    desk.write("w", "  - {id: ask, approval: {ask: May 5 be paid?}}\n", desk.step("pay", "depends_on: ask"))
    command = [sys.executable, "-c", FRONT, str(desk.catalog), str(newcomer.home)]
    quiet = {f"PREFECT_LOGGING_HANDLERS_{name}_LEVEL": "CRITICAL" for name in ("CONSOLE", "DEBUG")}
    variables = {**newcomer.variables, **quiet, "PYTHONPATH": str(ROOT)}
    environ = clean_environment(newcomer.home, variables)
    ended = subprocess.run(
        command, env=environ, capture_output=True, text=True, cwd=newcomer.folder, timeout=300, check=False
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "done"), ended.stderr[-4000:]
    assert ended.stderr == "", "services print nothing"
    assert desk.marks == ["pay"]
