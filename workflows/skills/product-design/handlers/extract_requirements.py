"""Requirement sentences of a document, with their source."""

from collections import Counter
from pathlib import Path
from typing import Any

from _requirements import read_requirements


def extract_requirements(document: Path, top: int = 40) -> dict[str, Any]:
    """Extract requirement sentences from research, minutes or feedback, each with its source.

    Sorted must, should, could; classified (functional, security, reliability, performance, quality, cost);
    `vague` lists words that cannot be tested, `measurable` says whether a number is named.

    Args:
        document: Markdown or text document, or a CSV or JSON table with a text column.
        top: Requirements returned.
    """
    found = read_requirements(document)
    shown = found[: max(1, top)]
    return {
        "found": len(found),
        "left_out": len(found) - len(shown),
        "by_strength": dict(Counter(r.strength for r in found)),
        "by_kind": dict(Counter(r.kind for r in found)),
        "to_clarify": [r.id for r in found if r.vague or (r.kind != "functional" and not r.measurable)],
        "requirements": [r.to_json() for r in shown],
    }
