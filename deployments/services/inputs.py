"""Inputs as they are asked for, typed by the plan: every one that cannot be used is told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from blocks.secrecy import secrets
from deployments.runs.stored_inputs import GivenFile
from workflows.core.compile.inputs import coerce, input_of, missing_inputs, named_secrets, variable_of
from workflows.core.errors import UsageError, join_faults
from workflows.core.plans.plan import InputPlan, Plan

OpenValue = Callable[[InputPlan, Any], Any]
"""What a value stands for: a front whose people may name files gives a GivenFile in place of the name."""


def take_as_written(spec: InputPlan, value: Any) -> Any:
    """The value itself: no file of this machine is opened by its name."""
    return value


def type_inputs(
    plan: Plan,
    given: Mapping[str, Any],
    *,
    environ: Mapping[str, str],
    routed: Mapping[str, Any] | None = None,
    whole: bool = False,
    open_value: OpenValue = take_as_written,
) -> dict[str, Any]:
    """Typed values by input name; files as GivenFile. Raises UsageError that tells all that cannot be used.

    `routed` are values that are there already. What is missing is told when they are to be `whole`: a run
    that is continued has its earlier inputs.
    """
    # First of all, since what is told of an unfit value holds the beginning of it. What a secret names is
    # known before, since another input may hold its value.
    secrets.learn(named_secrets(plan.inputs, given))
    given = secrets.current_secrets().values_of(given)
    read: dict[str, Any] = dict(routed or {})
    faults = []
    for name, value in given.items():
        try:
            read[name] = _type_value(input_of(plan, name), value, environ, open_value)
        except UsageError as fault:
            faults.append(fault)
    missing = [i for i in plan.inputs if i.required and i.name not in given and i.name not in read]
    if missing and whole:
        faults.append(missing_inputs(missing))
    if faults:
        raise join_faults(faults)
    return read


def _type_value(spec: InputPlan, value: Any, environ: Mapping[str, str], open_value: OpenValue) -> Any:
    read = open_value(spec, value) if spec.type != "secret" else value
    typed = read if isinstance(read, GivenFile) else coerce(spec, read)
    if spec.type == "secret" and not environ.get(variable := variable_of(typed)):
        raise UsageError(
            f"the input '{spec.name}' names the variable {variable}, which is not set",
            f"set {variable} where the run is started, and where it goes on",
        )
    return typed
