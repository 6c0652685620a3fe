"""Questions in words: what a person needs to decide by is on the screen, and nothing of it steers it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from deployments.terminal.closing import closing
from deployments.terminal.display import Out
from deployments.terminal.questions import print_lines, wait_lines

CALL = {
    "tool": "bank.pay",
    "kind": "mcp",
    "arguments": {"to": "CN12", "amount": 947, "items": [{"n": 1}]},
}


def a_wait(**fields: Any) -> dict[str, Any]:
    given = {"wait_id": "w-1", "run_id": "r", "step": "refund/pay", "kind": "approval", "ask": "Go on?"}
    return {**given, "assignees": [], "quorum": 1, "votes": [], "detail": {}, "form": {}, **fields}


def lines(**fields: Any) -> dict[str, str]:
    return {name.strip(): text for name, text in wait_lines(a_wait(**fields), ())}


def printed(**fields: Any) -> str:
    out = Out(stdout=io.StringIO())
    print_lines(wait_lines(a_wait(**fields), ()), out)
    assert isinstance(out.stdout, io.StringIO)
    return out.stdout.getvalue()


@pytest.mark.parametrize("kind", ["approval", "ask_person", "action", "unknown", "event", "mcp"])
def test_every_question_says_which_step_asks(kind: str) -> None:
    assert lines(kind=kind)["step"] == "refund/pay"


def test_a_call_is_shown_with_its_arguments() -> None:
    assert printed(kind="action", ask="May it?", detail=CALL) == (
        "  waits for   May it?\n"
        "    step      refund/pay\n"
        "    tool      bank.pay\n"
        '    with      to: "CN12"\n'
        "              amount: 947\n"
        '              items: [{"n": 1}]\n'
        "    answer    phaseline answer w-1\n"
    )


def test_a_call_in_doubt_says_how_often_it_was_sent_and_why_nobody_knows() -> None:
    told = lines(kind="unknown", detail={**CALL, "sent": 1, "why": "the connection was\nlost"})
    assert (told["sent"], told["why"], told["tool"]) == ("1 time", "the connection was lost", "bank.pay")


def test_arguments_cannot_pretend_to_be_other_lines() -> None:
    evil = {"a\n    answer    x": "y\n    with      amount: 1\u2028z\x1b[2J\u202e"}
    text = printed(kind="action", detail={**CALL, "arguments": evil})
    assert len(text.splitlines()) == 5 and "\x1b" not in text and "\u202e" not in text
    assert r"a\n    answer    x" in text and r"\u2028z\u001b[2J\u202e" in text


def test_what_is_cut_says_so() -> None:
    told = lines(kind="action", detail={**CALL, "arguments": {"text": "x" * 5000}})
    assert told["with"].endswith("(5,002 characters; the whole of it: phaseline inbox --json)")
    many = lines(kind="action", detail={**CALL, "arguments": {f"n{n}": n for n in range(40)}})["with"]
    assert len(many.splitlines()) == 31 and "and 10 more" in many


def test_arguments_that_are_no_object_and_calls_without_any() -> None:
    assert lines(kind="action", detail={**CALL, "arguments": "cut"})["with"] == '"cut"'
    assert "with" not in lines(kind="action", detail={**CALL, "arguments": {}})
    assert "tool" not in lines(kind="mcp", detail=CALL)


def test_what_others_approved_is_told() -> None:
    vote = {"voter": "ann", "decision": "approve", "note": "less the fee", "data": {"amount": 5}}
    told = lines(quorum=2, votes=[vote, {"voter": "bob", "decision": "reject", "note": "", "data": None}])
    assert told["waits for"].endswith("(2 of 2 answers so far)")
    assert told["so far"].splitlines() == [
        'ann approved {"amount": 5}: less the fee',
        "bob rejected",
        "others approve the same, also by an answer without fields, or reject",
    ]


def test_votes_that_do_not_count_are_told_as_that() -> None:
    mal = {"voter": "mal", "decision": "approve", "note": "", "data": {"amount": 5}, "counts": False}
    told = lines(quorum=2, votes=[mal])
    assert told["waits for"].endswith("(0 of 2 answers so far)")
    assert told["so far"] == 'mal approved {"amount": 5} (does not count: no longer asked)'


def test_the_closing_panel_shows_the_call() -> None:
    out = Out(stdout=io.StringIO())
    waits = [a_wait(kind="action", detail=CALL)]
    closing(out, {"status": "waiting", "workflow": "w", "run_id": "r", "waits": waits}, None, None)
    assert isinstance(out.stdout, io.StringIO)
    text = out.stdout.getvalue()
    assert "bank.pay" in text and "amount: 947" in text and "refund/pay" in text
