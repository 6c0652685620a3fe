"""By which names the rules of tools-config.json know a tool, and which rule of several counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from workflows.core.refs import digest

NAME_LENGTH = 64
"""Characters of a tool's name in a request."""


def served_name(server: str, tool: str) -> str:
    """`server__tool` as the model knows it; what does not fit is replaced, and told apart by a digest."""
    whole = f"{server}__{tool}"
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", whole)
    if plain == whole and len(plain) <= NAME_LENGTH:
        return plain
    return f"{plain[: NAME_LENGTH - 9]}_{digest(whole)[:8]}"


def rule_names(server: str, tool: str) -> tuple[str, str, str]:
    """The names of a server's tool in rules. The first that has a rule counts, and that rule whole."""
    return f"{server}.{tool}", served_name(server, tool), tool


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two rules for one tool of a server: `first` counts, nothing of `behind` does."""

    server: str
    tool: str
    first: str
    behind: str


def overlaps(names: Collection[str], servers: Mapping[str, Collection[str]]) -> Iterator[Overlap]:
    """Rules that stand before others. `servers`: the only tools that each offers; empty for all."""
    for server, offered in servers.items():
        for tool in sorted(nameable_tools(names, server)):
            if offered and tool not in offered:
                continue
            found = [name for name in dict.fromkeys(rule_names(server, tool)) if name in names]
            for behind in found[1:]:
                yield Overlap(server, tool, found[0], behind)


def nameable_tools(names: Collection[str], server: str) -> set[str]:
    """Every tool of a server that one of these rules can be about; two can only be about one of these."""
    starts = ("", f"{server}.", f"{server}__")
    return {name.removeprefix(s) for name in names for s in starts if name.startswith(s) and name != s}
