"""Written files with positions: plain data plus the line and column of every value."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from workflows.core.errors import Mistake

Position = tuple[int, int]
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Source:
    """The data of one file and where each value stood, by paths such as ('steps', 0, 'id')."""

    file: str
    data: Any
    marks: dict[Key, Position] = field(default_factory=dict)
    key_marks: dict[Key, Position] = field(default_factory=dict)
    blocks: dict[Key, Position] = field(default_factory=dict)
    """Where the content of a literal block (`|`) begins; its lines are the value's lines."""

    def position(self, path: Key, *, of_key: bool = False) -> Position:
        """Line and column (from 1) of the value at `path`, or of the nearest parent that is known."""
        if of_key and path in self.key_marks:
            return self.key_marks[path]
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, (1, 1))

    def mistake(
        self,
        path: Key,
        message: str,
        cure: str,
        *,
        of_key: bool = False,
        within: Position | None = None,
    ) -> Mistake:
        """A mistake at `path`, its value taken from the data.

        `within` is a line and column (from 1, 0 for unknown) in a text; it counts where the file's own lines
        are the text's, that is in a literal block.
        """
        line, column = self.position(path, of_key=of_key)
        if within is not None and path in self.blocks:
            first, indent = self.blocks[path]
            line, column = first + within[0] - 1, indent + max(within[1], 1)
        return Mistake(
            self.file, line, column, shown_key(path), shorten_value(self.value(path)), message, cure
        )

    def value(self, path: Key) -> Any:
        """The data at `path`, None where there is none."""
        here = self.data
        for part in path:
            try:
                here = here[part]
            except (KeyError, IndexError, TypeError):
                return None
        return here


class Unreadable(Exception):
    """A file that is no YAML or JSON; carries the mistakes."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(mistakes[0].message)
        self.mistakes = mistakes


def shown_key(path: Key) -> str:
    """`steps[0].retries.max`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out


def shorten_value(value: Any) -> Any:
    """A value fit for an error message: JSON, 120 characters at most."""
    if isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, str):
        text = value
    else:
        return value
    return text if len(text) <= 120 else text[:117] + "..."
