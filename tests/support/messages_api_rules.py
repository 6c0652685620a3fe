"""What the Messages API (version 2026-10-21) refuses, as far as a client can do it wrong."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

API_VERSION = "2026-10-21"
# The signatures of thinking blocks; a constant, so that a restarted stand-in knows its own.
_SECRET = b"messages-api-stand-in"


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, type_: str, message: str) -> None:
        super().__init__(message)
        self.status, self.type, self.message = status, type_, message


def _bad(message: str) -> Refusal:
    return Refusal(400, "invalid_request_error", message)


def _model(id_: str, line: str, created: str, max_tokens: int = 128_000) -> dict[str, Any]:
    return {
        "type": "model",
        "id": id_,
        "line": line,
        "lifecycle": "active",
        "display_name": id_.replace("-", " ").title(),
        "created_at": created,
        "max_tokens": max_tokens,
        "max_input_tokens": 1_000_000,
    }


MODELS = [
    _model("claude-fable-5-2", "fable", "2026-10-20T00:00:00Z"),
    _model("claude-haiku-5-5", "haiku", "2026-10-15T00:00:00Z", 64_000),
    _model("claude-sonnet-5-5", "sonnet", "2026-10-10T00:00:00Z"),
    _model("claude-fable-5-1", "fable", "2026-09-01T00:00:00Z"),
    _model("claude-opus-5-5", "opus", "2026-09-20T00:00:00Z"),
    _model("claude-sonnet-5", "sonnet", "2026-06-01T00:00:00Z"),
    _model("claude-opus-5", "opus", "2026-05-01T00:00:00Z"),
    _model("claude-opus-4-8", "opus", "2026-03-01T00:00:00Z"),
    _model("claude-opus-4-7", "opus", "2026-01-15T00:00:00Z"),
    _model("claude-opus-4-6", "opus", "2025-12-15T00:00:00Z"),
    _model("claude-sonnet-4-6", "sonnet", "2025-12-15T00:00:00Z"),
    _model("claude-opus-4-5", "opus", "2025-11-01T00:00:00Z", 64_000),
    _model("claude-haiku-4-5", "haiku", "2025-10-01T00:00:00Z", 64_000),
]
_BY_ID = {model["id"]: model for model in MODELS}
_FIELDS = {
    "model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config",
    "cache_control", "metadata", "stop_sequences", "stream", "service_tier", "speed", "container",
    "diagnostics", "inference_geo",
}  # fmt: skip
_BLOCKS = {
    "text": {"text", "citations", "cache_control"},
    "image": {"source", "cache_control"},
    "document": {"source", "title", "context", "citations", "cache_control"},
    "tool_use": {"id", "name", "input", "caller", "cache_control"},
    "tool_result": {"tool_use_id", "content", "is_error", "cache_control"},
    "thinking": {"thinking", "signature"},
    "redacted_thinking": {"data"},
    "server_tool_use": {"id", "name", "input", "caller", "cache_control"},
}
_USER_BLOCKS = {"text", "image", "document", "tool_result"}
_ASSISTANT_BLOCKS = {"text", "tool_use", "thinking", "redacted_thinking", "server_tool_use"}


def version(model_id: str) -> tuple[int, int]:
    """The version in a model's id, such as (5, 5)."""
    match = re.match(r"claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)", model_id)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def check_headers(headers: Mapping[str, str], keys: set[str] | None) -> None:
    """Raises Refusal without a bearer key, or with an unknown one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refusal(401, "authentication_error", "Authorization: a Bearer key is required")
    if keys is not None and key not in keys:
        raise Refusal(401, "authentication_error", f"invalid bearer key {key}")
    if headers.get("anthropic-version") != API_VERSION:
        raise _bad(f"anthropic-version: {API_VERSION} is required")


def check_request(body: Mapping[str, Any]) -> None:
    """Raises Refusal for the first thing the API would not take."""
    for name in ("temperature", "top_p", "top_k"):
        if name in body:
            raise _bad(f"{name}: sampling parameters are not supported")
    unknown = sorted(set(body) - _FIELDS)
    if unknown:
        raise _bad(f"{unknown[0]}: Extra inputs are not permitted")
    for name in ("model", "max_tokens", "messages"):
        if name not in body:
            raise _bad(f"{name}: Field required")
    if body["model"] not in _BY_ID:
        raise Refusal(404, "not_found_error", f"model: {body['model']}")
    _check_max_tokens(body)
    _check_thinking(body)
    _check_tools(body)
    _check_output_config(body)
    _check_system(body)
    _check_messages(body)
    marks = _count_marks(body)
    if marks > 4:
        raise _bad(f"A maximum of 4 blocks with cache_control may be provided. Found {marks}.")


def _check_max_tokens(body: Mapping[str, Any]) -> None:
    limit, wanted = _BY_ID[body["model"]]["max_tokens"], body["max_tokens"]
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise _bad("max_tokens: Input should be greater than or equal to 1")
    if wanted > limit:
        raise _bad(f"max_tokens: {wanted} > {limit}, the maximum of {body['model']}")


def _check_thinking(body: Mapping[str, Any]) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind, newest = thinking.get("type"), version(body["model"])
    if kind not in ("adaptive", "enabled", "disabled", "between_tools"):
        raise _bad(f"thinking.type: unknown value {kind!r}")
    if kind == "adaptive" and newest < (4, 6):
        raise _bad("thinking.type: adaptive thinking is not supported by this model")
    if kind == "enabled" and newest >= (4, 7):
        raise _bad("thinking.type: enabled is not supported by this model; use adaptive")
    if kind == "disabled" and newest >= (5, 5):
        raise _bad("thinking.type: thinking cannot be disabled on this model")


def _check_tools(body: Mapping[str, Any]) -> None:
    names = set()
    for n, tool in enumerate(body.get("tools") or []):
        extra = set(tool) - {"name", "description", "input_schema", "cache_control", "strict", "type"}
        if extra or not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", str(tool.get("name"))):
            raise _bad(f"tools.{n}: {'unknown field ' + sorted(extra)[0] if extra else 'invalid name'}")
        if (tool.get("input_schema") or {}).get("type") != "object":
            raise _bad(f"tools.{n}.input_schema.type: Input should be 'object'")
        if tool["name"] in names:
            raise _bad("tools: Tool names must be unique.")
        names.add(tool["name"])
    choice = (body.get("tool_choice") or {}).get("type", "auto")
    if choice in ("any", "tool") and version(body["model"]) >= (5, 1):
        raise _bad(f"tool_choice.type: {choice} is not supported by this model")
    if choice not in ("auto", "none", "any", "tool"):
        raise _bad(f"tool_choice.type: unknown value {choice!r}")


def _check_output_config(body: Mapping[str, Any]) -> None:
    config = body.get("output_config") or {}
    if set(config) - {"effort", "format"}:
        raise _bad("output_config: Extra inputs are not permitted")
    if config.get("effort") not in (None, "low", "medium", "high", "xhigh", "max"):
        raise _bad(f"output_config.effort: unknown value {config['effort']!r}")
    if config.get("effort") and version(body["model"]) < (4, 6) and body["model"] != "claude-opus-4-5":
        raise _bad("output_config.effort: not supported by this model")
    if config.get("format"):
        if config["format"].get("type") != "json_schema" or set(config["format"]) != {"type", "schema"}:
            raise _bad("output_config.format: must be a json_schema with a schema")
        _check_schema(config["format"]["schema"], "output_config.format.schema")


_SCHEMA_KEYS = {
    "type", "properties", "required", "additionalProperties", "items", "minItems", "enum", "const", "anyOf",
    "allOf", "$ref", "$defs", "title", "description", "format", "default",
}  # fmt: skip


def _check_schema(schema: Any, where: str) -> None:
    if not isinstance(schema, dict):
        raise _bad(f"{where}: a schema must be an object")
    extra = sorted(set(schema) - _SCHEMA_KEYS)
    if extra:
        raise _bad(f"{where}: For '{schema.get('type')}' type, property '{extra[0]}' is not supported")
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            raise _bad(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        if not set(schema.get("required", [])) <= set(schema.get("properties", {})):
            raise _bad(f"{where}.required: names a property that is not there")
    if schema.get("minItems", 0) not in (0, 1):
        raise _bad(f"{where}.minItems: values other than 0 or 1 are not supported")
    if not {"type", "anyOf", "allOf", "$ref", "enum", "const"} & set(schema):
        raise _bad(f"{where}: a schema needs a type")
    if isinstance(schema.get("type"), list):
        raise _bad(f"{where}.type: lists of types are not supported")
    for group in ("properties", "$defs"):
        for name, value in schema.get(group, {}).items():
            _check_schema(value, f"{where}.{group}.{name}")
    for group in ("anyOf", "allOf"):
        for n, value in enumerate(schema.get(group, [])):
            _check_schema(value, f"{where}.{group}.{n}")
    if "items" in schema:
        _check_schema(schema["items"], f"{where}.items")


def _check_system(body: Mapping[str, Any]) -> None:
    system = body.get("system")
    if isinstance(system, str) or system is None:
        return
    for n, block in enumerate(system):
        if block.get("type") != "text" or set(block) - {"type", "text", "cache_control", "citations"}:
            raise _bad(f"system.{n}: only text blocks are allowed")
        if not block.get("text", "").strip():
            raise _bad(f"system.{n}: text content blocks must be non-empty")


def _check_messages(body: Mapping[str, Any]) -> None:
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise _bad("messages: at least one message is required")
    for n, message in enumerate(messages):
        if set(message) != {"role", "content"} or message["role"] not in ("user", "assistant"):
            raise _bad(f"messages.{n}: a message has a role (user or assistant) and content, nothing else")
        for m, block in enumerate(blocks_of(message)):
            _check_block(block, message["role"], f"messages.{n}.content.{m}")
    if messages[0]["role"] != "user":
        raise _bad("messages: first message must use the user role")
    turns = merged(messages)
    _check_prefill(turns[-1])
    _check_tool_results(turns)
    _check_thinking_blocks(turns)


def _check_block(block: Any, role: str, where: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    allowed = _USER_BLOCKS if role == "user" else _ASSISTANT_BLOCKS
    if kind not in allowed and not (role == "assistant" and str(kind).endswith("_tool_result")):
        raise _bad(f"{where}: block of type {kind!r} is not allowed for role {role}")
    if kind not in _BLOCKS:
        return
    extra = sorted(set(block) - _BLOCKS[kind] - {"type"})
    if extra:
        raise _bad(f"{where}.{kind}.{extra[0]}: Extra inputs are not permitted")
    _check_text(json.dumps(block, ensure_ascii=False), where)
    if kind == "text" and not str(block.get("text") or "").strip():
        raise _bad(f"{where}: text content blocks must contain non-whitespace text")
    if kind == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", block["name"]):
        raise _bad(f"{where}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    if kind == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
        raise _bad(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if kind == "thinking" and not block.get("signature"):
        raise _bad(f"{where}.thinking.signature: Field required")
    if kind == "redacted_thinking" and not block.get("data"):
        raise _bad(f"{where}.redacted_thinking.data: Field required")
    if kind == "text" and role == "user" and block.get("citations"):
        raise _bad(f"{where}: citations are not allowed on user text")
    if kind == "tool_result" and block.get("is_error") and not block.get("content"):
        raise _bad(f"{where}: content cannot be empty if `is_error` is true")
    if kind == "tool_result":
        _check_result(block, where)


def _check_result(block: dict[str, Any], where: str) -> None:
    content = block.get("content")
    inner = content if isinstance(content, list) else []
    for n, part in enumerate(inner):
        if part["type"] == "text" and not part["text"].strip():
            raise _bad(f"{where}.content.{n}: text content blocks must contain non-whitespace text")
        if block.get("is_error") and part["type"] != "text":
            raise _bad(f"{where}: all content must be type `text` if `is_error` is true")
    if isinstance(content, str) and content and not content.strip():
        raise _bad(f"{where}.content: text content blocks must contain non-whitespace text")


def _check_text(text: str, where: str) -> None:
    """Half characters cannot be sent at all by a client that writes UTF-8; NUL is refused."""
    if re.search("[\x00\ud800-\udfff]|\\\\u0000", text):
        raise _bad(f"{where}: The request body is not valid JSON: invalid character")


def _check_prefill(last: dict[str, Any]) -> None:
    if last["role"] != "assistant":
        return
    if not any(block["type"] == "server_tool_use" for block in last["content"]):
        raise _bad("This model does not support assistant message prefill.")
    end = last["content"][-1]
    if end["type"] == "text" and end["text"] != end["text"].rstrip():
        raise _bad("messages: final assistant content cannot end with trailing whitespace")


def _check_tool_results(turns: list[dict[str, Any]]) -> None:
    open_calls: list[str] = []
    ids = [block["id"] for turn in turns for block in turn["content"] if block["type"] == "tool_use"]
    if len(set(ids)) < len(ids):
        raise _bad("messages: `tool_use` ids must be unique")
    for n, turn in enumerate(turns):
        if not turn["content"]:
            raise _bad(f"messages.{n}: all messages must have non-empty content")
        if turn["role"] == "assistant" and turn["content"][-1]["type"] in ("thinking", "redacted_thinking"):
            raise _bad(f"messages.{n}: The final block in an assistant message cannot be `thinking`.")
        results = [block["tool_use_id"] for block in turn["content"] if block["type"] == "tool_result"]
        stray = [id_ for id_ in results if id_ not in open_calls]
        if stray:
            raise _bad(f"messages.{n}: unexpected `tool_use_id` found in `tool_result` blocks: {stray[0]}")
        missing = [id_ for id_ in open_calls if id_ not in results]
        if missing:
            raise _bad(f"messages.{n}: `tool_use` ids were found without `tool_result` blocks: {missing[0]}")
        if results and turn["content"][0]["type"] != "tool_result":
            raise _bad(f"messages.{n}: tool_result blocks must come first in the message")
        open_calls = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
    if open_calls:
        raise _bad(f"`tool_use` ids were found without `tool_result` blocks: {open_calls[0]}")


def _check_thinking_blocks(turns: list[dict[str, Any]]) -> None:
    """A thinking block must come back as it was, after exactly the messages it was made for."""
    for n, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        for block in turn["content"]:
            if block["type"] == "thinking" and not _genuine(block, turns[:n], turn["content"]):
                raise _bad(
                    f"messages.{n}: `thinking` blocks cannot be modified, and belong to their transcript"
                )
        calls = [block for block in turn["content"] if block["type"] == "tool_use"]
        if any(call["id"].startswith("toolu_t") for call in calls) and not any(
            block["type"] in ("thinking", "redacted_thinking") for block in turn["content"]
        ):
            raise _bad(f"messages.{n}: Expected `thinking` before `tool_use`: echo the answer unchanged")


def _genuine(block: dict[str, Any], before: list[dict[str, Any]], own: list[dict[str, Any]]) -> bool:
    """Whether the signature fits; a paused answer's second part was made after its first."""
    place = own.index(block)
    prefixes = [before, [*before, {"role": "assistant", "content": own[:place]}]]
    return block["signature"] in {signature(block["thinking"], prefix) for prefix in prefixes}


def signature(thinking: str, transcript: list[dict[str, Any]]) -> str:
    """What the stand-in signs a thinking block with. Bound to the transcript, as on the 5.5 models."""
    plain = [
        {"role": turn["role"], "content": [_unmarked(block) for block in turn["content"]]}
        for turn in transcript
    ]
    text = json.dumps([thinking, plain], sort_keys=True, ensure_ascii=False)
    return hmac.new(_SECRET, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _unmarked(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key != "cache_control"}


def blocks_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message's content as blocks."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as turns: consecutive ones of a role are one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += blocks_of(message)
        else:
            turns.append({"role": message["role"], "content": blocks_of(message)})
    return turns


def _count_marks(value: Any) -> int:
    if isinstance(value, list):
        return sum(_count_marks(item) for item in value)
    if not isinstance(value, dict):
        return 0
    own = 1 if value.get("cache_control") else 0
    return own + sum(
        _count_marks(item) for key, item in value.items() if key not in ("input_schema", "input")
    )
