"""A workflow as one step of another: a Prefect subflow that walks the inner plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Failed

from flows.keeper import now
from flows.unit import Outcome, Unit
from tasks.failures import StepFailed
from tasks.outputs_stored import store_output
from tasks.results import StepResult
from tasks.values import Value, argument, lone_expression
from workflows.core.inputs import SUFFIXES, bind_inputs
from workflows.core.plan import InputPlan, Plan, StepPlan

if TYPE_CHECKING:
    from flows.walk import Walk


class InnerFailed(StepFailed):
    """A step of the inner workflow failed."""

    final = True


async def run_nested(walk: Walk, step: StepPlan, path: str, key: str, follows: Mapping[str, Any]) -> Outcome:
    """Walks the inner plan below the step's path, then publishes its outputs as the step's."""
    from flows.walk import Walk as Walker

    assert step.workflow is not None
    plan = step.workflow
    values = await _inner_values(walk, step, plan)
    inner = Walker(
        plan, values, walk.context, walk.keeper, walk.storage, prefix=f"{path}/", slots=walk.slots
    )
    inner.stopped = walk.stopped

    async def body() -> Any:
        await inner.run(plan.steps)
        await inner.run(plan.finally_)
        failed = [e for e in inner.ends.values() if e.blocks]
        return Failed(message=f"failed: {', '.join(e.step.id for e in failed)}") if failed else None

    started = now()
    await walk.keeper.started(path, key, plan.workflow)
    subflow = flow(name=plan.workflow, flow_run_name=f"{step.id} · {plan.workflow}", validate_parameters=False)(body)
    state = await subflow(wait_for=list(follows.values()) or None, return_state=True)
    walk.stopped = walk.stopped or inner.stopped
    blocked = next((e for e in inner.ends.values() if e.blocks), None)
    if blocked is not None or not state.is_completed():
        inner_error = blocked.error if blocked else None
        error = inner.stopped or InnerFailed(
            f"{plan.workflow}: step '{blocked.step.id if blocked else '?'}' {inner_error or state.message}",
            getattr(inner_error, "cure", ""),
        )
        await walk.keeper.ended(path, key, "failed", error=error, started=started, agent=plan.workflow)
        return Outcome(path, state=state, error=error)

    async def work() -> StepResult:
        return await _published(walk, step, plan, inner, path)

    # The collecting task gives followers one edge and the step its own result.
    return await walk.unit(Unit(step, path, key, work, collects=True), {"workflow": state})


async def _inner_values(walk: Walk, step: StepPlan, plan: Plan) -> dict[str, Value]:
    """The inner workflow's inputs: arguments, then defaults. `{{ name }}` alone hands a ref on as it is."""
    context = walk.context
    out: dict[str, Value] = {}
    plain: dict[str, Any] = {}
    for name, written in step.args.items():
        lone = lone_expression(written) if isinstance(written, str) else None
        if lone is not None and lone in walk.values:
            handed = walk.values[lone]
            out[name] = Value(name, ref=handed.ref, plain=handed.plain)
        else:
            plain[name] = await argument(written, walk.values, context.store, {"steps": walk.statuses()})
    rest = plan.model_copy(update={"inputs": tuple(i for i in plan.inputs if i.name not in out)})
    out |= {name: Value(name, plain=value) for name, value in bind_inputs(rest, plain).items()}
    for spec in rest.inputs:
        if spec.name not in out and spec.default_file:
            out[spec.name] = Value(spec.name, ref=await default_ref(spec, context))
    return out


async def default_ref(spec: InputPlan, context: Any) -> Any:
    """The default file of an input, stored as an artifact."""
    path = context.catalog_root / spec.default_file
    return await context.keep(
        path.read_bytes(),
        media_type=SUFFIXES[path.suffix],
        kind="input",
        summary=f"{spec.name} (default {spec.default_file})",
        step="",
    )


async def _published(walk: Walk, step: StepPlan, plan: Plan, inner: Walk, path: str) -> StepResult:
    """One published output is the step's own; several become a JSON object of their values by name."""
    refs = {n: inner.values[n].ref for n in plan.outputs if n in inner.values}
    nested = {n: r.model_dump(mode="json") if r else None for n, r in refs.items()}
    ends = [e for e in inner.ends.values() if e.result]
    model = next((e.result.model for e in ends if e.result and e.result.model), "")
    if len(refs) == 1 and (only := next(iter(refs.values()))) is not None:
        output = only
    else:
        data = {n: await inner.values[n].data(walk.context.store) for n in refs}
        shape = step.output.model_copy(update={"type": "json"})
        output = await store_output("", data, shape, walk.context, path)
    return StepResult(
        step=step.id,
        path=path,
        output=output,
        nested=nested,
        agent=plan.workflow,
        model=model,
        offline=any(e.result.offline for e in ends if e.result),
    )
