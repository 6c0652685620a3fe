"""Tables as CSV text: a line that names the columns, then one line of cells per row.

Read more strictly than `csv.DictReader` does, which puts cells that no column names under the key None, and
takes a quote that nobody closes for the rest of the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_LINES = 5
_MOST_FILLED = 1_000_000
"""Cells that are taken as empty because their row ends before them."""


class UnreadableTable(ValueError):
    """Text that is no table; `line` counts from 1, `cure` says how to mend it."""

    def __init__(self, line: int, message: str, cure: str) -> None:
        super().__init__(message)
        self.line = line
        self.cure = cure


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Column names and rows of texts by column.

    A row with fewer cells than columns ends in empty texts; `short` are the lines of such rows.
    """

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    short: tuple[int, ...] = ()

    @property
    def note(self) -> str:
        """What was assumed of short rows; empty when there are none."""
        if not self.short:
            return ""
        lines = ", ".join(map(str, self.short[:_MOST_LINES])) + (
            ", ..." if len(self.short) > _MOST_LINES else ""
        )
        which = f"line {lines} has" if len(self.short) == 1 else f"lines {lines} have"
        return f"{which} fewer cells than the header; what is missing is taken as empty"


def read_csv(text: str) -> CsvTable:
    """The table in a CSV text; one without columns or rows for an empty text. Raises UnreadableTable."""
    lines = _lines(text)
    columns = tuple(next(lines, (1, []))[1])
    rows, short, filled = [], [], 0
    for line, cells in lines:
        if not cells:
            continue  # an empty line
        if not any(name.strip() for name in columns):
            raise UnreadableTable(1, "it has no header line", "name the columns in its first line")
        if len(cells) > len(columns):
            raise _too_many(line, len(cells), columns)
        if len(cells) < len(columns):
            short.append(line)
            filled += len(columns) - len(cells)
            if filled > _MOST_FILLED:
                cure = "name in the first line only the columns that the rows have"
                raise UnreadableTable(line, "the header names many more columns than the rows have", cure)
            cells = cells + [""] * (len(columns) - len(cells))
        rows.append(dict(zip(columns, cells, strict=True)))
    return CsvTable(columns, tuple(rows), tuple(short))


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Cells with the line they begin in: a quoted cell may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            raise _unreadable(line, str(fault)) from None
        yield line, cells


def _unreadable(line: int, fault: str) -> UnreadableTable:
    if "unexpected end of data" in fault:
        return UnreadableTable(line, "a quote is never closed", "close it, or write a quote in a cell as two")
    if "expected after" in fault:
        cure = "write a quote inside a quoted cell as two"
        return UnreadableTable(line, "a quoted cell goes on behind its closing quote", cure)
    return UnreadableTable(line, fault, "mend the CSV")


def _too_many(line: int, count: int, columns: tuple[str, ...]) -> UnreadableTable:
    known = f"{len(columns)} column{'s' if len(columns) != 1 else ''}"
    other = next((c for c in (";", "\t") if len(columns) == 1 and c in columns[0]), None)
    cure = (
        f"separate the cells by commas, not by {other!r}"
        if other
        else "put a cell that holds a comma into double quotes, or name the missing columns in the first line"
    )
    return UnreadableTable(line, f"it has {count} cells, and the header names {known}", cure)
