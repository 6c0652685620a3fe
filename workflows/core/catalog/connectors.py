"""What an agent's `connector: $ENV.NAME` may name: a variable that is meant to hold a model key.

The value of that variable is sent to the provider as a key. A catalog may come from somebody else, so it must
not get to choose any variable of the environment: its name ends in `_API_KEY`, or models.yaml lists it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workflows.core.catalog.agents import CatalogAgent
from workflows.core.errors import Mistake, did_you_mean
from workflows.core.models.skill import ModelTable
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key

DEFAULT_KEY = "ANTHROPIC_API_KEY"
"""Variable of the key that agents without a connector of their own use."""

SUFFIX = "_API_KEY"

_WRITTEN = re.compile(r"(\$ENV\.)?[A-Za-z_][A-Za-z0-9_.-]*")
_NO_KEY = re.compile(r"(.*_)?CONNECTOR")
"""Names, such as DEFAULT_CONNECTOR, that say which connection is meant, in other tools' catalogs."""


@dataclass(frozen=True)
class Connector:
    """A connector as it is used: the variable of its key (empty: the default's), and what is wrong."""

    variable: str = ""
    message: str = ""
    cure: str = ""
    harmless: bool = False
    """Whether the default key is used in its place, which is only a warning."""


def connector_of(agent: CatalogAgent, table: ModelTable) -> Connector:
    """What the connector of an agent means; empty for an agent without one."""
    written = agent.config.connector
    if written is None:
        return Connector()
    name = written.removeprefix("$ENV.")
    if not _WRITTEN.fullmatch(written):
        cure = f"write $ENV.NAME, where NAME is a variable of the environment, such as $ENV.{DEFAULT_KEY}"
        return Connector("", f"'{written}' names no model connection", cure)
    if name.endswith(SUFFIX) or name in table.connections:
        return Connector(name)
    if _NO_KEY.fullmatch(name):
        message = f"{name} is not the name of a key; {DEFAULT_KEY} is used"
        return Connector("", message, f"write $ENV.{DEFAULT_KEY}, or leave `connector` out", harmless=True)
    near = did_you_mean(name, (DEFAULT_KEY, *table.connections))
    hint = f"{near} " if near.startswith("did you mean") else ""
    return Connector(
        "",
        f"{name} may hold anything, and its value would be sent as the model key",
        f"{hint}name a variable that ends in {SUFFIX}, or list it in models.yaml: `connections: [{name}]`",
    )


def check_connector(agent: CatalogAgent, table: ModelTable, findings: Findings) -> str:
    """The variable of the agent's key, empty for the default's; what is wrong is recorded once."""
    found = connector_of(agent, table)
    if found.message:
        place: Key = (*agent.base, "connector")
        mistake = agent.source.mistake(place, found.message, found.cure)
        _append_once(findings.warnings if found.harmless else findings.errors, mistake)
    return found.variable


def _append_once(mistakes: list[Mistake], mistake: Mistake) -> None:
    if mistake not in mistakes:
        mistakes.append(mistake)
