"""What `phaseline plan` says of questions, deadlines, budgets and taking back."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest

from deployments.commands.plan import execute, shown_budget
from deployments.terminal.display import Out
from tests.support.catalogs import make_catalog
from workflows.core.catalog.contents import DEFAULT_ROOT
from workflows.core.plans.plan import BudgetPlan

WAITS = """workflow: waits
inputs: {order: {type: json, default: {id: 1}}}
budget: {tokens: 500000, usd: 0.5}
steps:
  - id: ask
    approval:
      ask: |
        Refund
        {{ order.id }}?
      assignees: [alice, bob]
      quorum: 2
      form: {type: object, properties: {amount: {type: number}, note: {type: string}}}
      deadline: 2d
      on_timeout: escalate
      escalate_to: [carol, dora]
  - id: free
    approval: {ask: Go on?}
  - id: paid
    await_event: {type: payment.settled, key: "{{ order.id }}", deadline: 90m}
  - id: book
    depends_on: [ask, free]
    skill: shared/bookkeeping
    handler: void_entry
    args: {number: "1", reason: x}
    undo: {skill: shared/bookkeeping, handler: void_entry, args: {number: "1", reason: x}}
    budget: {time: 90}
"""


def told(workflow: str, *, json_mode: bool = False, root: Path = DEFAULT_ROOT) -> str:
    out = Out(json_mode, io.StringIO(), io.StringIO())
    assert execute(argparse.Namespace(catalog=root, workflow=workflow, run_id=None), out) == 0
    assert isinstance(out.stdout, io.StringIO)
    return out.stdout.getvalue()


def test_people_see_who_is_asked_until_when_and_what_is_limited(tmp_path: Path) -> None:
    file = tmp_path / "waits.yaml"
    file.write_text(WAITS)
    text = told(str(file))
    for line in (
        "ask asks 2 of alice, bob: Refund {{ order.id }}?",
        "  answer: approve or reject, with amount, note",
        "  deadline: 2d, then escalate to carol, dora",
        "free asks anybody: Go on?",
        "  answer: approve or reject, with text",
        "  deadline: none; it waits until there is an answer",
        "paid waits for the event payment.settled with the key {{ order.id }}",
        "  deadline: 1h30m, then fail",
        "book may spend 1m30s",
        "book is skipped when ask or free is rejected",
        "book is taken back by bookkeeping__void_entry",
        "budget of the run: 500,000 tokens, $0.50",
        "waits without end for answers, which counts as no time: ask, free, paid",
    ):
        assert line in text.splitlines(), f"{line!r} is not in:\n{text}"
    assert "approval by 2 of alice, bob" in text and "event payment.settled" in text


def test_people_see_whom_the_tools_of_an_agent_may_ask(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: ann}]\n")
    late = {"deadline": "2d", "on_timeout": "escalate", "escalate_to": "dora"}
    rules = {"ask_person": {"people": {"assignees": ["alice", "bob"], "quorum": 2}}}
    rules |= {"tool__count": {"approval": True, "people": {"assignees": "carol", **late}}}
    (root / "agents/ann/tools-config.json").write_text(json.dumps({"tools": rules}))
    text = told("w", root=root)
    for line in (
        "ask_person of ann in a may ask 2 of alice, bob",
        "  deadline: none; it waits until there is an answer",
        "tool__count of ann in a may ask carol",
        "  deadline: 2d, then escalate to dora",
    ):
        assert line in text.splitlines(), f"{line!r} is not in:\n{text}"


def test_programs_get_the_same(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(told("refund-with-approval", json_mode=True))
    steps = {step["id"]: step for step in document["steps"]}
    assert steps["decide"]["approval"]["deadline"] == 259_200
    assert steps["record"]["guards"] == ["decide"]
    assert steps["record"]["undo"]["handler"]["name"] == "bookkeeping__void_entry"
    assert document["budget"]["tokens"] == 200_000
    assert document["estimate"]["waiting"] == {"steps": ["decide"], "seconds": 259_200}


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (BudgetPlan(tokens=5), "5 tokens"),
        (
            BudgetPlan(tokens=2_000_000, usd=1234.5, time=7200, turns=40),
            "2,000,000 tokens, $1,234.50, 2h, 40 turns",
        ),
        (BudgetPlan(usd=0.001), "$0.001"),
    ],
)
def test_a_budget_for_people(budget: BudgetPlan, text: str) -> None:
    assert shown_budget(budget) == text
