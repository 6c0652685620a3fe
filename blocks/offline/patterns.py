"""A text that matches a simple regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CLASSES = {
    "d": "0",
    "w": "a",
    "s": " ",
    "D": "a",
    "W": "-",
    "S": "a",
    "b": "",
    "B": "",
    "n": "\n",
    "t": "\t",
}
_MAX_REPEAT = 256


def match_for(pattern: str, candidates: Sequence[str]) -> str | None:
    """The first word of the candidates that the pattern matches whole, else a text built from the pattern.

    Understands literals, classes, groups, alternatives and quantifiers; None for the rest.
    """
    try:
        compiled = re.compile(pattern)
    except re.error:
        return None
    words: list[str] = [word for text in candidates for word in re.findall(r"[\w@.:/-]+", text)]
    for word in words:
        if compiled.fullmatch(word):
            return word
    built = _Builder(pattern).build()
    return built if built is not None and compiled.search(built) else None


class _Builder:
    """Walks a pattern and writes the shortest text it stands for."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def build(self) -> str | None:
        try:
            return self._alternatives()
        except (IndexError, ValueError):
            return None

    def _peek(self) -> str:
        return self._pattern[self._at] if self._at < len(self._pattern) else ""

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _alternatives(self) -> str:
        """The first of the alternatives up to the end of the group."""
        first = self._sequence()
        while self._peek() == "|":
            self._next()
            self._sequence()
        return first

    def _sequence(self) -> str:
        out = ""
        while self._peek() and self._peek() not in "|)":
            atom = self._atom()
            out += atom * self._repeats()
        return out

    def _atom(self) -> str:
        char = self._next()
        if char in "^$":
            return ""
        if char == ".":
            return "a"
        if char == "\\":
            escaped = self._next()
            if escaped.isdigit():
                raise ValueError("a back reference")
            return _CLASSES.get(escaped, escaped)
        if char == "[":
            return self._class()
        return self._group() if char == "(" else char

    def _group(self) -> str:
        if self._peek() == "?":
            self._next()
            if self._next() != ":":
                raise ValueError("a group of a special kind")
        inner = self._alternatives()
        if self._next() != ")":
            raise ValueError("an open group")
        return inner

    def _class(self) -> str:
        """One character of a class: its first, or one outside of a negated one."""
        end = self._pattern.index("]", self._at + (2 if self._peek() == "^" else 1))
        body = self._pattern[self._at : end]
        self._at = end + 1
        if not body.startswith("^"):
            return _CLASSES.get(body[1], body[1]) if body[0] == "\\" else body[0]
        compiled = re.compile(f"[{body}]")
        return next(char for char in "a0A-_ " if compiled.fullmatch(char))

    def _repeats(self) -> int:
        char = self._peek()
        if char not in ("?", "*", "+", "{"):
            return 1
        if char == "{":
            end = self._pattern.index("}", self._at)
            least = int(self._pattern[self._at + 1 : end].partition(",")[0] or 0)
            self._at = end + 1
        else:
            least = 1 if self._next() == "+" else 0
        if self._peek() in ("?", "+") and self._peek():
            self._next()
        if least > _MAX_REPEAT:
            raise ValueError("too many repeats")
        return least
