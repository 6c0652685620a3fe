"""`phaseline graph`: the picture of a workflow."""

from __future__ import annotations

import argparse
from pathlib import Path

from deployments.catalogs.opening import compile_named, open_catalog
from deployments.terminal.display import Out
from workflows.core.errors import UsageError
from workflows.core.graph.drawing import Format, draw

_BY_SUFFIX: dict[str, Format] = {
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
}


def execute(args: argparse.Namespace, out: Out) -> int:
    """Prints the picture, or writes it to a file."""
    target = Path(args.output) if args.output else None
    named = _format(args.format, target)
    plan = compile_named(open_catalog(args.catalog), args.workflow)
    text = draw(plan, named)
    document = {"workflow": plan.workflow, "format": named}
    if target is None:
        out.document({**document, "text": text})
        out.line(text.rstrip("\n"))
        return 0
    try:
        target.write_text(text, "utf-8")
    except OSError as fault:
        cure = "name a file in a folder you may write"
        raise UsageError(f"cannot write {target}: {fault.strerror}", cure) from None
    out.document({**document, "file": str(target)})
    out.line(f"wrote {target}")
    return 0


def _format(asked: Format | None, target: Path | None) -> Format:
    """What is drawn: as asked, as the file's suffix says, else Mermaid. Raises UsageError for a clash."""
    if target is None:
        return asked or "mermaid"
    suffix = target.suffix.lower()
    by_suffix = _BY_SUFFIX.get(suffix)
    if asked is None and by_suffix is None:
        raise UsageError(
            f"there is no picture format for a file called {target.name}",
            f"end its name in one of {', '.join(_BY_SUFFIX)}, or say --format",
        )
    if asked and by_suffix not in (None, asked):
        raise UsageError(
            f"--format {asked} does not fit {target.name}", f"leave --format out, or say --format {by_suffix}"
        )
    return asked or by_suffix or "mermaid"
