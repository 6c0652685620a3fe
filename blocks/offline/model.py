"""What answers when no model is asked: a pure function of the request.

Its rules, in order:

1. When `tool_choice` demands a tool, or the instruction names tools (in backticks or as a whole word) that
   the request offers, it calls each of them once, all in one turn, with arguments built from their
   schemas (see `values`). Tools that only the system prompt names are not called.
2. Otherwise it writes the answer: a value for the schema of `output_config.format` or of the output
   contract, a list of rows or an object for data without a schema, else a document (see `writing`).

It reads the documents of the request, its instruction and its tool results, nothing else: no clock, no
chance, no network. It costs nothing, so its usage is zero.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from blocks.models import Answer, OnProgress, Request
from blocks.offline.material import Material, read_request
from blocks.offline.tables import rows_of
from blocks.offline.values import ValueMaker
from blocks.offline.writing import write_document
from workflows.core.refs import digest
from workflows.core.usage import Usage

NAME = "offline"


class OfflineModel:
    """A `ModelConnection` whose answers are extracted, counted and laid out, never thought up."""

    name = NAME
    offline = True

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        """The answer to a request; equal requests give equal answers."""
        key = digest(request)
        # In a thread: long material takes its time, and a step's timeout must fire meanwhile.
        content, stop_reason = await asyncio.to_thread(_content, request, key)
        if on_progress:
            for block in content:
                on_progress(block["type"], block.get("text") or "")
        message = {
            "id": f"msg_offline_{key[:20]}",
            "type": "message",
            "role": "assistant",
            "model": NAME,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": Usage().to_json(),
        }
        return Answer(message, Usage(), NAME, f"offline-{key[:20]}", offline=True)

    async def close(self) -> None:
        """Nothing is held."""


def _content(request: Request, key: str) -> tuple[list[dict[str, Any]], str]:
    material = read_request(request)
    calls = _calls(request, material)
    if calls:
        blocks = [
            {"type": "tool_use", "id": f"toolu_offline_{key[:16]}_{n}", "name": name, "input": arguments}
            for n, (name, arguments) in enumerate(calls)
        ]
        return blocks, "tool_use"
    return [{"type": "text", "text": _text(material)}], "end_turn"


def _calls(request: Request, material: Material) -> list[tuple[str, dict[str, Any]]]:
    """The tools to call now: none once any was called."""
    tools = {tool["name"]: tool for tool in request.get("tools") or [] if "input_schema" in tool}
    if material.called or not tools:
        return []
    choice = request.get("tool_choice") or {"type": "auto"}
    if choice["type"] == "none":
        return []
    named = [name for name in tools if _mention(name, material.instruction)]
    if choice["type"] == "tool":
        named = [choice["name"]]
    elif choice["type"] == "any" and not named:
        named = [next(iter(tools))]
    named.sort(key=lambda name: _place(name, material.instruction))
    return [(name, _arguments(tools[name]["input_schema"], name, material)) for name in named]


def _mention(name: str, instruction: str) -> re.Match[str] | None:
    """Where a tool is named: whole, or a skill's handler by its own name in backticks."""
    handler = name.rpartition("__")[2]
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])|`{re.escape(handler)}`", instruction, re.ASCII)


def _place(name: str, instruction: str) -> int:
    match = _mention(name, instruction)
    return match.start() if match else 0


def _arguments(schema: dict[str, Any], name: str, material: Material) -> dict[str, Any]:
    """Required arguments only; a choice of documents goes to one that the naming line mentions."""
    match = _mention(name, material.instruction)
    line = ""
    if match:
        start = material.instruction.rfind("\n", 0, match.start()) + 1
        line = material.instruction[start:].partition("\n")[0]
    maker = ValueMaker(material, schema, hint=line)
    required = schema.get("required", [])
    known = schema.get("properties", {})
    made = {key: maker.value(known[key], key) for key in required if key in known}
    # An optional document is given too when the line says which.
    for key, option in known.items():
        options = option.get("enum", []) if isinstance(option, dict) else []
        mentioned = [value for value in options if isinstance(value, str) and value in line]
        if key not in made and mentioned and material.document(mentioned[0]):
            made[key] = mentioned[0]
    return made


def _text(material: Material) -> str:
    if material.schema is not None:
        maker = ValueMaker(material, material.schema)
        return json.dumps(maker.value(material.schema, material.output_name), ensure_ascii=False, indent=2)
    if material.output_type == "table":
        return json.dumps(_rows(material), ensure_ascii=False, indent=2)
    if material.output_type == "json":
        return json.dumps(_overview(material), ensure_ascii=False, indent=2)
    return write_document(material)


def _rows(material: Material) -> list[dict[str, Any]]:
    """The first table among the documents, else one row per document."""
    for document in material.documents:
        rows = rows_of(document)
        if rows:
            return rows[:50]
    found = [
        {"document": d.name, "type": d.media_type, "characters": len(d.body)} for d in material.documents
    ]
    return found or [{"instruction": material.title}]


def _overview(material: Material) -> dict[str, Any]:
    """Data without a schema: what was given, and the passages that stand out."""
    return {
        "made_by": "offline model",
        "instruction": material.title,
        "documents": [
            {"name": d.name, "type": d.media_type, "headings": d.headings[:10], "key_points": d.key_points(3)}
            for d in material.documents
        ],
    }
