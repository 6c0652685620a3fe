"""The headings that an instruction asks for, and which of them is the name of something."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

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
_JOINTS = re.compile(r"[、，,；;/&]|与|和|及|\band\b|\bor\b")
_WORD = re.compile(r"[a-z0-9]+|[一-鿿]+")
_MOST_HEADINGS, _NAME_CHARS = 14, 40


def requested_headings(instruction: str) -> list[str]:
    """The headings an instruction lists: in a sentence (`include: a, b`) or as bullets below such a line."""
    names = (
        plain(" ".join(_BRACKETS.sub(" ", item).split())).strip(" 。.:")
        for item in (*_in_sentences(instruction), *_in_bullets(instruction))
    )
    return list(dict.fromkeys(name for name in names if 1 < len(name) <= _NAME_CHARS))[:_MOST_HEADINGS]


def heading_for(name: str, headings: Sequence[str]) -> str | None:
    """The heading that says at least half of what a name and it say together, and most of all of them."""
    likeness = {heading: _likeness(_words(name), heading) for heading in headings}
    best = max(likeness, key=likeness.__getitem__, default=None)
    return best if best is not None and likeness[best] >= 0.5 else None


def _likeness(words: frozenset[str], heading: str) -> float:
    """From 0 to 1; of a heading such as `A and B` either part may be meant."""
    return max((len(words & part) / len(words | part) for part in _parts(heading) if part), default=0)


@lru_cache(maxsize=256)
def _parts(heading: str) -> list[frozenset[str]]:
    return [_words(part) for part in (heading, *_JOINTS.split(heading))]


def _words(text: str) -> frozenset[str]:
    return frozenset(word.removesuffix("s") for word in _WORD.findall(text.casefold()))


def _in_sentences(instruction: str) -> Iterator[str]:
    at = 0
    while listing := _LISTING.search(instruction, at):
        end = _LISTING_END.search(instruction, listing.end())
        at = end.start() if end else len(instruction)
        # Commas in brackets part nothing, and `and` only before the last thing.
        *items, last = _COMMAS.split(_BRACKETS.sub(" ", instruction[listing.end() : at]))
        yield from (*items, *_AND.split(last, maxsplit=1))


def _in_bullets(instruction: str) -> Iterator[str]:
    asked = False
    for line in instruction.splitlines():
        if not (bullet := _BULLET.match(line)):
            asks = (":" in line or "：" in line) and bool(_ASKS.search(line))
            asked = asks if line.strip() else asked
        elif asked:
            name, colon, _ = bullet[1].replace("：", ":").partition(":")
            yield from [name] if colon else name.split("、")
