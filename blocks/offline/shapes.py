"""JSON Schemas as data: two asked for at once, the type they imply, how large a value has to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IMPOSSIBLE: dict[str, Any] = {"not": {}}
"""The schema `false`, as an object."""

_HIGHEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
_LOWEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_IMPLIED = {
    "object": ("properties", "required", "minProperties", "patternProperties", "additionalProperties",
               "propertyNames", "dependentRequired", "dependentSchemas", "maxProperties"),
    "array": ("items", "prefixItems", "contains", "minItems", "maxItems", "uniqueItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}  # fmt: skip


def as_object(schema: Any) -> dict[str, Any]:
    """A schema as an object: `true` and `false` are schemas too; what is none allows everything."""
    if isinstance(schema, dict):
        return schema
    return IMPOSSIBLE if schema is False else {}


def type_of(schema: Mapping[str, Any]) -> str:
    """The type to make: the first written one that is not null, else what the keywords are about."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return str(next((item for item in kind if item != "null"), "null"))
    if kind is not None:
        return str(kind)
    return next((kind for kind, keys in _IMPLIED.items() if any(key in schema for key in keys)), "string")


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two schemas as one that asks for both, as far as one object can; else the second wins."""
    both = {**one, **other}
    for key in one.keys() & other.keys():
        both[key] = _both(key, one[key], other[key])
    return both


def _both(key: str, one: Any, other: Any) -> Any:
    if key in _HIGHEST:
        return max(one, other)
    if key in _LOWEST:
        return min(one, other)
    if key in ("properties", "patternProperties", "dependentSchemas"):
        return {
            **one,
            **other,
            **{name: _together(one[name], other[name]) for name in one.keys() & other.keys()},
        }
    if key in ("items", "additionalProperties", "contains", "propertyNames"):
        return _together(one, other)
    if key == "required":
        return list(dict.fromkeys([*one, *other]))
    if key == "enum":
        return [option for option in one if option in other] or other
    if key == "type":
        return _shared_type(one, other)
    if key == "not":
        return {"anyOf": [one, other]}
    return other


def _together(one: Any, other: Any) -> Any:
    if one is False or other is False:
        return False
    return one if one == other else {"allOf": [as_object(one), as_object(other)]}


def _shared_type(one: Any, other: Any) -> Any:
    """The types that both allow; an integer is a number."""
    first, second = ([kind] if isinstance(kind, str) else list(kind) for kind in (one, other))
    shared = [kind for kind in first if kind in second or (kind == "integer" and "number" in second)]
    shared += [kind for kind in second if kind == "integer" and "number" in first and kind not in shared]
    return shared or other
