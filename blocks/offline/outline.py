"""The sections that an instruction asks for, with what it says about each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blocks.offline.words import plain

_ASKS = re.compile(r"依次包含|包含|包括|写出|写：|列出|章节|include|sections?|cover|consist|list\b", re.I)
_INLINE = re.compile(
    r"(?:依次包含|包含|包括|\b(?:include[sd]?|cover(?:s|ing)?|sections?))\s*[:：][ \t]*(?=\S)"
    r"((?:(?!\n[ \t]*\n|\n\s*[-*+][ \t]).)+?)(?=。|\.(?:\s|$)|\n[ \t]*\n|\n\s*[-*+][ \t]|\Z)",
    re.I | re.S,
)
_BRACKETS = re.compile(r"[(（]([^()（）]*)[)）]")
_PARTING = re.compile(r"[、，,；;]|\band\b|[(（)）]")
_TABULAR = re.compile(r"(?:表|清单|列表|台账)$|\b(?:table|list|register|log)$", re.I)
_MANNER = re.compile(
    r"每|各|带|写明|写出|注明|标明|指出|不要|不写|按|最多|至少|一句|with\b|each\b|every\b|per\b|in |at |no ",
    re.I,
)
"""How something is to be written, not what."""
_EITHER = re.compile(r"还是|\bor\b|\bwhether\b", re.I)
_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMERALS = {word: n for words in (_WORDS, "一二三四五六七八九十") for n, word in enumerate(words, 1)} | {
    "两": 2
}
_COUNT = rf"(\d{{1,9}}|{'|'.join(_NUMERALS)})"
_LIMIT = re.compile(
    rf"(?<!\d){_COUNT}\s{{0,20}}(?:句话?|条|项|个|行|points?|sentences?|items?)(?:以内|之内|or fewer|or less)"
    rf"|(?:最多|至多|不超过|at most|up to|no more than)\s*{_COUNT}",
    re.I,
)
_MOST_SECTIONS = 14


@dataclass(frozen=True)
class Section:
    """One section to write.

    `details` are the things listed after its name (columns where it is `tabular`), `choices` the verdicts it
    offers (`pass / fail`), `limit` how many points at most (0: not said), `about` all that is said of it.
    """

    name: str
    details: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    limit: int = 0
    about: str = ""

    @property
    def tabular(self) -> bool:
        """Whether its name asks for a table or list."""
        return bool(_TABULAR.search(self.name))


def requested_sections(instruction: str) -> list[Section]:
    """The sections an instruction lists: in a sentence (`include: a, b`) or as bullets below such a line."""
    found: dict[str, Section] = {}
    for section in (*_inline(instruction), *_bullets(instruction)):
        if 1 < len(section.name) <= 40:
            found.setdefault(section.name, section)
    return list(found.values())[:_MOST_SECTIONS]


def _inline(instruction: str) -> Iterator[Section]:
    for match in _INLINE.finditer(instruction):
        for item in _items(match[1]):
            inner = _BRACKETS.search(item)
            yield _section(_BRACKETS.sub("", item), inner[1] if inner else "")


def _items(text: str) -> list[str]:
    """The text parted at its commas and at `and`, but not where the next bracket closes one."""
    parts: list[str] = []
    cuts: list[Any] = []
    begun = 0
    for match in _PARTING.finditer(text):
        if match[0] in ")）":
            cuts = []
        elif match[0] in "(（":
            for cut in cuts:
                parts.append(text[begun : cut[0]])
                begun = cut[1]
            cuts = []
        else:
            cuts.append(match.span())
    for cut in cuts:
        parts.append(text[begun : cut[0]])
        begun = cut[1]
    return [*parts, text[begun:]]


def _bullets(instruction: str) -> Iterator[Section]:
    listing = False
    for line in instruction.splitlines():
        bullet = re.match(r"\s*[-*+]\s+(.*)", line)
        if bullet and listing:
            name, _, about = bullet[1].replace("：", ":").partition(":")
            inner = _BRACKETS.search(name)
            yield _section(_BRACKETS.sub("", name), about or (inner[1] if inner else ""))
        elif line.strip() and not bullet:
            listing = bool(_ASKS.search(line)) and bool(re.search(r"[:：]", line))


def _section(name: str, about: str) -> Section:
    limit = _LIMIT.search(about)
    count = next((part for part in limit.groups() if part), "0").lower() if limit else "0"
    items = tuple(item.strip(" 。.") for item in _items(about) if item.strip(" 。."))
    choices = tuple(part.strip() for part in items[0].split("/")) if items and _offers(items[0]) else ()
    details = tuple(
        item
        for item in items
        if len(_BRACKETS.sub("", item)) <= (10 if _cjk(item) else 30) and not _MANNER.match(item)
    )
    return Section(
        name=plain(" ".join(name.split())).strip(" 。.:"),
        # One word after a name explains it; several list what belongs there.
        details=details if len(details) > 2 and not choices and not _EITHER.search(about) else (),
        choices=choices,
        limit=_NUMERALS.get(count) or int(count),
        about=about,
    )


def _offers(item: str) -> bool:
    return "/" in _BRACKETS.sub("", item)


def _cjk(text: str) -> bool:
    return bool(re.search(r"[一-鿿]", text))


def bare(item: str) -> str:
    """A listed thing without its explanation in brackets."""
    return _BRACKETS.sub("", item).strip()


def options_of(item: str) -> list[str]:
    """The values that a column's brackets offer: `strength (must/should)`."""
    inner = _BRACKETS.search(item)
    return [part.strip() for part in inner[1].split("/")] if inner and "/" in inner[1] else []
