"""A value for a JSON Schema, filled from the request's material where names match.

Order for each place: const or enum, a fact of the same name that fits (a `key: value` line of the
instruction, a key of a JSON document, a column of a table), the schema's default or first example, a passage
of the documents, the smallest value that the schema allows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from blocks.offline.facts import fact_key, facts_of, passages_of
from blocks.offline.material import Material
from blocks.offline.patterns import match_for
from blocks.offline.tables import number_or_text, rows_of
from workflows.core.refs import digest

_DEPTH = 12
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


class ValueMaker:
    """Makes values for one schema. `hint` is a line whose words win where there is a choice."""

    def __init__(self, material: Material, root: Mapping[str, Any], hint: str = "") -> None:
        self._material = material
        self._root = root
        self._hint = hint
        self._facts = facts_of(material)
        self._passages = passages_of(material)
        self._used = 0

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """A value that satisfies the schema as far as fixed rules can."""
        if not isinstance(schema, dict) or depth > _DEPTH:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(schema["enum"], name, schema)
        found = self._fact(name, schema)
        if found is not None:
            return found
        for given in [*([schema["default"]] if "default" in schema else []), *schema.get("examples", [])[:1]]:
            if self._fits(given, schema):
                return given
        return self._made(schema, name, depth)

    def _made(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._first_fitting(schema, key, name, depth)
        kind = _type_of(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in ("integer", "number"):
            return smallest_number(schema, whole=kind == "integer")
        if kind == "string":
            return self._string(schema, name)
        return False if kind == "boolean" else None

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """References followed and `allOf` merged."""
        seen = 0
        while "$ref" in schema and seen < _DEPTH:
            target: Any = self._root
            for part in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                target = target.get(part, {}) if part and isinstance(target, dict) else target
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
            seen += 1
        for part in schema.get("allOf", []):
            schema = _merged(schema, self._resolved(part))
        return {key: value for key, value in schema.items() if key != "allOf"}

    def _first_fitting(self, schema: dict[str, Any], key: str, name: str, depth: int) -> Any:
        """The first alternative that gives a fitting value; null only when nothing else does."""
        rest = {k: v for k, v in schema.items() if k != key}
        options = [self._resolved(option) for option in schema[key]]
        options.sort(key=lambda option: _type_of(option) == "null")
        made = [self.value(_merged(rest, option), name, depth + 1) for option in options]
        return next((value for value in made if self._fits(value, schema)), made[0])

    def _choice(self, options: list[Any], name: str, schema: dict[str, Any]) -> Any:
        """The option that the hint names, that a fact names, that is a fitting document, that the text
        names; else the first."""
        for text in (self._hint, str(self._named(name, schema) or "")):
            found = [option for option in options if isinstance(option, str) and _names(text, option)]
            if found:
                return found[0]
        tables = [d.name for d in self._material.documents if rows_of(d)]
        if re.search(r"table|data|csv|rows", name, re.I) and set(tables) & set(options):
            return next(option for option in options if option in tables)
        instruction = self._material.instruction
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
        fact = self._named(name, schema) if name else None
        if fact is None or _type_of(schema) == "object":
            return None
        candidates = [fact, number_or_text(fact) if isinstance(fact, str) else str(fact)]
        return next((value for value in candidates if self._fits(value, schema)), None)

    def _fits(self, value: Any, schema: dict[str, Any]) -> bool:
        from jsonschema import Draft202012Validator

        shared = {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}
        return bool(Draft202012Validator({**shared, **schema}).is_valid(value))

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        names = [name for name in properties if name in required or depth < 6]
        made = {name: self.value(properties[name], name, depth + 1) for name in names}
        free = schema.get("additionalProperties", True)
        for name in required:
            if name not in made:
                made[name] = self.value(
                    free if isinstance(free, dict) else {"type": "string"}, name, depth + 1
                )
        n = 0
        while len(made) < schema.get("minProperties", 0) and free is not False:
            n += 1
            made[f"item-{n}"] = self.value(
                free if isinstance(free, dict) else {"type": "string"}, "", depth + 1
            )
        return made

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        items = self._resolved(schema.get("items", {"type": "string"}))
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        rows = self._matching_rows(items)[: int(min(most, 20))]
        made = [row for row in rows if self._fits(row, items)]
        first = [self.value(part, name, depth + 1) for part in schema.get("prefixItems", [])]
        made = [*first, *made]
        wanted = min(most, max(least, 3 if not made else len(made)))
        tries = 0
        while len(made) < wanted and tries < 4 * wanted + 4:
            value = self.value(_varied(items, tries), "", depth + 1)
            tries += 1
            if not schema.get("uniqueItems") or value not in made:
                made.append(value)
            if tries >= len(_options(items)) > 0 and len(made) >= least:
                break
        return made

    def _matching_rows(self, items: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows of the first table that has every required column of an item, cut to the item's keys."""
        properties = items.get("properties", {})
        required = set(items.get("required", [])) or set(properties)
        if not properties:
            return []
        for document in self._material.documents:
            rows = rows_of(document)
            if rows and required <= rows[0].keys():
                return [_typed_row(row, properties) for row in rows]
        return []

    def _string(self, schema: dict[str, Any], name: str) -> str:
        pattern, format_ = schema.get("pattern"), schema.get("format")
        if format_ in ("date", "date-time", "uuid") or format_ in _FORMATS:
            return self._formatted(str(format_))
        if pattern:
            return match_for(pattern, self._passages) or name or "x"
        least, most = schema.get("minLength", 0), schema.get("maxLength", 600)
        text = self._text_for(name)
        while len(text) < least:
            text += " " + self._text_for("")
        return text[:most] if len(text) > most else text

    def _formatted(self, format_: str) -> str:
        dates = _DATE.findall(self._material.instruction + "".join(d.body for d in self._material.documents))
        date = dates[0] if dates else "1970-01-01"
        if format_ == "uuid":
            key = digest(self._material.instruction)
            return f"{key[:8]}-{key[8:12]}-4{key[13:16]}-8{key[17:20]}-{key[20:32]}"
        made = {**_FORMATS, "date": date, "date-time": f"{date}T00:00:00Z"}
        return made[format_]

    def _text_for(self, name: str) -> str:
        """A title, a summary, else the next passage that was not used yet."""
        if re.search(r"title|name|subject|标题|名称", name, re.I):
            return self._material.output_name or self._material.title or "offline"
        if re.search(r"summary|abstract|conclusion|摘要|结论|总结", name, re.I) and self._passages:
            return " ".join(self._passages[:3])
        if (
            re.search(r"quer(y|ies)|question|instruction|goal|task|topic", name, re.I)
            and self._material.title
        ):
            return self._material.title
        if not self._passages:
            return self._material.title or f"offline {name}".strip()
        self._used += 1
        return self._passages[(self._used - 1) % len(self._passages)]


