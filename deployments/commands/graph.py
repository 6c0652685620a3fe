"""`phaseline graph`: the picture of a workflow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

from deployments.definitions import compile_named, open_catalog
from deployments.display import Out
from workflows.core.errors import UsageError
from workflows.core.graph import Format, draw

_BY_SUFFIX = {".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}


def execute(args: argparse.Namespace, out: Out) -> int:
    """Prints the picture, or writes it to a file."""
    target = Path(args.output) if args.output else None
    named = args.format or (_BY_SUFFIX.get(target.suffix.lower()) if target else None) or "mermaid"
    plan = compile_named(open_catalog(args.catalog), args.workflow)
    text = draw(plan, cast(Format, named))
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
