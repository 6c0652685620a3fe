"""What a run shows while it works, and the panel at its end.

Everything that happens meanwhile goes to standard error, so that `--json` and pipes stay clean: on a
terminal one table that is drawn again and again, elsewhere one plain line per event.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deployments.closing import closing, error_text
from deployments.display import Out, Style, printable, width
from workflows.core.plan import Plan, StepPlan
from workflows.core.units import shown_duration

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

__all__ = ["Progress", "closing"]

_MARKS: dict[str, tuple[str, Style]] = {
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
class _Row:
    name: str
    agent: str
    state: str = "pending"
    attempt: int = 1
    started: float | None = None
    seconds: float | None = None
    tokens: int | None = None
    usd: float | None = None
    detail: str = ""
    reused: bool = False
    offline: bool = False
    spinner: Spinner | None = None


@dataclass
class Progress:
    """Shows a run's events. Use as a context manager around the run.

    total: number of steps; default: those of the plan.
    clock: seconds, only differences count.
    Events and their data: `run.started {run_id, workflow}`, `step.started {step, agent, attempt}`,
    `step.progress {step, kind, text}`, `step.retrying {step, attempt, reason, delay}`,
    `step.finished {step, status, reused, seconds, usage, error, offline}`, `tool.called {step, tool}`,
    `run.finished {status, seconds}`. Unknown events and keys are passed over. Any thread may call.
    """

    out: Out
    plan: Plan
    total: int | None = None
    clock: Callable[[], float] = time.monotonic
    _rows: dict[str, _Row] = field(default_factory=dict, init=False)
    _title: str = field(default="", init=False)
    _begun: float = field(default=0.0, init=False)
    _live: Live | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        steps = (*self.plan.steps, *self.plan.finally_)
        self._rows = {step.id: _Row(step.name, _agents(step)) for step in steps}
        self._title = self.plan.workflow
        self._begun = self.clock()
        self.total = self.total or len(steps)

    def __enter__(self) -> Progress:
        if self.out.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._live = self._open_live()
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()
            self._live = None

    def on_event(self, name: str, data: Mapping[str, Any]) -> None:
        """Take one event in."""
        react = _REACTIONS.get(name)
        if react is None:
            return
        line = react(self, data)
        if self._live is not None:
            return  # drawn by the refresh that is due anyway
        if line is not None:
            self.out.note(*line)

    # ------------------------------------------------------------ events; each may give a plain line

    def _run_started(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._begun = self.clock()
        self._title = str(data.get("workflow") or self.plan.workflow)
        if data.get("run_id"):
            self._title += f"  {data['run_id']}"
        return f"run {self._title}", ""

    def _step_started(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        row = self._row(data)
        row.state, row.detail = "running", ""
        row.started = row.started if row.started is not None else self.clock()
        row.attempt = int(data.get("attempt") or 1)
        row.agent = str(data.get("agent") or row.agent)
        again = f", attempt {row.attempt}" if row.attempt > 1 else ""
        return f"{data.get('step')}  started  {row.agent}{again}", ""

    def _step_progress(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        words = " ".join(str(data.get("text") or "").split())
        kind = str(data.get("kind") or "")
        self._row(data).detail = f"{kind}: {words}" if words else kind
        return None

    def _tool_called(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._row(data).detail = f"tool: {data.get('tool')}"
        return None

    def _step_retrying(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        row = self._row(data)
        reason = " ".join(str(data.get("reason") or "failed").split())
        row.state, row.detail = "retrying", reason
        delay = shown_duration(float(data.get("delay") or 0))
        return f"{data.get('step')}  attempt {data.get('attempt')} in {delay}: {reason}", "yellow"

    def _step_finished(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        row = self._row(data)
        usage = data.get("usage") or {}
        row.state = str(data.get("status") or "completed")
        row.seconds = _number(data.get("seconds"))
        row.reused, row.offline = bool(data.get("reused")), bool(data.get("offline"))
        row.tokens = int(usage.get("input_tokens") or 0) + int(usage.get("output_tokens") or 0)
        row.usd = _number(usage.get("usd"))
        row.detail = " ".join(error_text(data.get("error")).split())
        style: Style = _MARKS[row.state][1] if row.state in ("failed", "cancelled") else ""
        return f"{data.get('step')}  {'  '.join(_facts(row))}", style

    def _run_finished(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        seconds = _number(data.get("seconds"))
        took = f" in {shown_duration(seconds)}" if seconds is not None else ""
        return f"run {data.get('status')}{took}", ""

    def _row(self, data: Mapping[str, Any]) -> _Row:
        step = str(data.get("step") or "")
        return self._rows.setdefault(step, _Row(step, ""))

    # ------------------------------------------------------------ the table on a terminal

    def _open_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self.out.stderr, highlight=False)
        redirect = not self.out.json_mode  # our own document must reach standard output unchanged
        return Live(
            console=console,
            get_renderable=self._table,
            refresh_per_second=8,
            redirect_stdout=redirect and self.out.terminal,
            vertical_overflow="ellipsis",
        )

    def _table(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
        for name in ("", "step", "who", "time", "tokens", "cost"):
            figure = name in ("time", "tokens", "cost")
            table.add_column(name, justify="right" if figure else "left", no_wrap=True)
        table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
        rows = list(self._rows.items())
        for step, row in _visible(rows):
            table.add_row(_mark(row), *(Text(printable(c)) for c in self._cells(step, row)))
        done = sum(row.state in _ENDED for _, row in rows)
        elapsed = shown_duration(float(int(self.clock() - self._begun)))
        head = Text(printable(f"{self._title}  {done}/{self.total} steps  {elapsed}"), style="bold")
        return Group(head, table)

    def _cells(self, step: str, row: _Row) -> Sequence[str]:
        seconds = row.seconds
        if seconds is None and row.started is not None:
            seconds = float(int(self.clock() - row.started))
        label = step if row.name in ("", step) else f"{step} {row.name}"
        time = "" if seconds is None else shown_duration(seconds)
        detail = f"offline {row.detail}" if row.offline else row.detail
        return (
            _cut(label, 28),
            _cut(row.agent, 24),
            "reused" if row.reused else time,
            f"{row.tokens:,}" if row.tokens else "",
            f"${row.usd:.3f}" if row.usd else "",
            _cut(detail.strip(), _DETAIL),
        )


_ENDED = ("completed", "failed", "skipped", "not_started", "cancelled")

_REACTIONS: dict[str, Callable[[Progress, Mapping[str, Any]], tuple[str, Style] | None]] = {
    "run.started": Progress._run_started,
    "step.started": Progress._step_started,
    "step.progress": Progress._step_progress,
    "step.retrying": Progress._step_retrying,
    "step.finished": Progress._step_finished,
    "tool.called": Progress._tool_called,
    "run.finished": Progress._run_finished,
}


def _visible(rows: list[tuple[str, _Row]]) -> list[tuple[str, _Row]]:
    if len(rows) <= _ROWS:
        return rows
    busy = [item for item in rows if item[1].state in ("running", "retrying", "failed", "waiting")]
    return busy[-_ROWS:]


def _mark(row: _Row) -> Text | Spinner:
    if row.state == "running":
        from rich.spinner import Spinner

        row.spinner = row.spinner or Spinner("dots", style="cyan")  # kept, since it turns by its own clock
        return row.spinner
    from rich.text import Text

    return Text(*_MARKS.get(row.state, ("·", "dim")))


def _facts(row: _Row) -> list[str]:
    """What a plain line says of a finished step."""
    facts = [row.state.replace("_", " ")]
    if row.reused:
        facts.append("(reused)")
    elif row.seconds is not None:
        facts.append(shown_duration(row.seconds))
    if row.tokens:
        facts.append(f"{row.tokens:,} tokens")
    if row.usd:
        facts.append(f"${row.usd:.3f}")
    if row.offline:
        facts.append("offline")
    if row.detail:
        facts.append(row.detail)
    return facts


def _agents(step: StepPlan) -> str:
    if step.agents:
        others = len(step.agents) - 1
        return step.agents[0].id + (f" +{others}" if others else "")
    return step.workflow.workflow if step.workflow else (step.handler.handler if step.handler else "")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _cut(text: str, columns: int) -> str:
    """The text in at most that many columns."""
    if width(text) <= columns:
        return text
    kept = ""
    for character in text:
        if width(kept + character) >= columns:
            break
        kept += character
    return kept + "…"
