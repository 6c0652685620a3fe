"""The headings that an instruction asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from blocks.offline.words import plain

_ASKS = re.compile(
    r"(?:包含|包括|写|列出|章节|\b(?:write|include|sections?|cover|consist|list)\b).{0,200}[:：]", re.I
)
_LISTING = re.compile(
    r"(?:包含|包括|\b(?:include[sd]?|cover(?:s|ing)?|sections?))[^.。:：\n]{0,40}[:：][ \t]{0,80}(?=\S)", re.I
)
_LISTING_END = re.compile(r"。|\.(?=\s|$)|\n[ \t]{0,80}(?:\n|[-*+][ \t])")
_BULLET = re.compile(r"[ \t]*+[-*+][ \t]++(.*)")
_BRACKETS = re.compile(r"[(（][^()（）]{0,300}[)）]")
_COMMAS = re.compile(r"[、，,；;]")
_AND = re.compile(r"\band\b")
_JOINTS = re.compile(r"[、，,；;/&]|与|和|及|或|的|\band\b|\bor\b")
_MANNER = re.compile(r"每|各|带|写|按|最多|至少|不|(?:with|each|every|per|in|at|no|its)\b", re.I)
"""How something is to be written, not what."""
_EITHER = re.compile(r"还是|\bor\b|\bwhether\b", re.I)
_TABULAR = re.compile(r"表|清单|台账|\b(?:table|list|register|log)\b", re.I)
"""What is listed after such a name are its columns."""
_MOST_SECTIONS, _MOST_DETAILS, _NAME_CHARS = 14, 8, 40


@dataclass(frozen=True)
class Section:
    """One heading to write; `details` are the things listed after its name, to be told one by one.

    `decides`: it offers verdicts (`pass / fail`), which fixed rules leave to people.
    """

    name: str
    details: tuple[str, ...] = ()
    decides: bool = False


def requested_sections(instruction: str) -> list[Section]:
    """The headings an instruction lists: in a sentence (`include: a, b`) or as bullets below such a line."""
    found: dict[str, Section] = {}
    for item, about in (*_in_sentences(instruction), *_in_bullets(instruction)):
        name = plain(" ".join(_BRACKETS.sub(" ", item).split())).strip(" 。.:")
        details = [part.strip(" 。.") for part in _split_list(about)]
        decides = "/" in details[0]
        listed = [part for part in details if 1 < len(part) <= _NAME_CHARS and not _MANNER.match(part)]
        # One or two words explain the name.
        if decides or len(listed) < 3 or _TABULAR.search(name) or _EITHER.search(about):
            listed = []
        if 1 < len(name) <= _NAME_CHARS:
            found.setdefault(name, Section(name, tuple(listed[:_MOST_DETAILS]), decides))
    return list(found.values())[:_MOST_SECTIONS]


def parts_of(name: str) -> list[str]:
    """The things that a heading names: `A and B` are two."""
    return [part.strip() for part in _JOINTS.split(name) if part.strip()]


def _split_list(text: str) -> list[str]:
    """What a text lists: commas in brackets part nothing, and `and` only before the last thing."""
    *items, last = _COMMAS.split(_BRACKETS.sub(" ", text))
    return [*items, *_AND.split(last, maxsplit=1)]


def _in_sentences(instruction: str) -> Iterator[tuple[str, str]]:
    at = 0
    while listing := _LISTING.search(instruction, at):
        end = _LISTING_END.search(instruction, listing.end())
        at = end.start() if end else len(instruction)
        yield from ((item, "") for item in _split_list(instruction[listing.end() : at]))


def _in_bullets(instruction: str) -> Iterator[tuple[str, str]]:
    asked = False
    for line in instruction.splitlines():
        if not (bullet := _BULLET.match(line)):
            asks = (":" in line or "：" in line) and bool(_ASKS.search(line))
            asked = asks if line.strip() else asked
        elif asked:
            name, _, about = bullet[1].replace("：", ":").partition(":")
            yield from ((item, about) for item in (name.split("、") if not about else [name]))
