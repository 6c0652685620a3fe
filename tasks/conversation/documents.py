"""A step's inputs as documents of the first user message; long ones are opened with a tool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from blocks.storage.artifacts import ArtifactStore
from tasks.tools import Tool, ToolError, ToolResult
from tasks.values import Value
from workflows.core.catalog.prompts import enclose_text
from workflows.core.tools.built_in.read_input import READ_INPUT

WHOLE_CHARS = 60_000
"""A longer document is given as its beginning; the rest is read on demand."""
PAGE_CHARS = 40_000


async def message_blocks(
    values: Sequence[Value], instruction: str, store: ArtifactStore
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Text blocks of the message, documents first (the stable prefix), and the names of cut documents."""
    there = [v for v in values if v.ref is not None or v.plain is not None]  # others: producers were skipped
    # All at once: from a bucket each takes a while. What is cut off is given back as it comes.
    begun = await asyncio.gather(*(_beginning(value, store) for value in there))
    blocks = [{"type": "text", "text": text} for text, _ in begun]
    blocks.append({"type": "text", "text": instruction})
    return blocks, tuple(value.name for value, (_, cut) in zip(there, begun, strict=True) if cut)


async def _beginning(value: Value, store: ArtifactStore) -> tuple[str, bool]:
    """A document as the message shows it, and whether it is cut."""
    text = (await value.body(store)).decode("utf-8-sig", "replace")
    shown, length = text[:WHOLE_CHARS], len(text)
    if length > WHOLE_CHARS:
        shown += (
            f"\n[cut after {WHOLE_CHARS} of {length} characters; read on with the tool `{READ_INPUT.name}`]"
        )
    # A body that closes its own tag could pass text off as the instruction.
    return enclose_text("document", shown, name=value.name, type=value.media_type), length > WHOLE_CHARS


def read_input_tool(values: Sequence[Value], cut: Sequence[str], store: ArtifactStore) -> Tool:
    """The tool that pages through documents too long for the message."""
    by_name = {v.name: v for v in values if v.name in cut}

    async def run(arguments: dict[str, Any]) -> ToolResult:
        text = (await by_name[arguments["name"]].body(store)).decode("utf-8-sig", "replace")
        start = int(arguments.get("offset", 0))
        if start >= len(text) and start > 0:
            raise ToolError(f"The document has {len(text)} characters.")
        end = min(start + PAGE_CHARS, len(text))
        rest = f"\n[characters {start}-{end} of {len(text)}]"
        return ToolResult(text[start:end] + rest)

    schema = READ_INPUT.schema_with(name={"enum": list(cut)})
    return Tool(READ_INPUT.name, READ_INPUT.description, schema, run, "none")
