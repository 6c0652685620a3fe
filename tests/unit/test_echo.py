"""What the provider may answer but does not take back never becomes part of a conversation."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.models import Answer
from tasks.conversation.echo import (
    drop_blank_text,
    drop_broken_seals,
    echo_answer,
    is_open,
    is_sealed,
    make_repeatable,
    result_block,
    retell_calls,
    sayable,
)
from tasks.tools import ToolResult
from tests.support.messages_api_rules import Refusal, check_request
from workflows.core.usage import Usage

THINKING = {"type": "redacted_thinking", "data": "x"}
UNSIGNED = {"type": "thinking", "thinking": "hm", "signature": ""}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"q": "1"}}
SERVED = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
HALF = "half \ud83d of a sign\x00"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def answer(*content: dict[str, Any], stop: str = "end_turn") -> Answer:
    message = {"role": "assistant", "content": list(content), "stop_reason": stop}
    return Answer(message, Usage(1, 1), "claude-haiku-4-5")


def accepted(*messages: dict[str, Any]) -> None:
    """Raises Refusal for what the API would refuse."""
    user = {"role": "user", "content": [text("Go.")]}
    check_request({"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [user, *messages]})


def told(*results: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(results)}


@pytest.mark.parametrize("blank", ["", " ", "\n\n", "\u2003\t"])
def test_blank_text_beside_a_call_is_left_out(blank: str) -> None:
    given = make_repeatable(answer(text(blank), CALL, stop="tool_use"), set())
    with pytest.raises(Refusal, match="text content blocks"):
        accepted({"role": "assistant", "content": given.content}, told(result_block(CALL, ToolResult("1"))))
    accepted(echo_answer(given, calls=True), told(result_block(CALL, ToolResult("1"))))


@pytest.mark.parametrize(
    "content",
    [
        (THINKING, text(" ")),
        (THINKING,),
        (UNSIGNED,),
        (text("said"), THINKING),
        (text("said"), CALL),
        (UNSIGNED, text("said")),
        (text("said"), SERVED),
        (text(HALF),),
        (text("said"), {"type": "redacted_thinking", "data": ""}),
    ],
    ids=str,
)
def test_an_answer_that_something_is_said_to_can_be_sent_again(content: tuple[dict[str, Any], ...]) -> None:
    message = echo_answer(make_repeatable(answer(*content), set()))
    echoes = [message] if message["content"] else []
    accepted(*echoes, told(text("Again.")))


@pytest.mark.parametrize(
    "call",
    [
        {**CALL, "name": "x" * 300},
        {**CALL, "name": "look up: now"},
        {**CALL, "name": ""},
        {**CALL, "id": "toolu 1/ä"},
        {**CALL, "input": {"q": HALF, HALF: [HALF]}},
    ],
    ids=["long name", "odd name", "no name", "odd id", "half characters"],
)
def test_a_call_that_no_request_may_hold_becomes_one_that_it_may(call: dict[str, Any]) -> None:
    given = make_repeatable(answer(call, stop="tool_use"), set())
    (own,) = given.tool_calls
    accepted(echo_answer(given, calls=True), told(result_block(own, ToolResult("1"))))


def test_equal_ids_of_calls_are_told_apart() -> None:
    ids: set[str] = set()
    first = make_repeatable(answer(CALL, CALL, stop="tool_use"), ids)
    second = make_repeatable(answer(CALL, stop="tool_use"), ids)
    made = [*first.tool_calls, *second.tool_calls]
    assert len({call["id"] for call in made}) == 3
    results = [result_block(call, ToolResult("1")) for call in made]
    accepted(
        echo_answer(first, calls=True), told(*results[:2]), echo_answer(second, calls=True), told(results[2])
    )


@pytest.mark.parametrize(
    "result",
    [
        ToolResult(""),
        ToolResult(" \n"),
        ToolResult(" ", is_error=True),
        ToolResult([], is_error=True),
        ToolResult([text(""), text("  ")]),
        ToolResult([text("no"), {"type": "image", "source": {}}], is_error=True),
        ToolResult(HALF),
        ToolResult([text(HALF)]),
    ],
    ids=str,
)
def test_every_result_of_a_call_can_be_told(result: ToolResult) -> None:
    given = answer(CALL, stop="tool_use")
    accepted(echo_answer(given, calls=True), told(result_block(CALL, result)))


def test_a_pause_goes_on_only_in_the_providers_own_call() -> None:
    paused = echo_answer(answer(text("so far \n"), stop="pause_turn"), paused=True)
    assert not is_open(paused) and paused["content"] == [text("so far")]
    served = echo_answer(answer(text("so far "), SERVED, stop="pause_turn"), paused=True)
    assert is_open(served)
    accepted(served)


def test_what_can_be_sent_stays_the_very_same() -> None:
    given = answer(THINKING, text("said"), CALL, stop="tool_use")
    assert make_repeatable(given, set()) is given
    assert echo_answer(given, calls=True)["content"] == given.content
    words = "said, 说, \U0001f600"
    assert sayable(words) is words


def test_blank_documents_are_not_said() -> None:
    messages = drop_blank_text(
        [{"role": "user", "content": [text(" "), text(HALF)]}, {"role": "user", "content": "x"}]
    )
    assert messages == [
        {"role": "user", "content": [text("half \ufffd of a sign\ufffd")]},
        {"role": "user", "content": [text("x")]},
    ]


SIGNED = {"type": "thinking", "thinking": "the key is plant", "signature": "s"}


def test_thinking_that_was_masked_claims_no_signature() -> None:
    whole = answer(SIGNED, THINKING, text("said"), CALL)
    masked = answer({**SIGNED, "thinking": "the key is [secret A]"}, THINKING, text("said"), CALL)
    clean = drop_broken_seals(masked, whole)
    assert (
        drop_broken_seals(whole, whole).content == whole.content and is_sealed(whole) and not is_sealed(clean)
    )
    assert "signature" not in clean.content[0] and "[secret A]" in clean.content[0]["thinking"]
    assert echo_answer(clean)["content"] == [text("said")], "the other thinking says nothing without it"


def test_calls_are_told_in_words_with_all_that_they_gave() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
    given = ToolResult([text("one </document> two"), image])
    results = [result_block(CALL, given), result_block(CALL, ToolResult("no", is_error=True))]
    blocks = retell_calls([CALL, CALL], results)
    assert [block["type"] for block in blocks] == ["text", "text", "image", "text"]
    assert 'look {"q": "1"}' in blocks[1]["text"] and "one <\\/document> two" in blocks[1]["text"]
    assert "failed: look" in blocks[3]["text"]
    assert drop_blank_text([{"role": "user", "content": blocks}])[0]["content"] == blocks
