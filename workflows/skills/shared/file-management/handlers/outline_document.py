"""The headings of a document, so that one need not read it whole."""

from collections import Counter
from pathlib import Path
from typing import Any

from _outline import read_sections


def outline_document(document: Path, depth: int = 3) -> dict[str, Any]:
    """Outline a Markdown or text document: headings with line numbers and sizes, and empty sections.

    Args:
        document: Markdown or text document.
        depth: Deepest heading level shown, 1 to 6.
    """
    sections = read_sections(document.read_text(encoding="utf-8-sig"))
    titled = [s for s in sections if s.level]
    times = Counter(s.path for s in titled)
    return {
        "title": titled[0].title if titled else "",
        "sections": [
            {
                "level": s.level,
                "title": s.title,
                "line": s.line,
                "characters": len("".join(s.body.split())),
            }
            for s in titled
            if s.level <= max(1, min(depth, 6))
        ],
        "headings": len(titled),
        "empty_sections": [
            " / ".join(s.path)
            for s, following in zip(titled, [*titled[1:], None], strict=True)
            if not s.body.strip() and (following is None or following.level <= s.level)
        ],
        "repeated_titles": sorted({s.title for s in titled if times[s.path] > 1}),
    }
