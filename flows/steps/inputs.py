"""The values a walk begins with: inputs given now, or as the run began, or defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocks.secrecy.secrets import learn
from tasks.context import INLINE_BYTES, RunContext
from tasks.values import Value, json_body
from workflows.core.compile.inputs import MOST_BYTES, SUFFIXES, bind_inputs, variable_of
from workflows.core.errors import UsageError
from workflows.core.plans.plan import InputPlan, Plan
from workflows.core.read.files import read_file
from workflows.core.refs import Ref


async def bound_values(plan: Plan, given: Mapping[str, Any], context: RunContext) -> dict[str, Value]:
    """Every input's value, typed; bodies are stored. Raises UsageError for unknown, missing, wrong ones."""
    # A ref is a body already, and null is what a skipped step left: neither is read as a number or a list.
    as_is = {n: v for n, v in given.items() if v is None or isinstance(v, Ref)}
    written = {n: v for n, v in given.items() if n not in as_is}
    known = [i for i in plan.inputs if i.name not in as_is]
    bound = bind_inputs(plan.model_copy(update={"inputs": tuple(known)}), written)
    out = {}
    for spec in plan.inputs:
        if spec.name in as_is and as_is[spec.name] is None:
            out[spec.name] = Value(spec.name)
        else:
            out[spec.name] = await _value(spec, {**bound, **as_is}.get(spec.name), context)
    return out


def inputs_to_json(values: Mapping[str, Value]) -> dict[str, dict[str, Any]]:
    """Inputs as the ledger and the manifest keep them."""
    return {
        n: {"ref": v.ref.model_dump(mode="json")} if v.ref else {"value": v.plain} for n, v in values.items()
    }


def inputs_from_json(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The inverse of `inputs_to_json`, as inputs are given."""
    return {n: Ref.model_validate(v["ref"]) if "ref" in v else v.get("value") for n, v in kept.items()}


def known_value(name: str, given: Any, spec: InputPlan | None) -> Value:
    """A value as a run keeps it: a ref, or plain. That of a secret leads to its variable.

    The value itself is looked up where it is used; from here on it is masked wherever it shows up.
    """
    if isinstance(given, Ref):
        return Value(name, ref=given)
    if spec is not None and spec.type == "secret" and (variable := variable_of(given)):
        learn([variable])
        return Value(name, plain=given, variable=variable)
    return Value(name, plain=given)


async def _value(spec: InputPlan, value: Any, context: RunContext) -> Value:
    if isinstance(value, Ref):
        if value.tenant != context.tenant:
            raise UsageError(
                f"the input '{spec.name}' belongs to another tenant", "give a document of your own"
            )
        return Value(spec.name, ref=value)
    if spec.type == "secret" and value is not None:
        return known_value(spec.name, value, spec)
    if value is None:
        return Value(spec.name, ref=await _default(spec, context)) if spec.default_file else Value(spec.name)
    is_text = isinstance(value, str)
    body = value.encode("utf-8", "replace") if isinstance(value, str) else json_body(value)
    if spec.type != "file" and len(body) <= INLINE_BYTES:
        return Value(spec.name, plain=value)
    text_type = "text/markdown" if spec.type == "file" else "text/plain"
    media_type = text_type if is_text else "application/json"
    ref = await context.keep(body, media_type=media_type, kind="input", summary=spec.name, step="")
    return Value(spec.name, ref=ref)


def _body(path: Path, spec: InputPlan) -> bytes:
    try:
        return read_file(path, MOST_BYTES)
    except OSError as fault:
        message = f"the default of the input '{spec.name}', {spec.default_file}: {fault.strerror}"
        raise UsageError(message, "check the file in the catalog") from None


async def _default(spec: InputPlan, context: RunContext) -> Ref:
    """The default file of an input, stored as an artifact."""
    path = context.catalog_root / spec.default_file
    return await context.keep(
        _body(path, spec),
        media_type=SUFFIXES[path.suffix],
        kind="input",
        summary=f"{spec.name} (default {spec.default_file})",
        step="",
    )
