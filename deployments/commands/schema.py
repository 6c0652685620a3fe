"""`phaseline schema`: JSON Schemas of the written files, for editors and other programs."""

from __future__ import annotations

import argparse

from deployments.terminal.display import Out, json_text
from workflows.core.read.editor_schemas import KINDS, schema


def execute(args: argparse.Namespace, out: Out) -> int:
    """Prints one schema (JSON in both modes), or the list of kinds."""
    if args.kind is None:
        rows = [(kind, written.file) for kind, written in KINDS.items()]
        out.document({"kinds": [{"id": kind, "file": file} for kind, file in rows]})
        out.table(("kind", "file"), rows)
        return 0
    document = schema(args.kind)
    out.document(document)
    out.line(json_text(document))
    return 0
