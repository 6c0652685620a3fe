"""Which numeric columns move together."""

import math
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from _table import Table, as_number, read_table

MOST = 5_000_000
"""Pairs of columns times rows."""


def correlate(
    table: Path,
    target: str = "",
    method: Literal["pearson", "spearman"] = "pearson",
    top: int = 10,
) -> dict[str, Any]:
    """Correlate the numeric columns of a table, strongest first.

    A correlation is no cause; pairs that chance alone explains (95 %) are marked `could_be_chance`.

    Args:
        table: CSV, JSON rows, or a Markdown document with a table.
        target: Only pairs with this column; empty means all pairs.
        method: pearson for straight lines, spearman for ranks (robust against outliers).
        top: Pairs shown.
    """
    data = read_table(table)
    names = data.numeric()
    if target and target not in names:
        raise ValueError(f"'{target}' is no numeric column; numeric: {', '.join(names) or 'none'}")
    count = len(names) - 1 if target else len(names) * (len(names) - 1) // 2
    if count * len(data.rows) > MOST:
        raise ValueError(
            f"{count:,} pairs of {len(data.rows):,} rows are too many; name a target, or fewer columns"
        )
    pairs = []
    for left, right in combinations(names, 2):
        if target and target not in (left, right):
            continue
        r, count = _pair(data, left, right, method)
        if r is not None:
            chance = count < 4 or abs(math.atanh(min(0.999999, abs(r)))) * math.sqrt(count - 3) < 1.96
            pairs.append(
                {"columns": [left, right], "r": round(r, 4), "rows": count, "could_be_chance": chance}
            )
    pairs.sort(key=lambda pair: (-abs(pair["r"]), pair["columns"]))
    return {"method": method, "numeric_columns": names, "pairs": pairs[: max(1, top)], "tested": len(pairs)}


def _pair(data: Table, left: str, right: str, method: str) -> tuple[float | None, int]:
    both = [
        (x, y)
        for x, y in zip(map(as_number, data.column(left)), map(as_number, data.column(right)), strict=True)
        if x is not None and y is not None
    ]
    if len(both) < 3:
        return None, len(both)
    xs, ys = [x for x, _ in both], [y for _, y in both]
    if method == "spearman":
        xs, ys = _ranks(xs), _ranks(ys)
    return _pearson(xs, ys), len(both)


def _pearson(xs: list[float], ys: list[float]) -> float | None:
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    under = math.sqrt(sum((x - mx) ** 2 for x in xs) * sum((y - my) ** 2 for y in ys))
    return over / under if under else None


def _ranks(numbers: list[float]) -> list[float]:
    """Ranks from 1; equal numbers share their mean rank."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    ranks, start = [0.0] * len(numbers), 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and numbers[order[end + 1]] == numbers[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2 + 1
        start = end + 1
    return ranks
