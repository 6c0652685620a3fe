"""Objects and lists for a JSON Schema: richly filled, else with no more than they need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from blocks.json_schemas import matches, spend
from blocks.offline.material import Material
from blocks.offline.patterns import texts_for
from blocks.offline.shapes import as_object, merged, type_of
from blocks.offline.tables import rows_of

LEAN_DEPTH = 5
"""From this depth on only what is required is made, so that recursive schemas come to an end."""
_ROWS = 20


class Maker(Protocol):
    """What fills the places of an object or list."""

    material: Material
    salt: int

    def value(self, schema: Any, name: str = "", depth: int = 0) -> Any: ...

    def fits(self, value: Any, schema: Any) -> bool: ...

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]: ...


def objects_for(maker: Maker, schema: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Objects to try: with the optional keys, then with the required ones alone."""
    if depth < LEAN_DEPTH:
        yield _object(maker, schema, depth, rich=True)
    yield _object(maker, schema, depth, rich=False)


def _object(maker: Maker, schema: dict[str, Any], depth: int, *, rich: bool) -> dict[str, Any]:
    required = _required(schema)
    most = schema.get("maxProperties", math.inf)
    # Written order first: people read the value.
    known = [name for name in schema.get("properties", {}) if name in required or rich]
    made: dict[str, Any] = {}
    for name in [*known, *(name for name in required if name not in known)]:
        place = _place(schema, name)
        value = maker.value(place, name, depth + 1)
        left = len(required.keys() - made.keys() - {name})
        if name in required or (
            len(made) + left < most and maker.fits(value, place) and _named(maker, schema, name)
        ):
            made[name] = value
    if rich or len(made) < schema.get("minProperties", 0):
        _fill(maker, schema, made, depth)
    return made


def _required(schema: Mapping[str, Any]) -> dict[str, None]:
    """The required keys in order, with what they bring along."""
    names = dict.fromkeys(schema.get("required", []))
    brought = schema.get("dependentRequired", {})
    for _ in brought:
        for name in list(names):
            names |= dict.fromkeys(brought.get(name, []))
    return names


def _place(schema: Mapping[str, Any], name: str) -> Any:
    """The schema of a key's value."""
    asked = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    asked += [part for pattern, part in schema.get("patternProperties", {}).items() if matches(pattern, name)]
    if not asked:
        free = schema.get("additionalProperties", {"type": "string"})
        return {"type": "string"} if free is True else free
    if any(part is False for part in asked):
        return False
    return asked[0] if len(asked) == 1 else {"allOf": [as_object(part) for part in asked]}


def _named(maker: Maker, schema: Mapping[str, Any], name: str) -> bool:
    return "propertyNames" not in schema or maker.fits(name, schema["propertyNames"])


def _fill(maker: Maker, schema: dict[str, Any], made: dict[str, Any], depth: int) -> None:
    """Free keys until there are enough."""
    for name in _free_names(maker, schema):
        if len(made) >= schema.get("minProperties", 0):
            return
        spend(1 + len(name) // 256)
        if name in made or not _named(maker, schema, name):
            continue
        place = _place(schema, name)
        value = maker.value(place, "", depth + 1)
        if maker.fits(value, place):
            made[name] = value


def _free_names(maker: Maker, schema: Mapping[str, Any]) -> Iterator[str]:
    wanted = int(schema.get("minProperties", 0))
    names = as_object(schema.get("propertyNames", {}))
    yield from schema.get("properties", {})
    for option in names.get("enum", []):
        yield str(option)
    for pattern in (*schema.get("patternProperties", {}), names.get("pattern", "")):
        if pattern:
            yield from texts_for(pattern, 1, math.inf)
            for n in range(1, wanted + 1):
                yield from (f"{text}{n}" for text in texts_for(pattern, 0, math.inf))
                yield from texts_for(pattern, n, math.inf)
    for n in range(1, wanted + len(schema.get("properties", {})) + 1):
        yield f"item-{n}"
    for n in range(1, wanted + 1):
        yield "a" * n


def lists_for(maker: Maker, schema: dict[str, Any], name: str, depth: int) -> Iterator[list[Any]]:
    """Lists to try: rows of a table or a few items, then as few as allowed."""
    if depth < LEAN_DEPTH:
        yield _list(maker, schema, name, depth, rich=True)
    yield _list(maker, schema, name, depth, rich=False)


def _list(maker: Maker, schema: dict[str, Any], name: str, depth: int, *, rich: bool) -> list[Any]:
    first, rest = _positions(schema)
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    held = int(schema.get("minContains", 1)) if "contains" in schema else 0
    keep = len(first) if rich else min(len(first), least)
    made = [maker.value(part, name, depth + 1) for part in first[:keep]]
    if rest is False:
        return made[: int(min(most, len(made)))]
    items = maker.resolved(as_object(rest))
    rows = [row for row in _matching_rows(maker.material, items) if rich and maker.fits(row, items)]
    made += rows[: int(max(0, min(most, _ROWS) - len(made)))]
    if held:
        _add(
            maker,
            made,
            merged(items, maker.resolved(as_object(schema["contains"]))),
            len(made) + held,
            depth,
            schema,
        )
    wanted = int(min(most, max(least, (3 if not made else len(made)) if rich else least)))
    _add(maker, made, items, wanted, depth, schema)
    return made


def _positions(schema: Mapping[str, Any]) -> tuple[list[Any], Any]:
    """The schemas of the first items, and of the rest; older drafts write both as `items`."""
    items = schema.get("items", {"type": "string"})
    if isinstance(items, list):
        return items, schema.get("additionalItems", {"type": "string"})
    return list(schema.get("prefixItems", [])), {"type": "string"} if items is True else items


def _add(maker: Maker, made: list[Any], items: dict[str, Any], wanted: int, depth: int, schema: Any) -> None:
    """Items until there are as many as wanted; each another one where that can be."""
    outer, least = maker.salt, schema.get("minItems", 0)
    for n in range(4 * wanted + 4):
        spend(1)
        # Every option once is enough where no more are asked for.
        if len(made) >= wanted or (0 < len(items.get("enum", [])) <= n and len(made) >= least):
            break
        maker.salt = outer + n if _is_scalar(items) or schema.get("uniqueItems") else outer
        value = maker.value(items, "", depth + 1)
        if not maker.fits(value, items) and len(made) >= least:
            break
        if not schema.get("uniqueItems") or not any(_equal(value, other) for other in made):
            made.append(value)
    maker.salt = outer


def _is_scalar(items: Mapping[str, Any]) -> bool:
    return type_of(items) in ("integer", "number") or "enum" in items


def _equal(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _matching_rows(material: Material, items: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the first table that has every required column of an item, cut to the item's keys."""
    properties = items.get("properties", {})
    required = set(items.get("required", [])) or set(properties)
    if not properties:
        return []
    for document in material.documents:
        rows = rows_of(document)
        if rows and required <= rows[0].keys():
            return [_typed_row(row, properties) for row in rows]
    return []


def _typed_row(row: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """A table's row with the item's keys; numbers become text where text is asked for."""
    made = {}
    for name, schema in properties.items():
        if name in row:
            text = isinstance(schema, dict) and schema.get("type") == "string"
            made[name] = str(row[name]) if text else row[name]
    return made
