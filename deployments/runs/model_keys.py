"""With which keys a run asks its models: refused, or said, before it starts."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.providers.connections import key_of
from deployments.terminal.display import Out
from workflows.core.catalog.connectors import DEFAULT_KEY
from workflows.core.catalog.contents import Catalog
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan


def say_keys(plan: Plan, catalog: Catalog, environ: Mapping[str, str], out: Out) -> None:
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
        out.note(f"{why}: {DEFAULT_KEY} is used for {', '.join(agents)}", "yellow")


def _no_key(catalog: Catalog, agent_id: str) -> str:
    """Why the connector that an agent was written with names no key; empty when it has none."""
    agent = catalog.agents.get(agent_id)
    written = agent.config.connector if agent is not None else None
    return f"{written.removeprefix('$ENV.')} is not the name of a key" if written else ""
