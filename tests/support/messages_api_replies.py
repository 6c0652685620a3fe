"""How the stand-in of the Messages API answers: messages, streams and faults.

A REPLY is a JSON object:

- `{"text": "..."}`, `{"json": VALUE}`: that text, or that value as text
- `{"tools": [{"name": ..., "input": {...}}, ...], "text": "..."}`: tool calls, in parallel when several
- `{"stop_reason": "max_tokens" | "refusal" | "pause_turn" | "model_context_window_exceeded"}`, with
  `text`, and `category` for a refusal
- `{}`: a generic answer made from the request (Markdown, or JSON that satisfies its schema)
- beside these: `latency` (seconds before the answer), `chunk_delay` (seconds between the pieces of a stream),
  `usage` (counters that replace the computed ones), `model`, `thinking` (text of the thinking block; null
  for an answer without one), `headers`, and `limits`: `{KIND: [LIMIT, REMAINING, SECONDS]}` gives
  the `anthropic-ratelimit-KIND-*` headers of a limit that resets in so many seconds
- `{"fault": NAME, ...}` with one of:
  rate_limit (`retry_after`), overloaded, server_error, timeout, spend_limit, credit (402), quota_text
  (400 with the words of an exhausted limit), forbidden, too_large, bad_request, unauthorized (status and
  `message` as the API gives them);
  disconnect (before any byte), cut (connection lost in the middle of the answer), end_early (a stream that
  ends properly but before its message does), stall (silence in the middle, until the client leaves),
  sse_error (`type`, an error event in the middle), not_json, html (`status`), json_garbage, no_usage,
  unknown_block, broken_event.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.messages_api_rules import blocks_of, merged, signature, version
from tests.support.messages_api_wire import Wire

_ERRORS: dict[str, tuple[int, str, str, str]] = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed your rate limit.", ""),
    "overloaded": (529, "overloaded_error", "Overloaded", ""),
    "server_error": (500, "api_error", "Internal server error", ""),
    "timeout": (504, "timeout_error", "The request took too long.", ""),
    "spend_limit": (429, "rate_limit_error", "Spend limit reached.", "enforced_spend_limit_reached"),
    "credit": (402, "billing_error", "Your credit balance is too low.", ""),
    "quota_text": (
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. "
        "You will regain access on 2031-02-01 at 00:00 UTC.",
        "",
    ),
    "forbidden": (403, "permission_error", "This key may not use this model.", ""),
    "too_large": (413, "invalid_request_error", "Request exceeds the maximum size.", ""),
    "bad_request": (400, "invalid_request_error", "prompt is too long: 1200000 tokens > 1000000 maximum", ""),
    "unauthorized": (401, "authentication_error", "invalid bearer key", ""),
}


class PromptCache:
    """Counts what the provider's prompt cache would read and write: prefixes up to each mark."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def count(self, body: Mapping[str, Any]) -> tuple[int, int, int]:
        """Input tokens that are plain, read from the cache, and written to it."""
        position, read, written = 0, 0, 0
        hasher = hashlib.sha256(str(body["model"]).encode())
        for block in _in_cache_order(body):
            plain = {key: value for key, value in block.items() if key != "cache_control"}
            text = json.dumps(plain, ensure_ascii=False, sort_keys=True)
            hasher.update(text.encode("utf-8", "surrogatepass"))
            position += max(1, len(text) // 4)
            if block.get("cache_control"):
                key = hasher.hexdigest()
                if key in self._known:
                    read = position
                else:
                    written = position - read
                self._known.add(key)
        return position - read - written, read, written


def _in_cache_order(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    system = body.get("system") or []
    system = [{"type": "text", "text": system}] if isinstance(system, str) else system
    said = [block for message in body["messages"] for block in blocks_of(message)]
    return [*(body.get("tools") or []), *system, *said]


def message_of(body: dict[str, Any], reply: dict[str, Any], cache: PromptCache) -> dict[str, Any]:
    """The message that answers a request."""
    content = _content(body, reply)
    stop = reply.get("stop_reason") or ("tool_use" if reply.get("tools") else "end_turn")
    plain, read, written = cache.count(body)
    counted = {
        "input_tokens": plain,
        "output_tokens": max(1, len(json.dumps(content, ensure_ascii=False)) // 4),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "service_tier": "standard",
    }
    message = {
        "id": f"msg_{uuid.uuid4().hex[:24]}",
        "type": "message",
        "role": "assistant",
        "model": reply.get("model", body["model"]),
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {**counted, **reply.get("usage", {})},
    }
    if stop == "refusal":
        details = {
            "type": "refusal",
            "category": reply.get("category"),
            "explanation": reply.get("explanation"),
        }
        message["stop_details"] = details
    return message


def _content(body: dict[str, Any], reply: dict[str, Any]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    thinks = version(body["model"]) >= (5, 0) and reply.get("thinking", "") is not None
    if thinks:
        thought = reply.get("thinking", "")
        signed = signature(thought, merged(body["messages"]))
        blocks.append({"type": "thinking", "thinking": thought, "signature": signed})
    text = _text(body, reply)
    if text:
        blocks.append({"type": "text", "text": text, "citations": None})
    if reply.get("stop_reason") == "pause_turn":
        blocks.append(
            {
                "type": "server_tool_use",
                "id": f"srvtoolu_{uuid.uuid4().hex[:20]}",
                "name": "web_search",
                "input": {},
            }
        )
    mark = "t" if thinks else "n"  # see messages_api_rules: whether thinking must come back with the call
    blocks += [
        {
            "type": "tool_use",
            "id": f"toolu_{mark}{uuid.uuid4().hex[:20]}",
            "name": call["name"],
            "input": call.get("input", {}),
            "caller": {"type": "direct"},
        }
        for call in reply.get("tools", [])
    ]
    return blocks


def _text(body: dict[str, Any], reply: dict[str, Any]) -> str:
    if "json" in reply:
        return json.dumps(reply["json"], ensure_ascii=False)
    if "text" in reply or reply.get("tools") or reply.get("stop_reason"):
        return str(reply.get("text", ""))
    return generic_text(body)


def generic_text(body: Mapping[str, Any]) -> str:
    """A useful answer without a script: JSON for the request's schema, else Markdown about its documents."""
    format_ = (body.get("output_config") or {}).get("format")
    if format_:
        schema = format_["schema"]
        return json.dumps(example(schema, schema.get("$defs", {})), ensure_ascii=False)
    asked = "\n".join(
        b.get("text", "") for m in body["messages"] for b in blocks_of(m) if m["role"] == "user"
    )
    if re.search(r'<output_contract [^>]*type="(json|table)"', asked):
        return '[{"item": "one", "count": 1}, {"item": "two", "count": 2}]'
    documents = re.findall(r'<document name="([^"]+)"[^>]*>(.*?)</document>', asked, re.S)
    task = re.sub(r"<document .*?</document>|<output_contract.*?</output_contract>", "", asked, flags=re.S)
    first = next(
        (line.strip("# ").strip() for line in task.splitlines() if line.strip("# ").strip()), "Answer"
    )
    lines = [f"# {first[:80]}", "", f"Answered from {len(documents)} documents.", ""]
    for name, text in documents:
        words = " ".join(text.split())
        lines += [f"## {name}", "", f"- {len(text)} characters", f"- begins: {words[:160]}", ""]
    return "\n".join([*lines, "## Next steps", "", "1. Review this answer.", "2. Act on it.", ""])


def example(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Any:
    """A small value that satisfies a schema of the API's dialect."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], definitions)
    if "allOf" in schema:
        parts = [example(part, definitions) for part in schema["allOf"]]
        return {k: v for part in parts for k, v in part.items()} if isinstance(parts[0], dict) else parts[0]
    kind = schema.get("type")
    if kind == "object":
        return {name: example(value, definitions) for name, value in schema.get("properties", {}).items()}
    if kind == "array":
        return [example(schema["items"], definitions)] if "items" in schema else []
    formats = {"date": "2026-01-31", "date-time": "2026-01-31T09:00:00Z", "email": "someone@example.org"}
    plain = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
    return plain[kind] if kind in plain else formats.get(str(schema.get("format")), "example text")


async def send_message(wire: Wire, message: dict[str, Any], stream: bool, reply: Mapping[str, Any]) -> None:
    """The message, whole or streamed."""
    if not stream:
        await wire.send_json(200, message, headers_of(reply))
        return
    wire.begin_stream(headers_of(reply))
    for event in events_of(message):
        if event["type"] == "content_block_delta":
            await asyncio.sleep(reply.get("chunk_delay", 0))
        await wire.send_event(event)
    await wire.end_stream()


def headers_of(reply: Mapping[str, Any]) -> dict[str, str]:
    """The headers a reply asks for, those of its limits included."""
    headers = dict(reply.get("headers") or {})
    for kind, (limit, remaining, seconds) in (reply.get("limits") or {}).items():
        reset = datetime.now(UTC) + timedelta(seconds=seconds)
        said = {
            "limit": limit,
            "remaining": remaining,
            "reset": reset.isoformat().replace("+00:00", "Z"),
        }
        headers |= {f"anthropic-ratelimit-{kind}-{name}": str(value) for name, value in said.items()}
    return headers


def events_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The events that a message is streamed as."""
    usage = message["usage"]
    started = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    started.pop("stop_details", None)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}]
    for n, block in enumerate(message["content"]):
        events += _block_events(n, block)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
    if "stop_details" in message:
        delta["stop_details"] = message["stop_details"]
    events.append(
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    )
    return [*events, {"type": "message_stop"}]


def _block_events(index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
    kind = block["type"]
    if kind == "text":
        empty, deltas = (
            {**block, "text": ""},
            [{"type": "text_delta", "text": p} for p in _pieces(block["text"])],
        )
    elif kind == "thinking":
        empty = {**block, "thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": p} for p in _pieces(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif kind in ("tool_use", "server_tool_use"):
        empty = {**block, "input": {}}
        written = json.dumps(block["input"], ensure_ascii=False)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_pieces(written)]]
    else:
        empty, deltas = block, []
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _pieces(text: str) -> list[str]:
    size = max(1, min(400, len(text) // 3 or 1))
    return [text[n : n + size] for n in range(0, len(text), size)]


async def send_fault(wire: Wire, body: dict[str, Any], reply: Mapping[str, Any]) -> tuple[int, bool]:
    """Answer with a fault. Gives the status sent, and whether the connection goes on."""
    name = reply["fault"]
    if name in _ERRORS:
        status, type_, words, code = _ERRORS[name]
        headers = headers_of(reply)
        if "retry_after" in reply:
            headers["retry-after"] = str(reply["retry_after"])
        said = reply.get("message", words)
        await wire.send_error(status, type_, said, code=reply.get("code", code), headers=headers)
        return status, True
    if name == "disconnect":
        return 0, False
    if name in ("not_json", "html", "json_garbage"):
        status = int(reply.get("status", 200))
        await _send_odd_body(wire, name, status)
        return status, True
    message = message_of(body, {"text": "half of an answer that never ends", **reply}, PromptCache())
    if not body.get("stream"):
        return await _fault_whole(wire, name, message)
    return await _fault_stream(wire, name, message, reply)


async def _send_odd_body(wire: Wire, name: str, status: int) -> None:
    if name == "html":
        await wire.send(status, b"<html><body>Welcome to the proxy</body></html>", "text/html; charset=utf-8")
    elif name == "json_garbage":
        await wire.send_json(200, {"ok": True})
    else:
        await wire.send(200, b'{"type": "message", "content": [', "application/json")


def _spoiled(name: str, message: dict[str, Any]) -> dict[str, Any]:
    if name == "no_usage":
        return {**message, "usage": None}
    if name == "unknown_block":
        return {**message, "content": [{"type": "hologram_block", "beam": 7}]}
    raise ValueError(f"unknown fault: {name}")


async def _fault_whole(wire: Wire, name: str, message: dict[str, Any]) -> tuple[int, bool]:
    if name in ("cut", "end_early", "sse_error", "broken_event"):
        return 0, False
    if name == "stall":
        await wire.until_left()
        return 0, False
    await wire.send_json(200, _spoiled(name, message))
    return 200, True


async def _fault_stream(
    wire: Wire, name: str, message: dict[str, Any], reply: Mapping[str, Any]
) -> tuple[int, bool]:
    wire.begin_stream(headers_of(reply))
    if name in ("no_usage", "unknown_block"):
        await _send_spoiled_stream(wire, name, message)
        return 200, True
    events = events_of(message)
    for event in events[: len(events) // 2]:
        await wire.send_event(event)
    if name == "sse_error":
        error = {"type": reply.get("type", "overloaded_error"), "message": reply.get("message", "Overloaded")}
        await wire.send_event({"type": "error", "error": error})
        await wire.end_stream()
    elif name == "broken_event":
        await wire.send_chunk("event: content_block_delta\ndata: {broken\n\n")
        await wire.end_stream()
    elif name == "end_early":
        await wire.end_stream()
    elif name == "stall":
        await wire.until_left()
    elif name != "cut":
        raise ValueError(f"unknown fault: {name}")
    return 200, name in ("sse_error", "broken_event", "end_early")


async def _send_spoiled_stream(wire: Wire, name: str, message: dict[str, Any]) -> None:
    spoiled = _spoiled(name, message)
    for event in events_of({**spoiled, "usage": spoiled["usage"] or {"output_tokens": 0}}):
        if name == "no_usage":
            event.pop("usage", None)
            if "message" in event:
                event["message"].pop("usage")
        await wire.send_event(event)
    await wire.end_stream()
