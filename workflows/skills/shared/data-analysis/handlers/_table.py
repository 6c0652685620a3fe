"""Reading a table from CSV, TSV, JSON or Markdown, and telling numbers, dates and words apart."""

import csv
import datetime
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["number", "date", "word", "text", "empty"]
MOST_CELLS = 1_000_000
"""Cells of a table, those counted that short rows leave empty."""
_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ].*)?")
_WEEK = re.compile(r"\d{4}-?W\d{1,2}")


@dataclass(frozen=True)
class Table:
    """Columns in order and rows of text cells; an empty cell is the empty text."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]

    def column(self, name: str) -> list[str]:
        """The cells of one column. Raises ValueError naming the columns there are."""
        if name not in self.columns:
            raise ValueError(f"no column '{name}'; the table has: {', '.join(self.columns)}")
        return [row[name] for row in self.rows]

    def numbers(self, name: str) -> list[float]:
        """The column's cells that are numbers. Raises ValueError when there is none."""
        found = [n for n in map(as_number, self.column(name)) if n is not None]
        if not found:
            raise ValueError(
                f"column '{name}' holds no numbers; numeric: {', '.join(self.numeric()) or 'none'}"
            )
        return found

    def numeric(self) -> list[str]:
        """Names of the columns whose filled cells are numbers."""
        return [name for name in self.columns if kind_of(self.column(name)) == "number"]


def read_table(path: Path) -> Table:
    """The table in the file, by its suffix: .csv, .tsv, .json (a list of objects), .md (its first table).

    Raises ValueError when there is no table with a row in it.
    """
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".json":
        columns, rows = _from_json(json.loads(text))
    elif path.suffix == ".md":
        columns, rows = _from_markdown(text)
    else:
        columns, rows = _from_csv(text, "\t" if path.suffix == ".tsv" else ",")
    if not columns or not rows:
        raise ValueError(
            f"no table with rows in this {path.suffix or 'file'}; give CSV, JSON rows or a Markdown table"
        )
    if len(columns) * len(rows) > MOST_CELLS:
        raise ValueError(f"the table has more than {MOST_CELLS:,} cells; give a part of it")
    return Table(tuple(columns), tuple({c: row.get(c, "").strip() for c in columns} for row in rows))


def as_number(cell: str) -> float | None:
    """The cell as a number (`1,234` and `45%` too: the share 0.45), or None."""
    text = cell.strip().replace(",", "").replace("\uff0c", "").replace("\uff05", "%")
    share = text.endswith("%")
    try:
        number = float(text[:-1] if share else text)
    except ValueError:
        return None
    return (number / 100 if share else number) if math.isfinite(number) else None


def as_date(cell: str) -> datetime.date | None:
    """The calendar day at the start of the cell, or None."""
    match = _DATE.fullmatch(cell.strip())
    try:
        return datetime.date(*(int(part) for part in match.groups())) if match else None
    except ValueError:
        return None


def kind_of(cells: list[str]) -> Kind:
    """What a column holds: all filled cells must agree for number and date."""
    filled = [cell for cell in cells if cell]
    if not filled:
        return "empty"
    if all(as_number(cell) is not None for cell in filled):
        return "number"
    if all(as_date(cell) or _WEEK.fullmatch(cell) for cell in filled):
        return "date"
    few = len(set(filled)) <= max(12, len(filled) // 5)
    return "word" if few and max(map(len, filled)) <= 40 else "text"


def quantile(ordered: list[float], share: float) -> float:
    """The value below which `share` of the sorted numbers lie, between neighbours linearly."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def tidy(number: float) -> float | int:
    """Rounded for reading: whole numbers as int, else four significant decimals."""
    return int(number) if float(number).is_integer() and abs(number) < 1e15 else round(number, 4)


def _from_csv(text: str, comma: str) -> tuple[list[str], list[dict[str, str]]]:
    rows = _csv_rows(text, comma)
    columns = [name.strip() for name in (rows[0] if rows else {}) if name and name.strip()]
    return columns, [{(k or "").strip(): v for k, v in row.items() if isinstance(v, str)} for row in rows]


def _from_json(value: Any) -> tuple[list[str], list[dict[str, str]]]:
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if lists else []
    records = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    columns = list(dict.fromkeys(str(key) for entry in records for key in entry))
    return columns, [{str(k): _cell(v) for k, v in entry.items()} for entry in records]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _from_markdown(text: str) -> tuple[list[str], list[dict[str, str]]]:
    lines = [line.strip() for line in text.splitlines()]
    for place, line in enumerate(lines[1:], 1):
        if _is_rule(line) and "|" in lines[place - 1]:
            columns = _cells(lines[place - 1])
            rows = []
            for below in lines[place + 1 :]:
                if "|" not in below:
                    break
                rows.append(dict(zip(columns, _cells(below), strict=False)))
            return columns, rows
    return [], []


def _cells(line: str) -> list[str]:
    return [cell.strip().strip("*`") for cell in line.strip("|").split("|")]


def _is_rule(line: str) -> bool:
    """Whether it is the line under the head of a table of two columns or more."""
    inner = line.removeprefix("|").removesuffix("|")
    cells = [cell.strip().removeprefix(":").removesuffix(":") for cell in inner.split("|")]
    return len(cells) > 1 and all(cell and not cell.strip("-") for cell in cells)


def _csv_rows(text: str, comma: str) -> list[dict[str, str]]:
    """The rows of a CSV text. Raises ValueError for one that is none, or too wide and long."""
    rows, cells = [], 0
    try:
        for row in csv.DictReader(io.StringIO(text), delimiter=comma, restkey="", restval=""):
            cells += len(row)  # those counted that a short row leaves empty
            if cells > MOST_CELLS:
                raise ValueError(f"the table has more than {MOST_CELLS:,} cells; give a part of it")
            rows.append(row)
    except csv.Error as fault:
        raise ValueError(f"this CSV cannot be read: {fault}") from None
    return rows
