"""Calls that change something outside, written down before they are made and again when they are known.

What each state may follow is in `_BEFORE`; only a send leads back to "intended". The order of one call is
`intend`, `sending`, the call itself, `settle`. So an intended effect that was never counted as sent has
certainly not happened; one that was counted may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select, update

from blocks.ledger.database.access import Access
from blocks.ledger.runs.fence import held_at, held_insert
from blocks.ledger.runs.runs import Values, fenced_error
from blocks.ledger.tables.columns import RUN_LIMIT, checked_path, from_text, plain, to_text, to_text_or_none
from blocks.ledger.tables.errors import LedgerAway, LedgerError
from blocks.ledger.tables.records import Document, Lease
from blocks.ledger.tables.schema import effect

EffectState = Literal["intended", "done", "refused", "unknown", "not_done", "abandoned", "undone"]
"""`intended`: written ahead, its outcome is not known yet. `done`: its outcome is recorded. `refused`: it
was definitely not performed. `unknown`: it may have happened; a person is asked (`wait_id`), unless it is
idempotent. `not_done`: it may be sent again, since a person said that it did not happen or since it is
idempotent. `abandoned`: a person said never mind; asked anew, it is unknown again. `undone`: taken back."""
EffectKind = Literal["tool", "mcp", "http", "webhook"]
EffectClass = Literal["idempotent", "once"]

_BEFORE: dict[EffectState, tuple[EffectState, ...]] = {
    "done": ("intended", "unknown"),
    "refused": ("intended",),
    "unknown": ("intended", "abandoned"),
    "not_done": ("intended", "unknown"),
    "abandoned": ("intended", "unknown"),
    "undone": ("done",),
}
_SENDABLE: tuple[EffectState, ...] = ("intended", "refused", "not_done")


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectIntent:
    """An effect about to happen. `effect_key` tells equal effects of a run; `arguments` are for people:
    short, and without secrets."""

    step_path: str
    kind: EffectKind
    tool: str
    effect: EffectClass
    effect_key: str
    idempotency_key: str
    arguments: Document
    arguments_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRow(EffectIntent):
    """An effect as it stands. `sent` counts how often it was about to be sent; `epoch` is the lease's that
    wrote it last; times are in microseconds."""

    state: EffectState
    outcome: Document | None
    error: Document | None
    wait_id: str
    sent: int
    epoch: int
    intended: int
    ended: int | None
    fresh: bool = False
    """Whether this call of `intend` made the row; False for one that was there."""


class EffectLedger:
    """The effects of runs, as the ledger's attribute `effects`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def intend(self, lease: Lease, intent: EffectIntent) -> EffectRow:
        """Write an effect ahead, or find the one of that key as it stands, whatever its arguments.

        Raises Fenced, and LedgerError for arguments that are not JSON or larger than 64 KB.
        """
        return await self._access.under(lease, _Intend(lease, _intent_values(lease, intent)))

    async def count_send(self, lease: Lease, effect_key: str) -> int:
        """Count a send, before it; how many there were with it. Puts a refused or not done effect back to
        intended, without what was known of it.

        Raises Fenced, and LedgerError for an effect that may not be sent as it stands.
        """
        return await self._access.under(lease, partial(_count_send, lease=lease, effect_key=effect_key))

    async def settle(
        self,
        lease: Lease,
        effect_key: str,
        state: EffectState,
        *,
        outcome: Document | None = None,
        error: Document | None = None,
        wait_id: str = "",
    ) -> None:
        """Write down what became of an effect; what is not given stays. Harmless when repeated.

        An unknown effect without a wait may be settled as unknown again to name it. `outcome` and `error`
        take at most 1 MB as JSON. Raises Fenced, and LedgerError when something else is recorded.
        """
        if state not in _BEFORE:
            raise LedgerError(f"no effect is settled as {state}", "count another send of it with `sending`")
        given = {
            "outcome": to_text_or_none(outcome, "the outcome of an effect", RUN_LIMIT),
            "error": to_text_or_none(error, "the error of an effect", RUN_LIMIT),
            "wait_id": wait_id or None,
        }
        known = {name: value for name, value in given.items() if value is not None}
        settle = partial(_settle_effect, lease=lease, effect_key=effect_key, state=state, known=known)
        try:
            await self._access.under(lease, settle)
        except LedgerAway as over:
            if outcome is None:
                raise
            what = "the outcome of a call that was made could not be kept: continued, the call is in doubt"
            raise over.losing(what) from None

    async def get(self, tenant: str, run_id: str, effect_key: str) -> EffectRow | None:
        """One effect as it stands, None when there is none."""
        return await self._access.read(lambda c: read_effect(c, tenant, run_id, effect_key))

    async def of_step(self, tenant: str, run_id: str, step_path: str) -> list[EffectRow]:
        """The effects of one unit of a run in the order they were intended."""
        return await self._access.read(lambda c: read_step_effects(c, tenant, run_id, step_path))

    async def below(self, tenant: str, run_id: str, step_path: str) -> list[EffectRow]:
        """The effects of the parts of a unit in the order they were intended."""
        return await self._access.read(lambda c: read_effects_below(c, tenant, run_id, step_path))

    async def of_run(self, tenant: str, run_id: str) -> list[EffectRow]:
        """The effects of a run in the order they were intended."""
        return await self._access.read(lambda c: read_effects(c, tenant, run_id))


