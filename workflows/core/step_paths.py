"""Paths of steps and their parts: `step`, `step/item-1`, `outer/step`. The empty path is the whole run's."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Iterator
from typing import TypeVar


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


V = TypeVar("V")


class ByPath(UserDict[str, V]):
    """A mapping that finds what belongs to a step without looking at the units of all other steps."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, None]] = {}  # paths, in their order, by their first part
        super().__init__()

    def __setitem__(self, path: str, value: V) -> None:
        super().__setitem__(path, value)
        self._known.setdefault(_first(path), {})[path] = None

    def __delitem__(self, path: str) -> None:
        super().__delitem__(path)
        del self._known[_first(path)][path]

    def below(self, path: str) -> Iterator[str]:
        """The path itself and those of its parts, as far as they are here, in the order they came."""
        return all_within(self._known.get(_first(path), ()), path)


def _first(path: str) -> str:
    return path.partition("/")[0]
