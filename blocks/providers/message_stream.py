"""Folds the events of a streamed answer into the message they describe.

The SDK has a folder of its own; this one keeps every block exactly as sent (the API refuses changed
thinking blocks), treats a block it does not know as malformed instead of as text without text, and knows
whether the message came to its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from blocks.current_time import now_us
from blocks.models import Malformed, OnProgress, ProviderHeaders, Truncated
from workflows.core.text.cut_text import cut
from workflows.core.usage import Usage

_TEXT_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", ""),
}
_REQUIRED: dict[str, tuple[tuple[str, type], ...]] = {
    "text": (("text", str),),
    "thinking": (("thinking", str), ("signature", str)),
    "redacted_thinking": (("data", str),),
    "tool_use": (("id", str), ("name", str), ("input", dict)),
}
_ECHOED = ("server_tool_use",)
_LIMIT_HEADER = "anthropic-ratelimit-"
_MOST_HEADERS = 40
_STOP_REASONS = {
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
}


class MessageFold:
    """One message in the making. Feed it events as dicts, then take `message()`."""

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self._message: dict[str, Any] | None = None
        self._partial_input: dict[int, str] = {}
        self._stopped = False
        self._on_progress = on_progress
        self.limits: ProviderHeaders = {}

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Take what the response's headers say of the provider's limits."""
        self.limits = limits_of(headers)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event. Raises Malformed when it fits nothing that came before."""
        kind = event.get("type")
        try:
            if kind == "message_start":
                self._message = {**event["message"], "content": list(event["message"].get("content") or [])}
            elif kind == "content_block_start":
                self._content().append(dict(event["content_block"]))
            elif kind == "content_block_delta":
                self._grow(event["index"], event["delta"])
            elif kind == "content_block_stop":
                self._finish(event["index"])
            elif kind == "message_delta":
                self._close(event)
            elif kind == "message_stop":
                self._stopped = True
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise Malformed(f"the answer's stream has an unreadable {kind} event") from error

    def message(self) -> dict[str, Any]:
        """The whole message. Raises Truncated when it did not come to its end, Malformed when unusable."""
        if self._message is None:
            raise Truncated("the answer's stream ended before it began")
        if not self._stopped or not self._message.get("stop_reason"):
            raise Truncated()
        return checked_message(self._message)

    @property
    def spent(self) -> Usage:
        """What the message is known to cost so far."""
        usage = (self._message or {}).get("usage")
        try:
            return Usage.from_json(usage) if isinstance(usage, Mapping) else Usage()
        except ValueError:
            return Usage()

    def _content(self) -> list[dict[str, Any]]:
        if self._message is None:
            raise Malformed("the answer's stream has content before its beginning")
        content: list[dict[str, Any]] = self._message["content"]
        return content

    def _grow(self, index: int, delta: Mapping[str, Any]) -> None:
        block, kind = self._content()[index], delta["type"]
        if kind in _TEXT_DELTAS:
            field, progress = _TEXT_DELTAS[kind]
            block[field] = (block.get(field) or "") + delta[field]
            self._tell(progress, delta[field])
        elif kind == "input_json_delta":
            self._partial_input[index] = self._partial_input.get(index, "") + delta["partial_json"]
            self._tell("tool_use", delta["partial_json"])
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        else:
            raise Malformed(f"the answer's stream has an unknown change: {kind}")

    def _tell(self, kind: str, text: str) -> None:
        if self._on_progress and kind:
            self._on_progress(kind, text)

    def _finish(self, index: int) -> None:
        text = self._partial_input.pop(index, "")
        if not text:
            return
        try:
            self._content()[index]["input"] = json.loads(text)
        except (ValueError, RecursionError) as error:
            # A call cut by max_tokens ends in the middle of its arguments; the turn loop must see that
            # stop reason, so the block is kept and marked as having no usable input.
            self._content()[index]["input"] = {}
            self._content()[index]["_broken"] = str(error)

    def _close(self, event: Mapping[str, Any]) -> None:
        self._content()
        assert self._message is not None
        for field in ("stop_reason", "stop_sequence", "stop_details", "container"):
            if event["delta"].get(field) is not None:
                self._message[field] = event["delta"][field]
        counters = {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
        self._message["usage"] = {**(self._message.get("usage") or {}), **counters}


def limits_of(headers: Mapping[str, str]) -> ProviderHeaders:
    """What the headers of a response that has just come say of the provider's limits; {} when nothing."""
    found = {
        name.lower().removeprefix(_LIMIT_HEADER): cut(value, 100)
        for name, value in headers.items()
        if name.lower().startswith(_LIMIT_HEADER)
    }
    return {**dict(list(found.items())[:_MOST_HEADERS]), "at": now_us() / 1_000_000} if found else {}


def checked_message(message: Any) -> dict[str, Any]:
    """The message itself when it is one; raises Malformed naming the first thing that is not."""
    if (
        not isinstance(message, dict)
        or message.get("type") != "message"
        or message.get("role") != "assistant"
    ):
        raise Malformed("the answer is not an assistant's message", foreign=True)
    if message.get("stop_reason") not in _STOP_REASONS:
        raise Malformed(f"the answer stopped for an unknown reason: {message.get('stop_reason')}")
    _check_usage(message.get("usage"))
    content = message.get("content")
    if not isinstance(content, list):
        raise Malformed("the answer has no content")
    cut = message["stop_reason"] == "max_tokens"
    for block in content:
        _check_block(block, cut)
    return message


def _check_usage(usage: Any) -> None:
    if not isinstance(usage, dict) or not {"input_tokens", "output_tokens"} <= usage.keys():
        raise Malformed("the answer does not say what it cost")
    try:
        Usage.from_json(usage)
    except ValueError as error:
        raise Malformed(f"the answer's cost is unreadable: {error}") from error


def _check_block(block: Any, cut: bool) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in _ECHOED or (isinstance(kind, str) and kind.endswith("_tool_result")):
        return
    if kind not in _REQUIRED:
        raise Malformed(f"the answer has a block of unknown type: {kind}")
    for field, type_ in _REQUIRED[kind]:
        if not isinstance(block.get(field), type_):
            raise Malformed(f"the answer has a {kind} block without {field}")
    broken = block.pop("_broken", None)
    if broken and not cut:
        raise Malformed(f"the arguments of the tool call {block['name']} are not JSON")
