"""Who answers a run, and with which keys it asks: refused, or said, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from blocks.providers.connections import key_of
from deployments.runs.host import Notice, Notify
from workflows.core.catalog.connectors import DEFAULT_KEY
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import UsageError
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from blocks.ledger import RunRow


def answers_offline(
    asked: bool, plan: Plan, environ: Mapping[str, str], before: RunRow | None, notify: Notify
) -> bool:
    """Whether the offline model answers. Without a key it does, which is said, never silent.

    A run that goes on stays what it was; asked to be offline after all, it is refused where it starts.
    Raises UsageError for one that began with a real model and has no key now.
    """
    if asked or environ.get("PHASELINE_MODEL") == "offline":
        return True
    if before is not None and before.offline:
        return True
    asked_for = {a.model.connection or DEFAULT_KEY for a in agents_of(plan)}
    if not asked_for or any(environ.get(name, "").strip() for name in (DEFAULT_KEY, *asked_for)):
        return False
    if before is not None:
        raise UsageError(
            f"the run {before.run_id} began with a real model, and there is no key", "set ANTHROPIC_API_KEY"
        )
    text = "no ANTHROPIC_API_KEY: the offline model answers, at no cost; it is not a real model"
    notify(Notice("offline", text))
    return True


def say_keys(plan: Plan, catalog: Catalog, environ: Mapping[str, str], notify: Notify) -> None:
    """Says once where the default key stands in for the connector of an agent.

    Raises UsageError when the variable of a connector holds something that is no key.
    """
    told: dict[str, dict[str, None]] = {}
    for agent in agents_of(plan):
        variable = agent.model.connection
        if variable and key_of(environ, variable):
            continue
        why = f"{variable} is not set" if variable else _no_key(catalog, agent.id)
        if why and variable != DEFAULT_KEY:
            told.setdefault(why, {})[agent.id] = None
    for why, agents in told.items():
        notify(Notice("key", f"{why}: {DEFAULT_KEY} is used for {', '.join(agents)}"))


def _no_key(catalog: Catalog, agent_id: str) -> str:
    """Why the connector that an agent was written with names no key; empty when it has none."""
    agent = catalog.agents.get(agent_id)
    written = agent.config.connector if agent is not None else None
    return f"{written.removeprefix('$ENV.')} is not the name of a key" if written else ""
