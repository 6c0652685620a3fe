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
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Protocol, TypeVar

from blocks.boundaries import reached
from blocks.ledger import EffectIntent, EffectRow, WaitRow, WaitStart
from blocks.ledger.forms import UnfitForm
from tasks.effect_calls import REMOTE, AlreadySo, EffectCall, Kind, Refused, Unsure, brief
from tasks.effect_waits import (
    Undecided,
    abandoned,
    approval_start,
    disapproval,
    generation_of,
    question_start,
    same_question,
    undecided,
    unknown_start,
    verdict,
)
from tasks.tools import Effect, ToolError, ToolResult
from tasks.waiting import Waiting
from workflows.core.errors import PhaselineError
from workflows.core.plan import DecidersPlan
from workflows.core.refs import canonical_json, digest

__all__ = ["EffectGate", "Effects", "Refused", "Send", "Unsure", "Waits"]

Send = Callable[[str], Awaitable[ToolResult]]
"""Makes the call with an idempotency key. Raises Refused or Unsure where there is no outcome to record."""

OnEvent = Callable[[str, dict[str, Any]], None]
"""`effect.sending`: tool, effect_key, sent; `effect.settled`: tool, effect_key, state; `wait.opened`."""

TRIES = 3
"""How often an idempotent call is sent before its doubt is told to the agent."""
PAUSE = 0.5
"""Seconds before the second sending; doubled before each further one."""
OUTCOME_BYTES = 48 * 1024
"""A longer result is recorded by its beginning: a row of the ledger takes 64 KB."""
SETTLE_SECONDS = 10.0
"""How long a cancelled call may hold its caller to write down what became of it."""

IN_DOUBT = "in_doubt"
"""Set in the error of a call that may be sent again although an earlier sending may have been performed."""

_EARLIER = "an earlier sending of this call had no answer"
_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


class Effects(Protocol):
    """Where effects are written down, under the run's lease. Each method raises Fenced."""

    async def intend(self, intent: EffectIntent) -> EffectRow: ...

    async def sending(self, key: str) -> int: ...

    async def settle(
        self,
        key: str,
        state: str,
        *,
        outcome: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        wait_id: str = "",
    ) -> None: ...


class Waits(Protocol):
    """Where people are asked, under the run's lease."""

    async def open(self, start: WaitStart) -> WaitRow: ...

    async def get(self, wait_id: str) -> WaitRow | None: ...


@dataclass
class _Sending:
    """A call that is being made: what its executor may ask about it."""

    call: EffectCall
    wait_id: str
    doubt: bool
    """Whether an earlier sending may have been performed."""


