"""Takes back what an abandoned run did: the `undo` of its completed steps, the last one first."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from blocks.ledger import Lease, Ledger, RunRow, RunStart, StepRecord
from blocks.settings import Settings
from blocks.storage import ArtifactStore
from flows.inputs import restored
from tasks.context import RunContext
from tasks.durable import Durable
from tasks.effect_calls import Unsure
from tasks.effect_tools import gate_of
from tasks.handlers import HandlerCrashed, HandlerTimeout
from tasks.results import StepResult
from tasks.toolbox import call_handler
from tasks.tools import Effect, ToolError, ToolResult, argument_problems
from tasks.values import Value, argument, lone_expression
from workflows.core.errors import PhaselineError
from workflows.core.handlers import with_documents
from workflows.core.plan import Plan, StepPlan, UndoPlan
from workflows.core.refs import Ref
from workflows.core.undo import OUTPUT


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
class _Completed:
    """A completed step with something that takes it back, and what it knew."""

    step: StepPlan
    undo: UndoPlan
    path: str
    ended: int
    values: Mapping[str, Value]


async def undo_run(
    ledger: Ledger, row: RunRow, plan: Plan, settings: Settings, environ: Mapping[str, str]
) -> list[Undone]:
    """Takes back the completed steps of a run that nobody works on; it is cancelled afterwards.

    Each step is taken back once, also when this is called again. One that fails keeps none from the rest.
    Raises RunHeld, StorageError, LedgerError.
    """
    with ArtifactStore.open(settings.storage, environ=environ) as store:
        async with _taken(ledger, row) as lease:
            context = RunContext(
                run_id=row.run_id,
                catalog_root=settings.catalog,
                store=store,
                environ=environ,
                offline=row.offline,
                tenant=row.tenant,
                durable=Durable(ledger, lease),
            )
            records = {r.step_path: r for r in await ledger.steps(row.tenant, row.run_id)}
            inputs = {n: _value(n, v) for n, v in restored(row.inputs).items()}
            found = await _completed(plan, records, inputs, "", context)
            found.sort(key=lambda done: done.ended, reverse=True)
            return [await _undo(done, context) for done in found]


@asynccontextmanager
async def _taken(ledger: Ledger, row: RunRow) -> AsyncIterator[Lease]:
    """The run, held while its steps are taken back."""
    lease = await ledger.begin_run(RunStart(run_id=row.run_id, tenant=row.tenant, workflow=row.workflow))
    try:
        async with ledger.kept(lease, lambda error: None):
            yield lease
    finally:
        # What is asked here, such as whether taking back happened, is for the next time.
        await ledger.finish_run(lease, "cancelled", error=row.error, keep_waits=True)


async def _completed(
    plan: Plan,
    records: Mapping[str, StepRecord],
    inputs: Mapping[str, Value],
    prefix: str,
    context: RunContext,
) -> list[_Completed]:
    """The steps that can be taken back, those of inner workflows included."""
    values = dict(inputs)
    found: list[_Completed] = []
    for step in (*plan.steps, *plan.finally_):
        path = f"{prefix}{step.id}"
        if step.workflow is not None:
            inner = await _inner_inputs(step, values, context)
            found += await _completed(step.workflow, records, inner, f"{path}/", context)
        record = _last(step, path, records)
        if record is None or record.state != "completed" or record.result is None:
            continue
        output = StepResult.model_validate(record.result).output
        values[step.output.name] = Value(step.output.name, ref=output)
        if step.undo is not None:
            known = {n: v for n, v in values.items() if n in (step.output.name, *step.reads)}
            known[OUTPUT] = Value(OUTPUT, ref=output)
            found.append(_Completed(step, step.undo, path, record.ended or 0, known))
    return found


def _last(step: StepPlan, path: str, records: Mapping[str, StepRecord]) -> StepRecord | None:
    """The record that holds a step's result; a repeated step's is that of its last iteration."""
    if step.repeat is None:
        return records.get(path)
    done = [records.get(f"{path}/{n}") for n in range(step.repeat.max, 0, -1)]
    return next((r for r in done if r is not None and r.state == "completed"), None)


async def _inner_inputs(step: StepPlan, values: Mapping[str, Value], context: RunContext) -> dict[str, Value]:
    """What an inner workflow was given, as far as it can still be told."""
    assert step.workflow is not None
    given = {i.name: Value(i.name, plain=i.default) for i in step.workflow.inputs}
    for name, written in step.args.items():
        lone = lone_expression(written) if isinstance(written, str) else None
        if lone is not None and lone in values:
            given[name] = values[lone]
            continue
        try:
            given[name] = Value(name, plain=await argument(written, values, context.store, {}))
        except PhaselineError:
            given.pop(name, None)  # an undo that reads it says that it is missing
    return given


def _value(name: str, given: Any) -> Value:
    return Value(name, ref=given) if isinstance(given, Ref) else Value(name, plain=given)


async def _undo(done: _Completed, context: RunContext) -> Undone:
    try:
        told = await _called(done, context)
        if told.is_error:
            raise NotUndone(str(told.content), f"take back '{done.path}' by hand")
        await _close_effects(done.path, context)
    except PhaselineError as fault:
        cure = fault.cure or f"take back '{done.path}' by hand"
        return Undone(done.path, False, f"it could not be taken back: {fault.message}", cure)
    except ToolError as fault:
        return Undone(done.path, False, f"it could not be taken back: {fault}", "mend it, then run it again")
    return Undone(done.path, True, f"taken back by {done.undo.handler.handler}")


async def _called(done: _Completed, context: RunContext) -> ToolResult:
    """Calls the handler through the gate, so that it is done once whatever happens."""
    undo = done.undo
    arguments = {
        name: written
        if name in undo.handler.documents
        else await argument(written, done.values, context.store, {})
        for name, written in undo.args.items()
    }
    _check(undo, arguments, done)

    async def send(_key: str) -> ToolResult:
        try:
            result = await call_handler(undo.skill, undo.handler, arguments, done.values, context)
        except (HandlerTimeout, HandlerCrashed) as fault:
            raise Unsure(str(fault)) from None  # what it did before its end is not known
        return ToolResult(json.dumps(result, ensure_ascii=False))

    gate = gate_of(context, f"{done.path}/undo", remote=context.reaches_out)
    assert gate is not None
    # Also a handler that declares no effect is recorded: taking back is an effect by what it means.
    effect: Effect = "idempotent" if undo.handler.effect == "none" else undo.handler.effect
    return await gate.perform(
        kind="tool",
        tool=f"{undo.skill.id}.{undo.handler.handler}",
        arguments=arguments,
        effect=effect,
        ordinal=0,
        send=send,
    )


def _check(undo: UndoPlan, arguments: dict[str, Any], done: _Completed) -> None:
    names = [n for n, v in done.values.items() if v.ref is not None or v.plain is not None]
    try:
        problems = argument_problems(
            with_documents(undo.handler.input_schema, undo.handler.documents, names), arguments
        )
    except ValueError as fault:
        problems = [str(fault)]
    if problems:
        raise NotUndone(f"{undo.handler.handler}: " + "; ".join(problems), "mend `undo.args` of the step")


async def _close_effects(path: str, context: RunContext) -> None:
    """What the step did counts as undone from here on."""
    durable = context.durable
    assert durable is not None
    for row in await durable.ledger.effects.of_run(context.tenant, context.run_id):
        of_step = row.step_path == path or row.step_path.startswith(f"{path}/")
        if of_step and row.state == "done" and row.step_path != f"{path}/undo":
            await durable.ledger.effects.settle(durable.lease, row.effect_key, "undone")
    told = ("step.undone", path, {"step": path})
    await durable.ledger.events.append(durable.lease, [told])
