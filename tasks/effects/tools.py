"""Tools whose calls go through the effect gate, and the gate of a unit of a recorded run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blocks.ledger import EffectIntent, EffectRow, WaitRow, WaitStart
from tasks.context import INLINE_BYTES, RunContext
from tasks.durable import Durable
from tasks.effects.calls import Kind
from tasks.effects.earlier_work import EarlierWork
from tasks.effects.gate import EffectGate
from tasks.outputs.stored import keep_large
from tasks.secrets import scrub_value
from tasks.tools import Effect, Tool, ToolResult, among_equal
from workflows.core.plans.plan import DecidersPlan, ToolRulePlan
from workflows.core.refs import canonical_json
from workflows.core.tools.rules import rule_of


@dataclass(frozen=True, slots=True)
class LeasedEffects:
    """The ledger's effects under the lease of one run: `tasks.effects.record.Effects`."""

    durable: Durable

    async def intend(self, intent: EffectIntent) -> EffectRow:
        """See EffectLedger.intend."""
        return await self.durable.ledger.effects.intend(self.durable.lease, intent)

    async def sending(self, key: str) -> int:
        """See EffectLedger.sending."""
        return await self.durable.ledger.effects.count_send(self.durable.lease, key)

    async def settle(
        self,
        key: str,
        state: Any,
        *,
        outcome: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        wait_id: str = "",
    ) -> None:
        """See EffectLedger.settle."""
        effects, lease = self.durable.ledger.effects, self.durable.lease
        await effects.settle(lease, key, state, outcome=outcome, error=error, wait_id=wait_id)


@dataclass(frozen=True, slots=True)
class LeasedWaits:
    """The ledger's waits under the lease of one run: `tasks.effects.record.Waits`."""

    durable: Durable

    async def open(self, start: WaitStart) -> WaitRow:
        """See WaitLedger.open."""
        return await self.durable.ledger.waits.open(self.durable.lease, start)

    async def get(self, wait_id: str) -> WaitRow | None:
        """See WaitLedger.get."""
        return await self.durable.ledger.waits.get_async(self.durable.lease.tenant, wait_id)


def gate_of(
    context: RunContext,
    path: str,
    *,
    repeat: str = "",
    remote: bool = True,
    earlier: EarlierWork | None = None,
    keep: Callable[[ToolResult], Awaitable[ToolResult]] | None = None,
) -> EffectGate | None:
    """The gate of the unit that works at `path`; None outside of a recorded run.

    `repeat`, `remote`, `earlier` and `keep` as in EffectGate. One gate serves one attempt.
    """
    if context.durable is None:
        return None

    async def kept(result: ToolResult) -> ToolResult:
        return await _small(result, context, path)

    return EffectGate(
        LeasedEffects(context.durable),
        LeasedWaits(context.durable),
        tenant=context.tenant,
        run_id=context.run_id,
        step_path=path,
        repeat=repeat,
        generation=context.generations.get(path, 0),
        scrub=lambda value: scrub_value(value, context.secrets),
        keep=keep or kept,
        on_event=context.on_event,
        remote=remote,
        earlier=earlier or EarlierWork(),
        patience=context.patience_at(path),
    )


async def _small(result: ToolResult, context: RunContext, path: str) -> ToolResult:
    """The result itself, or the beginning of its text with the whole kept as an artifact."""
    if not isinstance(result.content, str) and len(canonical_json(result.content)) <= INLINE_BYTES // 2:
        return result
    return replace(result, content=await keep_large(result.content, "a call", context, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingTool:
    """A tool as its executor offers it: `send` makes one call with its idempotency key.

    `send` raises Refused and Unsure as gate.py says. `effect_of` gives the effect of one call where it
    depends on the arguments. `path` is what its effects are recorded under: server.tool, or the name.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    kind: Kind
    send: Callable[[dict[str, Any], str], Awaitable[ToolResult]]
    effect: Effect = "once"
    effect_of: Callable[[dict[str, Any]], Effect] | None = None
    key_fields: tuple[str, ...] = ()
    approval: bool = False
    people: DecidersPlan | None = None
    path: str = ""

    def through(self, gate: EffectGate) -> Tool:
        """The tool for an agent: every call goes through the gate, numbered by `among_equal`."""

        async def run(arguments: dict[str, Any]) -> ToolResult:
            return await gate.perform(
                kind=self.kind,
                tool=self.path or self.name,
                arguments=arguments,
                effect=self.effect_of(arguments) if self.effect_of else self.effect,
                ordinal=among_equal(),
                send=lambda key: self.send(arguments, key),
                key_fields=self.key_fields,
                approval=self.approval,
                people=self.people,
            )

        return Tool(self.name, self.description, self.input_schema, run, self.effect)

    def ruled(self, rule: ToolRulePlan | None) -> ActingTool:
        """The tool as tools-config.json wants it."""
        if rule is None:
            return self
        return replace(
            self,
            effect=rule.effect or self.effect,
            key_fields=rule.effect_key or self.key_fields,
            approval=rule.approval,
            people=rule.people,
        )


def guarded(
    tool: Tool, gate: EffectGate, rule: ToolRulePlan | None = None, key_fields: Sequence[str] = ()
) -> Tool:
    """A tool that runs on this machine (a handler of a skill), with its calls through the gate.

    `key_fields` are the step's `effect_key`; the rule's own win. A tool without an effect that nobody has to
    approve stays as it is. The tool gets no idempotency key: it cannot take one.
    """

    async def send(arguments: dict[str, Any], key: str) -> ToolResult:
        return await tool.run(arguments)

    acting = ActingTool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.input_schema,
        kind="tool",
        send=send,
        effect=tool.effect,
        key_fields=tuple(name for name in key_fields if name in tool.input_schema.get("properties", {})),
    ).ruled(rule)
    return tool if acting.effect == "none" and not acting.approval else acting.through(gate)


def guarded_all(
    tools: Sequence[Tool], gate: EffectGate, rules: Sequence[ToolRulePlan], key_fields: Sequence[str] = ()
) -> list[Tool]:
    """The tools of this machine as tools-config.json lets them be: some are not offered."""
    out = []
    for tool in tools:
        rule = rule_of(rules, tool.name)
        if rule is None or rule.allow:
            out.append(guarded(tool, gate, rule, key_fields))
    return out