def _same(value: Any) -> Any:
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
    """

    effects: Effects
    waits: Waits
    _: KW_ONLY
    tenant: str
    run_id: str
    step_path: str
    repeat: str = ""
    generation: int = 0
    scrub: Callable[[Any], Any] = _same
    keep: Callable[[ToolResult], Awaitable[ToolResult]] | None = None
    on_event: OnEvent = _ignore_event
    remote: bool = True
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _under_way: dict[str, _Sending] = field(default_factory=dict, init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict, init=False)

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
        Refused when it was definitely not performed; Unsure when an idempotent one has no outcome after all
        tries (it is unknown, and may be made again with the same ordinal); Undecided when nobody answered;
        Fenced.
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
            return await (self._read(call, send) if effect == "none" else self._act(call, send))

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
        time. Refused where no person can be asked that way.
        """
        sending = self._under_way[idempotency_key]
        start = question_start(sending.call, self.scrub(ask), self.scrub(form), detail, again)
        try:
            row = await self._open(start)
        except UnfitForm as unfit:
            tool = sending.call.tool
            raise Refused(f"{tool} asks for what people cannot fill in: {unfit.message}.") from None
        if row.state in ("answered", "rejected"):
            return row
        if sending.call.effect != "none":
            error = {"message": _EARLIER, IN_DOUBT: True} if sending.doubt else None
            await self._settle(sending.call, "not_done", error=error, wait_id=row.wait_id)
        raise Waiting((row.wait_id,), row.ask) if row.state == "open" else undecided(row)

    async def asked(self, idempotency_key: str) -> WaitRow | None:
        """For an executor at work: the question this call stopped at before, once it is decided."""
        wait_id = self._under_way[idempotency_key].wait_id
        row = await self.waits.get(wait_id) if wait_id else None
        decided = row is not None and row.kind == "mcp" and row.state in ("answered", "rejected")
        return row if decided else None

    async def _read(self, call: EffectCall, send: Send) -> ToolResult:
        refusal = await self._approved(call)
        if refusal:
            return ToolResult(refusal, is_error=True)
        with _noted(self._under_way, _Sending(call, "", doubt=False)):
            result = await send(call.idempotency_key)
        clean = ToolResult(self.scrub(result.content), result.is_error)
        return await self.keep(clean) if self.keep is not None else clean

    async def _act(self, call: EffectCall, send: Send) -> ToolResult:
        row = await self.effects.intend(self._intent(call))
        reached("effect.intended", call.step_path, call.key)
        if row.state == "done":
            return ToolResult(**(row.outcome or {"content": ""}))
        if row.state == "undone" or (row.state == "abandoned" and not await self._anew(call, row)):
            return _closed(call, row)
        await self._still_asked(call, row)
        if _in_doubt(row) and (call.effect == "once" or await self._answered(row)):
            decided = await self._asked_person(call, row)
            if decided is not None:
                return decided
            row = replace(row, state="not_done", error=None)
        refusal = await self._approved(call)
        if refusal:
            if row.state == "intended" and not _in_doubt(row):
                await self._settle(call, "refused", error={"message": refusal})
            return ToolResult(refusal, is_error=True)
        if call.effect == "idempotent":
            await self._reopen(call, row)
        return await self._send(call, row, send)

    async def _reopen(self, call: EffectCall, row: EffectRow) -> None:
        """Lets a call be sent that has no outcome, or that was asked about when it counted as `once`."""
        if row.state == "abandoned":
            await self._settle(call, "unknown")
        if row.state in ("unknown", "abandoned"):
            await self._settle(call, "not_done", error={**(row.error or {}), IN_DOUBT: True})

    async def _answered(self, row: EffectRow) -> bool:
        """Whether a person has said what became of the call, and it is not noted yet."""
        wait = await self.waits.get(row.wait_id) if row.state == "unknown" and row.wait_id else None
        return wait is not None and wait.state in ("answered", "rejected")

    async def _anew(self, call: EffectCall, row: EffectRow) -> bool:
        """Whether the step was done anew since a person decided about the call."""
        wait = await self.waits.get(row.wait_id)
        return wait is not None and wait.wait_key != self._doubt(call, row).wait_key

    async def _still_asked(self, call: EffectCall, row: EffectRow) -> None:
        """Raises Waiting for a call whose server waits for an answer: it is not called to ask again.

        Undecided where nobody answered in time, until the step is done anew.
        """
        wait = await self.waits.get(row.wait_id) if row.state == "not_done" and row.wait_id else None
        if wait is None or wait.kind != "mcp":
            return
        if wait.state in ("open", "cancelled"):
            wait = await self.waits.open(same_question(call, wait))
        if wait.state == "open":
            raise Waiting((wait.wait_id,), wait.ask)
        if wait.state == "expired" and generation_of(wait) == call.generation:
            raise undecided(wait)

    async def _approved(self, call: EffectCall) -> str:
        """Empty when the call may be made, else who refused and why. Raises Waiting, Undecided."""
        if not call.approval:
            return ""
        row = await self._open(approval_start(call, self.scrub(dict(call.arguments))))
        if row.state == "open":
            raise Waiting((row.wait_id,), row.ask)
        return str(self.scrub(disapproval(row, call.tool)))

    async def _asked_person(self, call: EffectCall, row: EffectRow) -> ToolResult | None:
        """What a person said of a call in doubt; None when it did not happen. Raises Waiting, Undecided."""
        asked = await self._question(call, row)
        if asked.state == "open":
            raise Waiting((asked.wait_id,), asked.ask)
        state, result = verdict(asked, call.tool)
        result = self.scrub(result.to_json())
        outcome = None if state == "not_done" else result
        await self._settle(call, state, outcome=outcome, wait_id=asked.wait_id)
        return None if outcome is None else ToolResult(**outcome)

    async def _question(self, call: EffectCall, row: EffectRow) -> WaitRow:
        """What is asked about a call in doubt: the question it has, or a new one that it then has.

        A step that is done anew asks anew where nobody decided, or where the call was abandoned.
        """
        start = self._doubt(call, row)
        known = await self.waits.get(row.wait_id) if row.state == "unknown" and row.wait_id else None
        if known is not None and known.state == "open":
            return await self._open(same_question(call, known))
        if known is not None and known.state in ("answered", "rejected"):
            return known
        asked = await self._open(start)
        if row.wait_id == asked.wait_id or (row.state == "intended" and asked.state != "open"):
            return asked
        if known is not None:
            await self._settle(call, "abandoned")  # with its old question: what comes next names the new one
        await self._settle(call, "unknown", error={"message": start.detail["why"]}, wait_id=asked.wait_id)
        return asked

    def _doubt(self, call: EffectCall, row: EffectRow) -> WaitStart:
        why = str((row.error or {}).get("message") or "the process ended before its outcome was known")
        return unknown_start(call, self._shown(call), row.sent, why)

    async def _send(self, call: EffectCall, row: EffectRow, send: Send) -> ToolResult:
        wait_id, tries = row.wait_id, TRIES if call.effect == "idempotent" else 1
        earlier = may_have_happened(row)
        for left in reversed(range(tries)):
            sent = await self.effects.sending(call.key)
            reached("effect.sending", call.step_path, call.key)
            self._tell("effect.sending", call, sent=sent)
            try:
                with _noted(self._under_way, _Sending(call, wait_id, earlier)):
                    result = await self._sent(call, send, earlier)
            except Unsure as doubt:
                if call.effect == "once":
                    raise await _ended(self._doubted(call, sent, doubt)) from None
                if not left or not doubt.passing:
                    raise await _ended(self._given_up(call, doubt)) from None
                earlier = True
                await self.sleep(PAUSE * 2.0 ** (tries - 1 - left))
            else:
                reached("effect.performed", call.step_path, call.key)
                return await _ended(self._done(call, result))
        raise AssertionError("the last try returns or raises")

    async def _sent(self, call: EffectCall, send: Send, earlier: bool) -> ToolResult:
        """What the other side answered. Raises Unsure, and what ends the step, after noting what is known.

        `earlier`: whether an earlier sending may have been performed.
        """
        try:
            return await send(call.idempotency_key)
        except Refused as refused:
            if earlier:
                return _of_earlier(refused)
            await _ended(self._settle(call, "refused", error=self._error(refused)))
            raise
        except (Unsure, Waiting, Undecided):
            raise
        except ToolError as told:
            return ToolResult(str(told) or f"{call.tool} failed.", is_error=True)
        except PhaselineError as fault:
            # Some say that nothing had been sent; the others end the step with the call in doubt.
            nothing = getattr(fault, "before_sending", False) and not earlier
            state = "refused" if nothing else "unknown"
            await self._left(call, state, fault.message)
            raise
        except Exception as fault:  # noqa: BLE001 - an executor is foreign code; what it did is not known
            _LOG.exception("the call of %s ended unexpectedly", call.tool)
            raise Unsure(f"{call.tool} ended unexpectedly ({type(fault).__name__}).") from None
        except BaseException:  # cancelled, by a timeout or a signal
            await self._left(call, "unknown", "it was cancelled while it was under way")
            raise

    async def _left(self, call: EffectCall, state: str, why: str) -> None:
        """Notes what became of a call that something else ends; the row is right without it, too."""
        try:
            await _ended(self._settle(call, state, error={"message": self.scrub(why)}))
        except PhaselineError as error:
            _LOG.warning("the outcome of %s could not be noted: %s", call.tool, error.message)

    async def _doubted(self, call: EffectCall, sent: int, doubt: Unsure) -> Waiting:
        """The question whether a call happened, asked. The wait comes first: it is found again by its key."""
        error = self._error(doubt)
        row = await self._open(unknown_start(call, self._shown(call), sent, error["message"]))
        await self._settle(call, "unknown", error=error, wait_id=row.wait_id)
        return Waiting((row.wait_id,), row.ask)

    async def _given_up(self, call: EffectCall, doubt: Unsure) -> Unsure:
        """An idempotent call without an outcome after its last try, written down as that."""
        told = Unsure(f"{doubt} It may have been performed; calling it again is safe.")
        await self._settle(call, "unknown", error=self._error(told))
        return told

    async def _done(self, call: EffectCall, result: ToolResult) -> ToolResult:
        """The recorded outcome. Where its body cannot be stored: its beginning, and then the fault."""
        kept, fault = ToolResult(self.scrub(result.content), result.is_error), None
        if self.keep is not None:
            try:
                kept = await self.keep(kept)
            except Exception as error:  # noqa: BLE001 - whatever it is, the call was made and must be recorded
                fault = error
        kept = _beginning(kept)
        await self._settle(call, "done", outcome=kept.to_json())
        if fault is not None:
            raise fault
        return kept

    async def _open(self, start: WaitStart) -> WaitRow:
        return self._told(await self.waits.open(start))

    def _told(self, row: WaitRow) -> WaitRow:
        if row.state == "open":
            told = {"step": row.step_path, "wait_id": row.wait_id, "kind": row.kind, "ask": row.ask}
            reached("wait.opened", row.step_path, row.wait_id)
            self.on_event("wait.opened", told)
        return row

    async def _settle(self, call: EffectCall, state: str, **more: Any) -> None:
        await self.effects.settle(call.key, state, **more)
        reached("effect.settled", call.step_path, f"{call.key}:{state}")
        self._tell("effect.settled", call, state=state)

    def _tell(self, name: str, call: EffectCall, **more: Any) -> None:
        told = {"step": call.step_path, "tool": call.tool, "effect_key": call.key, **more}
        self.on_event(name, told)

    def _error(self, error: Exception) -> dict[str, Any]:
        return {"message": str(brief(self.scrub(str(error)))), "kind": type(error).__name__.lower()}

    def _shown(self, call: EffectCall) -> Any:
        return brief(self.scrub(dict(call.arguments)))

    def _intent(self, call: EffectCall) -> EffectIntent:
        return EffectIntent(
            step_path=call.step_path,
            kind=call.kind,
            tool=call.tool,
            effect="once" if call.effect == "once" else "idempotent",
            effect_key=call.key,
            idempotency_key=call.idempotency_key,
            arguments=self._shown(call),
            arguments_digest=digest(call.arguments),
        )


