"""What a run shows while it works, and the panel at its end.

Everything that happens meanwhile goes to standard error, so that `--json` and pipes stay clean: on a
terminal one table that is drawn again and again, elsewhere one plain line per event.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from blocks.secrecy import secrets
from deployments.terminal.closing import calls_failed, error_text, tokens_of
from deployments.terminal.display import Out, Style
from deployments.terminal.progress_table import MARKS, Row, draw
from workflows.core.doers.registry import doer_of
from workflows.core.plans.plan import Plan
from workflows.core.step_paths import within
from workflows.core.units import shown_duration

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType
    from rich.live import Live


@dataclass
class Progress:
    """Shows a run's events. Use as a context manager around the run.

    total: number of steps; default: those of the plan.
    clock: seconds, only differences count.
    Of the run: `run.started {run_id, workflow}`, `run.finished {status, seconds}`, `run.restored {run_id,
    storage, inputs}`; `storage.refused {reason}`, also with a step. Of a step, each with
    `step`: `step.started {agent, attempt}`, `step.attempt_failed {attempt, reason}`, `step.rerun {reason}`,
    `turn.lost {turn, part, reason}`, `turn.set_aside {turn}`, `conversation.begun {conversation, done}`,
    `step.interrupted` (an earlier process ended while it worked),
    `step.finished {status, reused, seconds, usage, error, offline, failed_tool_calls}`. Of what happens
    inside one: `turn.started {turn}`, `request.progress {kind, characters}`,
    `request.retry {reason, delay, since, until, due}`, `tool.started {tool}`, `output.rejected {problems}`,
    `step.progress {kind, text}`.
    Other events and keys are passed over. Any thread may call.

    Of no step: `fault.waiting {part, reason, since, until}`, `fault.passed {part, seconds}`,
    `provider.waiting {waiting, reason, until}`, `provider.passed`.

    `step` may name a part, such as `step-4/agent-1`: on the table it shows in the row of its step.
    """

    out: Out
    plan: Plan
    total: int | None = None
    clock: Callable[[], float] = time.monotonic
    _rows: dict[str, Row] = field(default_factory=dict, init=False)
    _title: str = field(default="", init=False)
    _begun: float = field(default=0.0, init=False)
    _live: Live | None = field(default=None, init=False)
    _queued: int = field(default=0, init=False)
    """How many requests were told to wait for the provider."""
    _notes: list[tuple[str, Style]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        steps = (*self.plan.steps, *self.plan.finally_)
        self._rows = {step.id: Row(step.name, doer_of(step).brief(step)) for step in steps}
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
        self.close()

    def close(self) -> None:
        """Draws no more: what follows is how it ended."""
        if self._live is not None:
            self._live.update(self._draw(), refresh=True)
            self._live.stop()
            self._live = None
            for note in self._notes:
                self.out.note(*note)

    def on_event(self, name: str, data: Mapping[str, Any]) -> None:
        """Take one event in."""
        react = _REACTIONS.get(name)
        if react is None:
            return
        # Before any of it is cut: the beginning of a secret would not be known any more.
        line = react(self, secrets.current_secrets().value(data, ours=True))
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
        row, attempt = self._row(data), int(data.get("attempt") or 1)
        row.state, row.detail = "running", self._part(data)
        row.started = row.started if row.started is not None else self.clock()
        if not row.detail:
            row.agent = row.agent or str(data.get("agent") or "")
        again = f"attempt {attempt}" if attempt > 1 else ""
        return _join_words(str(data.get("step")), "started", str(data.get("agent") or ""), again), ""

    def _step_progress(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._tell(data, f"{data.get('kind') or ''} {data.get('text') or ''}")
        return None

    def _request_progress(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._tell(data, f"{data.get('kind')}: {int(data.get('characters') or 0):,} characters")
        return None

    def _turn_started(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._tell(data, f"turn {data.get('turn')}")
        return None

    def _tool_started(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._tell(data, f"tool {data.get('tool') or data.get('name') or ''}")
        return None

    def _request_retry(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        delay = shown_duration(float(data.get("delay") or 0))
        text = self._tell(
            data, f"asks again in {delay}: {data.get('reason') or 'no answer'}{_wait_times(data)}"
        )
        return (_join_words(str(data.get("step")), text), "yellow") if data.get("due", True) else None

    def _fault_waiting(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        line = fault_line("fault.waiting", data)
        if self._live is not None:
            self._title = f"{self._title.partition('  (')[0]}  ({line})"
        return line, "yellow"

    def _fault_passed(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._title = self._title.partition("  (")[0]
        return fault_line("fault.passed", data), ""

    def _provider_waiting(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        count = int(data.get("waiting") or 1)
        who = "1 request waits" if count == 1 else f"{count} requests wait"
        line = f"{who} for the provider: {data.get('reason')}{_wait_times(data)}"
        if self._live is not None:
            self._title = f"{self._title.partition('  (')[0]}  ({line})"
        if count < 2 * self._queued:  # elsewhere it is told again when it has doubled
            return None
        self._queued = count
        return line, "yellow"

    def _provider_passed(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        self._title, self._queued = self._title.partition("  (")[0], 0
        return "no request waits for the provider any more", ""

    def _output_rejected(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        problems = data.get("problems")
        said = "; ".join(map(str, problems)) if isinstance(problems, (list, tuple)) else str(problems)
        text = self._tell(data, f"answer sent back: {said}")
        return _join_words(str(data.get("step")), text), "yellow"

    def _attempt_failed(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        cut_off = data.get("reason") == "CancelledError"
        ending = "was cut off" if cut_off else f"failed: {data.get('reason')}"
        text = self._tell(data, f"attempt {data.get('attempt')} {ending}")
        if not self._part(data):
            self._row(data).state = "retrying"
        return _join_words(str(data.get("step")), text), "yellow"

    def _step_rerun(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        text = self._tell(data, f"runs again: {data.get('reason')}")
        return _join_words(str(data.get("step")), text), ""

    def _run_restored(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        names = ", ".join(map(str, data.get("inputs") or ())) or "none"
        return self._lasting(
            f"the run {data.get('run_id')} is not in this ledger: it goes on from {data.get('storage')}, and "
            f"nothing proves who wrote that; inputs taken from there: {names}"
        )

    def _storage_refused(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        return self._lasting(_join_words(str(data.get("step") or ""), f"not believed: {data.get('reason')}"))

    def _lasting(self, text: str) -> tuple[str, Style]:
        """A line for people that stays below the table, which would show it for a moment only."""
        line: tuple[str, Style] = (text, "yellow")
        if self._live is not None:
            self._notes.append(line)
        return line

    def _turn_lost(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        text = self._tell(
            data, f"{data.get('part')} of turn {data.get('turn')} is lost: {data.get('reason')}"
        )
        return _join_words(str(data.get("step")), text), "yellow"

    def _turn_set_aside(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        text = f"the answer of turn {data.get('turn')} is asked anew: the provider refuses what it leads to"
        return _join_words(str(data.get("step")), self._tell(data, text)), "yellow"

    def _conversation_begun(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        text = "begins another conversation"
        if data.get("done"):
            text += f", which is told of {data['done']} calls that were made before"
        return _join_words(str(data.get("step")), self._tell(data, text)), ""

    def _step_interrupted(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        told = "was at work when an earlier process ended: what a model was asked just then may be billed, "
        return self._lasting(_join_words(str(data.get("step")), told + "and is counted only within a budget"))

    def _step_finished(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        part = self._part(data)
        row = Row(part, "") if part else self._row(data)
        usage = data.get("usage") or {}
        row.state = str(data.get("status") or "completed")
        row.seconds = _number(data.get("seconds"))
        row.reused, row.offline = bool(data.get("reused")), bool(data.get("offline"))
        row.tokens = tokens_of(usage)
        row.usd = _number(usage.get("usd"))
        row.detail = " ".join((error_text(data.get("error")) or str(data.get("reason") or "")).split())
        row.detail = _join_words(calls_failed(data.get("failed_tool_calls")), row.detail)
        if part and row.state == "failed":
            self._tell(data, _join_words("failed", row.detail))
        style: Style = MARKS[row.state][1] if row.state in ("failed", "cancelled") else ""
        return _join_words(str(data.get("step")), *_facts(row)), style

    def _run_finished(self, data: Mapping[str, Any]) -> tuple[str, Style] | None:
        seconds = _number(data.get("seconds"))
        took = f" in {shown_duration(seconds)}" if seconds is not None else ""
        return f"run {data.get('status')}{took}", ""

    def _row(self, data: Mapping[str, Any]) -> Row:
        """The row of the event's step, or of the step it is a part of."""
        path = str(data.get("step") or "")
        if path not in self._rows and (owner := self._owner(path)):
            path = owner
        return self._rows.setdefault(path, Row(path, ""))

    def _owner(self, path: str) -> str:
        """The step a part belongs to: the longest step id it begins with; empty when there is none."""
        found = [i for i in self._rows if within(path, i)]
        return max(found, key=len, default="")

    def _part(self, data: Mapping[str, Any]) -> str:
        """Which part of its step an event is about, such as `agent-1`; empty for the step itself."""
        path = str(data.get("step") or "")
        owner = "" if path in self._rows else self._owner(path)
        return path[len(owner) :].lstrip("/") if owner else ""

    def _tell(self, data: Mapping[str, Any], text: str) -> str:
        """Put down what a running step does now; gives the text on one line."""
        line = " ".join(text.split())
        self._row(data).detail = _join_words(self._part(data), line)
        return line

    # ------------------------------------------------------------ the table on a terminal

    def _open_live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self.out.stderr, highlight=False)
        redirect = not self.out.json_mode  # our own document must reach standard output unchanged
        return Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=8,
            redirect_stdout=redirect and self.out.terminal,
            vertical_overflow="ellipsis",
        )

    def _draw(self) -> RenderableType:
        return draw(self._title, self._rows, self.total or len(self._rows), self._begun, self.clock())


