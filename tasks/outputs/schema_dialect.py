"""JSON Schema in the dialect that `output_config.format` accepts.

That dialect knows types, properties, required, items, enum, const, anyOf, allOf, definitions without
recursion and a few string formats; every object is closed. What else a schema says moves into the
description, where a model can read it; what the dialect would turn into something else is refused.
"""

from __future__ import annotations

import json
from typing import Any

_TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
_SILENT = {"$schema", "$id", "$comment", "examples", "default", "deprecated", "readOnly", "writeOnly"}
_MEANINGFUL = {
    "patternProperties", "propertyNames", "unevaluatedProperties", "dependentSchemas", "dependentRequired",
    "if", "then", "else", "not", "prefixItems", "contains", "unevaluatedItems", "minContains", "maxContains",
    "$dynamicRef", "$anchor",
}  # fmt: skip
_BY_NAME = {"properties", "$defs", "definitions"}
_KEPT = _SILENT | _BY_NAME | {
    "type", "required", "items", "enum", "const", "anyOf", "allOf", "$ref", "title", "description",
    "additionalProperties",
}  # fmt: skip
_BESIDE_REFERENCE = _SILENT | {"$ref", "title", "description", "$defs", "definitions"}


class Inexpressible(ValueError):
    """The schema says something that the dialect would silently lose; the message names it."""


