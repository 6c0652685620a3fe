"""A document of the request, read into what stands under its headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from blocks.offline.words import plain, terms
from workflows.core.fences import without_fences

NOTE_MARK = "offline model"
"""Every note of the offline model holds these words; documents with them are read without their appendix."""
APPENDIX = ("How this was made", "附：本文的由来")
"""The section in which the offline model tells of its task and inputs: nothing that later steps work from."""
REST = ("Further tool results", "其他工具结果")
"""The section with what no heading asked for; later steps leave it out too."""

TABULAR = ("text/csv", "text/tab-separated-values")
_READ_LIMIT = 200_000
_SENTENCE = re.compile(r"[^。！？!?\n]+?(?:[。！？!?]+[」』”’\"）)]*|\.(?=\s|$)|(?=\n)|$)")
_BULLET = re.compile(r"\s*(?:[-*+>]|\d+[.)、])\s+")
_HEADING = re.compile(r"(#{1,6})[ \t]++(.*[^ \t#\n])[ \t#]*$")
_BULLET_LIMIT = 160
_ORIGIN = re.compile(r"(?<!\s)\s*+〔[^〔〕]{1,160}〕\s*$")
MISSING = ("Not mentioned: ", "没有提到：")
"""How the offline model says that listed things were not found; later steps read them as gaps."""
_MISSING = re.compile(rf"_(?:{'|'.join(MISSING)})(.+)[.。]_")
NO_CONTENT = (": no content", "没有内容")
_GAP = re.compile(rf"[「“].+[」”](?:{'|'.join(NO_CONTENT)})")
_OWN_REMARK = re.compile(r"_[^_\s].*_")
"""A line that the offline model says itself."""
_LOUD = re.compile(
    r"必须|应该|应当|需要|不得|风险|关键|结论|目标|must|should|risk|critical|goal|require", re.I
)
_TABLE_RULE = re.compile(r"\s*+(?:\|\s*+)?:?-{3,}")

Kind = Literal["heading", "passage", "table", "gap"]


@dataclass(frozen=True)
class Part:
    """What stands in one place of a document: a heading, a passage, the lines of a table, or a gap."""

    kind: Kind
    place: str
    text: str = ""
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """One document of the request."""

    name: str
    media_type: str
    body: str

    @cached_property
    def ours(self) -> bool:
        """Whether the offline model made it."""
        return NOTE_MARK in self.body

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Headings, passages and tables in order; what the offline model told about itself is left out."""
        return tuple(_parts(self.prose)) if self.prose else ()

    @cached_property
    def headings(self) -> list[str]:
        """Markdown headings in order, without their marks."""
        return [part.text for part in self.parts if part.kind == "heading"]

    @cached_property
    def passages(self) -> list[str]:
        """Bullets and sentences in order, as plain text, each once."""
        return list(self.passage_terms)

    @cached_property
    def passage_terms(self) -> dict[str, list[str]]:
        """The terms of each passage, in order."""
        return {part.text: terms(part.text) for part in self.parts if part.kind == "passage"}

    def key_points(self, count: int) -> list[str]:
        """The passages that say most about the document, in its own order."""
        best = sorted(range(len(self.passages)), key=lambda n: (-self.weights[n], n))
        return [self.passages[n] for n in sorted(best[:count])]

    @cached_property
    def weights(self) -> list[float]:
        """How much each passage says: common terms, strong words, numbers."""
        frequency = Counter(term for own in self.passage_terms.values() for term in own)
        return [
            sum(frequency[term] for term in own) / (len(own) + 4)
            + 2 * len(_LOUD.findall(passage))
            + min(3, len(re.findall(r"\d+", passage)))
            for passage, own in self.passage_terms.items()
        ]

    @cached_property
    def prose(self) -> str:
        """The text without code blocks and without what the offline model told of itself; empty for data."""
        if self.media_type in TABULAR or "json" in self.media_type:
            return ""
        text = without_fences(self.body[:_READ_LIMIT])
        return "\n".join(_own_words(text)) if self.ours else text


def _own_words(text: str) -> Iterator[str]:
    """The lines of an offline answer without its note, its appendix and the marks of where it quotes from."""
    hidden = 0
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading and (not hidden or len(heading[1]) <= hidden):
            hidden = len(heading[1]) if plain(heading[2]) in (*APPENDIX, *REST) else 0
        if not hidden and NOTE_MARK not in line and (_MISSING.match(line) or not _OWN_REMARK.fullmatch(line)):
            yield _ORIGIN.sub("", line)


def _parts(text: str) -> Iterator[Part]:
    """Walks the lines; a heading with nothing below it, not even a deeper heading, is a gap."""
    place, level = "", 0
    gap: Part | None = None
    for line, table in _lines(text):
        heading = _HEADING.match(line)
        if heading:
            if gap and len(heading[1]) <= level:
                yield gap
            place, level = plain(heading[2]), len(heading[1])
            gap = Part("gap", place, place)
            yield Part("heading", place, place)
            continue
        missing = _MISSING.match(line)
        if missing:
            yield from (Part("gap", item, item) for item in re.split(r"、|, ", missing[1]))
            continue
        found = [Part("table", place, lines=table)] if table else _passages(line, place)
        gap = None if found else gap
        yield from found
    if gap:
        yield gap


def _lines(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each line, or the lines of a table at once."""
    table: list[str] = []
    for line in (*text.splitlines(), ""):
        if line.lstrip().startswith("|"):
            table.append(line)
            continue
        if len(table) > 2 and _TABLE_RULE.match(table[1]):
            yield "", tuple(table)
        table = []
        if line.strip():
            yield line, ()


def _passages(line: str, place: str) -> list[Part]:
    """A short bullet or quotation whole, else the sentences of a line."""
    text = plain(line)
    if re.match(r"\s*(```|~~~|<)", line) or _GAP.fullmatch(text):
        return []
    whole = _BULLET.match(line) and len(text) <= _BULLET_LIMIT
    said = (sentence.strip(" 　;；,，") for sentence in ([text] if whole else _SENTENCE.findall(text)))
    return [Part("passage", place, it) for it in said if 6 <= len(it) <= 400 and it[-1] not in ":："]
