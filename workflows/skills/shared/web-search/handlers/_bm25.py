"""BM25 over passages of Chinese and English text, without a dictionary.

Chinese runs are cut into single characters' pairs (bigrams), Latin runs into lower-case words; that
needs no segmentation and finds both 「分派」 and `webhook`.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_RUN = re.compile(r"[㐀-鿿]+|[a-z0-9][a-z0-9_.%-]*", re.IGNORECASE)
_HEADING = re.compile(r"(#{1,6})\s+(.+)")
_BULLET = re.compile(r"\s*(?:[-*+]|\d+[.、)\uff09])\s+\S")
LONGEST = 800
"""Characters of one passage before it is cut."""


@dataclass(frozen=True)
class Passage:
    """A piece of a document and where it stands (`## heading, line 12` or `row 3`)."""

    place: str
    text: str


def terms(text: str) -> list[str]:
    """The search terms of a text; a lone Chinese character counts as itself."""
    found = []
    for run in _RUN.findall(text.lower()):
        if "㐀" <= run[0] <= "鿿":
            found += [run[i : i + 2] for i in range(len(run) - 1)] or [run]
        else:
            found.append(run.rstrip(".-"))
    return found


def read_passages(path: Path) -> list[Passage]:
    """The passages of a file: rows of CSV, entries of a JSON list, else paragraphs and bullets."""
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        rows = csv.DictReader(io.StringIO(text))
        return [
            Passage(f"row {n}", "; ".join(f"{k}: {v}" for k, v in row.items() if v))
            for n, row in enumerate(rows, 1)
        ]
    if path.suffix == ".json":
        value = json.loads(text)
        entries = value if isinstance(value, list) else [value]
        return [
            Passage(f"entry {n}", e if isinstance(e, str) else json.dumps(e, ensure_ascii=False))
            for n, e in enumerate(entries, 1)
        ]
    return _paragraphs(text)


def rank(query: str, passages: list[Passage], k1: float = 1.4, b: float = 0.6) -> list[tuple[float, int]]:
    """`(score, index)` of the passages that hold a query term, best first (Okapi BM25)."""
    wanted = Counter(terms(query))
    counts = [Counter(terms(f"{p.place} {p.text}")) for p in passages]
    lengths = [c.total() for c in counts]
    usual = sum(lengths) / len(lengths) if sum(lengths) else 1.0
    holders = Counter(term for c in counts for term in wanted if term in c)
    scored = []
    for index, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        score = 0.0
        for term in wanted:
            if count[term]:
                rarity = math.log(1 + (len(passages) - holders[term] + 0.5) / (holders[term] + 0.5))
                score += rarity * count[term] * (k1 + 1) / (count[term] + k1 * (1 - b + b * length / usual))
        if score > 0:
            scored.append((score, index))
    return sorted(scored, key=lambda pair: (-pair[0], pair[1]))


def _paragraphs(text: str) -> list[Passage]:
    passages, heading, block, start = [], "", [], 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        title = _HEADING.match(line)
        if block and (title or not line.strip() or _BULLET.match(line)):
            passages += _cut("\n".join(block), heading, start)
            block = []
        if title:
            heading = title[2].strip()
        elif line.strip():
            start = start if block else number
            block.append(line)
    return passages


def _cut(text: str, heading: str, line: int) -> list[Passage]:
    place = f"{heading}, line {line}" if heading else f"line {line}"
    return [Passage(place, text[i : i + LONGEST]) for i in range(0, len(text), LONGEST)]
