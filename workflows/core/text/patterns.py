"""Regular expressions that others wrote (authors, models, MCP servers), matched against what others say.

Every such match goes through `found_in`: Python's own `re` can take longer than the age of the universe for
`(a|aa)+$`, and while it does, no timeout fires and no signal is heard. The `regex` package stops at a time
limit, and lets other threads run meanwhile.
"""

from __future__ import annotations

import math
from functools import lru_cache

import regex

from workflows.core.text.cut_text import cut

PATTERN_CHARS = 1_000
SCHEMA_PATTERN_CHARS = 8_000
SEARCH_SECONDS = 0.5

_REPEATS = 100_000
_IN_CLASS = {r"\d": "0-9"}
_ALONE = {r"\d": "[0-9]", r"\D": "[^0-9]"}


class TakesTooLong(Exception):
    """A pattern was not done with a text within its time: nobody knows whether it matches."""

    def __init__(self, pattern: str) -> None:
        shown = pattern if len(pattern) <= 60 else pattern[:57] + "..."
        super().__init__(f"the pattern {shown!r} takes too long on this text")


class UnusablePattern(ValueError):
    """What was written for a pattern is none that can be used."""


def pattern_fault(pattern: str, most: int = PATTERN_CHARS) -> str | None:
    """What is wrong with a pattern, in one line; None when it can be used."""
    if len(pattern) > most:
        return f"a pattern may have {most:,} characters at most"
    # `regex` writes counted repeats out while compiling, which no time limit covers.
    counts = [int(n) for n in regex.findall(r"\{(\d{1,20})", pattern)]
    if math.prod(max(n, 1) for n in counts) > _REPEATS:
        return f"its counted repeats multiply to more than {_REPEATS:,}"
    try:
        compile_pattern(pattern)
    except regex.error as exc:
        position = getattr(exc, "pos", None)
        message = getattr(exc, "msg", None) or str(exc)
        return f"{message} at character {position + 1}" if position is not None else message
    except (RecursionError, OverflowError):
        return "it is nested too deeply"
    return None


def schema_pattern_fault(pattern: str) -> str | None:
    """The same for a `pattern` of a JSON Schema."""
    return pattern_fault(pattern, SCHEMA_PATTERN_CHARS) or pattern_fault(
        _of_python(pattern), 2 * SCHEMA_PATTERN_CHARS
    )


def found_in(pattern: str, text: str, seconds: float = SEARCH_SECONDS, *, whole: bool = False) -> bool:
    """Whether a JSON Schema's pattern is found anywhere in a text, or is the whole of it.

    Raises TakesTooLong, also when no time is left, and UnusablePattern.
    """
    fault = _schema_fault(pattern)
    if fault is not None:
        raise UnusablePattern(f"the pattern {cut(pattern, 60)!r} cannot be used: {fault}")
    if seconds <= 0:
        raise TakesTooLong(pattern)
    try:
        made = compile_pattern(_of_python(pattern))
        find = made.fullmatch if whole else made.search
        return find(text, timeout=seconds, concurrent=True) is not None
    except TimeoutError:
        raise TakesTooLong(pattern) from None


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> regex.Pattern[str]:
    """A pattern that `pattern_fault` found nothing wrong with. Its searches need a `timeout`."""
    return regex.compile(pattern)


@lru_cache(maxsize=1024)
def _schema_fault(pattern: str) -> str | None:
    return schema_pattern_fault(pattern)


@lru_cache(maxsize=1024)
def _of_python(pattern: str) -> str:
    """A pattern of ECMA-262, as JSON Schema has it, as `regex` reads it.

    There `$` is the very end of the text, not also before a last line break, and `\\d` are the ten digits.
    """
    out, at, in_class = [], 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            pair = pattern[at : at + 2]
            out.append(
                {r"\d": "0-9" if in_class else "[0-9]", r"\D": r"\D" if in_class else "[^0-9]"}.get(
                    pair, pair
                )
            )
            at += 2
            continue
        if char == "[" and not in_class:
            in_class = True
            # A bracket that opens the class's own list is a character in Python, `[]` in ECMA is none.
            lead = "[^" if pattern[at + 1 : at + 2] == "^" else "["
            if pattern[at + len(lead) : at + len(lead) + 1] == "]":
                lead += "]"
            out.append(lead)
            at += len(lead)
            continue
        if char == "]":
            in_class = False
        out.append(r"\Z" if char == "$" and not in_class else char)
        at += 1
    return "".join(out)
