"""What answers when no model is asked: a pure function of the request.

Its rules, in order:

1. When `tool_choice` demands a tool, or the instruction names tools (in backticks or as a whole word) that
   the request offers, it calls each of them once, all in one turn, with arguments built from their
   schemas (see `values`). Tools that only the system prompt names are not called.
2. Otherwise it writes the answer: a value for the schema of the output contract or of
   `output_config.format`, a list of rows or an object for data without a schema, else a document (see
   `writing`).

It reads the documents of the request, its instruction and its tool results, nothing else: no clock, no
chance, no network. It costs nothing, so its usage is zero.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from blocks.models import Answer, OnProgress, Request
from blocks.offline.facts import rows_of
from blocks.offline.material import Material, read_request
from blocks.offline.values import fill_schema
from blocks.offline.words import NOTE_MARK
from blocks.offline.writing import write_document
from workflows.core.refs import digest
from workflows.core.usage import Usage

NAME = "offline"
_ROWS = 50


class OfflineModel:
    """A `ModelConnection` whose answers are laid out from the request, never thought up."""

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
    blocks = [
        {"type": "tool_use", "id": f"toolu_offline_{key[:16]}_{n}", "name": name, "input": arguments}
        for n, (name, arguments) in enumerate(calls)
    ]
    return (blocks, "tool_use") if calls else ([{"type": "text", "text": _text(material)}], "end_turn")


def _calls(request: Request, material: Material) -> list[tuple[str, dict[str, Any]]]:
    """The tools to call now, in the order in which they are named: none once any was called."""
    tools = {
        tool["name"]: tool["input_schema"] for tool in request.get("tools") or [] if "input_schema" in tool
    }
    choice = request.get("tool_choice") or {"type": "auto"}
    if material.called or not tools or choice["type"] == "none":
        return []
    places = {name: place for name in tools if (place := _mention(name, material.instruction)) is not None}
    named = sorted(places, key=places.__getitem__)
    if choice["type"] == "tool":
        named = [choice["name"]]
    elif choice["type"] == "any" and not named:
        named = [next(iter(tools))]
    return [(name, _arguments(tools[name], places.get(name), material)) for name in named]


def _mention(name: str, instruction: str) -> int | None:
    """Where a tool is named: whole, or a skill's handler by its own name in backticks."""
    handler = re.escape(name.rpartition("__")[2])
    found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])|`{handler}`", instruction, re.ASCII)
    return found.start() if found else None


def _arguments(schema: dict[str, Any], place: int | None, material: Material) -> dict[str, Any]:
    """The required arguments; an optional one too where the line that names the tool names its document."""
    said = material.instruction
    line = "" if place is None else said[said.rfind("\n", 0, place) + 1 :].partition("\n")[0]
    known = schema.get("properties", {})
    required = [key for key in schema.get("required", []) if key in known]
    made = {key: fill_schema(known[key], material, key, root=schema, hint=line) for key in required}
    named = [document.name for document in material.documents if document.name in line]
    for key in (key for key, option in known.items() if key not in made and isinstance(option, dict)):
        chosen = [option for option in known[key].get("enum", []) if option in named]
        made |= {key: chosen[0]} if chosen else {}
    return made


def _text(material: Material) -> str:
    if material.schema is not None:
        value = fill_schema(material.schema, material, material.output_name, marked=True)
    elif material.output_type == "table":
        value = _rows(material)
    elif material.output_type == "json":
        documents = [{"name": document.name, "type": document.media_type} for document in material.documents]
        value = {"made_by": NOTE_MARK, "task": material.task, "documents": documents}
    else:
        return write_document(material)
    return json.dumps(value, ensure_ascii=False, indent=2)


def _rows(material: Material) -> list[dict[str, Any]]:
    """The first table among the documents, else one row per document."""
    for document in material.documents:
        if rows := rows_of(document):
            return rows[:_ROWS]
    return [{"document": d.name, "type": d.media_type} for d in material.documents] or [
        {"task": material.task}
    ]
