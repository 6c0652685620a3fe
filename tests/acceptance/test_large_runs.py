"""Runs of thousands of steps and items are completed, continued and shown. `make test-large` runs these."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.command import User
from tests.support.durable import Desk

pytestmark = pytest.mark.large

STEPS = 5_000
ITEMS = 10_000
HOUR = 3600.0


@pytest.fixture
def desk(newcomer: User) -> Desk:
    """A person with an empty home."""
    return Desk.make(newcomer)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints how long it took, for people: `make test-large ARGS=-s`."""
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s")


def through(desk: Desk) -> tuple[Any, Any]:
    """The run `w`, which is then continued in both ways; what it gave, and what `show --json` says of it."""

    def completed(what: str, *words: str) -> Any:
        with timed(what):
            return desk.user.phaseline(*words, "--json", timeout=HOUR).completed

    ran = completed("run", *desk.words("w"))
    assert completed("resume", "resume", "w")["outputs"] == ran["outputs"]
    again = completed("the same run again", *desk.words("w"))
    assert again["outputs"] == ran["outputs"] and all(step["reused"] for step in again["steps"])
    with timed("show"):
        shown = desk.json("show", "w")
    assert shown["status"] == "completed" and shown["outputs"] == ran["outputs"]
    return ran, shown


def test_five_thousand_steps_go_through(desk: Desk) -> None:
    step = "  - {{id: s{0}, agent: ann, prompt: Say s{0}., expected_output: out_{0}}}\n"
    desk.write("w", *(step.format(n) for n in range(STEPS)))
    ran, shown = through(desk)
    assert len(ran["outputs"]) == len(ran["steps"]) == len(shown["steps"]) == STEPS


def test_ten_thousand_items_go_through(desk: Desk) -> None:
    each = f"for_each: range({ITEMS}) | list, max_concurrent: 50"
    desk.write("w", f"  - {{id: each, agent: ann, prompt: Say it., {each}}}\n")
    ran, shown = through(desk)
    (listed,) = [ref for name, ref in ran["outputs"].items() if name == "each"]
    assert listed["media_type"] == "application/json"
    items = [step for step in shown["steps"] if step["id"].startswith("each/")]
    assert len(items) == ITEMS and all(item["status"] == "completed" for item in items)
