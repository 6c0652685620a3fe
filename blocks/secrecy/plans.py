"""A plan without the secrets that its catalog's files hold: it is stored, shown, and sent in requests.

It is masked before anything is made of it, so that what runs, what is stored and what a resume compares are
one plan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from blocks.secrecy import secrets
from blocks.secrecy.secrets import Secrets
from workflows.core.plans.plan import (
    AwaitEventPlan,
    HandlerPlan,
    InputPlan,
    OutputPlan,
    Plan,
    ServerPlan,
    ToolRulePlan,
)
from workflows.core.text.own_words import OWN_WORDS
from workflows.core.tools.secret_names import variables_of_plan

_REFERRING = frozenset(
    {
        *("id", "workflow", "source", "folder", "file", "path", "function", "handler", "family", "provider"),
        *("reads", "inputs", "depends_on", "outputs", "guards", "documents", "effect_key", "tools"),
    }
)
"""Fields in which parts of a plan name each other, files and models."""
_NAMED: Mapping[type[BaseModel], tuple[str, ...]] = {
    **dict.fromkeys((InputPlan, OutputPlan, HandlerPlan, ServerPlan, ToolRulePlan), ("name",)),
    AwaitEventPlan: ("type",),
}
"""Those of one model alone: the `name` of a step or an agent is for people."""
_SCHEMAS = ("schema_", "form", "input_schema", "args")
"""Fields whose keys are names."""

_clean: tuple[Plan | None, Secrets | None] = (None, None)
"""What was found clean last: a command masks its plan, and the run it starts masks it again."""


def masked_plan(plan: Plan, known: Secrets | None = None) -> Plan:
    """The plan without the values of secrets, whose variables' names are learned from it first.

    In the entry of an MCP server, which still has to get it, `${NAME}` takes the value's place.
    """
    global _clean
    secrets.learn(variables_of_plan(plan))
    known = secrets.current_secrets() if known is None else known
    if not known or (_clean[0] is plan and _clean[1] is known):
        return plan
    masked = _mask_plan(plan, known)
    if masked is None:
        _clean = plan, known
        return plan
    return Plan.model_validate(masked)


def masked_manifest(document: Mapping[str, Any], known: Secrets) -> dict[str, Any]:
    """A run's manifest without the secrets; its plan is masked as it was before the run."""
    masked: dict[str, Any] = known.value(document, ours=True)
    try:
        plan = Plan.model_validate(document.get("plan"))
    except ValidationError:  # none of this form: masked as the rest
        return masked
    return {**masked, "plan": _mask_plan(plan, known) or document["plan"]}


def _mask_plan(plan: Plan, known: Secrets) -> dict[str, Any] | None:
    """The masked plan as JSON; None when there is nothing to mask.

    What stands in a name that the plan goes by is no secret in it: masked, steps, templates and files would
    no longer find each other.
    """
    text = plan.model_dump_json(by_alias=True)
    if known.text(text) == text:
        return None
    known = known.apart_from(_names(plan))
    written = plan.model_dump(mode="json", by_alias=True)
    masked: dict[str, Any] = _mask_value(written, known)
    return masked if masked != written else None


def _names(part: BaseModel) -> Iterator[str]:
    """What the plan's parts call each other by, and the files they lie in."""
    own = {*_REFERRING, *_NAMED.get(type(part), ())}
    for field, value in part:
        if field in _SCHEMAS:
            yield from _keys(value)
            continue
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, BaseModel):
                yield from _names(inner)
            elif isinstance(inner, str) and field in own:
                yield inner


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _keys(inner)


def _mask_value(value: Any, known: Secrets) -> Any:
    if isinstance(value, Mapping):
        keys = known.value(dict.fromkeys(value), ours=True)
        return {
            masked: _name_variables(inner, known) if key == "server" else _mask_value(inner, known)
            for masked, (key, inner) in zip(keys, value.items(), strict=True)
        }
    if isinstance(value, list):
        return [_mask_value(inner, known) for inner in value]
    return known.value(value, ours=True)


def _name_variables(value: Any, known: Secrets) -> Any:
    """An entry in which what it takes from the environment is named, not written."""
    if isinstance(value, Mapping):
        return {key: _name_variables(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_name_variables(inner, known) for inner in value]
    if isinstance(value, str) and value not in OWN_WORDS:
        for secret, name in _whole_values(known):
            value = value.replace(secret, f"${{{name}}}")
        return known.text(value)
    return value


def _whole_values(known: Secrets) -> Iterator[tuple[str, str]]:
    """Secrets that are all that their variable holds, so that naming it gives them."""
    return ((secret, name) for secret, name in known.items() if os.environ.get(name) == secret)
