"""Which of the calls made before stay known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from blocks.ledger import EffectRow
from tasks.effects.calls import EffectCall
from tasks.effects.earlier_work import KEPT, TOLD, EarlierWork, _choose_calls

CONTEXT = cast(Any, SimpleNamespace(repeat=lambda path: ""))


def row(number: int, effect: Any, tool: str) -> EffectRow:
    return EffectRow(
        step_path="s",
        kind="tool",
        tool=tool,
        effect=effect,
        effect_key=f"key-{number}",
        idempotency_key="",
        arguments={},
        arguments_digest="",
        state="done",
        outcome={"content": "done"},
        error=None,
        wait_id="",
        sent=1,
        epoch=1,
        intended=number,
        ended=number,
    )


def call(tool: str) -> EffectCall:
    return EffectCall(
        tenant="default", run_id="r", step_path="s", kind="tool", tool=tool, arguments={}, effect="once",
        ordinal=0,
    )  # fmt: skip


@pytest.mark.parametrize("effect", ["idempotent", "once"])
def test_a_tool_that_must_act_once_stays_known_whatever_came_after_it(effect: str) -> None:
    rows = [row(0, "once", "pay"), *(row(n, effect, "note") for n in range(1, KEPT + 100))]
    done = _choose_calls(rows, CONTEXT)
    assert EarlierWork(done).of_tool(call("pay")), "it was not asked about any more"
    assert len(done) <= KEPT + 1
    assert [one["key"] for one in done[-TOLD:]] == [f"key-{n}" for n in range(KEPT + 60, KEPT + 100)]
    assert all("said" in one for one in done[-TOLD:])


def test_few_calls_are_all_told() -> None:
    rows = [row(0, "once", "pay"), row(1, "idempotent", "note")]
    assert [one["said"] for one in _choose_calls(rows, CONTEXT)] == [
        "pay {}: done; its result: done", "note {}: done; its result: done"
    ]  # fmt: skip
