"""A skill run directly, without a model."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator

from tasks.context import RunContext
from tasks.failures import OutputRejected
from tasks.outputs_stored import store_output
from tasks.results import StepResult
from tasks.toolbox import call_handler
from tasks.tools import ToolError, argument_problems
from tasks.values import Value, argument
from workflows.core.errors import PhaselineError
from workflows.core.handlers import with_documents
from workflows.core.plan import StepPlan


class WrongArguments(PhaselineError):
    """The arguments of a skill step do not fit its handler."""

    final = True


async def run_skill(
    step: StepPlan, values: Mapping[str, Value], extra: Mapping[str, Any], context: RunContext, path: str
) -> StepResult:
    """Calls the step's handler and stores its result. Raises HandlerFault, WrongArguments, OutputRejected."""
    assert step.skill is not None and step.handler is not None
    started = time.monotonic()
    arguments = {
        name: written
        if name in step.handler.documents
        else await argument(written, values, context.store, extra)
        for name, written in step.args.items()
    }
    names = [n for n, v in values.items() if v.ref is not None or v.plain is not None]
    try:
        schema = with_documents(step.handler.input_schema, step.handler.documents, names)
    except ValueError as fault:
        raise WrongArguments(str(fault), "give the step the document it needs") from None
    problems = argument_problems(schema, arguments)
    if problems:
        raise WrongArguments(
            f"{step.handler.handler}: " + "; ".join(problems), f"mend `args` of the step '{step.id}'"
        )
    try:
        result = await call_handler(step.skill, step.handler, arguments, values, context)
    except ToolError as fault:
        raise WrongArguments(str(fault), f"mend `args` of the step '{step.id}'") from None
    _accept(step, result)
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, indent=2)
    ref = await store_output(text, result, step.output, context, path)
    return StepResult(
        step=step.id,
        path=path,
        output=ref,
        agent=step.skill.id,
        offline=context.offline,
        seconds=time.monotonic() - started,
    )


def _accept(step: StepPlan, result: Any) -> None:
    """A handler's result is data somebody else's code made: it is held to the contract as well."""
    problems = []
    if step.output.type == "table" and not (
        isinstance(result, list) and all(isinstance(r, dict) for r in result)
    ):
        problems = ["a table is a list of objects"]
    elif step.output.schema_ is not None:
        found = Draft202012Validator(step.output.schema_).iter_errors(result)
        problems = [f"{e.json_path}: {e.message}"[:300] for e in found][:5]
    if problems:
        raise OutputRejected("the result breaks the output's contract: " + "; ".join(problems), problems)
