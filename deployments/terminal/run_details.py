"""Runs for people: the table of all, and what one did, cost, and waits for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from blocks.ledger import RunRow
from blocks.ledger.waits.documents import shown_time, wait_document
from deployments.runs.drift import Preview
from deployments.runs.next_commands import going_on_by, places_for
from deployments.services.run_details import Details, amount_of
from deployments.services.show import ShownRun, seconds_of
from deployments.terminal.closing import tokens_of
from deployments.terminal.display import Out, Style
from deployments.terminal.questions import print_lines, vote_text, wait_lines
from workflows.core.units import shown_duration

_MICRO = 1_000_000
_STYLES: dict[str, Style] = {"reuse": "dim", "rerun": "yellow", "orphaned": "red"}
_CONTINUED = ("failed", "interrupted", "stopped", "cancelled", "waiting")


def print_runs(rows: Sequence[RunRow], out: Out) -> None:
    """A table of runs."""
    if not rows:
        out.line("nothing has run yet; begin with: phaseline run end-to-end-delivery --offline")
        return
    columns = ("run", "workflow", "state", "started", "active", "tokens", "cost")
    out.table(columns, [_cells(row) for row in rows])


def print_run(shown: ShownRun, places: Sequence[str], out: Out) -> None:
    """One run in full, and how it is continued. `places`: the options given to the command that shows it."""
    row, details = shown.row, shown.details
    _print_head(row, out)
    _print_steps(shown, out)
    print_details(details, places_for(row, places), out, cost=shown.request.cost, events=shown.request.events)
    if row.state in _CONTINUED:
        what = "taking it back" if row.taken_back else "it"
        errors = [step.error for step in details.steps]
        out.line(f"continue {what} with: {going_on_by(row, places, errors)}")


def print_details(details: Details, places: Sequence[str], out: Out, *, cost: bool, events: bool) -> None:
    """Waits and effects of a run, and what it cost and what happened where that is wanted."""
    _print_waits(details, places, out)
    _print_effects(details, out)
    if cost:
        _print_cost(details, out)
    if events:
        out.line()
        for event in details.events:
            shown = " ".join(f"{k}={v}" for k, v in event.data.items() if v not in (None, "", []))
            out.line(f"{shown_time(event.created)}  {event.name}  {event.step_path}  {shown}".rstrip())


def print_preview(shown: Preview, out: Out) -> None:
    """What continuing a run would do."""
    out.line(f"{shown.run_id}  {shown.workflow}  {shown.status}", "bold")
    if shown.drift:
        out.line("the workflow changed since the run began", "yellow")
    longest = max((len(step.step) for step in shown.steps), default=0)
    for step in shown.steps:
        text = f"  {step.action:<8}  {step.step:<{longest}}  {step.reason}".rstrip()
        out.line(text, _STYLES.get(step.action, ""))


def _cells(row: RunRow) -> tuple[Any, ...]:
    usage = row.usage or {}
    state = f"{row.state} (offline)" if row.offline else row.state
    return (
        row.run_id,
        row.workflow,
        state,
        _local_time(row.created),
        shown_duration(row.active_us / 1e6),
        tokens_of(usage),
        _dollars(usage.get("usd", 0.0)),
    )


def _print_head(row: RunRow, out: Out) -> None:
    state = f"{row.state}, offline" if row.offline else row.state
    out.line(f"{row.run_id}  {row.workflow}  {state}", "bold")
    held = f", held by {row.holder.shown}" if row.holder else ""
    out.line(f"started {_local_time(row.created)}, active {shown_duration(row.active_us / 1e6)}{held}")
    if row.wake_at:
        out.line(f"it goes on at {_local_time(row.wake_at)}: {row.wake_reason}", "yellow")
    if row.error and row.state != "waiting":
        out.line(f"error: {row.error.get('message', '')}", "red")
        if row.error.get("cure"):
            out.line(f"  cure: {row.error['cure']}")
    out.line()


def _print_steps(shown: ShownRun, out: Out) -> None:
    steps = shown.details.steps
    rows = [
        (
            s.step_path,
            s.state,
            s.agent,
            s.model,
            shown_duration(seconds) if (seconds := seconds_of(s)) is not None else None,
            s.attempts,
            tokens_of(s.usage or {}),
            _dollars(s.usage.get("usd", 0.0)),
        )
        for s in steps
    ]
    out.table(("step", "state", "by", "model", "time", "tries", "tokens", "cost"), rows)
    for record in steps:
        if record.error and record.state != "waiting":
            out.line(f"{record.step_path}: {record.error.get('message', '')}", "red")
    for name, ref in shown.outputs.items():
        out.line(f"  {name}  {ref.get('summary', '')[:80]}")


def _print_waits(details: Details, places: Sequence[str], out: Out) -> None:
    for row in details.waits:
        wait = wait_document(row)
        if row.state == "open":
            print_lines(wait_lines(wait, places), out, "yellow")
            continue
        who = ", ".join(f"{v['voter']} at {v['at']}" for v in wait["votes"] if v.get("counts", True))
        out.line(f"  {row.wait_id} {row.state}" + (f" by {who}" if who else "") + f": {row.ask}")
        out.line(f"    step {row.step_path}")
        for vote in wait["votes"]:
            if vote.get("data") or vote.get("note") or not vote.get("counts", True):
                out.line(f"    {vote_text(vote)}")


def _print_effects(details: Details, out: Out) -> None:
    if details.effects:
        out.line()
        columns = ("effect", "step", "kind", "state", "sent", "at")
        out.table(
            columns,
            [
                (e.tool, e.step_path, f"{e.kind}, {e.effect}", e.state, e.sent, shown_time(e.intended))
                for e in details.effects
            ],
        )


def _print_cost(details: Details, out: Out) -> None:
    told = details.cost()
    for what in ("agents", "models"):
        if told[what]:
            out.line()
            rows = [(t["id"], t["tokens"], _dollars(t["usd"])) for t in told[what]]
            out.table((what.removesuffix("s"), "tokens", "cost"), rows)
    if details.budgets or details.times:
        out.line()
        out.table(("budget", "of", "limit", "spent", "held"), list(_budget_rows(details)))
    if told["unknown"]["requests"]:
        out.line(f"{told['unknown']['requests']} requests were cut off: counted as if they cost the most")


def _budget_rows(details: Details) -> Iterator[tuple[Any, ...]]:
    for row in details.budgets:
        for name, limit in row.limits.items():
            if limit is not None:
                spent, held = getattr(row.spent, name), getattr(row.reserved, name)
                yield row.budget_id, name, *(amount_of(name, amount) for amount in (limit, spent, held))
    for time in details.times:
        limit_s = shown_duration(time.limit / _MICRO)
        yield details.name_of(time), "time", limit_s, shown_duration(round(time.spent / _MICRO, 1)), ""


def _dollars(usd: float | None) -> str:
    return "unpriced" if usd is None else f"${usd:.4f}"


def _local_time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6).astimezone().strftime("%Y-%m-%d %H:%M:%S")