def read_step_effects(connection: Connection, tenant: str, run_id: str, step_path: str) -> list[EffectRow]:
    """The query of `EffectLedger.of_step`."""
    query = select(effect).where(effect.c.tenant == tenant, effect.c.run_id == run_id)
    query = query.where(effect.c.step_path == step_path).order_by(effect.c.intended, effect.c.effect_key)
    return [_effect_row(found) for found in connection.execute(query)]


def read_effects_below(connection: Connection, tenant: str, run_id: str, step_path: str) -> list[EffectRow]:
    """The query of `EffectLedger.below`."""
    query = select(effect).where(effect.c.tenant == tenant, effect.c.run_id == run_id)
    query = query.where(effect.c.step_path.startswith(f"{step_path}/", autoescape=True))
    query = query.order_by(effect.c.intended, effect.c.effect_key)
    return [_effect_row(found) for found in connection.execute(query)]


def read_effect(connection: Connection, tenant: str, run_id: str, effect_key: str) -> EffectRow | None:
    """The query of `EffectLedger.get`."""
    found = connection.execute(select(effect).where(_this_effect(tenant, run_id, effect_key))).first()
    return None if found is None else _effect_row(found)


def read_effects(connection: Connection, tenant: str, run_id: str) -> list[EffectRow]:
    """The query of `EffectLedger.of_run`."""
    query = select(effect).where(effect.c.tenant == tenant, effect.c.run_id == run_id)
    query = query.order_by(effect.c.intended, effect.c.effect_key)
    return [_effect_row(found) for found in connection.execute(query)]


@dataclass(slots=True)
class _Intend:
    """An operation that knows its own row again when its commit was in doubt."""

    lease: Lease
    values: Values
    made: int | None = None

    def __call__(self, connection: Connection) -> Any:
        """The effect as it stands; or Fenced."""
        added = connection.execute(_intention_insert(connection.dialect.name), self.values).first()
        if added is not None:
            self.made = added.intended
            return _effect_row(added, fresh=True)
        if held_at(connection, self.lease) is None:
            return fenced_error(self.lease)
        same = _this_effect(self.lease.tenant, self.lease.run_id, self.values["effect_key"])
        found = connection.execute(select(effect).where(same)).one()
        mine = found.intended == self.made and found.epoch == self.lease.epoch
        return _effect_row(found, fresh=mine)


@cache
def _intention_insert(dialect: str) -> Any:
    return held_insert(dialect, effect, _COLUMNS, "intended").returning(effect)


def _count_send(connection: Connection, lease: Lease, effect_key: str) -> Any:
    """The number of sends; or Fenced, LedgerError. One repeated in doubt counts twice: the safe side."""
    if held_at(connection, lease) is None:
        return fenced_error(lease)
    cleared = {"outcome": None, "error": None, "wait_id": "", "ended": None}
    counted = (
        update(effect)
        .where(_this_effect(lease.tenant, lease.run_id, effect_key), effect.c.state.in_(_SENDABLE))
        .values(**cleared, state="intended", sent=effect.c.sent + 1, epoch=lease.epoch)
        .returning(effect.c.sent)
    )
    sent = connection.execute(counted).scalar()
    return _conflict(connection, lease, effect_key, "sent again") if sent is None else sent


