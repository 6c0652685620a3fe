"""JSON Schemas as data: two asked for at once, the types they imply, numbers and texts that they allow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from re import _compiler as compiler  # type: ignore[attr-defined]
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from blocks.schemas.checking import matches
from workflows.core.text.patterns import schema_pattern_fault

_ADDRESS = "https://example.invalid/"
FORMATS = {
    **dict.fromkeys(("uri", "uri-reference", "iri", "iri-reference", "uri-template"), _ADDRESS),
    **dict.fromkeys(("email", "idn-email"), "nobody@example.invalid"),
    **dict.fromkeys(("hostname", "idn-hostname"), "example.invalid"),
    **{"date": "1970-01-01", "date-time": "1970-01-01T00:00:00Z", "time": "00:00:00Z", "duration": "PT0S"},
    **{"uuid": "00000000-0000-0000-0000-000000000000", "ipv4": "192.0.2.0", "ipv6": "2001:db8::"},
    **{"json-pointer": "/0", "relative-json-pointer": "0", "regex": "a"},
}
"""Placeholders by format: names and addresses that are reserved, and belong to nobody."""
_BOUNDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_STEPS = 12
_REPEATS = 256
_TEXT_CHARS = 100_000
_HIGHEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_LOWEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_IMPLIED = {
    "object": "properties required minProperties patternProperties additionalProperties propertyNames "
    "dependentRequired dependentSchemas maxProperties",
    "array": "items prefixItems contains minItems maxItems uniqueItems",
    "string": "pattern minLength maxLength format",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
}


def as_object(schema: Any) -> dict[str, Any]:
    """A schema as an object: `true` and `false` are schemas too; what is none allows everything."""
    return schema if isinstance(schema, dict) else {"not": {}} if schema is False else {}


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """The types to make, null last: those written, else the one that the keywords are about."""
    implied = (kind for kind, keys in _IMPLIED.items() if schema.keys() & set(keys.split()))
    kinds = schema.get("type") or next(implied, "string")
    return sorted([kinds] if isinstance(kinds, str) else kinds, key=lambda kind: kind == "null")


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two schemas as one that asks for both, as far as one object can; else the second wins."""
    return {**one, **other, **{key: _both(key, one[key], other[key]) for key in one.keys() & other.keys()}}


def _both(key: str, one: Any, other: Any) -> Any:
    if key in _HIGHEST or key in _LOWEST:
        return max(one, other) if key in _HIGHEST else min(one, other)
    if key in ("properties", "patternProperties", "dependentSchemas"):
        shared = {name: _both("items", one[name], other[name]) for name in one.keys() & other.keys()}
        return {**one, **other, **shared}
    if key in ("items", "additionalProperties", "contains", "propertyNames"):
        if one is False or other is False:
            return False
        return one if one == other else {"allOf": [as_object(one), as_object(other)]}
    if key == "required":
        return list(dict.fromkeys([*one, *other]))
    if key == "enum":
        return [option for option in one if option in other] or other
    if key == "type":
        first, second = ([kind] if isinstance(kind, str) else kind for kind in (one, other))
        shared_kinds = [
            kind for kind in first if kind in second or (kind == "integer" and "number" in second)
        ]
        return shared_kinds or [kind for kind in second if kind == "integer" and "number" in first] or other
    return {"anyOf": [one, other]} if key == "not" else other


def numbers_for(schema: Mapping[str, Any], *, whole: bool) -> list[float]:
    """Numbers to try: near zero, each bound and their middle, by the steps that are allowed."""
    step = Decimal(str(schema.get("multipleOf") or int(whole)))
    bounds = [Decimal(str(schema[key])) for key in _BOUNDS if isinstance(schema.get(key), (int, float))]
    found: list[Decimal] = []
    for begin in [Decimal(0), *bounds, *([sum(bounds, Decimal(0)) / len(bounds)] if len(bounds) > 1 else [])]:
        nearest = (begin / step).to_integral_value() * step if step else begin
        found += [nearest + n * way * (step or 1) for n in range(_STEPS) for way in (1, -1)]
        found += [begin + way * Decimal(1).scaleb(-n) for n in range(10) for way in (1, -1) if not step]
    return [int(n) if n == int(n) else float(n) for n in dict.fromkeys(found) if not whole or n == int(n)]


def texts_for(pattern: str, least: int, most: float) -> Iterator[str]:
    """Texts that the pattern is found in, from `least` to `most` characters where that can be built."""
    if schema_pattern_fault(pattern):
        return
    try:
        tree = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return
    for extra, choice in itertools.product((0, 1, 2, 3, 4, 8, least, least // 2 + 1), range(4)):
        try:
            built = _text_of(tree, extra, choice)
        except (ValueError, RecursionError):
            continue
        # A pattern without anchors is also found in a longer text.
        pad = max(0, least - len(built))
        for text in dict.fromkeys((built, built + "a" * pad, "a" * pad + built, built + "0" * pad)):
            if least <= len(text) <= most and matches(pattern, text):
                yield text


def _text_of(tree: Any, extra: int, choice: int) -> str:
    """A text that a parsed pattern stands for: the shortest, with `extra` more repeats of what may repeat.

    `choice` is the alternative taken where there are several. Raises ValueError for what cannot be built.
    """
    out = ""
    for code, value in tree:
        if code in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            least, most, inner = int(value[0]), int(value[1]), value[2]
            times = min(least + extra, max(least, min(most, _REPEATS)))
            once = _text_of(inner, extra, choice) if times else ""
            if len(once) * times > _TEXT_CHARS:
                raise ValueError("a long text")
            out += once * times
        elif code in (codes.SUBPATTERN, codes.ATOMIC_GROUP):
            out += _text_of(value[-1] if code is codes.SUBPATTERN else value, extra, choice)
        elif code is codes.BRANCH:
            out += _text_of(value[1][choice % len(value[1])], extra, choice)
        elif code in (codes.ASSERT, codes.GROUPREF, codes.GROUPREF_EXISTS):
            raise ValueError("what looks around or back")
        elif code not in (codes.AT, codes.ASSERT_NOT):
            out += _character((code, value), choice)
        if len(out) > _TEXT_CHARS:
            raise ValueError("a long text")
    return out


def _character(node: Any, choice: int) -> str:
    """One of a class's own characters, by the choice, or a common one that it holds."""
    parts = node[1] if node[0] is codes.IN else [node]
    code, held = parts[choice % len(parts)]
    if parts[0][0] is not codes.NEGATE and code in (codes.LITERAL, codes.RANGE):
        return chr(held if code is codes.LITERAL else held[0] + choice % (held[1] - held[0] + 1))
    held_in = compiler.compile(parser.SubPattern(parser.State(), [node])).fullmatch
    return next((char for char in "a0A-_ \n" if held_in(char)), "")
