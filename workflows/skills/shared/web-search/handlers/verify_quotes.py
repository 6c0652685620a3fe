"""Does what a report quotes really stand in its source?"""

import re
import unicodedata
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from _bm25 import LONGEST, Index, Passage, read_passages

_QUOTED = re.compile(r"「([^」]{6,300})」|“([^”]{6,300})”|\"([^\"\n]{6,300})\"")
MOST = 100
"""Quotations; each is held against the five passages that are most like it."""
_SKIP = re.compile(r"[\s*_`>|]+")


def verify_quotes(report: Path, corpus: Path, close: float = 0.85) -> dict[str, Any]:
    """Check every quotation of a report against its source document.

    Looks at text in 「」, “” and straight quotes of six characters or more, and at block quotes.
    `exact` stands in the source word for word, `close` nearly so, `not_found` does not.

    Args:
        report: Markdown or text document with quotations.
        corpus: Document the quotations should come from.
        close: Share of matching characters from which a quotation counts as close, 0 to 1.
    """
    passages = read_passages(corpus)
    whole = _plain("".join(p.text for p in passages))
    quotes = _quotes(report.read_text(encoding="utf-8-sig"))
    if len(quotes) > MOST:
        raise ValueError(f"{len(quotes)} quotations are too many to check; give {MOST} at most")
    index = Index(passages)
    checked = [_check(quote, passages, index, whole, close) for quote in quotes]
    counts = {kind: sum(c["found"] == kind for c in checked) for kind in ("exact", "close", "not_found")}
    return {"quotes": len(checked), **counts, "checked": checked}


def _quotes(text: str) -> list[str]:
    found = [next(filter(None, match)) for match in _QUOTED.findall(text)]
    blocks = [line.lstrip("> ").strip()[:300] for line in text.splitlines() if line.startswith(">")]
    found += [block for block in blocks if len(block) >= 6 and not _QUOTED.search(block)]
    return list(dict.fromkeys(found))


def _check(quote: str, passages: list[Passage], index: Index, whole: str, close: float) -> dict[str, Any]:
    if _plain(quote) in whole:
        return {"quote": quote, "found": "exact", "likeness": 1.0}
    best, place = 0.0, ""
    for _, number in index.rank(quote)[:5]:
        likeness = _likeness(_plain(quote), _plain(passages[number].text[:LONGEST]))
        if likeness > best:
            best, place = likeness, passages[number].place
    return {
        "quote": quote,
        "found": "close" if best >= close else "not_found",
        "likeness": round(best, 3),
        "nearest": place,
    }


def _likeness(quote: str, text: str) -> float:
    """Share of the quotation's characters found in order in the text."""
    matcher = SequenceMatcher(None, quote, text, autojunk=False)
    return sum(block.size for block in matcher.get_matching_blocks() if block.size > 1) / max(1, len(quote))


def _plain(text: str) -> str:
    """Without blanks and marks; full-width and half-width punctuation become the same."""
    return _SKIP.sub("", unicodedata.normalize("NFKC", text))
