"""What bounds the work of a run: ceilings of the run, its steps and agents, and what is held of them here.

The ledger holds the ceilings and what is used of them, so that a process that dies, and a run that goes on,
change nothing about what was spent. tasks.conversation.budget_gate holds and settles for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from blocks.current_time import day_of, now_us
from tasks.durable import Durable
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import AgentPlan, BudgetPlan
from workflows.core.step_paths import within

_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Seconds left of a budget of time, and what it is."""

    seconds: float
    limit: float

    @property
    def share(self) -> float:
        """How much of it is spent."""
        return 1.0 - self.seconds / self.limit


class BudgetSpent(PhaselineError):
    """A ceiling is reached; the run stops and can be continued with a higher one."""

    exit_code = 4
    final = True


@dataclass
class Budgets:
    """The budgets of one run, and what is held of them here."""

    durable: Durable
    ids: list[tuple[str, str]] = field(default_factory=list)
    """Paths and the budgets that bound what is below them."""
    count: int = 0
    """Reservations this process asked for."""
    asking: int = 0
    """Requests that are asking for a reservation now: each may hold something in a moment."""
    held: int = 0
    """Requests of this process that hold something."""
    freed: int = 0
    """Requests that held something, and do no more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def change_counts(self, *, asking: int = 0, held: int = 0) -> None:
        """Changes the counts; who waits looks again."""
        self.asking, self.held = self.asking + asking, self.held + held
        self.freed += max(-held, 0)
        self.changed.set()
        self.changed = asyncio.Event()

    async def wait_for_room(self, freed: int) -> bool:
        """After a refusal: whether anything was given back since `freed`, so that asking again may help.

        Waits while others of this process hold something, which is an upper bound of what they cost, or may
        hold something in a moment.
        """
        while self.freed == freed:
            if not self.held and not self.asking:
                return False
            await self.changed.wait()
        return True

    async def set_ceilings(self, path: str, plan: BudgetPlan | None, part: str = "") -> None:
        """Sets the ceilings of the run ("") or of what is below a path; `part` tells two of it apart."""
        limits = {} if plan is None else _limits(plan)
        if not limits:
            return
        run_id = self.durable.lease.run_id
        budget_id = f"run/{run_id}/step/{path}{part}" if path else f"run/{run_id}"
        await self.durable.ledger.budgets.set_limits(self.durable.lease, budget_id, limits, run_id)
        if (path, budget_id) not in self.ids:
            self.ids.append((path, budget_id))

    async def bound_agent(self, agent: AgentPlan) -> str:
        """The budget of an agent's day, when it has one; its id, else ""."""
        if agent.tokens_per_day is None:
            return ""
        budget_id = f"agent/{agent.id}/{day_of(now_us())}"
        limits = {"tokens": agent.tokens_per_day}
        await self.durable.ledger.budgets.set_limits(self.durable.lease, budget_id, limits)
        return budget_id

    def of(self, path: str) -> list[str]:
        """The budgets that bound the work at a path."""
        return [i for p, i in self.ids if within(path, p)]


def _limits(plan: BudgetPlan) -> dict[str, int | None]:
    """The ceilings that requests draw on; time is kept where the work is awaited."""
    found: Mapping[str, int | None] = {
        "tokens": plan.tokens,
        "usd": None if plan.usd is None else round(plan.usd * _MICRO),
        "turns": plan.turns,
    }
    return {name: limit for name, limit in found.items() if limit is not None}
