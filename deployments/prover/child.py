"""Forked processes: one start of a run, one person who answers, one who looks at what a run left.

The process that forks has imported everything and opened nothing: no thread, no event loop, no database. So
a fork of it is as good as a new process, some seconds cheaper. Each of these opens what it needs, and ends
without returning.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.boundaries import arm
from blocks.patience import Patience, PrefectAway
from blocks.secrecy import secrets
from blocks.settings import Settings
from deployments.prover.recording import Boundary, Recorder, open_effects, read_records
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from flows.outcome import RunOutcome

RUN_ID = "prove"
"""Every case has a ledger of its own, so that all of them may be the same run."""

FAULT = 70
"""Exit code of a process that ended by a fault of its own; its file `fault` says which."""

AWAY = 71
"""Exit code of a start that Prefect's server kept from its work or its end; the file `fault` says how."""

PATIENCE = Patience(0.0)
"""A case waits for nothing by itself: whoever proves makes its start again."""

HOME = "{home}"
"""In an input: the folder of the case, where what handlers write is kept apart."""

_PR_SET_PDEATHSIG = 1


class NotAlone(AssertionError):
    """The process that forks has a second thread, which the fork would lose in the middle of its work."""


@dataclass(frozen=True)
class Subject:
    """What is proved: the same for every case."""

    plan: Plan
    given: Mapping[str, Any]
    """Typed inputs by name; texts may hold `{home}`."""
    catalog: Path
    environ: Mapping[str, str]
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    allow_effects: bool = False


