"""Tools whose calls go through the effect gate, and the gate of a unit of a recorded run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tasks.context import INLINE_BYTES, RunContext
from tasks.effects.calls import Kind
from tasks.effects.earlier_work import EarlierWork
from tasks.effects.gate import EffectGate
from tasks.outputs.stored import keep_large
from tasks.secrets import scrub_value
from tasks.tools import Effect, Tool, ToolResult, among_equal
from workflows.core.plans.plan import DecidersPlan, ToolRulePlan
from workflows.core.refs import canonical_json


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
    durable = context.durable
    if durable is None:
        return None
    return EffectGate(
        durable.ledger.effects,
        durable.ledger.waits,
        durable.lease,
        tenant=context.tenant,
        run_id=context.run_id,
        step_path=path,
        repeat=repeat,
        generation=context.generations.get(path, 0),
        scrub=lambda value: scrub_value(value, context.secrets),
        keep=keep or partial(_store_large, context=context, path=path),
        on_event=context.on_event,
        remote=remote,
        earlier=earlier or EarlierWork(),
        patience=context.patience_at(path),
    )


async def _store_large(result: ToolResult, context: RunContext, path: str) -> ToolResult:
    """The result itself, or the beginning of its text with the whole kept as an artifact."""
    if not isinstance(result.content, str) and len(canonical_json(result.content)) <= INLINE_BYTES // 2:
        return result
    return replace(result, content=await keep_large(result.content, "a call", context, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class ActingTool:
    """A tool as its executor offers it: `send` makes one call with its idempotency key.

    `send` raises NotPerformed and Unsure as gate.py says. `effect_of` gives the effect of one call where it
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

    async def perform(self, gate: EffectGate, arguments: dict[str, Any], ordinal: int = 0) -> ToolResult:
        """One call through the gate: of an agent, a skill step or what takes one back. See EffectGate."""
        return await gate.perform(
            kind=self.kind,
            tool=self.path or self.name,
            arguments=arguments,
            effect=self.effect_of(arguments) if self.effect_of else self.effect,
            ordinal=ordinal,
            send=lambda key: self.send(arguments, key),
            key_fields=self.key_fields,
            approval=self.approval,
            people=self.people,
        )

    def through(self, gate: EffectGate) -> Tool:
        """The tool for an agent: every call goes through the gate, numbered by `among_equal`."""

        async def run(arguments: dict[str, Any]) -> ToolResult:
            return await self.perform(gate, arguments, among_equal())

        return Tool(self.name, self.description, self.input_schema, run, self.effect)

    def apply_rule(self, rule: ToolRulePlan | None) -> ActingTool:
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


def guard_tool(
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
    ).apply_rule(rule)
    return tool if acting.effect == "none" and not acting.approval else acting.through(gate)
