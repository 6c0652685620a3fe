"""Takes back what an abandoned run did: the `undo` of its completed steps, the last one first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from blocks.ledger import EffectRow, Lease, Ledger, RunRow, RunStart
from blocks.patience import Patience, PatienceOver, Vigil
from blocks.settings import Settings
from blocks.storage.artifacts import ArtifactStore
from flows.completed_rows import Completed, completed_rows
from flows.steps.inputs import inputs_from_json, known_value
from tasks.context import RunContext
from tasks.doers.planned_call import PlannedCall
from tasks.doers.skill_arguments import fill_arguments, problems_of
from tasks.durable import Durable
from tasks.effects.rows import may_have_happened
from tasks.effects.tools import gate_of
from tasks.tools import Effect, ToolError, ToolResult
from tasks.waiting import Waiting
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import DecidersPlan, Plan, UndoPlan
from workflows.core.step_paths import within

_MEND = "mend `undo.args` of the step"


class NotUndone(PhaselineError):
    """A step could not be taken back."""


@dataclass(frozen=True)
class Undone:
    """How taking back one step ended. `step` is its path."""

    step: str
    done: bool
    message: str
    cure: str = ""

    def to_document(self) -> dict[str, Any]:
        """One entry of `undone`."""
        return {"step": self.step, "done": self.done, "message": self.message, "cure": self.cure}


@dataclass(frozen=True)
class Left:
    """An effect that nothing took back. `in_doubt`: nobody knows whether it happened."""

    step: str
    tool: str
    state: str
    in_doubt: bool

    def to_document(self) -> dict[str, Any]:
        """One entry of `not_taken_back`."""
        return {"step": self.step, "tool": self.tool, "state": self.state, "in_doubt": self.in_doubt}


@dataclass(frozen=True)
class TakenBack:
    """What undoing a run came to: the steps with an `undo`, and the effects that are left."""

    undone: Sequence[Undone]
    left: Sequence[Left]

    @property
    def settled(self) -> bool:
        """Whether every `undo` succeeded and no effect is in doubt."""
        return all(end.done for end in self.undone) and not any(one.in_doubt for one in self.left)


async def undo_run(
    ledger: Ledger,
    row: RunRow,
    plan: Plan,
    settings: Settings,
    environ: Mapping[str, str],
    patience: Patience,
) -> TakenBack:
    """Takes back the completed steps of a run that nobody works on; it is cancelled afterwards.

    From its lease on nobody goes on with the run any more, also where this is cut off.

    Each step is taken back once, also when this is called again. One that fails keeps none from the rest.
    Raises RunHeld, StorageError, LedgerError.
    """
    with ArtifactStore.open(settings.storage, environ=environ, vigil=Vigil(patience)) as store:
        async with _hold_run(ledger, row) as lease:
            context = RunContext(
                run_id=row.run_id,
                catalog_root=settings.catalog,
                store=store,
                environ=environ,
                patience=patience,
                offline=row.offline,
                tenant=row.tenant,
                durable=Durable(ledger, lease),
            )
            records = {r.step_path: r for r in await ledger.steps(row.tenant, row.run_id)}
            specs = {i.name: i for i in plan.inputs}
            inputs = {n: known_value(n, v, specs.get(n)) for n, v in inputs_from_json(row.inputs).items()}
            found = await completed_rows(plan, records, inputs, "", context)
            found.sort(key=lambda done: done.ended, reverse=True)
            undone = [await _undo(done, context) for done in found]
            return TakenBack(
                undone, _effects_left(await ledger.effects.of_run(row.tenant, row.run_id), undone)
            )


@asynccontextmanager
async def _hold_run(ledger: Ledger, row: RunRow) -> AsyncIterator[Lease]:
    """The run, held while its steps are taken back."""
    start = RunStart(run_id=row.run_id, tenant=row.tenant, workflow=row.workflow, take_back=True)
    lease = await ledger.begin_run(start)
    try:
        async with ledger.keep_lease(lease, lambda error: None):
            yield lease
    finally:
        # What is asked here, such as whether taking back happened, is for the next time.
        await ledger.finish_run(lease, "cancelled", error=row.error, keep_waits=True)


async def _undo(done: Completed, context: RunContext) -> Undone:
    again = f"phaseline cancel {context.run_id} --undo"
    try:
        told = await _call_undo(done, context)
        if told.is_error:
            raise NotUndone(str(told.content), f"take back '{done.path}' by hand")
        await _close_effects(done.path, context)
    except Waiting as fault:
        return Undone(
            done.path, False, f"it could not be taken back: {fault.message}", f"{fault.cure}, then {again}"
        )
    except PhaselineError as fault:
        if isinstance(fault, PatienceOver):
            fault.continued_by(again)
        cure = fault.cure or f"take back '{done.path}' by hand"
        return Undone(done.path, False, f"it could not be taken back: {fault.message}", cure)
    except ToolError as fault:
        return Undone(done.path, False, f"it could not be taken back: {fault}", "mend it, then run it again")
    return Undone(done.path, True, f"taken back by {done.undo.handler.handler}")


async def _call_undo(done: Completed, context: RunContext) -> ToolResult:
    """Calls the handler through the gate, so that it is done once whatever happens."""
    undo = done.undo
    arguments = await fill_arguments(undo.handler, undo.args, done.values, {}, context)
    await _check(undo, arguments, done)

    call = PlannedCall(undo.skill, undo.handler, undo.args, arguments, done.values, context, _MEND)

    gate = gate_of(context, f"{done.path}/undo", remote=context.reaches_out)
    assert gate is not None
    # Also a handler that declares no effect is recorded: taking back is an effect by what it means.
    effect: Effect = "idempotent" if undo.handler.effect == "none" else undo.handler.effect
    return await call.acting(effect, _deciders_without_end(done.step.people)).perform(gate, arguments)


def _deciders_without_end(people: DecidersPlan | None) -> DecidersPlan | None:
    """Who answers about taking back; without end, since nobody is asked about that a second time."""
    ended = {"deadline": None, "on_timeout": "fail", "escalate_to": ()}
    return None if people is None else people.model_copy(update=ended)


def _effects_left(effects: Sequence[EffectRow], undone: Sequence[Undone]) -> list[Left]:
    """Effects that happened, or may have, and that no `undo` spoke of."""
    told = tuple(end.step for end in undone)
    return [
        Left(row.step_path, row.tool, row.state, row.state != "done")
        for row in effects
        if (row.state == "done" or may_have_happened(row))
        and not _of_undo(row.step_path, told)
        and not (row.state == "done" and any(within(row.step_path, path) for path in told))
    ]


def _of_undo(path: str, undone: Sequence[str]) -> bool:
    """Whether the effect is taking back itself: how that ended is told with its step."""
    return path in {f"{step}/undo" for step in undone}


async def _check(undo: UndoPlan, arguments: dict[str, Any], done: Completed) -> None:
    try:
        problems = await problems_of(undo.handler, arguments, done.values)
    except ValueError as fault:
        problems = [str(fault)]
    if problems:
        raise NotUndone(f"{undo.handler.handler}: " + "; ".join(problems), _MEND)


async def _close_effects(path: str, context: RunContext) -> None:
    """What the step did counts as undone from here on."""
    durable = context.durable
    assert durable is not None
    for row in await durable.ledger.effects.of_run(context.tenant, context.run_id):
        # Below a workflow are also the effects of taking back its steps.
        if within(row.step_path, path) and row.state == "done" and not row.step_path.endswith("/undo"):
            await durable.ledger.effects.settle(durable.lease, row.effect_key, "undone")
    told = ("step.undone", path, {"step": path})
    await durable.ledger.events.append(durable.lease, [told])
