"""`phaseline agents`: who the catalog holds, and one agent in full."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from deployments.catalogs.opening import open_catalog
from deployments.terminal.display import Out
from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.contents import Catalog
from workflows.core.compile.bindings import Binder
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.models.agent import AGENT_TYPES
from workflows.core.permissions.explanation import explain_tools
from workflows.core.permissions.grants import Grants
from workflows.core.read.findings import Findings


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists the agents; raises UsageError for an unknown id or type."""
    catalog = open_catalog(args.catalog)
    facts = [_facts(catalog, agent) for agent in _chosen(catalog, args)]
    out.document({"agents": facts})
    if args.id is not None:
        _print_one(facts[0], out)
        return 0
    columns = ["id", "name", "type", "model", "skills"]
    if any(fact["status"] != "active" for fact in facts):
        columns.insert(1, "status")
    out.table(columns, [[fact[c] for c in columns] for fact in facts])
    if not facts:
        out.line("no agents")
    note_mistakes(catalog, "agents/", out)
    return 0


def _chosen(catalog: Catalog, args: argparse.Namespace) -> list[CatalogAgent]:
    if args.type is not None and args.type not in AGENT_TYPES:
        raise UsageError(f"there is no agent type '{args.type}'", did_you_mean(args.type, AGENT_TYPES))
    if args.id is not None:
        return [find_agent(catalog, args.id)]
    return [a for a in catalog.agents.values() if args.type in (None, a.config.type)]


def find_agent(catalog: Catalog, name: str) -> CatalogAgent:
    """An agent by id or folder. Raises UsageError."""
    agent = catalog.find_agent(name)
    if agent is None:
        raise UsageError(f"there is no agent '{name}' in {catalog.root}", did_you_mean(name, catalog.agents))
    return agent


def note_mistakes(catalog: Catalog, folder: str, out: Out) -> None:
    """Say so when files of a folder could not be read, since what they declare is then missing here."""
    broken = [m for m in catalog.findings.errors if m.file.startswith(folder)]
    if broken:
        out.note(f"{len(broken)} mistakes below {folder} hide entries; see phaseline check", "yellow")


def _facts(catalog: Catalog, agent: CatalogAgent) -> dict[str, Any]:
    config = agent.config
    plan = Binder(catalog, agent.source, Findings()).configured(agent)
    model = plan.model
    entry = catalog.registered.get(agent.id)
    return {
        "id": agent.id,
        "name": config.name,
        "description": config.description,
        "type": config.type,
        "folder": agent.folder,
        "model": model.id,
        "effort": model.effort,
        "max_tokens": model.max_tokens,
        "connection": model.connection or None,
        "skills": [binding.skill_id for binding in config.skills],
        "tools": [asdict(line) for line in explain_tools(Grants.of(plan))],
        "servers": sorted(agent.tools.mcpServers),
        "hooks": [f"{hook.event}: {hook.file}:{hook.function}" for hook in agent.hooks],
        "max_turns": config.max_turns,
        "automated": config.automated,
        "mentionable": config.mentionable,
        "status": entry.status if entry else "active",
        "domains": list(entry.domains) if entry else [],
    }


def _print_one(fact: dict[str, Any], out: Out) -> None:
    out.table(("agent", fact["id"]), [(key, fact[key]) for key in fact if key not in ("id", "tools")])
    if fact["tools"]:
        rows = [
            (line["tool"], line["effect"], "yes" if line["allowed"] else "no", line["because"])
            for line in fact["tools"]
        ]
        out.table(("tool", "effect", "may call it", "because"), rows)
