"""What people are asked about a call: may it be made, did it happen, what does the server want to know."""

from __future__ import annotations

from typing import Any, TypeGuard

from blocks.ledger import EffectState, WaitRow, WaitStart
from blocks.ledger.waits.tally import counting_votes
from tasks.effects.calls import EffectCall
from tasks.effects.deciders import LENGTH, address_question
from tasks.tools import ToolResult
from workflows.core.cures import anew_command
from workflows.core.errors import PhaselineError
from workflows.core.refs import digest

OUTCOME_FORM = {
    "type": "object",
    "properties": {
        "outcome": {
            "enum": ["done", "not_done", "abandon"],
            "description": "done: it happened; not_done: it did not, make it again; abandon: leave it.",
        },
        "result": {"type": "string", "description": "What the agent should know of its result, when done."},
    },
    "required": ["outcome"],
    "additionalProperties": False,
}
_NO_RESULT = "A person confirmed that this call was performed. Its result is not known."


class Undecided(PhaselineError):
    """Nobody decided about a call, or answered an agent, in time; or the question was withdrawn."""

    final = True


def approval_start(call: EffectCall, shown: Any) -> WaitStart:
    """The question whether a call may be made. Other arguments, or another generation, are another one."""
    identity = [call.key, call.subject, *([call.generation] if call.generation else [])]
    start = WaitStart(
        run_id=call.run_id,
        step_path=call.step_path,
        wait_key=f"action:{digest(identity)[:32]}",
        kind="action",
        ask=f"May {call.step_path} call {call.tool} with these arguments?{_once_before(call)}",
        subject=call.subject,
        detail={
            "tool": call.tool,
            "kind": call.kind,
            "arguments": shown,
            **({"before": list(call.before)} if call.before else {}),
        },
    )
    return address_question(start, call.people)


def _once_before(call: EffectCall) -> str:
    if not call.before:
        return ""
    return f" It was called before in this step, by a conversation that ended: {'; '.join(call.before)}."


def unknown_start(call: EffectCall, shown: Any, sent: int, why: str) -> WaitStart:
    """The question whether a call happened that was sent `sent` times, at the last for the reason `why`.

    Each sending in doubt is a question of its own, in each generation.
    """
    start = WaitStart(
        run_id=call.run_id,
        step_path=call.step_path,
        wait_key=f"unknown:{call.key}:{sent}{_generation_suffix(call)}",
        kind="unknown",
        ask=f"Did the call of {call.tool} by {call.step_path} happen? It was sent and {why.rstrip('.')}. "
        "Answer done, not_done (it is made again) or abandon.",
        form=OUTCOME_FORM,
        subject=call.key,
        detail={
            "tool": call.tool,
            "kind": call.kind,
            "arguments": shown,
            "idempotency_key": call.idempotency_key,
            "sent": sent,
            "why": why,
        },
    )
    return address_question(start, call.people)


def question_start(
    call: EffectCall, ask: str, form: dict[str, Any], detail: dict[str, Any], again: int
) -> WaitStart:
    """What a server wants to know before it goes on with a call; `again` counts equal questions from 0.

    In another generation people are asked anew.
    """
    identity = digest([call.key, ask, form, again])
    start = WaitStart(
        run_id=call.run_id,
        step_path=call.step_path,
        wait_key=f"mcp:{identity[:32]}{_generation_suffix(call)}",
        kind="mcp",
        ask=ask,
        form=form,
        detail={**detail, "again": again, "generation": call.generation},
    )
    return address_question(start, call.people)


def same_question(call: EffectCall, row: WaitRow) -> WaitStart:
    """A question that is known already, to those who answer it now: they may have changed."""
    start = WaitStart(
        run_id=row.run_id,
        step_path=row.step_path,
        wait_key=row.wait_key,
        kind=row.kind,
        ask=row.ask,
        form=row.form,
        subject=row.subject,
        detail={name: value for name, value in row.detail.items() if name != LENGTH},
        evidence=row.evidence,
    )
    return address_question(start, call.people)


def generation_of(row: WaitRow) -> int:
    """The generation of its step in which a server's question was asked."""
    return int(row.detail.get("generation", 0))


def _generation_suffix(call: EffectCall) -> str:
    return f":{call.generation}" if call.generation else ""


def disapproval(row: WaitRow, tool: str) -> str:
    """Who refused a call and why, for the agent; "" when it was approved. Raises Undecided."""
    if row.state == "answered":
        return ""
    if row.state != "rejected":
        raise undecided_fault(row)
    if by_timeout(row):
        return f"This call of {tool} was not approved in time.{_note(row)} It was not made."
    return f"{_voters(row)} did not approve this call of {tool}.{_note(row)} It was not made."


def verdict(row: WaitRow, tool: str) -> tuple[EffectState, ToolResult]:
    """What a person said of a call in doubt: "done", "not_done" or "abandoned", with what the agent gets.

    Raises Undecided.
    """
    if not is_decided(row):
        raise undecided_fault(row)
    data = (row.answer or {}).get("data") or {}
    outcome = data.get("outcome") if row.state == "answered" else "abandon"
    if outcome == "done":
        return "done", ToolResult(str(data.get("result") or _NO_RESULT))
    if outcome == "not_done":
        return "not_done", ToolResult("")
    return "abandoned", abandoned_result(tool, f"{_voters(row)} abandoned it.{_note(row)}")


def is_decided(row: WaitRow | None) -> TypeGuard[WaitRow]:
    """Whether it was said yes or no to a question."""
    return row is not None and row.state in ("answered", "rejected")


def abandoned_result(tool: str, why: str) -> ToolResult:
    """What the agent gets for a call that nobody wants any more."""
    return ToolResult(f"This call of {tool} is not made again: {why}", is_error=True, again=True)


def undecided_fault(row: WaitRow) -> Undecided:
    """Why there is no answer to a question, and how people are asked again."""
    why = "nobody answered in time" if row.state == "expired" else "the question was withdrawn"
    again = f"be asked again: {anew_command(row.run_id, row.step_path)}"
    if row.kind == "unknown":
        found = f"(phaseline show {row.run_id} tells what was sent)"
        again = f"find out whether {row.detail['tool']} did it {found}, then {again}"
    return Undecided(f"{why}: {row.ask}", again)


def by_timeout(row: WaitRow) -> bool:
    """Whether no vote but its deadline decided a question."""
    return bool((row.answer or {}).get("by_timeout"))


def _voters(row: WaitRow) -> str:
    """Those whose votes decided."""
    decided = "reject" if row.state == "rejected" else "approve"
    names = [str(vote["voter"]) for vote in counting_votes(row) if vote.get("decision") == decided]
    return " and ".join(names) or "A person"


def _note(row: WaitRow) -> str:
    notes = "; ".join(str(vote["note"]) for vote in counting_votes(row) if vote.get("note"))
    return f" They said: {notes}." if notes else ""
