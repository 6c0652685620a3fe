"""Runs that go on by themselves: where, why not, and what is told of those whose process died."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from blocks.ledger import Ledger, Owner, RunRow, RunStart
from blocks.ledger.database.access import run_order
from blocks.ledger.runs.interrupted import AUTO, REVIVED, WOKEN, mark_revived, may_revive
from blocks.ledger.tables.records import EndState
from blocks.patience import PrefectAway
from blocks.run_request import RunRequest
from blocks.storage.artifacts import ArtifactStore
from blocks.storage.errors import StoreAway
from deployments.catalogs.opening import compile_named, open_catalog
from deployments.commands.resume import request_of
from deployments.runs.announcement import announce_run
from deployments.runs.background_wakes import can_wake, elsewhere, own_command, wake_in_background
from deployments.runs.lookup import wakes
from deployments.runs.start import Start
from deployments.runs.sweep import sweep
from deployments.services.resume import NotResumed, prepare_resume
from deployments.terminal.arguments import read
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, caller_of
from tests.support.catalogs import make_catalog
from tests.support.command import Answer, clean_environment, phaseline
from tests.support.ledgers import DATABASES, new_address
from workflows.core.errors import UsageError

TENANT = "default"
HERE = Owner.current()
GONE = replace(HERE, pid=2**22 + 1)
"""A process of this machine that certainly ended."""
AFAR = replace(HERE, host="another-machine", boot="another-boot")
KEY = "ANTHROPIC_API_KEY"


@dataclass
class Machine:
    """A home with a ledger, a catalog with one workflow, and a storage."""

    folder: Path
    database: str

    @property
    def home(self) -> Path:
        """Of phaseline."""
        return self.folder / "home"

    @property
    def catalog(self) -> Path:
        """With the workflow `w`."""
        return self.folder / "catalog"

    @property
    def storage(self) -> str:
        """As the ledger keeps it."""
        return (self.folder / "storage").as_uri()

    def begun(self, run_id: str, owner: Owner = HERE, *, state: str = "", offline: bool = False) -> RunRow:
        """A run with all it needs to go on; left in the middle without a state, else ended, due by clock."""
        plan = compile_named(open_catalog(self.catalog), "w")
        labels = RunRequest("w", catalog=str(self.catalog)).to_labels(self.catalog)
        manifest = {"schema_version": 1, "run_id": run_id, "workflow": "w", "offline": offline, "inputs": {}}
        manifest["plan"] = plan.model_dump(mode="json", by_alias=True)
        start = RunStart(
            run_id=run_id, workflow="w", storage=self.storage, offline=offline, plan_digest=plan.definition
        )

        async def begin(ledger: Ledger) -> None:
            lease = await ledger.begin_run(replace(start, labels=labels), owner)
            if state:
                await ledger.finish_run(lease, state, wake_at=1, wake_reason="quota")  # type: ignore[arg-type]

        with ArtifactStore.open(self.storage, environ={}) as store:
            asyncio.run(store.write_manifest(TENANT, run_id, manifest))
        with self.ledger() as ledger:
            asyncio.run(begin(ledger))
        return self.row(run_id)

    def ledger(self) -> Ledger:
        """It, opened."""
        return Ledger.open(self.database, migrate=True)

    def row(self, run_id: str) -> RunRow:
        """The run as it stands."""
        with self.ledger() as ledger:
            row = ledger.reader.get_run(TENANT, run_id)
        assert row is not None
        return row

    def resumed(self, run_id: str, *words: str) -> Start | NotResumed:
        """What `resume` would start."""
        places = ["--catalog", str(self.catalog), "--home", str(self.home)]
        with self.ledger() as ledger:
            request = request_of(read([*places, "resume", run_id, *words]))
            return prepare_resume(request, ledger, TerminalHost(Out(json_mode=True)))

    def phaseline(self, *words: str, **variables: str) -> Answer:
        """The real command, with this ledger."""
        environment = {"PHASELINE_DATABASE_URL": self.database, **variables}
        return phaseline(*words, home=self.home, cwd=self.folder, environment=environment)

    def notes(self, **variables: str) -> str:
        """What `runs` says on standard error."""
        answer = self.phaseline("runs", **variables)
        assert answer.code == 0 and "Traceback" not in answer.err, answer
        return answer.err

    def swept(self, **words: str) -> str:
        """The same of the sweep alone."""
        screen = io.StringIO()
        with self.ledger() as ledger:
            caller = caller_of(read(["--home", str(self.home), "runs"]))
            host = TerminalHost(Out(False, io.StringIO(), screen))
            sweep(ledger, replace(caller, named={}), host.notify, **words)
        return screen.getvalue()

    def await_background(self) -> str:
        """What was written there, once it has ended."""
        with (self.home / "wake.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
        return (self.home / "wake.log").read_text("utf-8")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """With an empty ledger in a file."""
    return made(tmp_path, str(tmp_path / "home" / "ledger.db"))


def made(folder: Path, database: str) -> Machine:
    make_catalog(folder / "catalog", w="workflow: w\nsteps:\n  - {id: a, agent: ann, prompt: Go.}\n")
    (folder / "home").mkdir(mode=0o700)
    return Machine(folder, database)


@pytest.mark.parametrize("database", DATABASES)
def test_a_run_goes_on_by_itself_where_it_was_and_where_its_bodies_are(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    machine = made(tmp_path, new_address(request, database, tmp_path))
    mine, other = machine.begun("mine", state="stopped"), machine.begun("other", AFAR, state="stopped")
    assert (mine.last_host, other.last_host) == (HERE.host, AFAR.host)
    with machine.ledger() as ledger:
        assert ledger.shared == (database != "sqlite")
        assert [can_wake(row, ledger.shared, {}) for row in (mine, other)] == [True, database == "sqlite"]
    (tmp_path / "storage" / TENANT / "runs" / "mine" / "run.json").unlink()
    assert elsewhere(mine, {}) == f"its storage {tmp_path / 'storage'} is not on this machine"
    assert not can_wake(mine, in_shared=False, environ={})
    assert elsewhere(replace(mine, storage="s3://bucket/prefix"), {}) is None
    nowhere = replace(other, labels=RunRequest("w").to_labels(tmp_path / "no-catalog"))
    assert elsewhere(nowhere, {}) == f"its catalog {tmp_path / 'no-catalog'} is not on this machine"


@pytest.mark.cluster
def test_wake_leaves_what_another_machine_has_to_that_machine(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    machine = made(tmp_path, new_address(request, "postgresql", tmp_path))
    machine.begun("other", AFAR, state="stopped")
    (tmp_path / "storage" / TENANT / "runs" / "other" / "run.json").unlink()
    answer = machine.phaseline("wake", "--json")
    assert answer.code == 0 and answer.document["woken"] == [], answer
    (skipped,) = answer.document["skipped"]
    assert skipped["run_id"] == "other" and "is not on this machine" in skipped["reason"]
    assert machine.row("other").state == "stopped"
    named = machine.phaseline("wake", "other", "--json")
    assert named.code == 1, named
    assert named.document["woken"][0]["error"]["cure"] == "phaseline resume other --storage URI"
    assert "the run other is due" in machine.notes(PHASELINE_WAKE="on")


def test_a_folder_of_our_name_is_not_taken_for_us(tmp_path: Path) -> None:
    foreign = tmp_path / "deployments"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('not me')\n")
    command, environ = own_command(["--version"], tmp_path, clean_environment(tmp_path / "home"))
    ended = subprocess.run(
        command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0 and ended.stdout.startswith("phaseline "), ended
    assert environ["PHASELINE_HOME"] == str(tmp_path)


def test_what_cannot_go_on_is_told_with_its_cure_and_tried_again_later(machine: Machine) -> None:
    """It began with a real model, and this shell has no key."""
    machine.begun("r", state="stopped")
    home = machine.home
    woken = machine.phaseline("wake")
    assert woken.code == 1 and "there is no key" in woken.out and f"cure: set {KEY}" in woken.out, woken
    notes = machine.swept()
    assert "the run r could not go on by itself at " in notes and "there is no key" in notes
    assert f"cure: set {KEY}" in notes and "the run r is due" in notes and "background" not in notes
    assert not (home / "wake.log").exists()
    # A clock that was set back since.
    later = time.time() + 100_000
    known = json.loads((home / "wake.json").read_text("utf-8"))
    (home / "wake.json").write_text(json.dumps({"r": {**known["r"], "at": later}}))
    (home / "wake.log").touch(0o600)
    os.utime(home / "wake.log", (later, later))
    assert "the run r goes on in the background" in machine.notes(PHASELINE_WAKE="on")
    assert f"cure: set {KEY}" in machine.await_background()
    assert {file.stat().st_mode & 0o077 for file in home.glob("wake.*")} == {0}


def test_a_process_that_died_unheard_is_told_too(machine: Machine) -> None:
    machine.begun("r", state="stopped")
    (machine.home / "wake.json").write_text(json.dumps({"r": {"at": time.time(), "message": "", "cure": ""}}))
    notes = machine.swept()
    assert "its process ended without saying why" in notes and "wake.log" in notes
    with (machine.home / "wake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert machine.swept().startswith("the run r goes on in the background")
    (machine.home / "wake.json").write_text("[]")
    assert wake_in_background([], machine.home / "none", {}) is None


@pytest.mark.parametrize("odd", ["wake.log", "wake.lock", "wake.json"])
def test_a_home_in_which_nothing_can_be_started_is_no_fault_of_the_command(
    machine: Machine, odd: str
) -> None:
    machine.begun("r", state="stopped")
    (machine.home / odd).mkdir()
    os.utime(machine.home / odd, (1, 1))
    assert machine.swept() == machine.swept() == "the run r is due: phaseline wake\n"


def test_where_commands_continue_what_is_due() -> None:
    assert wakes({}) and wakes({"PHASELINE_WAKE": ""})
    assert not wakes({"PHASELINE_WAKE": "off"}) and not wakes({"PHASELINE_SERVER": "command"})
    assert wakes({"PHASELINE_SERVER": "command", "PHASELINE_WAKE": "on"})
    with pytest.raises(UsageError, match="PHASELINE_WAKE is 'no'"):
        wakes({"PHASELINE_WAKE": "no"})


@pytest.mark.parametrize("database", DATABASES)
def test_a_run_whose_process_died_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """Not the one that a command is about, nor one that is at work."""
    machine = made(tmp_path, new_address(request, database, tmp_path))
    machine.begun("at-work")
    assert machine.swept() == ""
    machine.begun("r", GONE)
    again = f"phaseline --catalog {machine.catalog} resume r"
    assert machine.swept() == f"the run r was interrupted: {again}\n"
    assert machine.swept(but="r") == machine.swept(shown="r") == ""
    machine.begun("s", GONE)
    assert "2 runs were interrupted, the last one s: " in machine.swept()


def test_only_what_was_woken_before_it_was_killed_is_woken_again(machine: Machine) -> None:
    machine.begun("asked", GONE)
    assert machine.phaseline("wake", "--json").document["woken"] == []
    for run_id in ("killed", "both"):
        machine.begun(run_id, state="stopped", offline=True)
        assert isinstance(machine.resumed(run_id, "--use", "stored", "--woken"), Start)
    assert isinstance(machine.resumed("both"), Start)  # a person was faster
    for run_id in ("killed", "both"):
        begin(machine, run_id, GONE)
    (machine.folder / "storage" / TENANT / "runs" / "killed" / "run.json").unlink()
    answer = machine.phaseline("wake", "--json")
    assert [run["run_id"] for run in answer.document["woken"]] == ["killed"], answer
    begin(machine, "killed", GONE)  # whoever continued it this time was not woken
    assert machine.phaseline("wake", "--json").document["woken"] == []


def begin(machine: Machine, run_id: str, owner: Owner) -> None:
    """Somebody works on the run from here on."""
    with machine.ledger() as ledger:
        asyncio.run(ledger.begin_run(RunStart(run_id=run_id, workflow="w"), owner))


def test_how_often_a_run_whose_process_died_goes_on_by_itself(machine: Machine) -> None:
    """It may be the run that kills its process: five times, with growing pauses."""
    row, second = machine.begun("r", GONE), 1_000_000
    assert row.state == "interrupted" and not may_revive(row, 0), "only where the catalog says so"
    auto = replace(row, labels={AUTO: True})
    assert may_revive(auto, 0)
    for count, pause in ((1, 15), (2, 60), (3, 240), (4, 960)):
        again = replace(row, labels={AUTO: True, REVIVED: [count, 100 * second]})
        assert not may_revive(again, (99 + pause) * second) and may_revive(again, (100 + pause) * second)
    assert not may_revive(replace(row, labels={AUTO: True, REVIVED: [5, 0]}), 10**18)
    assert may_revive(replace(row, labels={WOKEN: row.epoch}), 0), "one that was woken is woken again"
    assert not may_revive(replace(row, labels={WOKEN: row.epoch, REVIVED: [5, 0]}), 10**18)
    assert not may_revive(replace(auto, state="running"), 0)


def test_a_person_who_continues_a_run_begins_to_count_anew(machine: Machine) -> None:
    machine.begun("r", GONE, offline=True)
    with machine.ledger() as ledger:
        for _ in range(2):
            counting = partial(mark_revived, tenant=TENANT, run_id="r", viewer=HERE)
            assert ledger.access.write_blocking(counting, run_order(TENANT, "r"))
    assert machine.row("r").labels[REVIVED][0] == 2
    assert isinstance(machine.resumed("r", "--use", "stored", "--woken"), Start)
    assert machine.row("r").labels[REVIVED][0] == 2
    assert isinstance(machine.resumed("r", "--use", "stored"), Start)
    assert REVIVED not in machine.row("r").labels
    machine.begun("held")
    with machine.ledger() as ledger:
        counting = partial(mark_revived, tenant=TENANT, run_id="held", viewer=HERE)
        assert not ledger.access.write_blocking(counting, run_order(TENANT, "held")), "somebody works on it"


_RUN = """
import signal, sys, time
from pathlib import Path

