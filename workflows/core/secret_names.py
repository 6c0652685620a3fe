"""The variables whose values a catalog takes as secrets: those of MCP servers' entries, and of model keys.

Only their names are read, and without compiling anything: commands that answer or show a run need them too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from workflows.core.models.agent import McpServer
from workflows.core.plan import Plan
from workflows.core.plan_agents import agents_of

_FILES = ("tools-config.json", "config.yaml", "config.yml", "package.yao")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]{0,200})")
_CONNECTOR = re.compile(r"connector[\"']?\s{0,9}:\s{0,9}[\"']?(?:\$ENV\.)?([A-Za-z_][A-Za-z0-9_]{0,200})")
_MOST_BYTES = 1024 * 1024
_MOST_FILES = 5000


def variables_of_catalog(root: Path) -> frozenset[str]:
    """The names in the agents' files below `root`; what cannot be read gives none."""
    found: set[str] = set()
    for path in _files(root / "agents"):
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        found.update((_REFERENCE if path.suffix == ".json" else _CONNECTOR).findall(text))
    return frozenset(found)


def _files(folder: Path) -> Iterator[Path]:
    left = _MOST_FILES
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if name in _FILES and path.is_file():  # neither a pipe nor a device
                yield path
                left -= 1
        if left <= 0:
            return


def variables_of_plan(plan: Plan) -> frozenset[str]:
    """The names that a plan's agents take their keys, and their servers' entries, from."""
    found = {agent.model.connection for agent in agents_of(plan) if agent.model.connection}
    for agent in agents_of(plan):
        for server in agent.servers:
            found.update(variables_of_server(server.server))
    return frozenset(found)


def variables_of_server(server: McpServer) -> frozenset[str]:
    """Every `${VAR}` of an entry, wherever it stands in it."""
    texts = (server.command or "", server.cwd or "", server.url or "", *server.args)
    values = (*texts, *server.env.values(), *server.headers.values())
    return frozenset(name for text in values for name in _REFERENCE.findall(text))
