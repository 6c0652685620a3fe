"""Fenced blocks of Markdown, found in one pass: a text may open one on every line and close none."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)")


def fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Kind (in small letters) and body of every fenced block, in order."""
    lines = text.split("\n")
    return [
        (kind, "".join(line + "\n" for line in lines[start + 1 : end])) for kind, start, end in _spans(lines)
    ]


def without_fences(text: str) -> str:
    """The text without its fenced blocks; their places stay as empty lines."""
    lines, kept, at = text.split("\n"), [], 0
    for _, start, end in _spans(lines):
        kept += [*lines[at:start], ""]
        at = end + 1
    return "\n".join([*kept, *lines[at:]])


def _spans(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """Kind, first and last line of every block.

    A block ends at the next line that is its own fence and nothing else; one that is never closed is none.
    """
    closings: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        mark = line.strip(" \t")
        if mark[:3] in ("```", "~~~") and mark == mark[0] * len(mark):
            closings.setdefault(mark, []).append(number)
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        ends = closings.get(opening[1], []) if opening else []
        place = bisect_right(ends, number)
        if opening and place < len(ends):
            yield opening[2].lower(), number, ends[place]
            number = ends[place]
        number += 1