def leave(*_):
    time.sleep(1)
    Path(sys.argv[1], "ended").touch()
    sys.exit(1)

signal.signal(signal.SIGTERM, leave)
Path(sys.argv[1], "begun").touch()
time.sleep(60)
"""
_WAKE = """
import os, sys
from blocks.process.ending import ending_in_time
from deployments.services.wake import answer_of
from deployments.terminal.front import interrupted_by_signals

with ending_in_time(stays=False):
    answer_of([sys.executable, "-c", sys.argv[2], sys.argv[1]], os.environ, interrupted_by_signals)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_woken_ends_by_itself_when_its_wake_is_ended(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", _WAKE, str(tmp_path), _RUN]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as waking:
        while not (tmp_path / "begun").exists():
            assert waking.poll() is None
            time.sleep(0.02)
        waking.send_signal(number)
        assert waking.wait(30) != 0
    assert (tmp_path / "ended").exists(), "it was given the time to end"


def test_a_run_that_could_not_begin_again_goes_on_by_itself(machine: Machine) -> None:
    with machine.ledger() as ledger:
        lease = asyncio.run(ledger.begin_run(RunStart(run_id="r", workflow="w", offline=True)))
        asyncio.run(ledger.finish_run(lease, "failed"))
    start = machine.resumed("r", "--use", "new")
    assert isinstance(start, Start)
    with pytest.raises(PrefectAway, match="no server") as caught, announce_run(start):
        raise PrefectAway("no server", "", 1.0, 60.0)
    row = machine.row("r")
    assert row.state == "stopped" and row.wake_at is not None and row.wake_reason.startswith("no server")
    assert caught.value.cure.endswith("phaseline resume r") and "by itself" in caught.value.cure


@pytest.mark.parametrize("end", ["completed", "redone", "touched"])
def test_nobody_promises_it_where_nothing_is_written_down(machine: Machine, end: str) -> None:
    with machine.ledger() as ledger:
        first = RunStart(run_id="r", workflow="w", offline=True)
        lease = asyncio.run(ledger.begin_run(first))
        asyncio.run(ledger.finish_run(lease, "completed" if end == "completed" else "failed"))
    start = machine.resumed("r", "--use", "new")
    assert isinstance(start, Start)
    start = replace(start, redo=("a",)) if end == "redone" else start
    before = machine.row("r")
    with pytest.raises(PrefectAway, match="no server") as caught, announce_run(start):
        if end == "touched":
            with machine.ledger() as ledger:
                asyncio.run(ledger.finish_run(asyncio.run(ledger.begin_run(first)), "failed"))
        raise PrefectAway("no server", "", 1.0, 60.0)
    row = machine.row("r")
    assert row.state == before.state and row.wake_at is None
    assert caught.value.cure == "once it answers, run the command again"


@pytest.mark.parametrize(
    ("before", "woken", "redo", "after"),
    [
        ("failed", False, (), "stopped"),
        ("waiting", False, (), "stopped"),
        ("waiting", True, (), "waiting"),
        ("failed", False, ("a",), "failed"),
        ("completed", False, (), "completed"),
    ],
)
def test_what_a_person_asked_for_goes_on_by_itself_where_it_broke_off_at_its_beginning(
    machine: Machine, before: EndState, woken: bool, redo: tuple[str, ...], after: str
) -> None:
    from flows.run import _abandon, _Held

    with machine.ledger() as ledger:
        first = RunStart(run_id="r", workflow="w", offline=True)
        asyncio.run(ledger.finish_run(asyncio.run(ledger.begin_run(first)), before))
    start = machine.resumed("r", "--use", "new")
    assert isinstance(start, Start)
    launch = replace(start.to_launch(), woken=woken, redo=redo)
    fault = StoreAway("no bucket", "", 1.0, 60.0)
    with machine.ledger() as ledger, ArtifactStore.open(str(machine.folder / "s"), environ={}) as store:
        lease = asyncio.run(ledger.begin_run(first))
        held = _Held(start.plan, launch, store, ledger, lease, 0.0, None)
        asyncio.run(_abandon(held, fault))
    row = machine.row("r")
    assert row.state == after and (row.wake_at is not None) == (after == "stopped")
    assert ("by itself" in fault.cure) == (woken or after == "stopped")
