"""The gate between a step and the world: intent, call, outcome.

Every call that may change something outside is written down before it is made and again when its outcome is
known. What was done is never done twice: a call without a known outcome is repeated with the same
idempotency key where the tool is declared idempotent, and else becomes a question to a person. Once its last
try is over, a call in doubt is recorded as unknown, whether or not somebody is asked about it. A refusal ends
a doubt only about its own sending: what an earlier one may have done stays unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from blocks.boundaries import reach_boundary
from blocks.ledger import EffectLedger, EffectRow, Lease, WaitLedger, WaitRow
from blocks.patience import EFFECT, Patience, Vigil, Wait
from tasks.effects.calls import REMOTE, EffectCall, Kind, NotPerformed, Unreached, Unsure
from tasks.effects.earlier_work import EarlierWork
from tasks.effects.questions import Questions
from tasks.effects.record import EffectRecord, OnEvent, finish_uncut
from tasks.effects.rows import IN_DOUBT, closed_result, cut_to_row, in_doubt, judge_earlier, may_have_happened
from tasks.effects.waits import Undecided, by_timeout, generation_of, is_decided, question_start
from tasks.tools import Effect, ToolError, ToolResult
from tasks.waiting import Waiting
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import DecidersPlan

T = TypeVar("T")

__all__ = ["EffectGate", "NotPerformed", "Send", "Unsure"]

Send = Callable[[str], Awaitable[ToolResult]]
"""Makes the call with an idempotency key. Raises NotPerformed or Unsure where there is no outcome."""

_LOG = logging.getLogger(__name__)


@dataclass
class _Sending:
    """A call that is being made: what its executor may ask about it."""

    call: EffectCall
    wait_id: str
    doubt: bool
    """Whether an earlier sending may have been performed."""


def _unchanged(value: Any) -> Any:
    return value


def _ignore_event(name: str, data: dict[str, Any]) -> None:
    """For callers that do not watch."""


@dataclass
class EffectGate:
    """The effects of one attempt at one unit of work.

    `repeat` is empty, or names a repetition a person asked for (`--repeat-effects`): recorded outcomes of
    other repetitions do not count. `generation` counts how often a person had the unit done anew: people are
    asked anew about what is not done. `scrub` takes known secrets out of what is recorded and given back.
    `keep` makes a large result small, by storing its body. `remote=False` lets nothing beyond this machine.
    `earlier` is what was done by conversations that the agent does not remember.
    """

    effects: EffectLedger
    waits: WaitLedger
    lease: Lease
    _: KW_ONLY
    tenant: str
    run_id: str
    step_path: str
    repeat: str = ""
    generation: int = 0
    scrub: Callable[[Any], Any] = _unchanged
    keep: Callable[[ToolResult], Awaitable[ToolResult]] | None = None
    on_event: OnEvent = _ignore_event
    remote: bool = True
    earlier: EarlierWork = field(default_factory=EarlierWork)
    patience: Patience = field(default_factory=Patience)
    _under_way: dict[str, _Sending] = field(default_factory=dict, init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)
    _record: EffectRecord = field(init=False)
    _questions: Questions = field(init=False)

    @property
    def _vigil(self) -> Vigil:
        """Of one call."""
        return Vigil(self.patience, self.on_event).at_start()

    def __post_init__(self) -> None:
        self._record = EffectRecord(self.effects, self.waits, self.lease, self.scrub, self.on_event)
        self._questions = Questions(self._record)

    async def perform(
        self,
        *,
        kind: Kind,
        tool: str,
        arguments: dict[str, Any],
        effect: Effect,
        ordinal: int,
        send: Send,
        key_fields: Sequence[str] = (),
        approval: bool = False,
        people: DecidersPlan | None = None,
    ) -> ToolResult:
        """The call's outcome: recorded before, or made now. `people` answer what is asked about it.

        Raises Waiting when a person has to approve it, to say whether it happened, or to answer the server;
        NotPerformed when it definitely was not; Unsure when an idempotent one has no outcome after all tries
        (it is unknown, and may be made again with the same ordinal); Undecided when nobody answered; Fenced.
        """
        call = EffectCall(
            tenant=self.tenant,
            run_id=self.run_id,
            step_path=self.step_path,
            repeat=self.repeat,
            generation=self.generation,
            kind=kind,
            tool=tool,
            arguments=arguments,
            effect=effect,
            ordinal=ordinal,
            key_fields=tuple(key_fields),
            approval=approval,
            people=people,
        )
        if kind in REMOTE and not self.remote:
            raise ToolError(f"{tool} was not called: this run reaches nothing beyond this machine.")
        # Calls that count as one effect are made one after the other, so that the second finds an outcome.
        async with self._locks.setdefault(call.key, asyncio.Lock()):
            return await (
                self._perform_reading(call, send) if effect == "none" else self._perform_acting(call, send)
            )

    async def ask(
        self,
        idempotency_key: str,
        *,
        ask: str,
        form: dict[str, Any],
        detail: dict[str, Any],
        again: int = 0,
    ) -> WaitRow:
        """For an executor at work: a decided question that the other side asks before it goes on.

        `detail` is what is needed to go on later; `again` counts equal questions of one call. Raises Waiting
        while nobody has answered: the call counts as not performed until then; Undecided when nobody did in
        time. NotPerformed where no person can be asked that way.
        """
        sending = self._under_way[idempotency_key]
        start = question_start(sending.call, self.scrub(ask), self.scrub(form), detail, again)
        return await self._questions.ask_for_server(sending.call, start, doubt=sending.doubt)

    async def find_decision(self, idempotency_key: str) -> WaitRow | None:
        """For an executor at work: the question this call stopped at before, once it is decided.

        What nobody decided in time is asked anew in another generation; what a person said stays said.
        """
        sending = self._under_way[idempotency_key]
        row = await self._record.find_question(sending.wait_id)
        if not is_decided(row) or row.kind != "mcp":
            return None
        return None if by_timeout(row) and generation_of(row) != sending.call.generation else row

    async def _perform_reading(self, call: EffectCall, send: Send) -> ToolResult:
        refusal = await self._questions.refusal(call)
        if refusal:
            return ToolResult(refusal, is_error=True)
        with _mark_under_way(self._under_way, _Sending(call, "", doubt=False)):
            result = await self.reach(partial(send, call.idempotency_key))
        clean = ToolResult(self.scrub(result.content), result.is_error)
        return await self.keep(clean) if self.keep is not None else clean

    async def _perform_acting(self, call: EffectCall, send: Send) -> ToolResult:
        row = await self._record.intend(call)
        if row.state == "done":
            return ToolResult(**(row.outcome or {"content": ""}))
        if row.state == "undone" or (
            row.state == "abandoned" and not await self._questions.is_done_anew(call, row)
        ):
            return closed_result(call, row)
        await self._questions.stop_while_asked(call, row)
        if in_doubt(row) and (call.effect == "once" or await self._questions.is_answered(row)):
            outcome = await self._questions.outcome(call, row)
            if outcome is not None:
                return outcome
            row = replace(row, state="not_done", error=None)
        before = self.earlier.of_tool(call)
        if before:
            call = replace(call, before=tuple(str(done.get("said", "done")) for done in before[-3:]))
        refusal = await self._questions.refusal(call)
        if refusal:
            if row.state == "intended" and not in_doubt(row):
                await self._record.settle(call, "refused", error={"message": refusal})
            return ToolResult(refusal, is_error=True)
        if call.effect == "idempotent":
            await self._reopen(call, row)
        return await self._send(call, row, send)

    async def _reopen(self, call: EffectCall, row: EffectRow) -> None:
        """Lets a call be sent that has no outcome, or that was asked about when it counted as `once`."""
        if row.state == "abandoned":
            await self._record.settle(call, "unknown")
        if row.state in ("unknown", "abandoned"):
            await self._record.settle(call, "not_done", error={**(row.error or {}), IN_DOUBT: True})

    async def _send(self, call: EffectCall, row: EffectRow, send: Send) -> ToolResult:
        wait_id, earlier, wait = row.wait_id, may_have_happened(row), Wait(self._vigil, EFFECT)
        while True:
            sent = await self._record.sending(call)
            try:
                with _mark_under_way(self._under_way, _Sending(call, wait_id, earlier)):
                    result = await self._try_sending(call, send, earlier)
            except Unsure as doubt:
                if call.effect == "once":
                    raise await finish_uncut(self._questions.ask_whether_done(call, sent, doubt)) from None
                pause = wait.next(self.scrub(str(doubt))) if doubt.passing else None
                if pause is None:
                    raise await finish_uncut(self._give_up(call, doubt)) from None
                earlier = True
                await asyncio.sleep(pause)
            else:
                wait.end()
                reach_boundary("effect.performed", call.step_path, call.key)
                return await finish_uncut(self._record_outcome(call, result))

    async def reach(self, work: Callable[[], Awaitable[T]], away: type[Exception] = Unreached) -> T:
        """What `work` gives, once the other side can be reached. `away` says that it cannot be: then nothing
        was sent."""

        def passing(error: Exception) -> str | None:
            return str(self.scrub(str(error))) if isinstance(error, away) else None

        return await self._vigil.outwait(EFFECT, work, passing, lambda error, *_: error)

    async def _try_sending(self, call: EffectCall, send: Send, earlier: bool) -> ToolResult:
        """What the other side answered. Raises Unsure, and what ends the step, after noting what is known.

        `earlier`: whether an earlier sending may have been performed.
        """
        try:
            return await self.reach(partial(send, call.idempotency_key))
        except NotPerformed as refused:
            if earlier:
                return judge_earlier(refused)
            await finish_uncut(
                self._record.settle(call, "refused", error=self._record.describe_error(refused))
            )
            raise
        except (Unsure, Waiting, Undecided):
            raise
        except ToolError as told:
            return ToolResult(str(told) or f"{call.tool} failed.", is_error=True)
        except PhaselineError as fault:
            # Some say that nothing had been sent; the others end the step with the call in doubt.
            nothing = getattr(fault, "before_sending", False) and not earlier
            await self._record.leave(call, "refused" if nothing else "unknown", fault.message)
            raise
        except Exception as fault:  # noqa: BLE001 - an executor is foreign code; what it did is not known
            _LOG.exception("the call of %s ended unexpectedly", call.tool)
            raise Unsure(f"{call.tool} ended unexpectedly ({type(fault).__name__}).") from None
        except BaseException:  # cancelled, by a timeout or a signal
            await self._record.leave(call, "unknown", "it was cancelled while it was under way")
            raise

    async def _give_up(self, call: EffectCall, doubt: Unsure) -> Unsure:
        """An idempotent call without an outcome after its last try, written down as that."""
        told = Unsure(f"{doubt} It may have been performed; calling it again is safe.")
        await self._record.settle(call, "unknown", error=self._record.describe_error(told))
        return told

    async def _record_outcome(self, call: EffectCall, result: ToolResult) -> ToolResult:
        """The recorded outcome. Where its body cannot be stored: its beginning, and then the fault."""
        kept, fault = ToolResult(self.scrub(result.content), result.is_error), None
        if self.keep is not None:
            try:
                kept = await self.keep(kept)
            except Exception as error:  # noqa: BLE001 - whatever it is, the call was made and must be recorded
                fault = error
        kept = cut_to_row(kept)
        await self._record.settle(call, "done", outcome=kept.to_json())
        if fault is not None:
            raise fault
        return kept


@contextmanager
def _mark_under_way(under_way: dict[str, _Sending], sending: _Sending) -> Iterator[None]:
    """Lets the executor ask about its call while it makes it."""
    under_way[sending.call.idempotency_key] = sending
    try:
        yield
    finally:
        del under_way[sending.call.idempotency_key]
