"""What several documents say in numbers about the same measure, side by side."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blocks.offline.columns import number_of
from blocks.offline.matching import Index
from blocks.offline.phrases import Phrases
from blocks.offline.pieces import Piece
from blocks.offline.tables import cell_text, markdown_table
from blocks.offline.vocabulary import MEASURES
from blocks.offline.words import terms

_LEAST = r"不低于|不少于|至少|大于等于|≥|>=|at least|no less than"
_MOST = r"不高于|不超过|至多|最多|≤|<=|at most|no more than|under"
_BOUND = re.compile(rf"({_LEAST}|{_MOST})\s*(\d+(?:\.\d+)?)\s*(%?)", re.I)
_CLAUSE = re.compile(r"[，；。,;]")
_LINES = 6


@dataclass(frozen=True)
class Figure:
    """One number of one document; shares are between 0 and 1.

    `least` is True for a stated lower bound, False for an upper one, None for a value. `told` is how the
    document says it.
    """

    measure: str
    source: str
    number: float
    least: bool | None
    told: str

    def breaks(self, bound: Figure) -> bool:
        """Whether this value is on the wrong side of another document's bound."""
        if self.least is not None or bound.least is None or self.source == bound.source:
            return False
        return self.number < bound.number if bound.least else self.number > bound.number


def side_by_side(index: Index, say: Phrases) -> list[str]:
    """Markdown about the measures that several documents give different numbers for; empty without any."""
    by_measure: dict[str, list[Figure]] = defaultdict(list)
    weight: dict[str, float] = defaultdict(float)
    for n in sorted(range(len(index.pieces)), key=lambda n: -index.factor(n)):
        for figure in _figures(index.pieces[n]):
            by_measure[figure.measure].append(figure)
            weight[figure.measure] = max(weight[figure.measure], index.factor(n))
    shared = [measure for measure, found in by_measure.items() if _compares(found)]
    shared.sort(key=lambda measure: (-weight[measure], measure))
    broken = [line for measure in shared for line in _broken(by_measure[measure], say)]
    rows = [row for measure in shared[:_LINES] for row in _rows(by_measure[measure])]
    head = [say("measure"), say("document"), say("stated")]
    lines = (
        [*broken, say("broken" if broken else "agree"), "", *markdown_table(head, rows, 160)] if rows else []
    )
    open_ = _unmeasured(
        [found for found in by_measure.values() if all(f.least is not None for f in found)], say
    )
    return [*lines, *([""] if lines and open_ else []), *open_]


def _unmeasured(groups: Sequence[Sequence[Figure]], say: Phrases) -> list[str]:
    """Bounds without a value in any document."""
    told = {found[0].told: found[0] for found in groups[:_LINES]}
    lines = [f"- {figure.told} {say.origin(figure.source)}" for figure in told.values()]
    return [say("unmeasured"), "", *lines] if lines else []


def _compares(found: Sequence[Figure]) -> bool:
    """Whether documents can be held against each other: a value against a bound, or values that differ."""
    return any(
        one.source != other.source and one.number != other.number and one.least is None
        for one in found
        for other in found
    )


def _broken(found: Sequence[Figure], say: Phrases) -> list[str]:
    told = {(bound, value): None for bound in found for value in found if value.breaks(bound)}
    return [
        f"- {say('apart', bound.source, bound.told, value.source, value.told)}"
        for bound, value in list(told)[:2]
    ]


def _rows(found: Sequence[Figure]) -> list[list[str]]:
    """One row per document: its bound as written, its values."""
    by_source: dict[str, dict[str, None]] = defaultdict(dict)
    for figure in found:
        by_source[figure.source][figure.told] = None
    name = found[0].measure.removeprefix("#").replace("_", " ")
    return [[name, source, "; ".join(list(told)[:3])] for source, told in by_source.items()]


def _figures(piece: Piece) -> Iterator[Figure]:
    if piece.kind == "fact":
        yield from _values(piece, piece.key, piece.value, f"{piece.key} {piece.text}")
    elif piece.kind == "table":
        for row in piece.rows:
            first = next(iter(row.items()), ("", ""))
            for column, cell in row.items():
                yield from _values(
                    piece, column, cell, f"{column} {cell_text(cell)} ({first[0]} {cell_text(first[1])})"
                )
    for clause in _CLAUSE.split(piece.said):
        yield from _bounds(piece, clause.strip(" ."))


def _values(piece: Piece, key: str, value: object, told: str) -> Iterator[Figure]:
    number = number_of(value)
    if number is not None and piece.place.count("baseline") + key.count("baseline") == 0:
        yield from (Figure(name, piece.source, number, None, told) for name in _measures(key))


def _bounds(piece: Piece, clause: str) -> Iterator[Figure]:
    match = _BOUND.search(clause)
    if match:
        least = bool(re.fullmatch(_LEAST, match[1], re.I))
        number = float(match[2]) / (100 if match[3] else 1)
        yield from (Figure(name, piece.source, number, least, clause) for name in _measures(clause))


def _measures(text: str) -> list[str]:
    return [name for name in dict.fromkeys(terms(text)) if name in MEASURES]
