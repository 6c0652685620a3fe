"""What the row of a call means: whether it may have happened, what its agent gets, and what fits into it."""

from __future__ import annotations

from blocks.ledger import EffectRow
from tasks.effects.calls import AlreadySo, EffectCall, NotPerformed, Unsure
from tasks.effects.waits import abandoned_result
from tasks.tools import ToolResult
from workflows.core.refs import canonical_json

OUTCOME_BYTES = 48 * 1024
"""A longer result is recorded by its beginning: a row of the ledger takes 64 KB."""

_CUT = " bytes in all]"

IN_DOUBT = "in_doubt"
"""Set in the error of a call that may be sent again although an earlier sending may have been performed."""

EARLIER = "an earlier sending of this call had no answer"


def may_have_happened(row: EffectRow) -> bool:
    """Whether a call is in doubt, or was when it was let go for another sending."""
    return in_doubt(row) or (row.state == "not_done" and bool((row.error or {}).get(IN_DOUBT)))


def in_doubt(row: EffectRow) -> bool:
    """Whether the call may have been performed: it was sent, and nobody said that it was, or was not."""
    return row.sent > 0 and row.state in ("intended", "unknown", "abandoned")


def closed_result(call: EffectCall, row: EffectRow) -> ToolResult:
    """What the agent gets for a call that was abandoned or taken back."""
    if row.state == "abandoned" and row.outcome:
        return ToolResult(**row.outcome)
    return abandoned_result(call.tool, "it was taken back." if row.state == "undone" else "it was abandoned.")


def judge_earlier(refused: NotPerformed) -> ToolResult:
    """What a refusal says of an earlier sending in doubt: that it was performed, or raises Unsure."""
    if isinstance(refused, AlreadySo):
        return ToolResult(f"{refused}\n[It counts as done: {EARLIER}.]")
    raise Unsure(f"{refused}\nThis sending was refused, but {EARLIER}.", passing=False) from None


def cut_off(text: str) -> bool:
    """Whether a recorded text is only the beginning of a result."""
    return text.endswith(_CUT)


def cut_to_row(result: ToolResult) -> ToolResult:
    """A result that fits into a row: itself, or as much of its text."""
    text, size = result.content, len(canonical_json(result.to_json()).encode("utf-8", "surrogatepass"))
    if size <= OUTCOME_BYTES:
        return result
    if not isinstance(text, str):
        text = "\n".join(block["text"] for block in text if block.get("type") == "text")
    length = OUTCOME_BYTES // 2
    while len(canonical_json(text[:length]).encode("utf-8", "surrogatepass")) > OUTCOME_BYTES - 200:
        length //= 2
    return ToolResult(f"{text[:length]}\n[cut: {size}{_CUT}", result.is_error)
