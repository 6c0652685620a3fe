"""A plan without the secrets that its catalog's files hold: it is stored, shown, and sent in requests.

It is masked before anything is made of it, so that what runs, what is stored and what a resume compares are
one plan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from blocks import secrets
from blocks.secrets import Secrets
from workflows.core.plan import Plan
from workflows.core.secret_names import variables_of_plan

_clean: tuple[Plan | None, Secrets | None] = (None, None)
"""What was found clean last: a command masks its plan, and the run it starts masks it again."""


def masked_plan(plan: Plan, known: Secrets | None = None) -> Plan:
    """The plan without the values of secrets, whose variables' names are learned from it first.

    In the entry of an MCP server, which still has to get it, `${NAME}` takes the value's place.
    """
    global _clean
    secrets.learn(variables_of_plan(plan))
    known = secrets.known() if known is None else known
    if not known or (_clean[0] is plan and _clean[1] is known):
        return plan
    if known.text(text := plan.model_dump_json(by_alias=True)) == text:
        _clean = plan, known
        return plan
    return Plan.model_validate(_masked(plan.model_dump(mode="json", by_alias=True), known))


def _masked(value: Any, known: Secrets) -> Any:
    if isinstance(value, Mapping):
        return {
            known.text(key): _referring(inner, known) if key == "server" else _masked(inner, known)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_masked(inner, known) for inner in value]
    return known.value(value, numbers=False)


def _referring(value: Any, known: Secrets) -> Any:
    """An entry in which what it takes from the environment is named, not written."""
    if isinstance(value, Mapping):
        return {key: _referring(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_referring(inner, known) for inner in value]
    if isinstance(value, str):
        for secret, name in _whole(known):
            value = value.replace(secret, f"${{{name}}}")
        return known.text(value)
    return value


def _whole(known: Secrets) -> Iterator[tuple[str, str]]:
    """Secrets that are all that their variable holds, so that naming it gives them."""
    return ((secret, name) for secret, name in known.items() if os.environ.get(name) == secret)
