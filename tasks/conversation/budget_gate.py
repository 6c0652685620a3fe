"""Budgets at work: what a request may cost is held before it is sent, and settled after it."""

from __future__ import annotations

import asyncio
import shlex
import time
from dataclasses import dataclass, replace

from blocks.boundaries import reach_boundary
from blocks.ledger import Amount, BudgetLedger, BudgetRefusal, Lease
from blocks.models import Answer, ModelError, Request, Retryable
from tasks.budget import Budgets, BudgetSpent
from tasks.context import RunContext
from workflows.core.plans.plan import AgentPlan
from workflows.core.refs import canonical_json
from workflows.core.usage import Usage

WRAP_UP = 0.9
"""From this share on the agent is told to come to an end."""
HELD_SECONDS = 1800.0
"""How long a reservation nobody settles is held before it counts as spent; longer than any request takes."""
_BYTES_PER_TOKEN = 2.5
"""Fewer than any text has on average, so that an estimate of tokens is an upper bound."""
_MICRO = 1_000_000
_TWO_NOTICES = Amount(tokens=256)
"""More than saying it twice adds to a request: being told to end may not be what is too much."""


@dataclass
class BudgetGate:
    """Holds and settles for the requests of one conversation, one at a time."""

    context: RunContext
    budgets: Budgets
    path: str
    agent: AgentPlan
    day: str = ""
    _id: str = ""
    _bounds: tuple[Amount, ...] = ()
    """What the last two requests of the conversation were held to cost, the last one first."""
    _cost: Amount | None = None
    """What it cost in the end; None before the first answer of this process."""
    _began: float = 0.0
    """When the last request was sent, on the clock of `time.monotonic`."""
    _longest: float = 0.0
    """Seconds that the longest request of the conversation took."""

    @property
    def bounded(self) -> bool:
        """Whether any ceiling bounds the conversation."""
        return bool(self._ids()) or self.context.time_left(self.path) is not None

    async def before(self, request: Request) -> None:
        """Holds what the request may cost. Raises BudgetSpent when a ceiling does not allow it."""
        ids = self._ids()
        if ids:
            await self._hold(ids, request)
        self._began = time.monotonic()

    async def _hold(self, ids: list[str], request: Request) -> None:
        amount = self._upper_bound(request)
        lease, budgets = self.budgets.durable.lease, self.budgets
        self._bounds = (amount, *self._bounds[:1])
        while True:
            freed = budgets.freed
            refusal = await self._reserve(ids, amount)
            if refusal is None:
                return
            if not await budgets.wait_for_room(freed):
                raise _budget_fault(refusal, lease.run_id)

    async def _reserve(self, ids: list[str], amount: Amount) -> BudgetRefusal | None:
        lease, budgets = self.budgets.durable.lease, self.budgets
        budgets.count += 1
        reservation = f"{lease.run_id}/{self.path}/{lease.epoch}/{budgets.count}"
        budgets.change_counts(asking=1)
        held = 0
        try:
            refusal = await budgets.durable.ledger.budgets.reserve(
                lease, reservation, ids, amount, self.path, int(HELD_SECONDS * _MICRO)
            )
            if refusal is None:
                self._id, held = reservation, 1
        finally:
            budgets.change_counts(asking=-1, held=held)
        return refusal

    async def after(self, answer: Answer) -> None:
        """Settles with what the answer really cost."""
        self._longest = max(self._longest, time.monotonic() - self._began)
        if self._id:
            reach_boundary("turn.received", self.path)
        await self._settle(answer.usage, answer.model)

    async def failed(self, error: BaseException) -> None:
        """Gives back what was certainly not billed; what may have been stays charged."""
        if not self._id:
            return
        spent = error.spent if isinstance(error, ModelError) else Usage()
        if spent != Usage():
            await self._settle(spent, self.agent.model.id)
            return
        doubtful = not isinstance(error, ModelError) or (
            isinstance(error, Retryable) and error.kind in ("timeout", "connection", "cut", "malformed")
        )
        await self._end(sent=doubtful)

    async def unsent(self) -> None:
        """Gives back all that is held."""
        if self._id:
            await self._end(sent=False)

    async def notice(self) -> str:
        """What the agent should know about its budget; "" while there is enough."""
        spent = await self._nearly_spent() or self._nearly_over()
        if not spent:
            return ""
        return (
            f"{spent} for this work is spent; it may not allow another answer after this. "
            "Come to an end now: give your best complete answer with what you have, without more tool calls."
        )

    async def _nearly_spent(self) -> str:
        ids = self._ids()
        if not ids:
            return ""
        ledger, lease = self._ledger()
        rows = await asyncio.to_thread(ledger.read, lease.tenant, ids)
        share = max((s for row in rows for s in row.shares().values()), default=0.0)
        enough = share < WRAP_UP and all(row.allows(self._two_more()) for row in rows)
        return "" if enough else f"{share:.0%} of the budget"

    def _nearly_over(self) -> str:
        """The same of time, where one more request after the next may not come to its end."""
        left = self.context.time_left(self.path)
        if left is None or (left.share < WRAP_UP and left.seconds > 2 * self._longest):
            return ""
        return f"{left.share:.0%} of the time"

    def _two_more(self) -> Amount:
        """What the next request will cost and the one after it must hold, as far as earlier ones tell.

        A request is held to cost its whole `max_tokens`, so that a budget can end long before 90 % are spent.
        """
        if self._cost is None or not self._bounds:
            return Amount()
        last, growth = self._bounds[0], self._cost
        if len(self._bounds) > 1:
            growth = last.over(self._bounds[1])
        more = self._cost + last + growth + growth + _TWO_NOTICES
        return replace(more, turns=2)

    def _ids(self) -> list[str]:
        return [*([self.day] if self.day else []), *self.budgets.of(self.path)]

    def _upper_bound(self, request: Request) -> Amount:
        text = canonical_json({k: request.get(k) for k in ("system", "messages", "tools")})
        tokens_in = int(len(text.encode("utf-8", "surrogatepass")) / _BYTES_PER_TOKEN) + 16
        most = Usage(input_tokens=tokens_in, output_tokens=int(request["max_tokens"]))
        return Amount(tokens=most.total_tokens, usd=self._to_micro(most, str(request["model"])), turns=1)

    def _to_micro(self, usage: Usage, model: str) -> int:
        return round((self.context.usd(usage, model) or 0.0) * _MICRO)

    async def _settle(self, usage: Usage, model: str) -> None:
        if not self._id:
            return
        usd = self.context.usd(usage, model)
        actual = Amount(tokens=usage.total_tokens, usd=round((usd or 0.0) * _MICRO), turns=1)
        ledger, lease = self._ledger()
        reservation, self._cost = self._take(), actual
        try:
            await asyncio.shield(ledger.settle(lease, reservation, actual, unpriced=usd is None))
        finally:
            self.budgets.change_counts(held=-1)

    async def _end(self, *, sent: bool) -> None:
        """Ends the reservation of a request without an answer; one that was `sent` may have been billed."""
        ledger, lease = self._ledger()
        reservation = self._take()
        try:
            await asyncio.shield(
                ledger.forfeit(lease, reservation) if sent else ledger.release(lease, reservation)
            )
        finally:
            self.budgets.change_counts(held=-1)

    def _take(self) -> str:
        reservation, self._id = self._id, ""
        return reservation

    def _ledger(self) -> tuple[BudgetLedger, Lease]:
        return self.budgets.durable.ledger.budgets, self.budgets.durable.lease


def _budget_fault(refusal: BudgetRefusal, run_id: str) -> BudgetSpent:
    def format_amount(amount: int) -> str:
        return f"${amount / _MICRO:.4f}" if refusal.resource == "usd" else f"{amount:,} {refusal.resource}"

    if refusal.budget_id.startswith("agent/"):
        agent = refusal.budget_id.split("/", 1)[1].rsplit("/", 1)[0]
        whose = f"the agent {agent} today"
        cure = (
            f"continue tomorrow: phaseline resume {run_id}; "
            f"or today: phaseline resume {run_id} --raise-budget {shlex.quote(f'agent:{agent}.tokens=N')}"
        )
    else:
        _, step, path = refusal.budget_id.partition("/step/")
        whose = f"the step {path}" if step else "the run"
        name = f"{path}.{refusal.resource}" if step else refusal.resource
        cure = f"phaseline resume {run_id} --raise-budget {shlex.quote(f'{name}=N')}"
    return BudgetSpent(
        f"the budget of {whose} does not allow another request: {format_amount(refusal.spent)} of "
        f"{format_amount(refusal.limit)} spent, and one more may cost {format_amount(refusal.asked)}",
        cure,
    )
