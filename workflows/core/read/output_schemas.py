"""Whether a written JSON Schema (draft 2020-12) can be used at all, found before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from workflows.core.errors import did_you_mean
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source
from workflows.core.text.patterns import schema_pattern_fault

SCHEMA_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")

_ONE = (
    "items",
    "contains",
    "additionalProperties",
    "additionalItems",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
)
"""Keywords that hold one schema."""
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas")
"""Keywords whose schemas look at the same value again."""
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ELSEWHERE = (*REFERENCES, "patternProperties", "allOf", "anyOf", "oneOf", "if")
"""Keywords that may declare properties besides `properties`."""

_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTED = ("Length", "Items", "Properties", "Contains")
_COUNTS = tuple(f"{bound}{what}" for what in _COUNTED for bound in ("min", "max"))
_TEXTS = ("title", "description", "format", "pattern", "$ref", "$id", "$schema", "$anchor", "$comment")
_PAIRS = (
    ("minimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
    *((f"min{what}", f"max{what}") for what in _COUNTED),
)


def check_schema(source: Source, place: Key, schema: Any, findings: Findings) -> None:
    """Records what makes a JSON Schema unusable: keywords of the wrong kind, references to nothing."""
    check = _Check(source, place, schema, findings)
    check.waiting.append(((), schema))
    while check.waiting:
        check.check_schema(*check.waiting.pop())
    check.check_circles()


@dataclass
class _Check:
    """One schema; paths are relative to it."""

    source: Source
    place: Key
    root: Any
    findings: Findings
    seen: set[Key] = field(default_factory=set)
    waiting: list[tuple[Key, Any]] = field(default_factory=list)
    """Schemas still to be looked at. A chain of references may be longer than Python's stack."""
    same_value: dict[Key, list[Key]] = field(default_factory=dict)
    """Schemas that look at the same value, by the schema that asks them to."""

    anchors: dict[str, tuple[Key, Any]] | None = None
    """Where each anchor of the schema stands, once one was asked for."""

    def error(self, path: Key, message: str, cure: str) -> None:
        self.findings.error(self.source, (*self.place, *path), message, cure)

    def check_schema(self, path: Key, schema: Any) -> None:
        if path in self.seen:
            return
        self.seen.add(path)
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            self.error(path, "a schema is a map of keys", "write `type: object` and `properties:`")
            return
        self.check_type(path, schema)
        self.check_values(path, schema)
        self.check_bounds(path, schema)
        self.check_pattern(path, schema)
        self.check_required(path, schema)
        for inner, below in self.list_schemas(path, schema):
            if inner[len(path)] in _IN_PLACE:
                self.same_value.setdefault(path, []).append(inner)
            self.waiting.append((inner, below))
        self.check_reference(path, schema)

    def list_schemas(self, path: Key, schema: dict[str, Any]) -> Iterator[tuple[Key, Any]]:
        for word in _ONE:
            if word in schema:
                yield (*path, word), schema[word]
        for word in _LISTS:
            listed = schema.get(word)
            if word in schema and (not isinstance(listed, list) or not listed):
                self.error((*path, word), f"`{word}` is a list of schemas", f"write `{word}: [{{...}}, ...]`")
            elif word in schema:
                yield from (((*path, word, index), one) for index, one in enumerate(schema[word]))
        for word in _MAPS:
            if word not in schema:
                continue
            if not isinstance(schema[word], dict):
                what = "properties" if word == "properties" else "schemas"
                self.error((*path, word), f"should be a map of {what}", "write `name: {type: string}`")
                continue
            yield from (((*path, word, name), one) for name, one in schema[word].items())

    def check_type(self, path: Key, schema: dict[str, Any]) -> None:
        if "type" not in schema:
            return
        written = schema["type"]
        if isinstance(written, list) and not written:
            self.error((*path, "type"), "the list of types is empty", "name a type, or remove `type:`")
        for name in written if isinstance(written, list) else [written]:
            if name not in SCHEMA_TYPES:
                cure = did_you_mean(str(name), SCHEMA_TYPES)
                self.error((*path, "type"), f"'{name}' is no JSON type", cure)

    def check_values(self, path: Key, schema: dict[str, Any]) -> None:
        if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
            self.error((*path, "enum"), "`enum` is a list of values", "write `enum: [one, other]`")
        for word in _TEXTS:
            if word in schema and not isinstance(schema[word], str):
                self.error((*path, word), f"`{word}` is a text", "put it in quotes")
        if "uniqueItems" in schema and not isinstance(schema["uniqueItems"], bool):
            self.error((*path, "uniqueItems"), "`uniqueItems` is true or false", "write true or false")

    def check_bounds(self, path: Key, schema: dict[str, Any]) -> None:
        for words, kind, fits in _KINDS:
            for word in words:
                if word in schema and not fits(schema[word]):
                    self.error((*path, word), f"`{word}` is {kind}", f"write {kind}")
        for low, high in _PAIRS:
            if low not in schema or high not in schema:
                continue
            least, most = schema[low], schema[high]
            if _number(least) and _number(most) and least > most:
                self.error((*path, low), f"`{low}` {least} is above `{high}` {most}", "exchange the two")

    def check_pattern(self, path: Key, schema: dict[str, Any]) -> None:
        if isinstance(schema.get("pattern"), str):
            self.check_regex((*path, "pattern"), schema["pattern"])
        patterns = schema.get("patternProperties")
        for written in patterns if isinstance(patterns, dict) else ():
            self.check_regex((*path, "patternProperties", written), written)

    def check_regex(self, path: Key, written: str) -> None:
        fault = schema_pattern_fault(str(written))
        if fault:
            cure = "mend the regular expression; put '\\' before a character that is meant as it stands"
            self.error(path, f"not a usable pattern: {fault}", cure)

    def check_required(self, path: Key, schema: dict[str, Any]) -> None:
        names = schema.get("required", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.error((*path, "required"), "should be a list of names", "write `required: [name]`")
            return
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties or any(word in schema for word in _ELSEWHERE):
            return
        for name in names:
            if name not in properties:
                cure = self.findings.near(name, properties)
                self.error((*path, "required"), f"no property is called '{name}'", cure)

    def check_reference(self, path: Key, schema: dict[str, Any]) -> None:
        for word in REFERENCES:
            if isinstance(schema.get(word), str):
                self.follow_reference(path, word, schema[word])

    def follow_reference(self, path: Key, word: str, written: str) -> None:
        if not written.startswith("#"):
            cure = f"copy it below `$defs:` and write `{word}: '#/$defs/NAME'`"
            self.error((*path, word), f"'{written}' lies outside this schema and is not fetched", cure)
            return
        target = self.find_target(written)
        if target is None:
            named = self.root.get("$defs") if isinstance(self.root, dict) else None
            known = [f"#/$defs/{name}" for name in named] if isinstance(named, dict) else []
            cure = self.findings.near(written, known) or "declare it below `$defs:` of this schema"
            self.error((*path, word), f"'{written}' leads to nothing", cure)
            return
        self.same_value.setdefault(path, []).append(target[0])
        self.waiting.append(target)

    def find_target(self, written: str) -> tuple[Key, Any] | None:
        """The schema a local reference means: `#`, a JSON pointer, or an anchor."""
        pointer = unquote(written[1:])
        if pointer and not pointer.startswith("/"):
            if self.anchors is None:
                self.anchors = {}
                for name, *found in _anchors(self.root):
                    self.anchors.setdefault(name, (found[0], found[1]))
            return self.anchors.get(pointer)
        path: Key = ()
        here = self.root
        for part in pointer.split("/")[1:]:
            word: str | int = part.replace("~1", "/").replace("~0", "~")
            if isinstance(here, list) and str(word).isdecimal():
                word = int(word)
            try:
                here = here[word]
            except (KeyError, IndexError, TypeError):
                return None
            path = (*path, word)
        return path, here

    def check_circles(self) -> None:
        """Records references that come back to themselves without looking at a smaller value."""
        done: set[Key] = set()
        for start in sorted(self.same_value, key=str):
            self._follow_from(start, done)

    def _follow_from(self, start: Key, done: set[Key]) -> None:
        trail: dict[Key, Iterator[Key]] = {}
        here: Key | None = start
        while here is not None:
            if here in trail:
                self._report_circle(list(trail))
            elif here not in done:
                done.add(here)
                trail[here] = iter(self.same_value.get(here, ()))
            here = None
            while trail and here is None:
                here = next(trail[next(reversed(trail))], None)
                if here is None:
                    trail.popitem()

    def _report_circle(self, trail: list[Key]) -> None:
        places = ((p, word) for p in reversed(trail) for word in REFERENCES if word in self._value_at(p))
        referring, word = next(places)
        cure = "put the reference below `properties` or `items`, or remove it"
        self.error((*referring, word), "the reference leads back to itself", cure)

    def _value_at(self, path: Key) -> Any:
        here = self.root
        for part in path:
            here = here[part]
        return here


def _anchors(root: Any) -> Iterator[tuple[str, Key, Any]]:
    """Every anchor with its place and schema, in the order of the text."""
    waiting: list[tuple[Key, Any]] = [((), root)]
    while waiting:
        path, here = waiting.pop()
        if isinstance(here, dict):
            names = (here.get("$anchor"), here.get("$dynamicAnchor"))
            yield from ((name, path, here) for name in names if isinstance(name, str))
        parts = here.items() if isinstance(here, dict) else enumerate(here) if isinstance(here, list) else ()
        waiting += reversed([((*path, key), inner) for key, inner in parts])


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _above_zero(value: Any) -> bool:
    return _number(value) and value > 0


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_KINDS: tuple[tuple[tuple[str, ...], str, Callable[[Any], bool]], ...] = (
    (_NUMBERS, "a number", _number),
    (("multipleOf",), "a number above 0", _above_zero),
    (_COUNTS, "a whole number, 0 or more", _count),
)
