"""Who may not answer for people; the attacks themselves are in tests/acceptance/test_attacks_servers.py."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.ledger.runs.bystanders import AnsweredFromWithin, refuse_from_within
from blocks.ledger.tables.process_identity import Owner
from blocks.process import privacy
from blocks.process.privacy import WITHIN_RUN
from tasks import process_keeper

HERE = Owner.current()


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.fixture(autouse=True)
def unmarked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WITHIN_RUN, raising=False)


def parent(**changed: object) -> Owner:
    """The process that started this one, as the holder of a run."""
    pid = os.getppid()
    return dataclasses.replace(HERE, **{"pid": pid, "started": started(pid), **changed})


def test_what_descends_from_a_run_at_work_is_refused() -> None:
    with pytest.raises(AnsweredFromWithin, match=f"descends from process {os.getppid()}") as caught:
        refuse_from_within([parent()])
    assert caught.value.cure
    with pytest.raises(AnsweredFromWithin):
        refuse_from_within([parent(started="")])


def test_others_are_not() -> None:
    """Nobody, the process itself, a number that was used again, and processes of other machines."""
    refuse_from_within([])
    refuse_from_within([HERE])
    refuse_from_within([parent(started="1"), parent(host="other"), parent(boot="other")])


def test_a_mark_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WITHIN_RUN, "1")
    with pytest.raises(AnsweredFromWithin, match="mark"):
        refuse_from_within([])


KEEPER = Path(__file__).parents[2] / "tasks" / "process_keeper.py"
ON_ITS_OWN = """
import os
if os.fork():
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
os.setsid()
from blocks.ledger.runs.bystanders import AnsweredFromWithin, refuse_from_within
try:
    refuse_from_within([])
except AnsweredFromWithin:
    os._exit(9)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no such mark elsewhere")
def test_what_a_keeper_starts_is_marked_for_good() -> None:
    """By no variable, and without a run at work; taking it off is tried in test_attacks_servers.py."""
    assert privacy.FILE_LOCKS == process_keeper.FILE_LOCKS
    assert not privacy.is_marked()
    reading, ours = os.pipe()
    words = [str(reading), "0", sys.executable, "-c", ON_ITS_OWN]
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-B", str(KEEPER), *words],
            env={**os.environ, "PYTHONPATH": str(KEEPER.parents[1])},
            pass_fds=(reading,),
            check=False,
        )
    finally:
        os.close(ours)
        os.close(reading)
    assert ended.returncode == 9


FAR_BELOW = """
import os

top = os.getpid()
for _ in range(260):  # before anything is imported: a small process is copied quickly
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

import dataclasses
from blocks.ledger.runs.bystanders import AnsweredFromWithin, refuse_from_within
from blocks.ledger.tables.process_identity import Owner

try:
    refuse_from_within([dataclasses.replace(Owner.current(), pid=top, started="")])
except AnsweredFromWithin:
    os._exit(9)
os._exit(0)
"""


def test_no_number_of_processes_in_between_helps() -> None:
    assert subprocess.run([sys.executable, "-c", FAR_BELOW], check=False).returncode == 9
