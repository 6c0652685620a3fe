"""A run of hundreds of steps or a thousand items completes, is shown and continued. By the real command."""

from __future__ import annotations

import json
import signal
import sqlite3

import pytest

from tests.support.command import User
from tests.support.durable import Desk, eventually, statuses

STEPS = 300
"""Whose outputs no row holds. 5,000, and 10,000 items, are test_large_runs.py's: `make test-large`."""
ITEMS = 1000


@pytest.fixture
def desk(newcomer: User) -> Desk:
    """A person with an empty home."""
    return Desk.make(newcomer)


def agent(step: str, *more: str) -> str:
    return "  - " + "\n    ".join([f"id: {step}", "agent: ann", f"prompt: Say {step}.", *more]) + "\n"


def test_a_run_of_many_outputs_is_completed_shown_and_resumed(desk: Desk) -> None:
    desk.write("w", *(agent(f"s{n}", f"expected_output: out_{n}") for n in range(STEPS)))
    ran = desk.json(*desk.words("w"))
    assert ran["status"] == "completed" and len(ran["outputs"]) == STEPS
    with sqlite3.connect(desk.user.home / "ledger.db") as ledger:
        (kept,) = ledger.execute("SELECT outputs FROM run WHERE run_id = 'w'").fetchone()
    ledger.close()
    assert len(kept) < 2000 and "$spilled" in kept
    shown = desk.json("show", "w", "--events", "--cost")
    assert shown["outputs"] == ran["outputs"] and len(shown["steps"]) == STEPS
    assert f"out_{STEPS - 1}" in desk.user.phaseline("show", "w").out
    assert desk.json("resume", "w")["outputs"] == ran["outputs"]
    again = desk.json(*desk.words("w"))
    assert again["outputs"] == ran["outputs"] and all(step["reused"] for step in again["steps"])


def test_a_run_of_many_outputs_whose_storage_is_gone_is_still_shown(desk: Desk) -> None:
    desk.write("w", *(agent(f"s{n}") for n in range(120)))
    desk.json(*desk.words("w"))
    (desk.user.home / "storage").rename(desk.user.home / "elsewhere")
    answer = desk.user.phaseline("show", "w")
    assert answer.code == 0 and "s119" in answer.out
    assert "the outputs of w cannot be listed" in answer.err and "Traceback" not in answer.err


def test_a_killed_run_of_many_items_goes_on_to_its_end(desk: Desk) -> None:
    each = agent("each", f"for_each: range({ITEMS}) | list", "max_concurrent: 20")
    desk.write("w", each, agent("after", "depends_on: each"))

    def done() -> int:
        return sum(step["status"] == "completed" for step in desk.json("show", "w")["steps"])

    with desk.user.start(*desk.words("w")) as process:
        eventually(lambda: (desk.user.home / "ledger.db").exists() and desk.json("runs")["runs"])
        eventually(lambda: done() > 50 or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    document = desk.json("resume", "w")
    assert statuses(document) == {"each": "completed", "after": "completed"}
    (listed,) = [ref for name, ref in document["outputs"].items() if name == "each"]
    assert listed["media_type"] == "application/json"
    shown = desk.json("show", "w")
    assert sum(step["id"].startswith("each/") for step in shown["steps"]) >= ITEMS
    assert json.dumps(shown)
