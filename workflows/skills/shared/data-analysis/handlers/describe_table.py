"""What a table holds, column by column."""

from collections import Counter
from pathlib import Path
from typing import Any

from _table import Table, as_number, kind_of, quantile, read_table, tidy


def describe_table(table: Path, top: int = 5) -> dict[str, Any]:
    """Describe a table: rows, columns, types, gaps, ranges, most frequent values, quality warnings.

    Args:
        table: CSV, JSON rows, or a Markdown document with a table.
        top: How many of the most frequent values to show per column of words.
    """
    data = read_table(table)
    columns = [_column(name, data, max(1, top)) for name in data.columns]
    return {
        "rows": len(data.rows),
        "columns": columns,
        "duplicate_rows": len(data.rows) - len({tuple(row.values()) for row in data.rows}),
        "warnings": _warnings(columns, len(data.rows)),
    }


def _column(name: str, data: Table, top: int) -> dict[str, Any]:
    cells = data.column(name)
    kind = kind_of(cells)
    filled = [cell for cell in cells if cell]
    entry: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "missing": len(cells) - len(filled),
        "different": len(set(filled)),
    }
    if kind == "number":
        entry |= _range([n for n in map(as_number, filled) if n is not None])
    elif kind == "date":
        entry |= {"first": min(filled), "last": max(filled)}
    elif kind == "word":
        entry["most_frequent"] = [{"value": v, "rows": n} for v, n in Counter(filled).most_common(top)]
    elif kind == "text":
        lengths = sorted(float(len(cell)) for cell in filled)
        entry |= {"median_length": tidy(quantile(lengths, 0.5)), "longest": int(lengths[-1])}
    return entry


def _range(numbers: list[float]) -> dict[str, float | int]:
    ordered = sorted(numbers)
    mean = sum(ordered) / len(ordered)
    spread = (sum((n - mean) ** 2 for n in ordered) / max(1, len(ordered) - 1)) ** 0.5
    return {
        "min": tidy(ordered[0]),
        "quarter": tidy(quantile(ordered, 0.25)),
        "median": tidy(quantile(ordered, 0.5)),
        "three_quarters": tidy(quantile(ordered, 0.75)),
        "max": tidy(ordered[-1]),
        "mean": tidy(mean),
        "spread": tidy(spread),
    }


def _warnings(columns: list[dict[str, Any]], rows: int) -> list[str]:
    found = []
    for entry in columns:
        if entry["missing"] > rows * 0.2:
            found.append(f"{entry['name']}: {entry['missing']} of {rows} cells are empty")
        if entry["different"] == 1 and rows > 1:
            found.append(f"{entry['name']}: one value only, it explains nothing")
    if rows < 30:
        found.append(f"{rows} rows: shares and averages are unsure")
    return found
