"""Where the calls of a run are written down, with what is asked about them; who watches is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from blocks.boundaries import reach_boundary
from blocks.ledger import (
    EffectIntent,
    EffectLedger,
    EffectRow,
    EffectState,
    Lease,
    WaitLedger,
    WaitRow,
    WaitStart,
)
from blocks.process.cut_off import SETTLE_SECONDS, uncut
from tasks.effects.calls import EffectCall, NotPerformed, Unsure, shorten_value
from workflows.core.errors import PhaselineError
from workflows.core.refs import digest

OnEvent = Callable[[str, dict[str, Any]], None]
"""`effect.sending`: tool, effect_key, sent; `effect.settled`: tool, effect_key, state; `wait.opened`."""

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_INTENDED: ContextVar[list[str] | None] = ContextVar("phaseline_intended", default=None)


@dataclass(frozen=True)
class EffectRecord:
    """Writes down what becomes of a run's calls, under its lease. Its methods raise Fenced.

    `scrub` takes known secrets out.
    """

    effects: EffectLedger
    waits: WaitLedger
    lease: Lease
    scrub: Callable[[Any], Any]
    on_event: OnEvent

    async def intend(self, call: EffectCall) -> EffectRow:
        """The call's row: what is known of it, or that it is about to be made."""
        row = await self.effects.intend(
            self.lease,
            EffectIntent(
                step_path=call.step_path,
                kind=call.kind,
                tool=call.tool,
                effect="once" if call.effect == "once" else "idempotent",
                effect_key=call.key,
                idempotency_key=call.idempotency_key,
                arguments=self.shown_arguments(call),
                arguments_digest=digest(call.arguments),
            ),
        )
        reach_boundary("effect.intended", call.step_path, call.key)
        if (keys := _INTENDED.get()) is not None:
            keys.append(call.key)
        return row

    async def sending(self, call: EffectCall) -> int:
        """How often it is sent with the sending that comes now."""
        sent = await self.effects.count_send(self.lease, call.key)
        reach_boundary("effect.sending", call.step_path, call.key)
        self._tell("effect.sending", call, sent=sent)
        return sent

    async def settle(self, call: EffectCall, state: EffectState, **more: Any) -> None:
        """What became of it; `more` as in `EffectLedger.settle`."""
        await self.effects.settle(self.lease, call.key, state, **more)
        reach_boundary("effect.settled", call.step_path, f"{call.key}:{state}")
        self._tell("effect.settled", call, state=state)

    async def leave(self, call: EffectCall, state: EffectState, why: str) -> None:
        """What became of a call that something else ends; the row is right without it, too."""
        try:
            await finish_uncut(self.settle(call, state, error={"message": self.scrub(why)}))
        except PhaselineError as error:
            _LOG.warning("the outcome of %s could not be noted: %s", call.tool, error.message)

    async def open(self, start: WaitStart) -> WaitRow:
        """The question, asked when it is a new one."""
        row = await self.waits.open(self.lease, start)
        if row.state == "open":
            reach_boundary("wait.opened", row.step_path, row.wait_id)
            told = {"step": row.step_path, "wait_id": row.wait_id, "kind": row.kind, "ask": row.ask}
            self.on_event("wait.opened", told)
        return row

    async def question_of(self, row: EffectRow, state: EffectState) -> WaitRow | None:
        """What was asked about a call of that state; None for another state, and where nothing was."""
        return await self.find_question(row.wait_id) if row.state == state else None

    async def find_question(self, wait_id: str) -> WaitRow | None:
        """The question of that id; None for none."""
        return await self.waits.get(self.lease.tenant, wait_id) if wait_id else None

    def describe_error(self, error: NotPerformed | Unsure) -> dict[str, Any]:
        """Why a sending has no outcome, as it is recorded."""
        return {"message": str(shorten_value(self.scrub(str(error)))), "kind": error.kind}

    def shown_arguments(self, call: EffectCall) -> Any:
        """The arguments as they are recorded."""
        return shorten_value(self.scrub(dict(call.arguments)))

    def _tell(self, name: str, call: EffectCall, **more: Any) -> None:
        self.on_event(name, {"step": call.step_path, "tool": call.tool, "effect_key": call.key, **more})


@contextmanager
def collect_intended() -> Iterator[list[str]]:
    """The keys of the calls that are intended within it."""
    keys: list[str] = []
    token = _INTENDED.set(keys)
    try:
        yield keys
    finally:
        _INTENDED.reset(token)


async def finish_uncut(work: Coroutine[Any, Any, _T]) -> _T:
    """The end of `work`, which a cancellation of the caller does not interrupt but follows."""
    return await uncut(work, SETTLE_SECONDS, at_once=True)
