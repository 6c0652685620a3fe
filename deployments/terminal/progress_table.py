"""The live table of a run: one row per step, drawn again and again while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deployments.terminal.display import Style, printable, width
from workflows.core.units import shown_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.spinner import Spinner
    from rich.text import Text

MARKS: dict[str, tuple[str, Style]] = {
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "skipped": ("–", "dim"),
    "not_started": ("·", "dim"),
    "waiting": ("?", "yellow"),
    "cancelled": ("✗", "yellow"),
    "retrying": ("↻", "yellow"),
    "pending": ("·", "dim"),
}
_DETAIL = 60
"""Columns of the last thing a running step did."""

_ROWS = 30
"""Rows of the live table; a longer run shows its running and failed steps and the count of the others."""


@dataclass
class Row:
    """What is known of one step. `started` is a reading of the run's clock, `seconds` a length."""

    name: str
    agent: str
    state: str = "pending"
    started: float | None = None
    seconds: float | None = None
    tokens: int | None = None
    usd: float | None = None
    detail: str = ""
    reused: bool = False
    offline: bool = False
    spinner: Spinner | None = None


def draw(title: str, steps: Mapping[str, Row], total: int, begun: float, now: float) -> RenderableType:
    """The heading and the table of the steps. begun, now: seconds of the run's clock."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for name in ("", "step", "who", "time", "tokens", "cost"):
        figure = name in ("time", "tokens", "cost")
        table.add_column(name, justify="right" if figure else "left", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    rows = list(steps.items())
    for step, row in _visible(rows):
        table.add_row(_mark(row), *(Text(printable(c)) for c in _cells(step, row, now)))
    done = sum(row.state in _ENDED for _, row in rows)
    elapsed = shown_duration(float(int(now - begun)))
    head = Text(
        printable(f"{title}  {done}/{total} step{'s' if total != 1 else ''}  {elapsed}"), style="bold"
    )
    return Group(head, table)


def _cells(step: str, row: Row, now: float) -> Sequence[str]:
    seconds = row.seconds
    if seconds is None and row.started is not None:
        seconds = float(int(now - row.started))
    label = step if row.name in ("", step) else f"{step} {row.name}"
    time = "" if seconds is None else shown_duration(seconds)
    detail = f"offline {row.detail}" if row.offline else row.detail
    return (
        cut(label, 28),
        cut(row.agent, 24),
        "reused" if row.reused else time,
        f"{row.tokens:,}" if row.tokens else "",
        f"${row.usd:.3f}" if row.usd else "",
        cut(detail.strip(), _DETAIL),
    )


_ENDED = ("completed", "failed", "skipped", "not_started", "cancelled")


def _visible(rows: list[tuple[str, Row]]) -> list[tuple[str, Row]]:
    if len(rows) <= _ROWS:
        return rows
    busy = [item for item in rows if item[1].state in ("running", "retrying", "failed", "waiting")]
    return busy[-_ROWS:]


def _mark(row: Row) -> Text | Spinner:
    if row.state == "running":
        from rich.spinner import Spinner

        row.spinner = row.spinner or Spinner("dots", style="cyan")  # kept, since it turns by its own clock
        return row.spinner
    from rich.text import Text

    return Text(*MARKS.get(row.state, ("·", "dim")))


def cut(text: str, columns: int) -> str:
    """The text in at most that many columns."""
    if width(text) <= columns:
        return text
    kept = ""
    for character in text:
        if width(kept + character) >= columns:
            break
        kept += character
    return kept + "…"
