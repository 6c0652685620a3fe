"""What a text is about, as a set of terms that Chinese and English texts can share."""

from __future__ import annotations

import re

from blocks.offline.vocabulary import CONCEPTS

_RUN = re.compile(r"[a-z][a-z0-9]*|[一-鿿]+")
_JOINTS = re.compile(r"[的与和及或了]")
_STOP_WORDS = (
    "the and for with that this from are was were not but has have its our you they all can will one per any "
    "into than then them use used using such also more most must should when what which who how true false "
    "null none 什么 怎么 是否 以及 进行 没有 一个 我们 他们 每条 写明 这次 这个 那个 如果 因为 所以 但是 "
    "不是 就是 一条 一句 不能 哪些 各自 部分 文档"
)
_STOP = frozenset(_STOP_WORDS.split())


def terms(text: str) -> list[str]:
    """What a text is about, in order, with repeats.

    English words without their plural ending, pairs of Chinese characters, and for words of the vocabulary
    also their concepts (`#baseline`).
    """
    found: list[str] = []
    before = ""
    for run in _RUN.findall(text.lower()):
        if run.isascii():
            found += _word(run, before)
            before = run
            continue
        before = ""
        for part in _JOINTS.split(run):
            found += _pairs(part)
        for name in _names(run):
            found += CONCEPTS[name]
    return found


def _word(word: str, before: str) -> list[str]:
    """One English word; with the word before it too: `roll back` is `rollback`."""
    stem = stemmed(word)
    found = [stem] if len(word) > 2 and word not in _STOP else []
    for spelling in dict.fromkeys((word, stem, before + word)):
        found += CONCEPTS.get(spelling, ())
    return found


def stemmed(word: str) -> str:
    """An English word without the ending of its plural."""
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return (
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
    )


def _pairs(run: str) -> list[str]:
    return [pair for n in range(len(run) - 1) if (pair := run[n : n + 2]) not in _STOP]


def _names(run: str) -> list[str]:
    """The vocabulary's words in a run of Chinese characters, the longest at each place."""
    found: list[str] = []
    end = 0
    for n, first in enumerate(run):
        if n < end or first not in _SIZES:
            continue
        size = next((size for size in _SIZES[first] if run[n : n + size] in CONCEPTS), 0)
        if size:
            found.append(run[n : n + size])
            end = n + size
    return found


def _sizes() -> dict[str, list[int]]:
    """The lengths of the vocabulary's Chinese words by their first character, the longest first."""
    found: dict[str, set[int]] = {}
    for word in CONCEPTS:
        if not word.isascii():
            found.setdefault(word[0], set()).add(len(word))
    return {first: sorted(sizes, reverse=True) for first, sizes in found.items()}


_SIZES = _sizes()


def plain(text: str) -> str:
    """A line without its Markdown marks."""
    text = re.sub(r"!?\[([^\[\]]*)\]\([^()]*\)", r"\1", text)
    text = re.sub(
        r"^\s*(?:[-*+>]\s+|\d+(?:[.)](?:\s+|(?=[^\s\d]))|、\s*)|#{1,6}\s+)+(?:\[[ xX]\]\s*)?", "", text
    )
    return re.sub(r"\*\*|(?<!\w)__|__(?!\w)|`", "", text).strip()
