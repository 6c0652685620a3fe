"""Tables with the columns somebody asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blocks.offline.outline import bare, options_of
from blocks.offline.pieces import Piece
from blocks.offline.tables import Row, cell_text
from blocks.offline.vocabulary import VALUES
from blocks.offline.words import terms

BLANK = "—"


def recast(piece: Piece, asked: Sequence[str], title: str, limit: int) -> list[list[str]] | None:
    """A table's rows under the columns asked for; None where fewer than two of them are there.

    Columns match by the words or concepts of their names. What the table as a whole is about is its column of
    the longest texts. A column that offers values gets them where they mean what the cell means.
    """
    columns = list(dict.fromkeys(column for row in piece.rows[:limit] for column in row))
    chosen: dict[str, str] = {}
    for name in asked:
        column = _best(name, [column for column in columns if column not in chosen.values()])
        if column:
            chosen[name] = column
    prose = _prose(piece.rows[:limit], [column for column in columns if column not in chosen.values()])
    subject = next((name for name in asked if name not in chosen and _shared(bare(name), title)), None)
    if prose and subject:
        chosen[subject] = prose
    if len(chosen) < 2:
        return None
    return [[_cell(row, name, chosen.get(name)) for name in asked] for row in piece.rows[:limit]]


def passages_as_rows(told: Sequence[tuple[str, str]], asked: Sequence[str]) -> list[list[str]]:
    """Passages as rows: the first column says them, one that asks for evidence says where they stand."""
    evidence = next((name for name in asked[1:] if "#evidence" in terms(name)), None)
    return [[text, *(origin if name == evidence else BLANK for name in asked[1:])] for text, origin in told]


def _best(name: str, columns: Sequence[str]) -> str | None:
    scored = [(_shared(bare(name), column), -n, column) for n, column in enumerate(columns)]
    score, _, column = max(scored, default=(0, 0, ""))
    return column if score else None


def _shared(one: str, other: str) -> int:
    return len(set(terms(one)) & set(terms(other)))


def _prose(rows: Sequence[Row], columns: Sequence[str]) -> str | None:
    lengths = {column: sum(len(cell_text(row.get(column))) for row in rows) for column in columns}
    return max(lengths, key=lambda column: lengths[column], default=None)


def _cell(row: Row, name: str, column: str | None) -> str:
    text = cell_text(row.get(column)) if column is not None else ""
    means = set(VALUES.get(text.lower(), ()))
    for option in options_of(name) if means else ():
        if means & set(VALUES.get(option.lower(), ())):
            return option
    return text or BLANK


def number_of(value: Any) -> float | None:
    """A plain number; None for everything else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
