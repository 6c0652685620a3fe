"""What `show` tells of a run beside its steps: waits, effects, events, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.ledger import BudgetRow, EffectRow, EventRow, Ledger, ReservationRow, RunRow, StepRecord
from blocks.ledger.budgets.times import TimeBudgetRow
from blocks.ledger.runs.effects import read_effects
from blocks.ledger.waits.documents import shown_time, wait_document
from blocks.ledger.waits.waits import WaitRow
from deployments.terminal.closing import tokens_of
from deployments.terminal.display import Out
from deployments.terminal.questions import print_lines, vote_text, wait_lines
from workflows.core.units import shown_duration

_MICRO = 1_000_000
_PAGE = 1000


@dataclass(frozen=True)
class Details:
    """Everything of one run that is no step."""

    row: RunRow
    steps: Sequence[StepRecord]
    waits: Sequence[WaitRow]
    effects: Sequence[EffectRow]
    budgets: Sequence[BudgetRow]
    reservations: Sequence[ReservationRow]
    events: Sequence[EventRow]
    times: Sequence[TimeBudgetRow] = ()

    @classmethod
    def read(cls, ledger: Ledger, row: RunRow, steps: Sequence[StepRecord], *, events: bool) -> Details:
        """From the ledger; events only where they are wanted, since there may be many."""
        place = (row.tenant, row.run_id)
        return cls(
            row=row,
            steps=steps,
            waits=ledger.waits.of_run(*place),
            effects=ledger.reader.read(lambda c: read_effects(c, *place)),
            budgets=ledger.budgets.of_run(*place),
            reservations=ledger.budgets.reservations(*place),
            events=list(_all_events(ledger, row)) if events else (),
            times=ledger.time_budgets.of_run(*place),
        )

    def to_document(self, *, cost: bool, events: bool) -> dict[str, Any]:
        """The keys that `show --json` has beside those of the run and its steps."""
        document: dict[str, Any] = {
            "waits": [wait_document(w) for w in self.waits],
            "effects": [_effect(e) for e in self.effects],
            "budgets": self._budgets(),
        }
        if cost:
            document["cost"] = self._cost()
        if events:
            document["events"] = [_event(e) for e in self.events]
        return document

    def print(self, out: Out, places: Sequence[str], *, cost: bool, events: bool) -> None:
        """For people."""
        self._print_waits(out, places)
        self._print_effects(out)
        if cost:
            self._print_cost(out)
        if events:
            out.line()
            for event in self.events:
                shown = " ".join(f"{k}={v}" for k, v in event.data.items() if v not in (None, "", []))
                out.line(f"{shown_time(event.created)}  {event.name}  {event.step_path}  {shown}".rstrip())

    def _print_waits(self, out: Out, places: Sequence[str]) -> None:
        for row in self.waits:
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

    def _print_effects(self, out: Out) -> None:
        if self.effects:
            out.line()
            columns = ("effect", "step", "kind", "state", "sent", "at")
            out.table(
                columns,
                [
                    (e.tool, e.step_path, f"{e.kind}, {e.effect}", e.state, e.sent, shown_time(e.intended))
                    for e in self.effects
                ],
            )

    def _print_cost(self, out: Out) -> None:
        told = self._cost()
        for what in ("agents", "models"):
            if told[what]:
                out.line()
                rows = [(t["id"], t["tokens"], _dollars(t["usd"])) for t in told[what]]
                out.table((what.removesuffix("s"), "tokens", "cost"), rows)
        if self.budgets or self.times:
            out.line()
            rows = [*_budget_rows(self.budgets), *self._time_rows()]
            out.table(("budget", "of", "limit", "spent", "held"), rows)
        if told["unknown"]["requests"]:
            out.line(f"{told['unknown']['requests']} requests were cut off: counted as if they cost the most")

    def _budgets(self) -> list[dict[str, Any]]:
        """Ceilings with what is used of them; those of a step's time (seconds) stand beside its others."""
        found = {row.budget_id: _budget(row) for row in self.budgets}
        for time in self.times:
            name = self._name(time)
            budget = found.setdefault(
                name, {"id": name, "limits": {}, "spent": {}, "reserved": {}, "unpriced_requests": 0}
            )
            budget["limits"]["time"] = time.limit / _MICRO
            budget["spent"]["time"] = time.spent / _MICRO
        return list(found.values())

    def _time_rows(self) -> Iterator[tuple[Any, ...]]:
        for time in self.times:
            limit, spent = shown_duration(time.limit / _MICRO), shown_duration(round(time.spent / _MICRO, 1))
            yield self._name(time), "time", limit, spent, ""

    def _name(self, time: TimeBudgetRow) -> str:
        return f"run/{self.row.run_id}/step/{time.scope}"

    def _cost(self) -> dict[str, Any]:
        unknown = [r for r in self.reservations if r.state == "forfeited" and r.actual is None]
        return {
            "agents": _sums((s.agent, s.usage) for s in self.steps),
            "models": _sums((s.model, s.usage) for s in self.steps),
            "unknown": {"requests": len(unknown), "tokens": sum(r.amount.tokens for r in unknown)},
        }


