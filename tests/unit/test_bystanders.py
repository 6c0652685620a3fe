"""Who may not answer for people; the attacks themselves are in tests/acceptance/test_attacks_servers.py."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocks.ledger.bystanders import AnsweredFromWithin, refuse_from_within
from blocks.ledger.process_identity import Owner
from blocks.privacy import WITHIN_RUN

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


FAR_BELOW = """
import os

top = os.getpid()
for _ in range(260):  # before anything is imported: a small process is copied quickly
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

import dataclasses
from blocks.ledger.bystanders import AnsweredFromWithin, refuse_from_within
from blocks.ledger.process_identity import Owner

try:
    refuse_from_within([dataclasses.replace(Owner.current(), pid=top, started="")])
except AnsweredFromWithin:
    os._exit(9)
os._exit(0)
"""


def test_no_number_of_processes_in_between_helps() -> None:
    assert subprocess.run([sys.executable, "-c", FAR_BELOW], check=False).returncode == 9
