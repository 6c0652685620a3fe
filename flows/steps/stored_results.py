"""Which of Prefect's stored results are believed: the ledger's row of a step is the truth, not the storage.

Whoever may write to the storage can put a result under any key, that of an approval too. So a result is taken
over only where the ledger says the same of the step that made it (`cache: always`), or where no ledger could
say anything: in a run that is restored from its storage alone, which acts on nothing and asks nobody.
"""

from __future__ import annotations

from flows.steps.keeper import Keeper, now
from flows.steps.unit import Unit
from tasks.context import RunContext
from tasks.results import StepResult


class Unproved(Exception):
    """Why a stored result is not taken over, in words for people."""


def may_be_stored(unit: Unit, context: RunContext) -> bool:
    """Whether what Prefect stored of a unit is looked at: only where the ledger cannot say what is finished,
    in other runs' results and in a run that was restored from its storage."""
    restored = context.restored and not context.generations.get(unit.path)
    return restored or unit.step.cache == "always"


async def prove_result(
    unit: Unit, found: StepResult | None, context: RunContext, keeper: Keeper
) -> StepResult:
    """The result of a unit that the ledger's run does not have, as it is believed. Raises Unproved."""
    if found is None or (found.key, found.step) != (unit.key, unit.step.id):
        raise Unproved("what was stored under its key is something else")
    if any(ref.tenant != context.tenant for ref in found.refs):
        raise Unproved("what was stored under its key belongs to another tenant")
    elsewhere = made_elsewhere(found, context)
    if elsewhere and unit.step.cache != "always":
        raise Unproved("what was stored under its key belongs to another run")
    if elsewhere or not context.restored:
        found = await _find_recorded(unit, found, elsewhere, context, keeper)
    reason = await keeper.why_unreadable(found)
    if reason is not None:
        raise Unproved(reason)
    return found


def made_elsewhere(result: StepResult, context: RunContext) -> str:
    """The run that made a result, when it is not this one."""
    made_in = result.output.run_id if result.output else context.run_id
    return made_in if made_in != context.run_id else ""


async def _find_recorded(
    unit: Unit, found: StepResult, run_id: str, context: RunContext, keeper: Keeper
) -> StepResult:
    """What the ledger says of the step that made a shared result."""
    for row in await keeper.completed_rows(run_id or context.run_id, unit.key, offline=context.offline):
        made = await keeper.with_nested(StepResult.model_validate(row.result))
        if made.refs != found.refs:
            continue
        if unit.step.ttl is not None and (row.ended or 0) + unit.step.ttl * 1e6 < now():
            raise Unproved("what was stored under its key is too old")
        return made
    raise Unproved("what was stored under its key is not what this ledger has of it")
