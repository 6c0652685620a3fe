"""What the effect gate needs, in memory, with the ledger's rules; and executors that end as they are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields, replace
from typing import Any

from blocks.ledger import EffectIntent, EffectRow, Lease, WaitRow, WaitStart
from blocks.patience import Patience
from tasks.effects.gate import EffectGate
from tasks.tools import ToolResult
from workflows.core.refs import digest

BEFORE = {
    "done": ("intended", "unknown"),
    "refused": ("intended",),
    "unknown": ("intended", "unknown", "abandoned"),
    "not_done": ("intended", "unknown"),
    "abandoned": ("intended", "unknown"),
}
LEASE = Lease("default", "r", 1, "token", True, None)


@dataclass
class MemoryEffects:
    """Effects by key, and every write in order."""

    rows: dict[str, EffectRow] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    async def intend(self, lease: Lease, intent: EffectIntent) -> EffectRow:
        """Insert or get."""
        await asyncio.sleep(0)
        self.log.append("intend")
        known = self.rows.get(intent.effect_key)
        if known is not None:
            return replace(known, fresh=False)
        given = {item.name: getattr(intent, item.name) for item in fields(EffectIntent)}
        state = {"state": "intended", "outcome": None, "error": None, "wait_id": "", "sent": 0}
        row = EffectRow(**given, **state, epoch=1, intended=1, ended=None, fresh=True)
        self.rows[intent.effect_key] = row
        return row

    async def count_send(self, lease: Lease, key: str) -> int:
        """Count a send."""
        await asyncio.sleep(0)
        row = self.rows[key]
        assert row.state in ("intended", "refused", "not_done"), row.state
        cleared = {"outcome": None, "error": None, "wait_id": ""}
        self.rows[key] = replace(row, state="intended", sent=row.sent + 1, **cleared)
        self.log.append("sending")
        return row.sent + 1

    async def settle(
        self,
        lease: Lease,
        key: str,
        state: Any,
        *,
        outcome: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        wait_id: str = "",
    ) -> None:
        """Note what became of it."""
        await asyncio.sleep(0)
        row = self.rows[key]
        assert row.state in BEFORE[state], f"{row.state} -> {state}"
        known = {"outcome": outcome or row.outcome, "error": error or row.error}
        self.rows[key] = replace(row, state=state, **known, wait_id=wait_id or row.wait_id)
        self.log.append(state)

    @property
    def only(self) -> EffectRow:
        """The one effect there is."""
        (row,) = self.rows.values()
        return row


@dataclass
class MemoryWaits:
    """Waits by key; `answer` decides one."""

    rows: dict[str, WaitRow] = field(default_factory=dict)

    async def open(self, lease: Lease, start: WaitStart) -> WaitRow:
        """Insert or get."""
        await asyncio.sleep(0)
        known = self.rows.get(start.wait_key)
        if known is not None:
            assert known.subject == start.subject
            return known
        given = {item.name: getattr(start, item.name) for item in fields(WaitStart)}
        wait_id = "w-" + digest(start.wait_key)[:10]
        undecided = {"state": "open", "answer": None, "decided_by": [], "decided": None}
        times = {"remind_at": None, "reminders": 0, "created": 1, "version": 0}
        self.rows[start.wait_key] = WaitRow(tenant="default", wait_id=wait_id, **given, **undecided, **times)
        return self.rows[start.wait_key]

    async def get(self, tenant: str, wait_id: str) -> WaitRow | None:
        """By id."""
        return next((row for row in self.rows.values() if row.wait_id == wait_id), None)

    def answer(self, data: dict[str, Any] | None = None, *, state: str = "answered", note: str = "") -> None:
        """Decide the one open wait."""
        (row,) = (row for row in self.rows.values() if row.state == "open")
        decision = "reject" if state == "rejected" else "approve"
        vote = {"voter": "kim", "at": 2, "decision": decision, "note": note}
        answer = {"approved": state == "answered", "data": data or {}, "votes": []}
        self.rows[row.wait_key] = replace(row, state=state, answer=answer, decided_by=[vote])


@dataclass
class Receiver:
    """An executor: ends each call as the next of `ends` says, the last one for ever; keeps the keys."""

    ends: list[Any]
    keys: list[str] = field(default_factory=list)

    async def __call__(self, key: str) -> ToolResult:
        self.keys.append(key)
        end = self.ends[min(len(self.keys), len(self.ends)) - 1]
        if isinstance(end, asyncio.Event):
            await end.wait()
            return ToolResult("late")
        if isinstance(end, BaseException):
            raise end
        return end if isinstance(end, ToolResult) else ToolResult(str(end))


@dataclass
class World:
    """What outlives the processes of a run, and gates of a new process each time one is asked for."""

    effects: MemoryEffects = field(default_factory=MemoryEffects)
    waits: MemoryWaits = field(default_factory=MemoryWaits)

    def gate(self, **more: Any) -> EffectGate:
        """The gate of a process that begins or continues the step."""
        given = {"tenant": "default", "run_id": "r", "step_path": "s", "patience": Patience(4.0), **more}
        return EffectGate(self.effects, self.waits, LEASE, **given)

    def call(self, send: Any, **more: Any) -> ToolResult:
        """One call, in a process of its own."""
        names = ("scrub", "keep", "remote", "repeat", "generation")
        gate = self.gate(**{name: more.pop(name) for name in names if name in more})
        return asyncio.run(call(gate, send, **more))


async def call(gate: EffectGate, send: Any, **more: Any) -> ToolResult:
    """One call through a gate, of a tool that must not be repeated unless told otherwise."""
    given = {
        "kind": "mcp",
        "tool": "bank.pay",
        "arguments": {"to": "ann", "amount": 5},
        "effect": "once",
        "ordinal": 0,
        **more,
    }
    return await gate.perform(send=send, **given)
