"""Which call of a conversation is which: equal ones are numbered; without an outcome one keeps its number."""

from __future__ import annotations

from typing import Any

from tasks.effects.gate import Unsure
from tasks.tools import EqualCalls, ToolError, ToolResult

PAY: dict[str, Any] = {"name": "pay", "input": {"usd": 5}}
OTHER: dict[str, Any] = {"name": "pay", "input": {"usd": 6}}
DONE, AGAIN = ToolResult("done"), ToolResult("unsure", is_error=True, again=True)


def test_equal_calls_are_numbered_over_answers() -> None:
    calls = EqualCalls()
    assert calls.number([PAY, OTHER, PAY]) == [0, 0, 1]
    calls.learn([PAY, OTHER, PAY], [0, 0, 1], [DONE, DONE, DONE])
    assert calls.number([OTHER, PAY]) == [1, 2]


def test_a_call_without_an_outcome_is_the_same_one_until_it_has_one() -> None:
    calls = EqualCalls()
    for result in (AGAIN, AGAIN, DONE):
        assert calls.number([PAY, OTHER][:1]) == [0]
        calls.learn([PAY], [0], [result])
    assert calls.number([PAY]) == [1]


def test_two_without_an_outcome_are_two_again() -> None:
    calls = EqualCalls()
    assert calls.number([PAY, PAY]) == [0, 1]
    calls.learn([PAY, PAY], [0, 1], [AGAIN, AGAIN])
    assert calls.number([PAY, PAY, PAY]) == [0, 1, 1], "no third one while these are open"
    calls.learn([PAY, PAY, PAY], [0, 1, 1], [DONE, AGAIN, DONE])
    assert calls.number([PAY]) == [2]


def test_one_without_an_outcome_beside_one_that_was_made() -> None:
    calls = EqualCalls()
    calls.learn([PAY, PAY], calls.number([PAY, PAY]), [AGAIN, DONE])
    assert calls.number([PAY, PAY]) == [0, 0]


def test_what_a_journal_keeps_says_so_only_where_it_is_so() -> None:
    assert DONE.to_json() == {"content": "done", "is_error": False}
    assert ToolResult(**AGAIN.to_json()) == AGAIN
    assert (Unsure.again, ToolError.again) == (True, False)
