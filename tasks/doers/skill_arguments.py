"""The arguments of a step's handler, whether it does the work or takes it back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tasks.context import RunContext
from tasks.tools import argument_problems
from tasks.values import Value, fill_argument
from workflows.core.errors import PhaselineError
from workflows.core.expressions.templates import lone_expression
from workflows.core.plans.plan import HandlerPlan
from workflows.core.tools.handlers import with_documents


class WrongArguments(PhaselineError):
    """The arguments of a skill step do not fit its handler."""

    final = True
    before_sending = True
    """Nothing was called yet."""


async def fill_arguments(
    handler: HandlerPlan,
    args: Mapping[str, Any],
    values: Mapping[str, Value],
    extra: Mapping[str, Any],
    context: RunContext,
) -> dict[str, Any]:
    """The arguments as they are kept and told: a secret is its reference, a document its name."""
    return {
        name: written
        if name in handler.documents
        else await fill_argument(written, values, context.store, extra)
        for name, written in args.items()
    }


async def problems_of(
    handler: HandlerPlan, arguments: Mapping[str, Any], values: Mapping[str, Value]
) -> list[str]:
    """What does not fit the handler. Raises ValueError when it needs a document and there is none."""
    names = [n for n, v in values.items() if v.ref is not None or v.plain is not None]
    schema = with_documents(handler.input_schema, handler.documents, names)
    # In a thread: foreign patterns and large values take their time.
    return await asyncio.to_thread(argument_problems, schema, dict(arguments))


def with_secrets(
    args: Mapping[str, Any], arguments: Mapping[str, Any], values: Mapping[str, Value], context: RunContext
) -> dict[str, Any]:
    """The arguments as the handler gets them, with the value of each secret that is one by itself.

    Everything before this (keys, digests, rows, questions to people) is made of its reference.
    """
    given = dict(arguments)
    for name, written in args.items():
        value = values.get(lone_expression(written) or "") if isinstance(written, str) else None
        if value is None or not value.variable:
            continue
        held = context.environ.get(value.variable, "")
        if not held:
            raise WrongArguments(
                f"the secret '{value.name}' is not there: the variable {value.variable} is not set",
                f"set {value.variable} where the run goes on",
            )
        given[name] = held
    return given
