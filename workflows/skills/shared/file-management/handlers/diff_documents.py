"""What changed between two versions of a document."""

import difflib
from pathlib import Path
from typing import Any

from _outline import read_sections


def diff_documents(before: Path, after: Path, lines: int = 80) -> dict[str, Any]:
    """Compare two documents: likeness, sections added, removed and changed, and the changed lines.

    Args:
        before: The earlier version.
        after: The later version.
        lines: Most lines of the line-by-line difference returned.
    """
    old, new = (path.read_text(encoding="utf-8-sig") for path in (before, after))
    old_sections, new_sections = ({s.path: s.body.strip() for s in read_sections(t)} for t in (old, new))
    pair = old.splitlines(), new.splitlines()
    changes = list(difflib.unified_diff(*pair, "before", "after", lineterm="", n=1))
    shared = old_sections.keys() & new_sections.keys()
    return {
        "same": old == new,
        "likeness": round(difflib.SequenceMatcher(None, *pair).ratio(), 4),
        "lines_added": sum(c.startswith("+") and not c.startswith("+++") for c in changes),
        "lines_removed": sum(c.startswith("-") and not c.startswith("---") for c in changes),
        "sections_added": [" / ".join(p) for p in new_sections if p not in old_sections],
        "sections_removed": [" / ".join(p) for p in old_sections if p not in new_sections],
        "sections_changed": [
            " / ".join(p) for p in new_sections if p in shared and old_sections[p] != new_sections[p]
        ],
        "difference": changes[: max(0, lines)],
        "difference_cut": len(changes) > lines,
    }
