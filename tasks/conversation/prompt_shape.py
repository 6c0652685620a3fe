"""The shape of a request: which fields a model takes, and where the prompt cache is marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from blocks.models import Request
from tasks.outputs.contract import Contract
from tasks.tools import ToolSet
from workflows.core.plans.plan import ModelPlan

_MARK = {"type": "ephemeral"}
_CLAUDE = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?")


def build_request(
    model: ModelPlan,
    system: str,
    tools: ToolSet,
    contract: Contract,
    history: Sequence[dict[str, Any]],
) -> Request:
    """One turn's request. At most three cache marks: the stable prefix, the first and the last message."""
    request: Request = {"model": model.id, "max_tokens": model.max_tokens}
    definitions = tools.definitions()
    if system:
        # The provider caches tools, system and messages in this order: one mark covers both.
        request["system"] = [{"type": "text", "text": system, "cache_control": _MARK}]
    elif definitions:
        definitions[-1] = {**definitions[-1], "cache_control": _MARK}
    if definitions:
        request["tools"] = definitions
    if takes_adaptive_thinking(model.id):
        request["thinking"] = {"type": "adaptive"}
    config: dict[str, Any] = {}
    if model.effort and takes_effort(model.id):
        config["effort"] = model.effort
    if contract.format:
        config["format"] = contract.format
    if config:
        request["output_config"] = config
    # A write to the cache costs more than a plain read: worth it where another turn is likely.
    likely = bool(tools) or contract.structured or len(history) > 1
    request["messages"] = _mark_ends(history) if likely else _remove_marks(history)
    return request


def takes_adaptive_thinking(model_id: str) -> bool:
    """Claude 4.6 and later; models that we do not know are not told how to think."""
    return _version(model_id) >= (4, 6)


def takes_effort(model_id: str) -> bool:
    """Claude 4.6 and later, and Opus 4.5; for a model that we do not know the written effort is sent."""
    return not _CLAUDE.fullmatch(model_id) or _version(model_id) >= (4, 6) or "opus-4-5" in model_id


def _version(model_id: str) -> tuple[int, int]:
    match = _CLAUDE.fullmatch(model_id)
    return (int(match[2]), int(match[3] or 0)) if match else (0, 0)


def with_blocks(history: list[dict[str, Any]], blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A copy that ends with these blocks of the user's: in the last message when it is the user's."""
    last = history[-1]
    if last["role"] != "user":
        return [*history, {"role": "user", "content": blocks}]
    return [*history[:-1], {**last, "content": [*_blocks(last), *blocks]}]


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _remove_marks(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**message, "content": [_without_mark(block) for block in _blocks(message)]} for message in history
    ]


def _without_mark(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "cache_control"}


def _mark_ends(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with a mark on the last block of the first and of the last user message."""
    messages = _remove_marks(history)
    users = [n for n, message in enumerate(messages) if message["role"] == "user"]
    for n in {users[0], users[-1]}:
        *before, last = messages[n]["content"]
        messages[n] = {**messages[n], "content": [*before, {**last, "cache_control": _MARK}]}
    return messages
