"""A run of hundreds of steps or a thousand items completes, is shown and continued. By the real command."""

from __future__ import annotations

import itertools
import json
import signal
import sqlite3
import threading
from typing import Any

import pytest

from tests.support.command import User
from tests.support.durable import Desk, statuses
from tests.support.messages_api import MessagesApi

STEPS = 300
"""Whose outputs no row holds. 5,000, and 10,000 items, are test_large_runs.py's: `make test-large`."""
ITEMS = 1000
AT_ONCE = 20


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
    """Killed in the middle for certain: from the sixtieth item on nothing is answered before."""
    each = agent("each", f"for_each: range({ITEMS}) | list", f"max_concurrent: {AT_ONCE}")
    desk.write("w", each, agent("after", "depends_on: each"))
    asked, reached, killed = itertools.count(1), threading.Event(), threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        if next(asked) > 60 and not killed.is_set():
            reached.set()
            killed.wait(120)
        return {"text": "Done."}

    with MessagesApi() as api:
        api.answer_with(reply)
        keys = {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": api.base_url}
        desk.user = desk.user.with_variables(**keys)
        words = [word for word in desk.words("w") if word != "--offline"]
        with desk.user.start(*words) as process:
            assert reached.wait(120)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        killed.set()
        document = desk.json("resume", "w")
        assert api.count <= ITEMS + 1 + AT_ONCE, "what was answered is not asked again"
    assert statuses(document) == {"each": "completed", "after": "completed"}
    (listed,) = [ref for name, ref in document["outputs"].items() if name == "each"]
    assert listed["media_type"] == "application/json"
    shown = desk.json("show", "w")
    assert sum(step["id"].startswith("each/") for step in shown["steps"]) >= ITEMS
    assert json.dumps(shown)
