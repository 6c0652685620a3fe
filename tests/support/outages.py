"""Somebody whose agent works turn after turn, for what goes away in the middle and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import make_catalog
from tests.support.command import User
from tests.support.flows import HANDLERS
from tests.support.messages_api import MessagesApi, answers_in

WORK = "workflow: work\nsteps:\n  - id: work\n    agent: ann\n    prompt: Do it step by step.\n"
"""Its agent is asked as often as `answer_in_turns` says."""


def user_of_server(factory: pytest.TempPathFactory, name: str) -> Iterator[User]:
    """Whose Prefect server all tests of a module use; ended afterwards."""
    folder = factory.mktemp(name)
    user = User(folder / "home", folder)
    yield user.with_variables(**user.exports())
    user.phaseline("down")


def user_at_work(shared: User, api: MessagesApi, folder: Path, patience: str, **workflows: str) -> User:
    """Somebody with a home and a catalog of their own, whose agents have a tool `give`."""
    catalog = make_catalog(folder / "catalog", work=WORK, **workflows)
    tool = catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "give.py").write_text(HANDLERS["give"])
    (tool / "config.yaml").write_text("handlers:\n  - {name: give, effect: none}\n")
    variables = {
        **shared.variables,
        "ANTHROPIC_API_KEY": "sk-test",
        "ANTHROPIC_BASE_URL": api.base_url,
        "PHASELINE_CATALOG": str(catalog),
        "PHASELINE_PATIENCE": patience,
    }
    return User(folder / "home", folder, variables)


@dataclass
class Refusals:
    """How many requests are still refused as an overload."""

    left: float = 0


def answer_in_turns(
    api: MessagesApi,
    turns: int,
    at: int = -1,
    then: Callable[[], object] = lambda: None,
    text: str = "Step.",
) -> Refusals:
    """Answers turn after turn with a call; before the answer of turn `at`, once, `then` is called."""
    done, refusals = threading.Event(), Refusals()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        turn = answers_in(body)
        if refusals.left > 0:
            refusals.left -= 1
            return {"fault": "overloaded"}
        if turn == at and not done.is_set():
            done.set()
            then()
        if turn == turns - 1 or not body.get("tools"):
            return {"text": "All done."}
        return {"text": text, "tools": [{"name": "tool__give", "input": {"value": turn}}]}

    api.answer_with(reply)
    return refusals