@dataclass(frozen=True)
class Place:
    """The folder of one case, and what is in it."""

    folder: Path

    @property
    def home(self) -> Path:
        """What `{home}` stands for: nothing of phaseline's own is in it."""
        return self.folder / "home"

    @property
    def records(self) -> Path:
        """The boundaries that were reached."""
        return self.folder / "records"

    @property
    def outcome(self) -> Path:
        """How the latest start of the run ended."""
        return self.folder / "outcome.json"

    @property
    def log(self) -> Path:
        """What its processes printed."""
        return self.folder / "log"

    @property
    def fault(self) -> Path:
        """What a process ended with that should not have."""
        return self.folder / "fault"

    def settings(self, catalog: Path) -> Settings:
        """Ledger and storage of the case."""
        own = self.folder / "own"
        return Settings(own, str(own / "storage"), str(self.ledger), catalog)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.folder / "own" / "ledger.db"

    def prepare(self, ledger: Path) -> None:
        """Makes the folders, and the ledger as a copy of an empty one."""
        for folder in (self.folder, self.home, self.folder / "tmp", self.ledger.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(ledger, self.ledger)


# ---------------------------------------------------------------- forking


def preload() -> None:
    """Imports what the forked processes need, once; asserts that nothing of it began to work."""
    import importlib

    for name in _PRELOADED:
        importlib.import_module(name)
    assert_alone()
    gc.collect()
    gc.freeze()


_PRELOADED = (
    # What the first flow of a process imports on its way.
    *("anyio._backends._asyncio", "fastapi", "prefect.engine", "prefect.flow_engine", "prefect.task_engine"),
    *("prefect.utilities.visualization", "pydantic.v1"),
    *("alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite", "jsonschema", "jinja2"),
    *("blocks.ledger", "blocks.offline", "blocks.storage.results", "blocks.storage.artifacts"),
    *("deployments.prover.answers", "deployments.prover.facts"),
    *("deployments.runs.local_run", "deployments.runs.stored_inputs", "deployments.terminal.front"),
    *("flows.compiled",),
)


def assert_alone() -> None:
    """Raises NotAlone when this process may not be forked."""
    threads = threading.active_count()
    with contextlib.suppress(OSError):  # Linux; it also counts threads that Python does not know
        threads = max(threads, len(list(Path("/proc/self/task").iterdir())))
    if threads != 1:
        raise NotAlone(f"{threads} threads where a process is to be forked")


def fork_child(work: Callable[[], int], log: Path, fault: Path) -> int:
    """The id of a new process that does `work` and ends with the code it gives; it ends with this one.

    What it prints goes to `log`; what it raises goes to `fault`, with the exit code FAULT.
    """
    assert_alone()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = FAULT
    try:
        _settle_in(parent, log)
        code = work()
    except BaseException as error:  # noqa: BLE001 - the fork must not go on with its parent's stack
        with contextlib.suppress(OSError):
            fault.write_text(secrets.current_secrets().text(_describe_fault(error)), "utf-8")
    finally:
        os._exit(code)


def _settle_in(parent: int, log: Path) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(FAULT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)


def _describe_fault(error: BaseException) -> str:
    if isinstance(error, PhaselineError):
        return json.dumps({"message": error.message, "cure": error.cure})
    trace = "".join(traceback.format_exception(error))
    return json.dumps({"message": f"{type(error).__name__}: {error}", "cure": "", "trace": trace})


def await_exit(pid: int, seconds: float) -> int | None:
    """The exit code of a process, minus the signal that ended it; None when it took longer: it is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


# ---------------------------------------------------------------- what the processes do


def run_once(subject: Subject, place: Place, process: int, kill: Boundary | None) -> int:
    """One start of the run, as the command makes it; its outcome is left in a file."""
    from prefect.exceptions import TerminationSignal

    from deployments.runs.local_run import run_flow
    from deployments.server.unavailable import server_fault
    from deployments.terminal.front import interrupted_by_signals
    from flows.launch import Launch

    tempfile.tempdir = str(place.folder / "tmp")
    outcomes: list[RunOutcome] = []
    faults: list[PhaselineError] = []
    launch = Launch(
        settings=place.settings(subject.catalog),
        environ=subject.environ,
        run_id=RUN_ID,
        offline=True,
        prices=subject.prices,
        allow_effects=subject.allow_effects,
        lift_parks=True,
        patience=PATIENCE,
        on_outcome=outcomes.append,
        on_fault=faults.append,
    )
    given = {name: at_home(value, place) for name, value in subject.given.items()}
    arm(Recorder(place.records, process, kill))
    shown = True
    try:
        with contextlib.suppress(asyncio.CancelledError, TerminationSignal):
            shown = asyncio.run(run_flow(subject.plan, given, launch, interrupted_by_signals))
    except Exception as error:
        away = server_fault(error)
        if away is None:
            raise
        place.fault.write_text(secrets.current_secrets().text(_describe_fault(away)), "utf-8")
        return AWAY
    if faults and isinstance(faults[0], PrefectAway):
        place.fault.write_text(secrets.current_secrets().text(_describe_fault(faults[0])), "utf-8")
        return AWAY
    if faults:
        raise faults[0]
    if not shown:
        place.fault.write_text(
            _describe_fault(PrefectAway("Prefect's server does not show the end")), "utf-8"
        )
        return AWAY
    told = secrets.current_secrets().value(outcomes[-1].to_document(), ours=True)
    place.outcome.write_text(json.dumps(told), "utf-8")
    return 0


def at_home(value: Any, place: Place) -> Any:
    """An input of this case."""
    if isinstance(value, str):
        return value.replace(HOME, str(place.home))
    if isinstance(value, list):
        return [at_home(item, place) for item in value]
    return {k: at_home(v, place) for k, v in value.items()} if isinstance(value, dict) else value


def answer_once(
    subject: Subject, place: Place, process: int, kill: Boundary | None, known: Mapping[str, str]
) -> int:
    """One person answers everything that is open. `known` are outcomes of effects by their label."""
    from blocks.ledger import Ledger
    from deployments.prover.answers import answer_all

    truth = open_effects(read_records(place.records))
    arm(Recorder(place.records, process, kill))
    with Ledger.open(place.settings(subject.catalog).database) as ledger:
        answer_all(ledger, RUN_ID, place.folder, subject.answers, truth, known)
    return 0


def look(subject: Subject, place: Place) -> dict[str, Any]:
    """What the run left. Opens the ledger in this very process, which forks no more from then on."""
    from deployments.prover.facts import gather

    return asyncio.run(gather(place.settings(subject.catalog), subject.environ, RUN_ID, place.folder))


def make_ledger(file: Path) -> int:
    """Lays out an empty ledger, which every case takes a copy of."""
    from blocks.ledger import Ledger

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Ledger.open(file):
        return 0


def remove_folder(folder: Path) -> None:
    """Removes a folder of cases, also what a killed handler left in it without the right to write."""
    for place, folders, _ in os.walk(folder):
        for name in folders:
            inner = Path(place, name)
            with contextlib.suppress(OSError):
                if not inner.is_symlink() and not inner.stat().st_mode & stat.S_IWUSR:
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
