"""Rows that stand apart."""

from pathlib import Path
from typing import Any

from _table import as_number, quantile, read_table, tidy


def find_outliers(table: Path, column: str = "", factor: float = 1.5, top: int = 10) -> dict[str, Any]:
    """Find rows whose number lies far outside the middle half (Tukey's fences).

    Args:
        table: CSV, JSON rows, or a Markdown document with a table.
        column: Numeric column to look at; empty means every numeric column.
        factor: Fences stand this many interquartile ranges outside the quartiles; 3 finds extreme rows only.
        top: Rows shown per column, farthest first.
    """
    data = read_table(table)
    names = [column] if column else data.numeric()
    found = {}
    for name in names:
        numbers = sorted(data.numbers(name))
        low, high = quantile(numbers, 0.25), quantile(numbers, 0.75)
        fences = (low - factor * (high - low), high + factor * (high - low))
        outside = [
            (max(fences[0] - n, n - fences[1]), row_number, n, row)
            for row_number, row in enumerate(data.rows, 1)
            if (n := as_number(row[name])) is not None and not fences[0] <= n <= fences[1]
        ]
        outside.sort(key=lambda entry: (-entry[0], entry[1]))
        found[name] = {
            "fences": [tidy(fences[0]), tidy(fences[1])],
            "count": len(outside),
            "rows": [{"row": number, "value": tidy(n), "cells": row} for _, number, n, row in outside[:top]],
        }
    return {"rows": len(data.rows), "columns": found}
