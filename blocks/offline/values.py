"""A value for a JSON Schema, filled from the request's material where names match.

Order for each place: const or enum, a fact of the same name that fits (a `key: value` line of the
instruction, a key of a JSON document, a column of a table), the schema's default or first example, a passage
of the documents, the smallest value that the schema allows. Of these the first that the schema accepts is
taken, so a schema is satisfied unless it takes more than fixed rules to see how.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from blocks.json_schemas import Unchecked, budget_for, spend, spending, validator
from blocks.offline.containers import LEAN_DEPTH, lists_for, objects_for
from blocks.offline.facts import fact_key, facts_of, passages_of
from blocks.offline.material import Material
from blocks.offline.numbers import numbers_for
from blocks.offline.patterns import match_for, texts_for
from blocks.offline.shapes import as_object, merged, type_of
from blocks.offline.tables import number_or_text, rows_of
from workflows.core.refs import digest

_DEPTH = 24
_DATE = re.compile(r"\b\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b")
_FORMATS = {
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "nobody@example.invalid",
    "hostname": "example.invalid",
    "uri": "https://example.invalid/",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
}
_EMPTY: dict[str, Any] = {
    "object": {},
    "array": [],
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
}
"""What stands for a value that takes too much work."""
_MOST_CHARS = 100_000
_NUMERIC = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


class ValueMaker:
    """Makes values for one schema. `hint` is a line whose words win where there is a choice."""

    def __init__(self, material: Material, root: Mapping[str, Any], hint: str = "") -> None:
        self.material = material
        self.salt = 0
        """Counts the items of a list, so that each can be another one."""
        self._root = root
        self._hint = hint
        self._facts = facts_of(material)
        self._passages = passages_of(material)
        self._used = 0
        self._budget = budget_for(root, None)
        self._validator = validator(root)

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """A value that satisfies the schema as far as fixed rules can, and as far as the work goes."""
        if depth:
            return self._value(schema, name, depth)
        try:
            with spending(self._budget):
                return self._value(schema, name, depth)
        except Unchecked:
            return _EMPTY.get(type_of(as_object(schema)))

    def _value(self, schema: Any, name: str, depth: int) -> Any:
        if depth > _DEPTH:
            return None
        spend(2 + len(self._facts) // 32)
        schema = self.resolved(as_object(schema))
        first: list[Any] = []
        for made in self._candidates(schema, name, depth):
            if self.fits(made, schema):
                return made
            first = first or [made]
        return first[0] if first else None

    def fits(self, value: Any, schema: Any) -> bool:
        """Whether a schema of this root accepts a value."""
        try:
            with spending(budget_for(schema, value)):
                return bool(self._validator.evolve(schema=schema).is_valid(value))
        except Unchecked:
            return False

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """References followed and `allOf` merged."""
        spend(1 + len(schema))
        for _ in range(_DEPTH):
            if "$ref" not in schema:
                break
            rest = {key: value for key, value in schema.items() if key != "$ref"}
            schema = merged(as_object(self._target(str(schema["$ref"]))), rest)
        parts = schema.get("allOf", [])
        schema = {key: value for key, value in schema.items() if key != "allOf"}
        for part in parts:
            schema = merged(schema, self.resolved(as_object(part)))
        return schema

    def _target(self, pointer: str) -> Any:
        target: Any = self._root
        for part in pointer.removeprefix("#").strip("/").split("/") if pointer != "#" else ():
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list):
                target = target[int(key)] if key.isdigit() and int(key) < len(target) else {}
            else:
                target = target.get(key, {}) if isinstance(target, dict) else {}
        return target

    def _candidates(self, schema: dict[str, Any], name: str, depth: int) -> Iterator[Any]:
        """Values to try, the most telling first."""
        if "const" in schema:
            yield schema["const"]
            return
        if schema.get("enum"):
            options = schema["enum"]
            yield options[self.salt % len(options)] if self.salt else self._choice(options, name, schema)
            yield from options
            return
        found = self._fact(name, schema)
        if found is not None:
            yield found
        yield from [schema["default"]] if "default" in schema else []
        yield from schema.get("examples", [])[:1]
        yield from self._conditional(schema, name, depth)
        yield from self._typed(schema, type_of(schema), name, depth)
        if "type" not in schema:  # what the keywords are about may be forbidden, another type is not
            yield from ("offline", 0, True, None, [], {}, 1.5)
        for kind in schema["type"] if isinstance(schema.get("type"), list) else ():
            yield from self._typed(schema, kind, name, depth)

    def _conditional(self, schema: dict[str, Any], name: str, depth: int) -> Iterator[Any]:
        """Values for the alternatives of a schema; null only when nothing else fits."""
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                rest = {k: v for k, v in schema.items() if k != key}
                options = [self.resolved(as_object(option)) for option in schema[key]]
                lean = depth >= LEAN_DEPTH
                options.sort(key=lambda o: _weight(o) if lean else type_of(o) == "null")
                for option in options:
                    yield self.value(merged(rest, option), name, depth + 1)
                for option in options if key == "oneOf" else ():
                    others = {"not": {"anyOf": [other for other in options if other is not option]}}
                    yield self.value(merged(merged(rest, option), others), name, depth + 1)
                return
        if "if" in schema:
            rest = {k: v for k, v in schema.items() if k not in ("if", "then", "else")}
            held = merged(as_object(schema["if"]), self.resolved(as_object(schema.get("then", {}))))
            for branch in (held, as_object(schema.get("else", {}))):
                yield self.value(merged(rest, self.resolved(branch)), name, depth + 1)
        if schema.get("dependentSchemas"):
            rest = {k: v for k, v in schema.items() if k != "dependentSchemas"}
            for part in schema["dependentSchemas"].values():
                rest = merged(rest, self.resolved(as_object(part)))
            yield self.value(rest, name, depth + 1)

    def _typed(self, schema: dict[str, Any], kind: str, name: str, depth: int) -> Iterator[Any]:
        if kind == "object":
            yield from objects_for(self, schema, depth)
        elif kind == "array":
            yield from lists_for(self, schema, name, depth)
        elif kind in ("integer", "number"):
            yield from self._numbers(schema, whole=kind == "integer")
        elif kind == "string":
            yield from self._strings(schema, name)
        elif kind == "boolean":
            yield from (False, True) if self.salt % 2 == 0 else (True, False)
        else:
            yield None

    def _numbers(self, schema: dict[str, Any], *, whole: bool) -> Iterator[float]:
        """The fitting numbers, beginning with that of the item's place in its list."""
        asked = {key: schema[key] for key in _NUMERIC if key in schema}
        fitting = [n for n in dict.fromkeys(numbers_for(asked, whole=whole)) if self.fits(n, asked)]
        place = self.salt % len(fitting) if fitting else 0
        yield from fitting[place:] + fitting[:place]

    def _strings(self, schema: dict[str, Any], name: str) -> Iterator[str]:
        pattern, format_ = schema.get("pattern"), schema.get("format")
        least, most = int(min(schema.get("minLength", 0), _MOST_CHARS)), schema.get("maxLength", math.inf)
        if format_ in ("date", "date-time", "uuid") or format_ in _FORMATS:
            yield self._formatted(str(format_))
        if pattern:
            word = match_for(pattern, self._passages) if not self.salt else None
            yield from [word] if word else []
            texts = list(dict.fromkeys(itertools.islice(texts_for(pattern, least, most), 32)))
            yield from texts[self.salt % len(texts) :] if texts else ()
            yield from (*texts, name, "x")
        text = self._text_for(name)
        while len(text) < least:
            spend(1)
            text += " " + self._text_for("")
        yield self._salted(text, min(most, max(600, least)))

    def _salted(self, text: str, most: float) -> str:
        """The text of at most so many characters, another one for every item of a list."""
        mark = f" {self.salt + 1}" if self.salt else ""
        if len(mark) > most:
            mark = chr(0x61 + self.salt % 26)
        return text[: int(most) - len(mark)] + mark if most >= len(mark) else text[: int(most)]

    def _choice(self, options: list[Any], name: str, schema: dict[str, Any]) -> Any:
        """The option that the hint names, that a fact names, that is a fitting document, that the text
        names; else the first."""
        for text in (self._hint, str(self._named(name, schema) or "")):
            found = [option for option in options if isinstance(option, str) and _names(text, option)]
            if found:
                return found[0]
        spend(len(options) * (1 + len(self.material.instruction) // 1_000))
        if re.search(r"table|data|csv|rows", name, re.I):
            tables = self._tables
            named = [option for option in options if isinstance(option, str) and option in tables]
            if named:
                return named[0]
        instruction = self.material.instruction
        said = [option for option in options if isinstance(option, str) and _names(instruction, option)]
        # An instruction that names several options explains them; it chooses only when it names one.
        return said[0] if len(said) == 1 else options[0]

    def _named(self, name: str, schema: Mapping[str, Any]) -> Any:
        """The fact of a place: by its name, or by a key that its description mentions."""
        key = fact_key(name)
        if key in self._facts:
            return self._facts[key]
        described = fact_key(str(schema.get("description", "")) + str(schema.get("title", "")))
        found = [fact for fact in self._facts if len(fact) > 1 and fact in described]
        return self._facts[max(found, key=len)] if found else None

    def _fact(self, name: str, schema: dict[str, Any]) -> Any:
        fact = self._named(name, schema) if name and not self.salt else None
        if fact is None or type_of(schema) == "object":
            return None
        candidates = [fact, number_or_text(fact) if isinstance(fact, str) else str(fact)]
        return next((value for value in candidates if self.fits(value, schema)), None)

    @cached_property
    def _tables(self) -> frozenset[str]:
        """The names of the documents that hold rows."""
        return frozenset(d.name for d in self.material.documents if rows_of(d))

    @cached_property
    def _date(self) -> str:
        """The first date in the material."""
        texts = (self.material.instruction, *(d.body for d in self.material.documents))
        return next((found[0] for text in texts if (found := _DATE.search(text))), "1970-01-01")

    def _formatted(self, format_: str) -> str:
        date = self._date
        if format_ == "uuid":
            key = digest(self.material.instruction)
            return f"{key[:8]}-{key[8:12]}-4{key[13:16]}-8{key[17:20]}-{key[20:32]}"
        made = {**_FORMATS, "date": date, "date-time": f"{date}T00:00:00Z"}
        return made[format_]

    def _text_for(self, name: str) -> str:
        """A title, a summary, else the next passage that was not used yet."""
        if re.search(r"title|name|subject|标题|名称", name, re.I):
            return self.material.output_name or self.material.title or "offline"
        if re.search(r"summary|abstract|conclusion|摘要|结论|总结", name, re.I) and self._passages:
            return " ".join(self._passages[:3])
        if re.search(r"quer(y|ies)|question|instruction|goal|task|topic", name, re.I) and self.material.title:
            return self.material.title
        if not self._passages:
            return self.material.title or f"offline {name}".strip()
        self._used += 1
        return self._passages[(self._used - 1) % len(self._passages)]


def _names(text: str, option: str) -> bool:
    """Whether a text holds an option as a word of its own."""
    # Most options stand nowhere, and a pattern for each of thousands takes long to build.
    return (
        bool(option)
        and option in text
        and bool(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text, re.ASCII))
    )


def _weight(schema: Mapping[str, Any]) -> int:
    """How much an alternative leads to: plain values end a recursion."""
    return {"object": 2, "array": 1}.get(type_of(schema), 0)
