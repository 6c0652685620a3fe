"""What of an answer, a result and an input the Messages API takes back.

The provider may answer what it refuses to be told: text of blanks, a call's name that no tool can have, half
a character. A journal keeps what was answered; a conversation is made of what comes out here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from blocks.models import Answer
from tasks.tools import ToolResult
from workflows.core.catalog.prompts import enclose_text

_UNSAYABLE = re.compile("[\x00\ud800-\udfff]")
"""Half characters, which are no UTF-8, and NUL."""
_THINKING = ("thinking", "redacted_thinking")
_UNSEALED = "unsealed_thinking"
"""In the journal alone: thinking in which a secret was masked, so that its signature fits no more."""
_NOT_OF_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_LENGTH, _ID_LENGTH = 64, 128

_RETOLD = "You called these tools just now. They were called, and this is what they gave:"

Block = dict[str, Any]


def sayable(value: Any) -> Any:
    """A JSON value with what cannot be sent replaced; the value itself where there is nothing of it."""
    if isinstance(value, str):
        return _UNSAYABLE.sub("\ufffd", value) if _UNSAYABLE.search(value) else value
    if isinstance(value, dict):
        return {sayable(key): sayable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [sayable(inner) for inner in value]
    return value


def drop_blank_text(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as they can be sent: without blank text."""
    out = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        kept = [sayable(block) for block in blocks if not is_blank(block)]
        out.append({**message, "content": kept})
    return out


def is_blank(block: Block) -> bool:
    """Whether it is a text that says nothing."""
    return block.get("type") == "text" and not str(block.get("text") or "").strip()


def make_repeatable(answer: Answer, ids: set[str]) -> Answer:
    """The answer with calls that can be told again; `ids` are those of earlier calls, and get its own."""
    content = [_repeatable_block(block, ids) for block in answer.content]
    if all(new is old for new, old in zip(content, answer.content, strict=True)):
        return answer
    return replace(answer, message={**answer.message, "content": content})


def _repeatable_block(block: Block, ids: set[str]) -> Block:
    if block["type"] == "text":
        text = sayable(block["text"])
        return block if text is block["text"] else {**block, "text": text}
    if block["type"] != "tool_use":
        return block
    name = _NOT_OF_NAMES.sub("_", block["name"])[:_NAME_LENGTH] or "unnamed"
    first = own = _NOT_OF_NAMES.sub("_", block["id"])[:_ID_LENGTH] or "call"
    number = 1
    while own in ids:
        number += 1
        own = f"{first}_{number}"
    ids.add(own)
    given = sayable(block["input"])
    if (name, own, given) == (block["name"], block["id"], block["input"]):
        return block
    return {**block, "name": name, "id": own, "input": given}


def drop_broken_seals(clean: Answer, answer: Answer) -> Answer:
    """The answer without its secrets, `clean`, with no signature on thinking that was changed by it."""
    content = [
        {"type": _UNSEALED, "thinking": str(new.get("thinking", ""))}
        if new != old and old["type"] in _THINKING
        else new
        for new, old in zip(clean.content, answer.content, strict=True)
    ]
    return replace(clean, message={**clean.message, "content": content})


def is_sealed(answer: Answer) -> bool:
    """Whether its thinking can be told again. Where it cannot, the provider takes its calls back neither."""
    return not any(block["type"] == _UNSEALED or _is_unsayable(block) for block in answer.content)


def echo_answer(answer: Answer, *, calls: bool = False, paused: bool = False) -> dict[str, Any]:
    """The answer as a message of the conversation; its content may be empty, and then cannot be sent.

    Thinking stays as it came. Blank text is left out, and so is what nothing follows: thinking at the end,
    and calls that are not made (`calls`: they are, and their results come next). `paused`: the answer goes
    on where it stopped.
    """
    kept = [b for b in answer.content if _is_taken_back(b, answer, calls=calls, paused=paused)]
    content = kept if is_sealed(answer) else [b for b in kept if b["type"] not in _THINKING]
    while content and content[-1]["type"] in _THINKING:
        content.pop()
    if paused and content and content[-1]["type"] == "text":
        content[-1] = {**content[-1], "text": content[-1]["text"].rstrip()}
    return {"role": "assistant", "content": content}


def _is_taken_back(block: Block, answer: Answer, *, calls: bool, paused: bool) -> bool:
    kind = block["type"]
    if kind == "text":
        return not is_blank(block)
    if kind == "tool_use":
        return calls
    if kind == _UNSEALED:
        return False
    if kind == "thinking":
        return bool(block["signature"]) and not _is_unsayable(block)
    if kind == "redacted_thinking":
        return bool(block["data"])
    if kind == "server_tool_use" and not paused:
        return any(other.get("tool_use_id") == block.get("id") for other in answer.content)
    return True


def _is_unsayable(block: Block) -> bool:
    return block["type"] == "thinking" and bool(_UNSAYABLE.search(block["thinking"]))


def is_open(message: dict[str, Any]) -> bool:
    """Whether an assistant's message may be the last one: the provider goes on with its own tool's call."""
    return any(block["type"] == "server_tool_use" for block in message["content"])


def result_block(call: Block, result: ToolResult) -> Block:
    """A call's result as a block of the user's."""
    block = {"type": "tool_result", "tool_use_id": call["id"], "content": _result_content(result)}
    return {**block, "is_error": True} if result.is_error else block


def retell_calls(calls: Sequence[Block], results: Sequence[Block]) -> list[Block]:
    """Calls and their results in words of the user's, where the turn that made them cannot be told again."""
    out: list[Block] = [{"type": "text", "text": _RETOLD}]
    for call, result in zip(calls, results, strict=True):
        content = result["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
        failed = "failed" if result.get("is_error") else "result"
        told = enclose_text("document", text or "(see below)", name=f"{failed}: {call['name']}")
        given = json.dumps(call["input"], ensure_ascii=False)
        out.append({"type": "text", "text": f"{call['name']} {given}\n{told}"})
        out += [block for block in blocks if block["type"] != "text"]
    return out


def _result_content(result: ToolResult) -> Any:
    nothing = "failed without a message" if result.is_error else "(no output)"
    if isinstance(result.content, str):
        return sayable(result.content) if result.content.strip() else nothing
    blocks = [sayable(block) for block in result.content if not is_blank(block)]
    if result.is_error:  # which may hold text alone
        blocks = [block if block.get("type") == "text" else _left_out(block) for block in blocks]
    return blocks or nothing


def _left_out(block: Block) -> Block:
    return {"type": "text", "text": f"[{block.get('type')}, left out]"}