def smallest_number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """The number of least size in the schema's bounds: zero when that is allowed."""
    step = schema.get("multipleOf") or (1 if whole else None)
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    number: float = 0
    if low is not None and low >= 0:
        number = low
    elif high is not None and high <= 0:
        number = high
    if step:
        number = (math.ceil(number / step) if number >= 0 else math.floor(number / step)) * step
    beyond = step or _small_step(low, high)
    if number == schema.get("exclusiveMinimum"):
        number += beyond
    if number == schema.get("exclusiveMaximum"):
        number -= beyond
    return int(number) if whole or number == int(number) else number


def _small_step(low: float | None, high: float | None) -> float:
    return (high - low) / 2 if low is not None and high is not None and high > low else 1


def _names(text: str, option: str) -> bool:
    """Whether a text holds an option as a word of its own."""
    return bool(option) and bool(re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text, re.ASCII))


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if kind is None:
        implied = (("properties", "object"), ("items", "array"), ("pattern", "string"), ("minimum", "number"))
        kind = next((type_ for key, type_ in implied if key in schema), "string")
    return str(kind)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two schemas as one that asks for both; of two equal keywords the second wins."""
    both = {**one, **other}
    if "properties" in one and "properties" in other:
        both["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        both["required"] = list(dict.fromkeys([*one["required"], *other["required"]]))
    return both


def _options(schema: Mapping[str, Any]) -> list[Any]:
    return list(schema.get("enum", []))


def _varied(schema: dict[str, Any], n: int) -> dict[str, Any]:
    """The schema of the n-th item: another option, or numbers that count up."""
    options = _options(schema)
    if options:
        return {**schema, "enum": [options[n % len(options)]]}
    if _type_of(schema) in ("integer", "number") and n:
        return {**schema, "minimum": smallest_number(schema, whole=True) + n}
    return schema


def _typed_row(row: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A table's row with the item's keys; numbers become text where text is asked for."""
    made = {}
    for name, schema in properties.items():
        if name in row:
            text = isinstance(schema, dict) and schema.get("type") == "string"
            made[name] = str(row[name]) if text else row[name]
    return made
