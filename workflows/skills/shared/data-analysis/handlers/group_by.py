"""Counts and measures per group."""

from pathlib import Path
from typing import Any, Literal

from _table import Table, as_number, quantile, read_table, tidy

Measure = Literal["count", "share", "sum", "mean", "median", "min", "max"]


def group_by(
    table: Path,
    by: str,
    value: str = "",
    measure: Literal["count", "share", "sum", "mean", "median", "min", "max"] = "count",
    top: int = 20,
) -> dict[str, Any]:
    """Group the rows of a table by one column and measure each group, largest first.

    `totals` maps each group to its measure, so that a condition can read `result.totals.high`.

    Args:
        table: CSV, JSON rows, or a Markdown document with a table.
        by: Column whose values make the groups; an empty cell becomes the group '(empty)'.
        value: Numeric column to measure; not needed for count and share.
        measure: What to compute per group.
        top: Groups shown; the rest are added up under 'left_out'.
    """
    data = read_table(table)
    groups = _groups(data, by)
    if measure in {"count", "share"}:
        whole = 1 if measure == "count" else len(data.rows)
        measured = {name: len(rows) / whole for name, rows in groups.items()}
    else:
        data.numbers(value or "(no value column given)")
        measured = _measured(groups, value, measure)
    order = sorted(measured, key=lambda name: (-measured[name], name))
    shown = order[: max(1, top)]
    return {
        "by": by,
        "measure": measure if measure in {"count", "share"} else f"{measure} of {value}",
        "rows": len(data.rows),
        "groups": [
            {"group": name, "value": tidy(measured[name]), "rows": len(groups[name])} for name in shown
        ],
        "totals": {name: tidy(measured[name]) for name in shown},
        "left_out": {
            "groups": len(order) - len(shown),
            "rows": sum(len(groups[n]) for n in order[len(shown) :]),
        },
    }


def _groups(data: Table, by: str) -> dict[str, list[dict[str, str]]]:
    groups: dict[str, list[dict[str, str]]] = {}
    for cell, row in zip(data.column(by), data.rows, strict=True):
        groups.setdefault(cell or "(empty)", []).append(row)
    return groups


def _measured(groups: dict[str, list[dict[str, str]]], value: str, measure: Measure) -> dict[str, float]:
    measured = {}
    for name, rows in groups.items():
        numbers = sorted(n for row in rows if (n := as_number(row[value])) is not None)
        if numbers:
            measured[name] = {
                "sum": sum(numbers),
                "mean": sum(numbers) / len(numbers),
                "median": quantile(numbers, 0.5),
                "min": numbers[0],
                "max": numbers[-1],
            }[measure]
    return measured
