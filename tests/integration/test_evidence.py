"""A test that fails keeps output, ledger and events: the tooling of the other tests, tried on one."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.support.command import ROOT

CONFTEST = "from tests.support.evidence import pytest_runtest_makereport, pytest_runtest_setup\n"
FAILING = """
import asyncio
from blocks.ledger import Ledger, RunStart, StepRecord
from tests.support.command import phaseline


async def begun(home):
    async with Ledger.open(home / "ledger.db") as ledger:
        lease = await ledger.begin_run(RunStart(run_id="a-run", workflow="w"))
        broken = StepRecord(step_path="a-step", state="failed", error={"message": "broke"})
        await ledger.record_step(lease, broken)
        await ledger.events.append(lease, [("step.broke", "a-step", {"what": "this and that"})])


def test_passes(tmp_path):
    assert phaseline("runs", home=tmp_path / "other").code == 0


def test_fails(tmp_path):
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    asyncio.run(begun(home))
    (home / "commands.log").write_text("from a command in the background")
    assert phaseline("runs", home=home).code == 0
    assert phaseline("show", "nothing", home=home).code == 0


def test_fails_without_a_command(tmp_path):
    raise AssertionError("no home at all")
"""


def test_what_a_failed_test_leaves_behind(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(FAILING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--basetemp",
        str(tmp_path / "base"),
        "test_it.py",
    ]
    ended = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    report = ended.stdout
    assert ended.returncode == 1 and "2 failed, 1 passed" in report, report + ended.stderr
    assert "$ phaseline runs" in report and "a-run" in report
    assert "there is no run 'nothing'" in report and "[exit code 2]" in report
    assert "a-run | a-step | failed" in report and "broke" in report
    assert "step.broke" in report and "this and that" in report
    assert "from a command in the background" in report
    (folder,) = [Path(m) for m in re.findall(r"^(/.*/failed/test_it.py-test_fails)$", report, re.M)]
    assert folder.is_relative_to(tmp_path / "base")
    assert "there is no run 'nothing'" in (folder / "commands.txt").read_text()
    assert "other" not in (folder / "commands.txt").read_text()
    with sqlite3.connect(folder / "home-1" / "ledger.db") as ledger:
        assert ledger.execute("SELECT step_path FROM step").fetchall() == [("a-step",)]
    ledger.close()
