"""A call that changes something outside: its identity, and how it can end other than with a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from tasks.tools import Effect, ToolError
from workflows.core.plans.plan import DecidersPlan
from workflows.core.refs import digest
from workflows.core.text.cut_text import cut

Kind = Literal["tool", "mcp", "http", "webhook"]
"""Who makes the call: a skill's handler, an MCP server, the HTTP tool, a webhook."""

REMOTE: frozenset[Kind] = frozenset(("mcp", "http", "webhook"))
"""Kinds that reach beyond this machine."""

_TEXT, _ITEMS, _DEPTH = 400, 20, 6


class NotPerformed(ToolError):
    """This sending was definitely not performed: nothing was sent, or the other side declined it.

    It says nothing about an earlier sending of the same call.
    """

    kind = "refused"
    """What the ledger calls it."""


class Unreached(NotPerformed):
    """No connection was to be had, so that nothing was sent: a little later one may be."""

    kind = "unreached"


class AlreadySo(NotPerformed):
    """Declined since things stand as the call wants them, such as the removal of what is not there.

    After an earlier sending that may have been performed, this is the call's outcome.
    """

    kind = "alreadyso"


class Unsure(ToolError):
    """The call may have been performed: a timeout or a lost connection after sending, a server's fault.

    `passing`: whether the same call may end better when it is sent again at once.
    """

    again = True
    kind = "unsure"

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True, kw_only=True)
class EffectCall:
    """One call of one step. `ordinal` counts equal calls from 0, in the order the model made them.

    `key_fields` names the arguments that identify the effect; none: all of them. `repeat` is empty, or names
    a repetition that a person asked for. What identifies a call is never the attempt or the model's own id.
    `generation` counts how often a person had the step done anew: people are then asked anew about what is
    not done, but the call stays the same one. `people` answer what is asked about it; None: anybody may.
    """

    tenant: str
    run_id: str
    step_path: str
    kind: Kind
    tool: str
    arguments: Mapping[str, Any]
    effect: Effect
    ordinal: int
    key_fields: tuple[str, ...] = field(default=())
    approval: bool = False
    people: DecidersPlan | None = None
    repeat: str = ""
    generation: int = 0
    before: tuple[str, ...] = ()
    """What is said of earlier calls of this tool, for whose sake a person is asked before this one."""

    @cached_property
    def key(self) -> str:
        """The effect's identity within its run."""
        identity = identifying_arguments(self.arguments, self.key_fields)
        parts = [self.tenant, self.run_id, self.step_path, self.tool, identity, self.ordinal]
        return digest([*parts, self.repeat] if self.repeat else parts)

    @property
    def idempotency_key(self) -> str:
        """32 hex characters, the same for every sending of this effect."""
        return digest(["idempotency key", self.key])[:32]

    @cached_property
    def subject(self) -> str:
        """What an approval is bound to: the tool with all its arguments."""
        return digest([self.tool, self.arguments])


def identifying_arguments(arguments: Mapping[str, Any], key_fields: tuple[str, ...]) -> Mapping[str, Any]:
    """The arguments that make two calls the same one. Without any of the named fields, all of them."""
    named = {name: arguments[name] for name in key_fields if name in arguments}
    return named or arguments


def shorten_value(value: Any, depth: int = _DEPTH) -> Any:
    """A JSON value for a row that people read: long texts and lists are cut, deep ones left out."""
    if isinstance(value, str) and len(value) > _TEXT:
        return f"{value[:_TEXT]}... ({len(value)} characters)"
    if isinstance(value, (dict, list, tuple)) and depth == 0:
        return "..."
    if isinstance(value, Mapping):
        kept = {cut(str(k), _TEXT): shorten_value(v, depth - 1) for k, v in list(value.items())[:_ITEMS]}
        return kept | ({"...": f"{len(value)} in all"} if len(value) > _ITEMS else {})
    if isinstance(value, (list, tuple)):
        more = [f"... ({len(value)} in all)"] if len(value) > _ITEMS else []
        return [*(shorten_value(item, depth - 1) for item in value[:_ITEMS]), *more]
    return value