@contextmanager
def _noted(under_way: dict[str, _Sending], sending: _Sending) -> Iterator[None]:
    """Lets the executor ask about its call while it makes it."""
    under_way[sending.call.idempotency_key] = sending
    try:
        yield
    finally:
        del under_way[sending.call.idempotency_key]


async def _ended(work: Coroutine[Any, Any, _T]) -> _T:
    """The end of `work`, which a cancellation of the caller does not interrupt but follows."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        done, _ = await asyncio.wait({task}, timeout=SETTLE_SECONDS)
        if done and not task.cancelled() and task.exception() is not None:
            _LOG.warning("an outcome could not be noted: %s", task.exception())
        raise


def _of_earlier(refused: Refused) -> ToolResult:
    """What a refusal says of an earlier sending in doubt: that it was performed, or raises Unsure."""
    if isinstance(refused, AlreadySo):
        return ToolResult(f"{refused}\n[It counts as done: {_EARLIER}.]")
    raise Unsure(f"{refused}\nThis sending was refused, but {_EARLIER}.", passing=False) from None


def may_have_happened(row: EffectRow) -> bool:
    """Whether a call is in doubt, or was when it was let go for another sending."""
    return _in_doubt(row) or (row.state == "not_done" and bool((row.error or {}).get(IN_DOUBT)))


def _in_doubt(row: EffectRow) -> bool:
    """Whether the call may have been performed: it was sent, and nobody said that it was, or was not."""
    return row.sent > 0 and row.state in ("intended", "unknown", "abandoned")


def _closed(call: EffectCall, row: EffectRow) -> ToolResult:
    if row.state == "abandoned" and row.outcome:
        return ToolResult(**row.outcome)
    return abandoned(call.tool, "it was taken back." if row.state == "undone" else "it was abandoned.")


def _beginning(result: ToolResult) -> ToolResult:
    """A result that fits into a row: itself, or as much of its text."""
    text, size = result.content, len(canonical_json(result.to_json()).encode("utf-8", "surrogatepass"))
    if size <= OUTCOME_BYTES:
        return result
    if not isinstance(text, str):
        text = "\n".join(block["text"] for block in text if block.get("type") == "text")
    length = OUTCOME_BYTES // 2
    while len(canonical_json(text[:length]).encode("utf-8", "surrogatepass")) > OUTCOME_BYTES - 200:
        length //= 2
    return ToolResult(f"{text[:length]}\n[cut: {size} bytes in all]", result.is_error)