_REACTIONS: dict[str, Callable[[Progress, Mapping[str, Any]], tuple[str, Style] | None]] = {
    "run.started": Progress._run_started,
    "run.finished": Progress._run_finished,
    "run.restored": Progress._run_restored,
    "storage.refused": Progress._storage_refused,
    "step.started": Progress._step_started,
    "step.attempt_failed": Progress._attempt_failed,
    "step.rerun": Progress._step_rerun,
    "turn.lost": Progress._turn_lost,
    "turn.set_aside": Progress._turn_set_aside,
    "conversation.begun": Progress._conversation_begun,
    "step.interrupted": Progress._step_interrupted,
    "step.finished": Progress._step_finished,
    "step.progress": Progress._step_progress,
    "turn.started": Progress._turn_started,
    "request.progress": Progress._request_progress,
    "request.retry": Progress._request_retry,
    "fault.waiting": Progress._fault_waiting,
    "fault.passed": Progress._fault_passed,
    "provider.waiting": Progress._provider_waiting,
    "provider.passed": Progress._provider_passed,
    "tool.started": Progress._tool_started,
    "output.rejected": Progress._output_rejected,
}


def fault_line(name: str, data: Mapping[str, Any]) -> str:
    """What is waited for, or is back, for people."""
    if name == "fault.waiting":
        return f"waits for the {data.get('part')}: {data.get('reason')}{_wait_times(data)}"
    return f"the {data.get('part')} is back after {shown_duration(float(data.get('seconds') or 0))}"


def _wait_times(data: Mapping[str, Any]) -> str:
    """Since when something is waited for, where it is known, and until when, by this machine's clock."""
    told = []
    for name in ("since", "until"):
        with contextlib.suppress(KeyError, ValueError):
            told.append(f"{name} {datetime.fromisoformat(str(data[name])).astimezone():%H:%M:%S}")
    return f" ({', '.join(told)})" if told else ""


def _join_words(*words: str) -> str:
    return "  ".join(word for word in words if word)


def _facts(row: Row) -> list[str]:
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


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
