"""From what a step said to the artifact it leaves."""

from __future__ import annotations

import re
from typing import Any

from tasks.context import RunContext
from tasks.toolbox import plain_json
from workflows.core.plan import OutputPlan
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
    body = plain_json(data) if structured else text.encode("utf-8", "replace")
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