def _settle_effect(
    connection: Connection, lease: Lease, effect_key: str, state: EffectState, known: Values
) -> Any:
    """None when the effect is settled so; else Fenced or LedgerError."""
    at = held_at(connection, lease)
    if at is None:
        return fenced_error(lease)
    settled = update(effect).where(
        _this_effect(lease.tenant, lease.run_id, effect_key), _may_become(state, known)
    )
    settled = settled.values(**known, state=state, ended=at, epoch=lease.epoch)
    if connection.execute(settled).rowcount:
        return None
    return _conflict(connection, lease, effect_key, state, known)


def _may_become(state: EffectState, known: Values) -> ColumnElement[bool]:
    allowed: ColumnElement[bool] = effect.c.state.in_(_BEFORE[state])
    if state == "unknown" and "wait_id" in known:
        allowed = or_(allowed, and_(effect.c.state == "unknown", effect.c.wait_id == ""))
    return allowed


def _conflict(
    connection: Connection, lease: Lease, effect_key: str, wanted: str, known: Values | None = None
) -> LedgerError | None:
    """Why an effect could not be changed; None when it was changed in this very way before."""
    found = connection.execute(
        select(effect).where(_this_effect(lease.tenant, lease.run_id, effect_key))
    ).first()
    cure = f"see what is recorded: phaseline show {lease.run_id}"
    if found is None:
        return LedgerError(f"run {lease.run_id} has no effect {effect_key}", cure)
    what = f"the effect {found.tool} of step {found.step_path} is recorded as {found.state}"
    if found.state != wanted:
        return LedgerError(f"{what}; it cannot be {wanted}", cure)
    differing = [name for name, value in (known or {}).items() if not _is_equal(name, value, found)]
    if not differing:
        return None
    return LedgerError(f"{what}; it cannot be {wanted} with another {' and '.join(differing)}", cure)


def _is_equal(name: str, given: str, found: Row[Any]) -> bool:
    stored = getattr(found, name)
    return given == stored or (name != "wait_id" and from_text(given) == from_text(stored))


def _this_effect(tenant: str, run_id: str, effect_key: str) -> ColumnElement[bool]:
    return and_(effect.c.tenant == tenant, effect.c.run_id == run_id, effect.c.effect_key == effect_key)


_COLUMNS = (
    "tenant",
    "run_id",
    "effect_key",
    "step_path",
    "kind",
    "tool",
    "effect",
    "arguments",
    "arguments_digest",
    "idempotency_key",
    "state",
    "epoch",
)


def _intent_values(lease: Lease, intent: EffectIntent) -> Values:
    return {
        "tenant": lease.tenant,
        "run_id": lease.run_id,
        "effect_key": intent.effect_key,
        "step_path": checked_path(intent.step_path),
        "kind": intent.kind,
        "tool": plain(intent.tool),
        "effect": intent.effect,
        "arguments": to_text(intent.arguments, f"what is shown of the call of {intent.tool}"),
        "arguments_digest": intent.arguments_digest,
        "idempotency_key": intent.idempotency_key,
        "state": "intended",
        "epoch": lease.epoch,
    }


def _effect_row(found: Row[Any], *, fresh: bool = False) -> EffectRow:
    return EffectRow(
        step_path=found.step_path,
        kind=found.kind,
        tool=found.tool,
        effect=found.effect,
        effect_key=found.effect_key,
        idempotency_key=found.idempotency_key,
        arguments=from_text(found.arguments),
        arguments_digest=found.arguments_digest,
        state=found.state,
        outcome=from_text(found.outcome),
        error=from_text(found.error),
        wait_id=found.wait_id,
        sent=found.sent,
        epoch=found.epoch,
        intended=found.intended,
        ended=found.ended,
        fresh=fresh,
    )