def strict_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in the dialect. Raises Inexpressible; the schema given is not changed."""
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    _refuse_recursion(schema, definitions, (), set())
    body = {key: value for key, value in schema.items() if key not in ("$defs", "definitions")}
    out = _strict(body)
    if definitions:
        out["$defs"] = {name: _strict(value) for name, value in definitions.items()}
    return out


def loses(schema: Any) -> bool:
    """Whether the dialect enforces less than the schema says: a limit told in a description, or dropped."""
    if not isinstance(schema, dict):
        return False
    if "oneOf" in schema or ("$ref" in schema and schema.keys() - _BESIDE_REFERENCE):
        return True
    if any(_is_limit(key, value) for key, value in schema.items()):
        return True
    named = [part for key in _BY_NAME & schema.keys() for part in schema[key].values()]
    listed = [part for key in ("anyOf", "allOf") for part in schema.get(key, [])]
    return any(loses(part) for part in (*named, *listed, schema.get("items")))


def _is_limit(key: str, value: Any) -> bool:
    if key == "format":
        return value not in _FORMATS
    if key == "minItems":
        return value not in (0, 1)
    return key not in _KEPT


def _strict(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise Inexpressible(f"a schema that is {schema!r}")
    lost = sorted(_MEANINGFUL & schema.keys())
    if lost:
        raise Inexpressible(f"the keyword {lost[0]}")
    if "$ref" in schema:
        return {"$ref": _reference(schema["$ref"])}
    rest = {key: value for key, value in schema.items() if key not in _SILENT}
    types = rest.get("type")
    if isinstance(types, list):
        return _one_of_types(rest, types)
    out = _combination(rest) or _literal(rest) or _typed_value(rest)
    return _describe_rest(out, rest)


def _reference(target: Any) -> str:
    name = str(target)
    for prefix in ("#/$defs/", "#/definitions/"):
        if name.startswith(prefix) and "/" not in name[len(prefix) :]:
            return "#/$defs/" + name[len(prefix) :]
    raise Inexpressible(f"the reference {name}")


def _one_of_types(rest: dict[str, Any], types: list[Any]) -> dict[str, Any]:
    """`type: [string, null]` as a choice of schemas of one type each."""
    if "enum" in rest or "const" in rest:
        return _strict({key: value for key, value in rest.items() if key != "type"})
    choices = [_strict({**_only_for(rest, kind), "type": kind}) for kind in types]
    described: dict[str, Any] = {key: rest[key] for key in ("title", "description") if key in rest}
    return {"anyOf": choices, **described}


def _only_for(rest: dict[str, Any], kind: Any) -> dict[str, Any]:
    keywords = {
        "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
        "array": {"items", "minItems", "maxItems", "uniqueItems"},
        "string": {"format", "pattern", "minLength", "maxLength"},
        "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
        "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    }.get(kind, set())
    return {key: value for key, value in rest.items() if key in keywords}


def _combination(rest: dict[str, Any]) -> dict[str, Any] | None:
    for written, sent in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if written in rest:
            if rest.keys() & {"properties", "items"}:
                raise Inexpressible(f"{written} beside properties or items")
            choices = rest.pop(written)
            rest.pop("type", None)
            return {sent: [_strict(choice) for choice in choices]}
    return None


def _literal(rest: dict[str, Any]) -> dict[str, Any] | None:
    out: dict[str, Any] = {key: rest[key] for key in ("enum", "const") if key in rest}
    for value in [*out.get("enum", []), *([out["const"]] if "const" in out else [])]:
        if isinstance(value, (list, dict)):
            raise Inexpressible("an enum or const that is not a plain value")
    for key in (*out, "type"):
        rest.pop(key, None) if out else None
    return out or None


def _typed_value(rest: dict[str, Any]) -> dict[str, Any]:
    kind = rest.pop("type", None) or _implied_type(rest)
    if kind not in _TYPES:
        raise Inexpressible("a value of any type" if kind is None else f"the type {kind}")
    if kind == "object":
        return _object(rest)
    if kind == "array":
        return _array(rest)
    if kind == "string" and rest.get("format") in _FORMATS:
        return {"type": kind, "format": rest.pop("format")}
    return {"type": kind}


def _implied_type(rest: dict[str, Any]) -> str | None:
    if "properties" in rest:
        return "object"
    return "array" if "items" in rest else None


def _object(rest: dict[str, Any]) -> dict[str, Any]:
    properties = rest.pop("properties", {})
    extra = rest.pop("additionalProperties", None)
    # A closed object can never hold an open map: `dict[str, X]` would become `{}` for ever.
    if extra not in (None, False, True) or (extra is not False and not properties):
        raise Inexpressible("an object with free keys")
    required = list(rest.pop("required", []))
    if not properties.keys() >= set(required):
        raise Inexpressible("a required key without a property")
    return {
        "type": "object",
        "properties": {name: _strict(value) for name, value in properties.items()},
        "required": required,
        "additionalProperties": False,
    }


def _array(rest: dict[str, Any]) -> dict[str, Any]:
    if "items" not in rest:
        raise Inexpressible("a list of anything")
    out: dict[str, Any] = {"type": "array", "items": _strict(rest.pop("items"))}
    if rest.get("minItems") in (0, 1):
        out["minItems"] = rest.pop("minItems")
    return out


def _describe_rest(out: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    """Title and description kept; every other keyword told in the description."""
    if "title" in rest:
        out["title"] = rest["title"]
    told = {key: value for key, value in rest.items() if key not in ("title", "description")}
    limits = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in told.items())
    parts = [str(rest["description"])] if rest.get("description") else []
    parts += [f"({limits})"] if limits else []
    return {**out, "description": " ".join(parts)} if parts else out


def _refuse_recursion(
    schema: Any, definitions: dict[str, Any], open_names: tuple[str, ...], seen: set[str]
) -> None:
    """`seen` are the definitions looked at to their end: two references to one double nothing."""
    if isinstance(schema, list):
        for item in schema:
            _refuse_recursion(item, definitions, open_names, seen)
    if not isinstance(schema, dict):
        return
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name in open_names:
        raise Inexpressible(f"the recursive definition {name}")
    if name and name in definitions and name not in seen:
        _refuse_recursion(definitions[name], definitions, (*open_names, name), seen)
        seen.add(name)
    for key, value in schema.items():
        if key not in ("$defs", "definitions", "enum", "const", "default", "examples"):
            _refuse_recursion(value, definitions, open_names, seen)
