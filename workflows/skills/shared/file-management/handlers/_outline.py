"""The headings of a Markdown or text document, and the sections between them."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"\s*(```|~~~)")
_NUMBERED = re.compile(
    r"(第[一二三四五六七八九十百]+[章节部分]|[一二三四五六七八九十]+、|\d+(?:\.\d+)*[、.]\s)\s*\S.{0,60}"
)


@dataclass(frozen=True)
class Section:
    """A heading with the lines up to the next one. `level` 0 is what stands before the first heading."""

    level: int
    title: str
    path: tuple[str, ...]
    line: int
    body: str


def read_sections(text: str) -> list[Section]:
    """Every section in order. Without Markdown headings, numbered titles (`一、`, `第三章`) count."""
    lines = text.splitlines()
    starts = _marked(lines) or _numbered(lines)
    sections, trail = [], []
    first = starts[0][0] if starts else len(lines)
    if any(line.strip() for line in lines[:first]):
        sections.append(Section(0, "", (), 1, "\n".join(lines[:first])))
    for (place, level, title), following in zip(starts, [*starts[1:], (len(lines), 0, "")], strict=True):
        trail = [entry for entry in trail if entry[0] < level] + [(level, title)]
        body = "\n".join(lines[place + 1 : following[0]])
        sections.append(Section(level, title, tuple(t for _, t in trail), place + 1, body))
    return sections


def _marked(lines: list[str]) -> list[tuple[int, int, str]]:
    starts, fenced = [], False
    for place, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else _heading(line)
        if heading:
            starts.append((place, *heading))
    return starts


def _heading(line: str) -> tuple[int, str] | None:
    """Level and title of a Markdown heading."""
    level = len(line) - len(line.lstrip("#"))
    title = line[level:].strip()
    if not 1 <= level <= 6 or not title or not line[level].isspace():
        return None
    return level, title.rstrip("#").rstrip() or "#"


def _numbered(lines: list[str]) -> list[tuple[int, int, str]]:
    return [
        (place, 1, line.strip())
        for place, line in enumerate(lines)
        if len(line) <= 70
        and _NUMBERED.fullmatch(line.strip())
        and not line.rstrip().endswith(("。", ";", "\uff1b"))
    ]
