"""What people decide about calls: asked where it is not known, noted where it is."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.ledger import EffectRow, WaitRow, WaitStart
from blocks.ledger.waits.forms import UnfitForm
from tasks.effects.calls import EffectCall, NotPerformed, Unsure
from tasks.effects.record import EffectRecord
from tasks.effects.rows import EARLIER, IN_DOUBT
from tasks.effects.waits import (
    approval_start,
    disapproval,
    generation_of,
    is_decided,
    same_question,
    undecided_fault,
    unknown_start,
    verdict,
)
from tasks.tools import ToolResult
from tasks.waiting import Waiting


@dataclass(frozen=True)
class Questions:
    """The questions about the calls of one attempt.

    What asks raises Waiting while nobody has answered, and Undecided when nobody did in time.
    """

    record: EffectRecord

    async def refusal(self, call: EffectCall) -> str:
        """Empty when the call may be made, else who refused and why."""
        if not call.approval and not call.before:
            return ""
        row = await self.record.open(approval_start(call, self.record.scrub(dict(call.arguments))))
        if row.state == "open":
            raise Waiting((row.wait_id,), row.ask)
        return str(self.record.scrub(disapproval(row, call.tool)))

    async def ask_for_server(self, call: EffectCall, start: WaitStart, *, doubt: bool) -> WaitRow:
        """The answer to what a server asks before it goes on. Raises NotPerformed where people can give none.

        The call counts as not performed meanwhile; `doubt`: but for an earlier sending, which may have been.
        """
        try:
            row = await self.record.open(start)
        except UnfitForm as unfit:
            raise NotPerformed(f"{call.tool} asks for what people cannot fill in: {unfit.message}.") from None
        if is_decided(row):
            return row
        if call.effect != "none":
            error = {"message": EARLIER, IN_DOUBT: True} if doubt else None
            await self.record.settle(call, "not_done", error=error, wait_id=row.wait_id)
        raise Waiting((row.wait_id,), row.ask) if row.state == "open" else undecided_fault(row)

    async def stop_while_asked(self, call: EffectCall, row: EffectRow) -> None:
        """Raises Waiting for a call whose server waits for an answer: it is not called to ask again.

        Undecided where nobody answered in time, until the step is done anew.
        """
        wait = await self.record.question_of(row, "not_done")
        if wait is None or wait.kind != "mcp":
            return
        if wait.state in ("open", "cancelled"):
            wait = await self.record.waits.open(self.record.lease, same_question(call, wait))
        if wait.state == "open":
            raise Waiting((wait.wait_id,), wait.ask)
        if wait.state == "expired" and generation_of(wait) == call.generation:
            raise undecided_fault(wait)

    async def is_answered(self, row: EffectRow) -> bool:
        """Whether a person has said what became of the call, and it is not noted yet."""
        return is_decided(await self.record.question_of(row, "unknown"))

    async def is_done_anew(self, call: EffectCall, row: EffectRow) -> bool:
        """Whether the step was done anew since a person abandoned the call."""
        wait = await self.record.question_of(row, "abandoned")
        return wait is not None and wait.wait_key != self._doubt_start(call, row).wait_key

    async def outcome(self, call: EffectCall, row: EffectRow) -> ToolResult | None:
        """What a person said of a call in doubt, which is noted; None when it did not happen."""
        asked = await self._ask_about_doubt(call, row)
        if asked.state == "open":
            raise Waiting((asked.wait_id,), asked.ask)
        state, result = verdict(asked, call.tool)
        result = self.record.scrub(result.to_json())
        outcome = None if state == "not_done" else result
        await self.record.settle(call, state, outcome=outcome, wait_id=asked.wait_id)
        return None if outcome is None else ToolResult(**outcome)

    async def ask_whether_done(self, call: EffectCall, sent: int, doubt: Unsure) -> Waiting:
        """The question whether a call happened, asked. The wait comes first: it is found again by its key."""
        error = self.record.describe_error(doubt)
        row = await self.record.open(
            unknown_start(call, self.record.shown_arguments(call), sent, error["message"])
        )
        await self.record.settle(call, "unknown", error=error, wait_id=row.wait_id)
        return Waiting((row.wait_id,), row.ask)

    async def _ask_about_doubt(self, call: EffectCall, row: EffectRow) -> WaitRow:
        """What is asked about a call in doubt: the question it has, or a new one that it then has.

        A step that is done anew asks anew where nobody decided, or where the call was abandoned.
        """
        start = self._doubt_start(call, row)
        known = await self.record.question_of(row, "unknown")
        if known is not None and known.state == "open":
            return await self.record.open(same_question(call, known))
        if is_decided(known):
            return known
        asked = await self.record.open(start)
        if row.wait_id == asked.wait_id or (row.state == "intended" and asked.state != "open"):
            return asked
        if known is not None:
            await self.record.settle(call, "abandoned")  # with its old question: what comes names the new one
        error = {"message": start.detail["why"]}
        await self.record.settle(call, "unknown", error=error, wait_id=asked.wait_id)
        return asked

    def _doubt_start(self, call: EffectCall, row: EffectRow) -> WaitStart:
        why = str((row.error or {}).get("message") or "the process ended before its outcome was known")
        return unknown_start(call, self.record.shown_arguments(call), row.sent, why)
