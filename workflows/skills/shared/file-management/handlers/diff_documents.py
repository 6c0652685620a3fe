"""What changed between two versions of a document."""

import difflib
from pathlib import Path
from typing import Any

from _outline import read_sections

MOST_LINES = 2_000
"""Lines that are compared each with each: the work grows with their square, at worst faster."""


def diff_documents(before: Path, after: Path, lines: int = 80) -> dict[str, Any]:
    """Compare two documents: likeness, sections added, removed and changed, and the changed lines.

    Where more than 2,000 lines differ, all between the first and the last difference counts as replaced.

    Args:
        before: The earlier version.
        after: The later version.
        lines: Most lines of the line-by-line difference returned.
    """
    old, new = (path.read_text(encoding="utf-8-sig") for path in (before, after))
    old_sections, new_sections = ({s.path: s.body.strip() for s in read_sections(t)} for t in (old, new))
    changes, likeness = _compared(old.splitlines(), new.splitlines())
    shared = old_sections.keys() & new_sections.keys()
    return {
        "same": old == new,
        "likeness": round(likeness, 4),
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


def _compared(old: list[str], new: list[str]) -> tuple[list[str], float]:
    """The difference as unified lines with one line of context, and how alike both are, 0 to 1."""
    least = min(len(old), len(new))
    start = next((n for n in range(least) if old[n] != new[n]), least)
    end = next((n for n in range(least - start) if old[-1 - n] != new[-1 - n]), least - start)
    parts = old[start : len(old) - end], new[start : len(new) - end]
    if max(map(len, parts)) <= MOST_LINES:
        matcher = difflib.SequenceMatcher(None, *parts)
        blocks, alike = matcher.get_opcodes(), sum(block.size for block in matcher.get_matching_blocks())
    else:
        blocks, alike = [("replace", 0, len(parts[0]), 0, len(parts[1]))], 0
    told = [] if old == new else ["--- before", "+++ after"]
    for tag, i, j, k, m in blocks:
        if tag != "equal":
            told.append(f"@@ -{start + i + 1},{j - i} +{start + k + 1},{m - k} @@")
            told += [f" {line}" for line in old[max(0, start + i - 1) : start + i]]
            told += [f"-{line}" for line in parts[0][i:j]] + [f"+{line}" for line in parts[1][k:m]]
            told += [f" {line}" for line in old[start + j : start + j + 1]]
    whole = len(old) + len(new)
    return told, 2 * (start + end + alike) / whole if whole else 1.0
