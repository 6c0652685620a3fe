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
from workflows.core.usage import Usage

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
            waits=ledger.waits.of_run_blocking(*place),
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
            document["cost"] = self.cost()
        if events:
            document["events"] = [_event(e) for e in self.events]
        return document

    def _budgets(self) -> list[dict[str, Any]]:
        """Ceilings with what is used of them; those of a step's time (seconds) stand beside its others."""
        found = {row.budget_id: _budget(row) for row in self.budgets}
        for time in self.times:
            name = self.name_of(time)
            budget = found.setdefault(
                name, {"id": name, "limits": {}, "spent": {}, "reserved": {}, "unpriced_requests": 0}
            )
            budget["limits"]["time"] = time.limit / _MICRO
            budget["spent"]["time"] = time.spent / _MICRO
        return list(found.values())

    def name_of(self, time: TimeBudgetRow) -> str:
        """The id of a budget of time, as those of tokens have one."""
        return f"run/{self.row.run_id}/step/{time.scope}"

    def cost(self) -> dict[str, Any]:
        """What was spent, by agent and by model, and what was cut off."""
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
        tokens = Usage.from_json(usage or {}).total_tokens
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
        "limits": {n: amount_of(n, v) for n, v in row.limits.items()},
        "spent": {n: amount_of(n, getattr(row.spent, n)) for n in row.limits},
        "reserved": {n: amount_of(n, getattr(row.reserved, n)) for n in row.limits},
        "unpriced_requests": row.unpriced,
    }


def amount_of(resource: str, amount: int | None) -> float | int | None:
    """Dollars as people write them; anything else as it is counted."""
    return amount / _MICRO if resource == "usd" and amount is not None else amount


def _event(row: EventRow) -> dict[str, Any]:
    told = {"seq": row.seq, "name": row.name, "step": row.step_path, "data": row.data}
    return {**told, "at": shown_time(row.created)}
