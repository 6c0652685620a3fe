"""How one number moves over time."""

import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

from _table import as_date, as_number, read_table, tidy


def trend(table: Path, time: str, value: str, window: int = 4) -> dict[str, Any]:
    """Follow one number over time: last change, moving mean, slope, and periods that stand out.

    A period stands out when its step from the one before is more than three times the usual step
    (median of the absolute steps).

    Args:
        table: CSV, JSON rows, or a Markdown document with a table, one row per period.
        time: Column that orders the rows (dates, weeks such as 2026-W18, or numbers).
        value: Numeric column to follow.
        window: Periods in the moving mean, at least 2.
    """
    data = read_table(table)
    data.column(time), data.numbers(value)
    points = [(row[time], n) for row in data.rows if (n := as_number(row[value])) is not None]
    points.sort(key=lambda point: _order(point[0]))
    if len(points) < 3:
        raise ValueError(f"{len(points)} periods are too few for a trend; three are needed")
    numbers = [n for _, n in points]
    window = max(2, min(window, len(points)))
    last, before = numbers[-1], numbers[-2]
    recent, earlier = numbers[-window:], numbers[-2 * window : -window]
    slope = statistics.linear_regression(range(len(numbers)), numbers).slope
    return {
        "value": value,
        "periods": len(points),
        "first": {"period": points[0][0], "value": tidy(numbers[0])},
        "last": {"period": points[-1][0], "value": tidy(last)},
        "last_change": tidy(last - before),
        "last_change_share": tidy((last - before) / abs(before)) if before else None,
        "moving_mean": tidy(statistics.fmean(recent)),
        "moving_mean_before": tidy(statistics.fmean(earlier)) if earlier else None,
        "slope_per_period": tidy(slope),
        "direction": _direction(numbers, slope),
        "stands_out": _jumps(points),
    }


def _order(cell: str) -> tuple[int, float, str]:
    day, number = as_date(cell), as_number(cell)
    if day:
        return 0, day.toordinal(), cell
    return (0, number, cell) if number is not None else (1, 0.0, cell)


def _direction(numbers: list[float], slope: float) -> str:
    """`flat` while the whole line moves less than half of the numbers' spread."""
    if abs(slope) * (len(numbers) - 1) < 0.5 * statistics.pstdev(numbers) or not slope:
        return "flat"
    return "rising" if slope > 0 else "falling"


def _jumps(points: list[tuple[str, float]]) -> list[dict[str, Any]]:
    steps = [b - a for (_, a), (_, b) in pairwise(points)]
    usual = statistics.median(abs(step) for step in steps)
    return [
        {"period": period, "value": tidy(n), "step": tidy(step), "usual_step": tidy(usual)}
        for (period, n), step in zip(points[1:], steps, strict=True)
        if usual and abs(step) > 3 * usual
    ]
