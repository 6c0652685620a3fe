"""Which conversation of a unit goes on, and when the next one begins.

Crashes, faults of provider, network and storage, timeouts, stops and resumes continue the same conversation
at its unpaid turn. Another one begins only where the old one cannot go on: its end was final and the step is
continued all the same, a person wants it done anew, or its definition is another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from blocks.ledger import TurnRecord
from tasks.context import RunContext
from tasks.conversation.journal import StepJournal
from tasks.effects.earlier_work import EarlierWork, done_by
from tasks.failures import CONVERSATION_ENDS
from workflows.core.errors import PhaselineError

_BEGUN = "input:begun"
_ANOTHER = "An earlier conversation about this very work came to an end without a usable result."


async def journal_of(context: RunContext, path: str) -> StepJournal | None:
    """The journal of the conversation that the unit at `path` is in; None outside of a recorded run."""
    durable = context.durable
    if durable is None:
        return None
    rows: list[TurnRecord] = []
    if not durable.lease.created or context.attempts[path] > 1:  # else nobody was here before
        lease = durable.lease
        rows = await durable.ledger.journal.read(lease.tenant, lease.run_id, path, context.keys[path])
    number = max((row.attempt for row in rows), default=0)
    journal = _open_journal(context, path, number or 1, rows)
    begun = journal.read_note(0, _BEGUN) or {} if number else None
    if begun is None or int(begun.get("generation", 0)) != context.generations.get(path, 0):
        return await _begin(_open_journal(context, path, number + 1, ()))
    journal.earlier, journal.why = EarlierWork(list(begun.get("done", []))), str(begun.get("why", ""))
    return journal


async def next_journal(journal: StepJournal, error: PhaselineError) -> StepJournal | None:
    """The next conversation, where the one of `journal` came to the end at which the step failed before.

    None when it has just come to this end, or when it can still go on.
    """
    context, path = journal.context, journal.path
    if journal.answered or path not in context.ended or type(error).__name__ not in CONVERSATION_ENDS:
        return None
    begun = await _begin(_open_journal(context, path, journal.conversation + 1, ()))
    del context.ended[path]
    return begun


def paid_turns(rows: Sequence[TurnRecord]) -> int:
    """Turns of the last conversation among these rows of a journal that are paid."""
    last = max((row.attempt for row in rows), default=0)
    return len({row.turn for row in rows if row.attempt == last and _is_answer(row.part)})


def _is_answer(part: str) -> bool:
    return part == "answer" or part.startswith("input:answer~")


def _open_journal(context: RunContext, path: str, number: int, rows: Sequence[TurnRecord]) -> StepJournal:
    durable = context.durable
    assert durable is not None
    known = {(row.turn, row.part): row for row in rows if row.attempt == number}
    return StepJournal(durable.ledger, durable.lease, context, path, context.keys[path], number, known)


async def _begin(journal: StepJournal) -> StepJournal:
    """Writes down that a conversation begins, where there is anything to know of it."""
    context, path = journal.context, journal.path
    generation = context.generations.get(path, 0)
    fresh = context.durable is not None and context.durable.lease.created and context.attempts[path] <= 1
    done = [] if fresh else await done_by(context, path)
    if done or generation or journal.conversation > 1:
        await journal.note(0, _BEGUN, {"generation": generation, "why": _ANOTHER, "done": done})
        told = {"step": path, "conversation": journal.conversation, "done": len(done)}
        context.on_event("conversation.begun", told)
    journal.earlier, journal.why = EarlierWork(done), _ANOTHER
    return journal
