"""Many voices in one list of points that still says who said what."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

from _voices import Statement, likeness, pairs, read_statements

_AGAINST = re.compile(
    r"不同意|反对|驳回|不通过|否决|不应|没必要|disagree|reject|oppose|\bnot\b|\bno\b", re.IGNORECASE
)

MOST = 1_000
"""Statements; each is held against every point."""


def merge_feedback(feedback: Path, alike: float = 0.5, top: int = 30) -> dict[str, Any]:
    """Merge what several people or agents said: like statements become one point with its voices.

    Nothing is dropped: points of one voice only are listed too, and a point on which one voice seems to
    contradict another is marked `disputed` for a person to read.

    Args:
        feedback: Markdown with one heading per voice, CSV rows (who and text), or JSON {who: [texts]}.
        alike: Share of common character pairs from which two statements count as one point, 0 to 1.
        top: Points returned, those with most voices first.
    """
    statements = read_statements(feedback)
    if len(statements) > MOST:
        raise ValueError(f"{len(statements)} statements are too many to compare; give {MOST:,} at most")
    points: list[tuple[frozenset[str], list[Statement]]] = []
    for statement in statements:
        said = pairs(statement.text)
        near = max(points, key=lambda p: likeness(p[0], said), default=None)
        if near is not None and likeness(near[0], said) >= alike:
            near[1].append(statement)
        else:
            points.append((said, [statement]))
    merged = [_point(group) for _, group in points]
    merged.sort(key=lambda p: (-len(p["voices"]), -p["times"]))
    return {
        "voices": dict(Counter(s.who for s in statements)),
        "statements": len(statements),
        "points": merged[: max(1, top)],
        "left_out": max(0, len(merged) - max(1, top)),
        "agreed": sum(len(p["voices"]) > 1 and not p["disputed"] for p in merged),
        "disputed": sum(p["disputed"] for p in merged),
    }


def _point(group: list[Statement]) -> dict[str, Any]:
    shortest = min(group, key=lambda s: len(s.text))
    against = {s.who for s in group if _AGAINST.search(s.text)}
    voices = list(dict.fromkeys(s.who for s in group))
    return {
        "point": shortest.text,
        "voices": voices,
        "times": len(group),
        "disputed": bool(against) and len(against) < len(voices),
        "said": [{"who": s.who, "text": s.text} for s in group],
    }
