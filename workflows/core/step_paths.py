"""Paths of steps and their parts: `step`, `step/item-1`, `outer/step`. The empty path is the whole run's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def within(path: str, outer: str) -> bool:
    """Whether a path is the outer one, or that of one of its parts."""
    return outer in ("", path) or path.startswith(f"{outer}/")


def all_within(paths: Iterable[str], outer: str) -> Iterator[str]:
    """Those of many paths that lie within the outer one, in their order."""
    if not outer:
        yield from paths
        return
    below = f"{outer}/"  # made once: a wide fan-out looks through thousands
    for path in paths:
        if path == outer or path.startswith(below):
            yield path


def member(path: str, agent_id: str) -> str:
    """The path of a panel's member."""
    return f"{path}/{agent_id.replace('/', '.')}"