def _all_events(ledger: Ledger, row: RunRow) -> Iterator[EventRow]:
    after = 0
    while page := ledger.events.of_run(row.tenant, row.run_id, after, _PAGE):
        yield from page
        after = page[-1].seq


def _sums(parts: Any) -> list[dict[str, Any]]:
    """Tokens and dollars by name, the dearest first; dollars are None where a price is unknown."""
    sums: dict[str, dict[str, Any]] = {}
    for name, usage in parts:
        tokens = tokens_of(usage or {})
        if not name or not tokens:
            continue
        found = sums.setdefault(name, {"id": name, "tokens": 0, "usd": 0.0})
        found["tokens"] += tokens
        usd = usage.get("usd")
        found["usd"] = None if usd is None or found["usd"] is None else round(found["usd"] + usd, 6)
    return sorted(sums.values(), key=lambda found: -found["tokens"])


def _effect(row: EffectRow) -> dict[str, Any]:
    return {
        "step": row.step_path,
        "tool": row.tool,
        "kind": row.kind,
        "effect": row.effect,
        "state": row.state,
        "sent": row.sent,
        "idempotency_key": row.idempotency_key,
        "arguments": row.arguments,
        "outcome": row.outcome,
        "error": row.error,
        "wait_id": row.wait_id or None,
        "intended": shown_time(row.intended),
        "ended": shown_time(row.ended),
    }


def _budget(row: BudgetRow) -> dict[str, Any]:
    return {
        "id": row.budget_id,
        "limits": {n: _amount(n, v) for n, v in row.limits.items()},
        "spent": {n: _amount(n, getattr(row.spent, n)) for n in row.limits},
        "reserved": {n: _amount(n, getattr(row.reserved, n)) for n in row.limits},
        "unpriced_requests": row.unpriced,
    }


def _budget_rows(budgets: Sequence[BudgetRow]) -> Iterator[tuple[Any, ...]]:
    for row in budgets:
        for name, limit in row.limits.items():
            if limit is not None:
                spent, held = getattr(row.spent, name), getattr(row.reserved, name)
                yield row.budget_id, name, *(_amount(name, amount) for amount in (limit, spent, held))


def _amount(resource: str, amount: int | None) -> float | int | None:
    """Dollars as people write them; anything else as it is counted."""
    return amount / _MICRO if resource == "usd" and amount is not None else amount


def _event(row: EventRow) -> dict[str, Any]:
    told = {"seq": row.seq, "name": row.name, "step": row.step_path, "data": row.data}
    return {**told, "at": shown_time(row.created)}


def _dollars(usd: float | None) -> str:
    return "unpriced" if usd is None else f"${usd:.4f}"
