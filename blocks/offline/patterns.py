"""A text that matches a simple regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from blocks.json_schemas import matches
from workflows.core.patterns import schema_pattern_fault

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
_MAX_CHARS = 100_000


def match_for(pattern: str, candidates: Sequence[str]) -> str | None:
    """The first word of the candidates that the pattern matches whole, else a text built from the pattern.

    Understands literals, classes, groups, alternatives and quantifiers; None for the rest.
    """
    if schema_pattern_fault(pattern):
        return None
    words: list[str] = [word for text in candidates for word in re.findall(r"[\w@.:/-]+", text)]
    for word in words:
        if matches(pattern, word, whole=True):
            return word
    built = _Builder(pattern).build()
    return built if built is not None and matches(pattern, built) else None


def texts_for(pattern: str, least: int, most: float) -> Iterator[str]:
    """Texts that the pattern is found in, from `least` to `most` characters where that can be built."""
    if schema_pattern_fault(pattern):
        return
    for extra in (0, 1, 2, 3, 4, 8, least, least // 2 + 1):
        for choice in range(4):
            built = _Builder(pattern, extra, choice).build()
            if built is None:
                continue
            # A pattern without anchors is also found in a longer text.
            pad = max(0, least - len(built))
            for text in (built, built + "a" * pad, "a" * pad + built, built + "0" * pad):
                if least <= len(text) <= most and matches(pattern, text):
                    yield text


class _Builder:
    """Walks a pattern and writes a text it stands for: the shortest, or with `extra` more repeats.

    `choice` is the alternative taken where there are several.
    """

    def __init__(self, pattern: str, extra: int = 0, choice: int = 0) -> None:
        self._pattern = pattern
        self._at = 0
        self._extra = extra
        self._choice = choice

    def build(self) -> str | None:
        try:
            return self._alternatives()
        except (IndexError, ValueError, RecursionError):
            return None

    def _peek(self) -> str:
        return self._pattern[self._at] if self._at < len(self._pattern) else ""

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _alternatives(self) -> str:
        """One of the alternatives up to the end of the group."""
        options = [self._sequence()]
        while self._peek() == "|":
            self._next()
            options.append(self._sequence())
        return options[self._choice % len(options)]

    def _sequence(self) -> str:
        out = ""
        while self._peek() and self._peek() not in "|)":
            atom = self._atom()
            repeats = self._repeats()
            if len(out) + len(atom) * repeats > _MAX_CHARS:
                raise ValueError("a long text")
            out += atom * repeats
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
        """One character of a class: one of its first (by `choice`), or one outside of a negated one."""
        end = self._pattern.index("]", self._at + (2 if self._peek() == "^" else 1))
        body = self._pattern[self._at : end]
        self._at = end + 1
        if not body.startswith("^"):
            return self._one_of(body)
        return next(char for char in "a0A-_ " if matches(f"[{body}]", char, whole=True))

    def _one_of(self, body: str) -> str:
        if body[0] == "\\":
            return _CLASSES.get(body[1], body[1])
        if body[1:2] == "-" and len(body) > 2:
            span = ord(body[2]) - ord(body[0]) + 1
            return chr(ord(body[0]) + self._choice % max(1, span))
        plain = body if body.isalnum() else body[0]
        return plain[self._choice % len(plain)]

    def _repeats(self) -> int:
        char = self._peek()
        if char not in ("?", "*", "+", "{"):
            return 1
        if char == "{":
            end = self._pattern.index("}", self._at)
            first, comma, last = self._pattern[self._at + 1 : end].partition(",")
            least = int(first or 0)
            most = int(last) if last else _MAX_REPEAT if comma else least
            self._at = end + 1
        else:
            mark = self._next()
            least, most = (1 if mark == "+" else 0), (1 if mark == "?" else _MAX_REPEAT)
        if self._peek() in ("?", "+") and self._peek():
            self._next()
        if least > _MAX_REPEAT:
            raise ValueError("too many repeats")
        return min(least + self._extra, max(most, least))
