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
MOST_CELLS = 1_000_000
"""Cells of a table, those counted that short rows leave empty."""
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
        rows = _csv_rows(text)
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


class Index:
    """The terms of passages, counted once for all queries."""

    def __init__(self, passages: list[Passage]) -> None:
        self._count = len(passages)
        self._lengths: list[int] = []
        self._holders: dict[str, list[tuple[int, int]]] = {}
        for index, passage in enumerate(passages):
            counts = Counter(terms(f"{passage.place} {passage.text}"))
            self._lengths.append(counts.total())
            for term, times in counts.items():
                self._holders.setdefault(term, []).append((index, times))
        self._usual = sum(self._lengths) / len(passages) if sum(self._lengths) else 1.0

    def rank(self, query: str, k1: float = 1.4, b: float = 0.6) -> list[tuple[float, int]]:
        """`(score, index)` of the passages that hold a query term, best first (Okapi BM25)."""
        scores: dict[int, float] = {}
        for term in dict.fromkeys(terms(query)):
            holders = self._holders.get(term, [])
            rarity = math.log(1 + (self._count - len(holders) + 0.5) / (len(holders) + 0.5))
            for index, times in holders:
                length = self._lengths[index] / self._usual
                score = rarity * times * (k1 + 1) / (times + k1 * (1 - b + b * length))
                scores[index] = scores.get(index, 0.0) + score
        return sorted(((s, index) for index, s in scores.items()), key=lambda pair: (-pair[0], pair[1]))


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


def _csv_rows(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text. Raises ValueError for one that is none, or too wide and long."""
    rows, cells = [], 0
    try:
        for row in csv.DictReader(io.StringIO(text)):
            cells += len(row)  # those counted that a short row leaves empty
            if cells > MOST_CELLS:
                raise ValueError(f"the table has more than {MOST_CELLS:,} cells; give a part of it")
            rows.append(row)
    except csv.Error as fault:
        raise ValueError(f"this CSV cannot be read: {fault}") from None
    return rows
