"""`phaseline skills`: what the catalog's agents know, and who may use it."""

from __future__ import annotations

import argparse
from typing import Any

from deployments.catalogs.opening import open_catalog
from deployments.commands.agents import find_agent, note_mistakes
from deployments.terminal.display import Out
from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.contents import Catalog
from workflows.core.catalog.skills import CatalogSkill
from workflows.core.permissions.ruling import Allowed
from workflows.core.permissions.skills import may_use_skill


def execute(args: argparse.Namespace, out: Out) -> int:
    """Lists the skills; with --agent those it may use. Raises UsageError for an unknown agent."""
    catalog = open_catalog(args.catalog)
    agent = find_agent(catalog, args.agent) if args.agent is not None else None
    chosen = [s for s in catalog.skills.values() if agent is None or _may_use(agent, s)]
    facts = [_facts(catalog, skill, agent) for skill in chosen]
    out.document({"skills": facts})
    rows = [
        (f["id"], f["name"], f["version"], _access(f), [h["name"] for h in f["handlers"]], f["agents"])
        for f in facts
    ]
    out.table(("id", "name", "version", "for", "handlers", "bound by"), rows)
    if agent is not None:
        unbound = [f["id"] for f in facts if not f["bound"]]
        if unbound:
            out.line(f"not bound, but public: a step may add {', '.join(unbound)}", "dim")
    note_mistakes(catalog, "skills/", out)
    return 0


def _may_use(agent: CatalogAgent, skill: CatalogSkill) -> bool:
    return isinstance(may_use_skill(skill, (agent,)), Allowed)


def _access(fact: dict[str, Any]) -> str:
    return "everyone" if fact["visibility"] == "public" else f"{fact['owner']} only"


def _facts(catalog: Catalog, skill: CatalogSkill, agent: CatalogAgent | None) -> dict[str, Any]:
    binding = [a.id for a in catalog.agents.values() if any(b.skill_id == skill.id for b in a.config.skills)]
    facts: dict[str, Any] = {
        "id": skill.id,
        "name": skill.name,
        "description": skill.description,
        "version": skill.version or None,
        "owner": skill.owner,
        "visibility": skill.visibility,
        "folder": skill.folder or None,
        "available": skill.available,
        "timeout": skill.timeout,
        "handlers": [
            {"name": h.handler, "tool": h.name, "effect": h.effect, "description": h.description}
            for h in skill.handlers
        ],
        "agents": binding,
    }
    return facts if agent is None else {**facts, "bound": agent.id in binding}
