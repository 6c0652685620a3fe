"""A skill run directly, without a model."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from tasks.context import INLINE_BYTES, RunContext
from tasks.doers.planned_call import PlannedCall
from tasks.doers.skill_arguments import WrongArguments, fill_arguments, problems_of
from tasks.doers.work import Work
from tasks.effects.earlier_work import EarlierWork, done_by
from tasks.effects.rows import cut_off
from tasks.effects.tools import gate_of
from tasks.failures import OutputRejected, StepFailed
from tasks.outputs.contract import Contract, Rejected
from tasks.outputs.stored import store_output
from tasks.results import StepResult
from tasks.tools import ToolResult
from workflows.core.plans.plan import StepPlan
from workflows.core.refs import Ref


async def run_skill(work: Work) -> StepResult:
    """Calls the step's handler and stores its result. Raises HandlerFault, WrongArguments, OutputRejected."""
    step, values, context = work.step, work.values, work.context
    assert step.skill is not None and step.handler is not None
    started = time.monotonic()
    arguments = await fill_arguments(step.handler, step.args, values, work.names, context)
    try:
        problems = await problems_of(step.handler, arguments, values)
    except ValueError as fault:
        raise WrongArguments(str(fault), "give the step the document it needs") from None
    if problems:
        raise WrongArguments(
            f"{step.handler.handler}: " + "; ".join(problems), f"mend `args` of the step '{step.id}'"
        )
    result = await _perform_call(work, arguments)
    # In a thread: a large result takes its time, and the step's timeout must fire meanwhile.
    await asyncio.to_thread(_accept, step, result)
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, indent=2)
    ref = await store_output(text, result, step.output, context, work.path)
    return StepResult(
        step=step.id,
        path=work.path,
        output=ref,
        agent=step.skill.id,
        offline=context.offline,
        seconds=time.monotonic() - started,
    )


async def _perform_call(work: Work, arguments: dict[str, Any]) -> Any:
    """The handler's result; one that acts is called through the effect gate, so that it acts once."""
    step, context, path = work.step, work.context, work.path
    skill, handler = step.skill, step.handler
    assert skill is not None and handler is not None
    cure = f"mend `args` of the step '{step.id}'"
    call = PlannedCall(skill, handler, step.args, arguments, work.values, context, cure)
    if handler.effect == "none" or context.durable is None:
        return await call.run()
    # Whatever was done by other arguments: the step's definition, or what it reads, was another one then.
    fresh = context.durable.lease.created and context.attempts.get(path, 1) <= 1
    earlier = EarlierWork([] if fresh else await done_by(context, path))
    gate = gate_of(
        context,
        path,
        repeat=context.repeat(path),
        remote=context.reaches_out,
        earlier=earlier,
        keep=partial(_store_large, name=handler.handler, context=context, path=path),
    )
    assert gate is not None
    # Stored by the gate: a storage that is away then leaves no doubt of whether the call was made.
    done = await call.acting(handler.effect, step.people, step.effect_key).perform(gate, arguments)
    return await _read_result(done, work)


async def _store_large(result: ToolResult, name: str, context: RunContext, path: str) -> ToolResult:
    """A result as the gate keeps it, which is text of some length: itself, or where it is stored."""
    body = str(result.content).encode("utf-8", "surrogatepass")
    if result.is_error or len(body) <= INLINE_BYTES // 2:
        return result
    ref = await context.keep(
        body, media_type="application/json", kind="tool-result", summary=f"result of {name}", step=path
    )
    return replace(result, content=json.dumps({"ref": ref.model_dump(mode="json")}))


async def _read_result(done: ToolResult, work: Work) -> Any:
    """A recorded result; an outcome that a person told is text."""
    context = work.context
    text = done.content if isinstance(done.content, str) else json.dumps(done.content, ensure_ascii=False)
    if done.is_error:
        raise StepFailed(text, f"see what happened: phaseline show, then resume or change '{work.step.id}'")
    try:
        kept = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith('{"value": ') and cut_off(text):
            raise StepFailed(
                "it was done, and its result could not be stored then: only the beginning is known",
                "look there at what it did; done once more, which acts again: "
                f"phaseline resume {context.run_id} --from {work.path.split('/')[0]} --repeat-effects",
            ) from None
        return text
    if isinstance(kept, dict) and set(kept) == {"ref"}:
        stored = _ref(kept["ref"], context)
        if stored is None:
            return text
        kept = json.loads(await context.store.get(stored))
    return kept["value"] if isinstance(kept, dict) and set(kept) == {"value"} else kept


def _ref(kept: Any, context: RunContext) -> Ref | None:
    """Where a result is stored; None for a person's words that only look like it, or lead elsewhere."""
    try:
        ref = Ref.model_validate(kept)
    except ValidationError:
        return None
    return ref if ref.tenant == context.tenant else None


def _accept(step: StepPlan, result: Any) -> None:
    """A handler's result is data somebody else's code made: it is held to the contract as well."""
    try:
        Contract(step.output).accept_data(result)
    except Rejected as fault:
        problems = fault.problems[:5]
        text = "the result breaks the output's contract: " + "; ".join(problems)
        raise OutputRejected(text, problems) from None
