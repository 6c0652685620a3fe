"""From what a step said to the artifact it leaves."""

from __future__ import annotations

import json
import re
from typing import Any

from tasks.context import INLINE_BYTES, RunContext
from tasks.values import json_body
from workflows.core.plans.plan import OutputPlan
from workflows.core.refs import Ref

MEDIA_TYPES = {
    "markdown": "text/markdown",
    "text": "text/plain",
    "json": "application/json",
    "table": "application/json",
}


async def store_output(
    text: str, data: Any, output: OutputPlan, context: RunContext, path: str, *, kind: str = ""
) -> Ref:
    """Stores an output under its contract's media type; `kind` defaults to the output's name."""
    structured = output.type in ("json", "table")
    body = json_body(data) if structured else text.encode("utf-8", "replace")
    return await context.keep(
        body,
        media_type=MEDIA_TYPES[output.type],
        kind=kind or output.name,
        summary=summary_of(text if not structured else body.decode()),
        step=path,
    )


def summary_of(text: str) -> str:
    """The first telling line or two, 200 characters at most: notes, headings and tables say little."""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    prose = [line for line in lines if not line.startswith((">", "#", "|", "```", "---"))]
    told = " / ".join(re.sub(r"^[#>*\-\s]+", "", line) for line in (prose or lines)[:2])
    return told if len(told) <= 200 else told[:199] + "…"


async def keep_large(result: Any, name: str, context: RunContext, step: str) -> str:
    """A tool's result as text; a large one becomes an artifact and its beginning."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    body = text.encode("utf-8", "replace")
    if len(body) <= INLINE_BYTES:
        return text
    ref = await context.keep(
        body, media_type="application/json", kind="tool-result", summary=f"result of {name}", step=step
    )
    head = body[: INLINE_BYTES // 2].decode("utf-8", "ignore")
    return f"{head}\n[cut: {len(body)} bytes in all, kept as artifact {ref.sha256}]"
