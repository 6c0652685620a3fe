"""Tables among the documents: read, counted, shown as Markdown."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from blocks.offline.document import TABULAR, Document

Row = dict[str, Any]
_ROWS_LIMIT = 100_000
_CELLS_LIMIT = 2_000_000
_MOST_COLUMNS = 8


def rows_of(document: Document) -> list[Row]:
    """The rows of a CSV or of a JSON list of objects (also as the only list of an object); else none."""
    if document.media_type in TABULAR:
        return _csv_rows(document.body)
    return json_rows(json_value(document))


def json_value(document: Document) -> Any:
    """A JSON document's value, None when it is none."""
    if "json" not in document.media_type:
        return None
    try:
        return json.loads(document.body)
    except (ValueError, RecursionError):
        return None


def json_rows(value: Any) -> list[Row]:
    """The rows in a JSON value: a list of objects, or an object's only list of objects."""
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list) and item]
        value = lists[0] if len(lists) == 1 else None
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return value[:_ROWS_LIMIT]
    return []


def _csv_rows(text: str) -> list[Row]:
    head = text.lstrip("\ufeff").partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")), delimiter=delimiter, restval="")
    rows: list[Row] = []
    cells = 0
    with contextlib.suppress(csv.Error):  # such as a cell of 200,000 characters
        for row in reader:
            # Short rows are filled up: under a wide head a few thousand of them are a very large table.
            cells += len(reader.fieldnames or ())
            if len(rows) == _ROWS_LIMIT or cells > _CELLS_LIMIT:
                break
            rows.append(
                {str(key).strip(): number_or_text(value) for key, value in row.items() if key is not None}
            )
    return rows


def number_or_text(value: Any) -> Any:
    """A cell as the number it spells, else as it is."""
    text = str(value or "").strip()
    if re.fullmatch(r"-?(0|[1-9]\d{0,14})", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", text) else text


def describe(rows: Sequence[Row], chinese: bool) -> list[str]:
    """Markdown lines about a table: its size, and one line per column."""
    columns = list(dict.fromkeys(column for row in rows[:1000] for column in row))[:30]
    said = f"{len(rows)} 行，{len(columns)} 列。" if chinese else f"{len(rows)} rows, {len(columns)} columns."
    head = ["列", "非空", "最小", "最大", "平均", "常见值"] if chinese else _ENGLISH_HEAD
    different = "{} 个不同值" if chinese else "{} different"
    return [said, "", *markdown_table(head, [_column(rows, column, different) for column in columns])]


_ENGLISH_HEAD = ["column", "filled", "min", "max", "mean", "most frequent"]


def _column(rows: Sequence[Row], column: str, different: str) -> list[str]:
    values = [row[column] for row in rows if row.get(column) not in (None, "")]
    numbers = [value for value in values if _is_number(value)]
    if numbers and len(numbers) == len(values):
        mean = math.fsum(numbers) / len(numbers)
        return [column, str(len(values)), shown(min(numbers)), shown(max(numbers)), shown(mean), ""]
    counts = Counter(_short(value) for value in values)
    if len(counts) > max(20, len(values) // 2):
        return [column, str(len(values)), "", "", "", different.format(len(counts))]
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:4]
    return [column, str(len(values)), "", "", "", ", ".join(f"{text} x{count}" for text, count in common)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def shown(number: float) -> str:
    """A number with at most four digits that matter after the point."""
    return f"{number:.4g}" if abs(number) < 1000 and number != int(number) else f"{number:.0f}"


def _short(value: Any, limit: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cell_text(value: Any, limit: int = 160) -> str:
    """A value in one line, for people: `a 1, b 2` for an object, the items of a list, empty for nothing."""
    if value is None or value == [] or value == {}:
        return ""
    text = _inline(value)
    # The line of a table in a cell: what it says is its longest cell.
    return _short(max(split_row(text), key=len) if text.lstrip().startswith("|") else text, limit)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_nested(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_record(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _nested(item: Any) -> str:
    return f"({_inline(item)})" if isinstance(item, (dict, list)) and item else _inline(item)


def _record(item: Any) -> str:
    """An object in a list by its values alone."""
    return " ".join(_nested(part) for part in item.values()) if isinstance(item, dict) else _inline(item)


def split_row(line: str) -> list[str]:
    """The cells of a Markdown table's line."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]], limit: int = 60) -> list[str]:
    """The lines of a Markdown table; cells of at most `limit` characters."""
    cells = [[cell_text(cell, limit).replace("|", "\\|") for cell in row] for row in rows]
    names = [name.replace("|", "\\|") for name in head]
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in cells]


def rows_table(rows: Sequence[Row], limit: int = 10, width: int = 60) -> list[str]:
    """The first rows of a table as Markdown: the eight columns that hold most, in their order."""
    shown_rows = rows[:limit]
    filled = Counter(
        column for row in shown_rows for column, cell in row.items() if cell not in (None, "", [], {})
    )
    columns = list(dict.fromkeys(column for row in shown_rows for column in row if filled[column]))
    kept = set(sorted(columns, key=lambda column: -filled[column])[:_MOST_COLUMNS])
    columns = [column for column in columns if column in kept]
    return markdown_table(
        [str(column) for column in columns],
        [[row.get(column, "") for column in columns] for row in shown_rows],
        width,
    )
