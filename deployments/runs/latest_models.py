"""What `latest` means: what the provider lists now, or what it meant when a run began."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from blocks.providers.connections import connect
from deployments.runs.host import Notice, Notify
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import UsageError


def resolve_online(catalog: Catalog, environ: Mapping[str, str], notify: Notify) -> None:
    """Replaces each family's `latest` by the newest active model of its line; says what changed.

    Raises UsageError without a key, ModelError when the provider does not answer.
    """
    if not environ.get("ANTHROPIC_API_KEY", "").strip():
        raise UsageError(
            "--latest online needs a key: ANTHROPIC_API_KEY is not set", "set it, or leave --latest out"
        )
    listed = asyncio.run(_list_models(environ))
    families = dict(catalog.models.families)
    for name, family in families.items():
        newest = newest_of(name.removeprefix("claude-"), listed)
        if newest is not None and newest != family.latest:
            notify(Notice("latest", f"{name}: latest is {newest} (models.yaml says {family.latest})"))
            families[name] = family.model_copy(update={"latest": newest})
    catalog.models = catalog.models.model_copy(update={"families": families})


def pin_latest(catalog: Catalog, models: Mapping[str, Any]) -> None:
    """Lets `latest` mean what it meant when a run began; `models` are its model ids by agent."""
    families = dict(catalog.models.families)
    for name, agent in catalog.agents.items():
        model, began_with = agent.config.model, models.get(name)
        if began_with and model.version in ("", "latest") and model.name in families:
            families[model.name] = families[model.name].model_copy(update={"latest": began_with})
    catalog.models = catalog.models.model_copy(update={"families": families})


def newest_of(line: str, listed: list[dict[str, Any]]) -> str | None:
    """The id of the newest model of a line (`opus`, `sonnet`, ...); None when none is listed."""
    of_line = [m for m in listed if m.get("line") == line]
    return str(max(of_line, key=lambda m: str(m.get("created_at", "")))["id"]) if of_line else None


async def _list_models(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    connection: Any = connect(environ, offline=False)
    try:
        models: list[dict[str, Any]] = await connection.models()
        return models
    finally:
        await connection.close()
