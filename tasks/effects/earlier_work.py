"""What a step did outside before its conversation began, or before a part of it was set aside.

Who goes on may word a call differently, and then it is another effect by its key. So the agent is told what
was done, and a `once` tool that was performed needs a person before it is called again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from blocks.ledger import EffectRow
from tasks.context import RunContext, item_of
from tasks.effects.calls import EffectCall
from tasks.effects.rows import may_have_happened
from workflows.core.refs import canonical_json

TOLD = 40
"""How many calls the agent is told of."""
KEPT = 2000
"""How many calls are noted: of a tool's further ones an equal one is asked about, too. A `once` tool stays
known whatever was called after it."""
_ITEM = re.compile(r"[0-9a-f]{12}-\d+")
"""An item of a list, in a path."""
_LENGTH = 300
"""Characters of a call's arguments and of its outcome."""

Done = dict[str, Any]
"""One call as a journal keeps it: key, tool, effect; and as it is told: said."""


@dataclass
class EarlierWork:
    """The calls that were performed, or may have been, by what the agent does not remember."""

    calls: list[Done] = field(default_factory=list)

    def add(self, calls: Iterable[Done]) -> None:
        """Takes further ones."""
        known = {call["key"] for call in self.calls}
        self.calls += [call for call in calls if call["key"] not in known]

    def of_tool(self, call: EffectCall) -> list[Done]:
        """The earlier calls for whose sake a person is asked before `call` is made; [] for none.

        An equal call is the recorded one, and an idempotent tool's other call does no harm twice.
        """
        if call.effect != "once" or any(done["key"] == call.key for done in self.calls):
            return []
        return [done for done in self.calls if done["tool"] == call.tool and done["effect"] == "once"]


async def done_by(context: RunContext, path: str) -> list[Done]:
    """What the unit at `path` did outside, or may have done, the latest last.

    An item may be one in other words that its list no longer has: what was done for those counts for each
    that is there, but of the tools that were called for itself. After `--repeat-effects` what was done before
    it does not count: a person wants it done once more.
    """
    durable = context.durable
    if durable is None:
        return []
    rows = await durable.ledger.effects.of_step(durable.lease.tenant, durable.lease.run_id, path)
    own = _choose_calls(rows, context)
    known = {call["tool"] for call in own}
    former = [row for row in await _of_former_items(context, path) if row.tool not in known]
    return _choose_calls(former, context, "for an item that was in the list: ") + own


async def _of_former_items(context: RunContext, path: str) -> list[EffectRow]:
    """What was done at the same place for items that their lists no longer have."""
    durable, found = context.durable, []
    assert durable is not None
    parts = path.split("/")
    for step in ("/".join(parts[:n]) for n in range(1, len(parts))):
        items, item = context.lists.get(step), item_of(path, step)
        if items is None:
            continue
        if items.former is None:
            lease = durable.lease
            below = await durable.ledger.effects.below(lease.tenant, lease.run_id, step)
            items.former = [row for row in below if item_of(row.step_path, step) not in items.now]
        tail = _any_item(path[len(item) :])
        for row in items.former:
            former = item_of(row.step_path, step)
            if _ITEM.fullmatch(former[len(step) + 1 :]) and _any_item(row.step_path[len(former) :]) == tail:
                found.append(row)
    return found


def _any_item(path: str) -> str:
    return "/".join("*" if _ITEM.fullmatch(part) else part for part in path.split("/"))


def _choose_calls(rows: Sequence[EffectRow], context: RunContext, of: str = "") -> list[Done]:
    """Those that count, as they are kept; `of` says whose they are."""
    done = [row for row in rows if row.epoch >= _epoch_of(context.repeat(row.step_path)) and _counts(row)]
    once = [row for row in done if row.effect == "once"]
    last_of_tool = {row.tool: row.effect_key for row in once}
    kept = {row.effect_key for row in once[-KEPT:]} | set(last_of_tool.values())
    others = [row for row in done if row.effect != "once"]
    kept |= {row.effect_key for row in others[len(others) - max(KEPT - len(kept), 0) :]}
    # The latest is what the agent needs most.
    told = {row.effect_key for row in (*done[-TOLD:], *once[-TOLD:])}
    return [_note_call(row, of, told=row.effect_key in told) for row in done if row.effect_key in kept | told]


def describe_work(why: str, calls: Sequence[Done]) -> str:
    """What the agent is told of it; "" when nothing was done."""
    if not calls:
        return ""
    lines = [f"- {call['said']}" for call in calls if "said" in call]
    if len(calls) > len(lines):
        lines.insert(0, f"- {len(calls) - len(lines)} calls before these")
    text = "\n".join(
        [
            f"{why} What was done outside before stays done:",
            *lines,
            "Do none of this again: go on from it. An equal call gives its recorded result; another call of "
            "a tool that must act only once is shown to a person first.",
        ]
    )
    # What closes its own tag could pass text off as the instruction.
    inner = re.sub(r"<(/?earlier_work)", r"<\\\1", text, flags=re.IGNORECASE)
    return f"<earlier_work>\n{inner}\n</earlier_work>"


def _epoch_of(repetition: str) -> int:
    """The lease epoch in which a person asked for a repetition; 0 for none."""
    found = re.fullmatch(r"epoch (\d+)", repetition)
    return int(found[1]) if found else 0


def _counts(row: EffectRow) -> bool:
    return row.state == "done" or may_have_happened(row)


def _note_call(row: EffectRow, of: str, *, told: bool) -> Done:
    done = {"key": row.effect_key, "tool": row.tool, "effect": row.effect}
    return {**done, "said": of + _describe_call(row)} if told else done


def _describe_call(row: EffectRow) -> str:
    called = f"{row.tool} {_cut(canonical_json(row.arguments))}: "
    if row.state != "done":
        return called + "it is not known whether it happened"
    content = (row.outcome or {}).get("content", "")
    text = content if isinstance(content, str) else "\n".join(str(b.get("text", "")) for b in content)
    return called + (f"done; its result: {_cut(' '.join(text.split()))}" if text.strip() else "done")


def _cut(text: str) -> str:
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."
