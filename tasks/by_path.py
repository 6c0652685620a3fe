"""Values by the path of a unit: `step`, `step/part`, `outer/step/part`."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator
from typing import TypeVar

from workflows.core.step_paths import all_within

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
