"""Schemas in the provider's dialect: nothing lost silently."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tasks.outputs.schema_dialect import Inexpressible, loses, strict_schema
from tests.support.messages_api_rules import Refusal, check_request

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def accepted_by_the_api(schema: dict[str, Any]) -> None:
    """Fails when the strict stand-in refuses the schema."""
    request = {
        "model": "claude-opus-5-5",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "x"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    try:
        check_request(request)
    except Refusal as refusal:
        pytest.fail(refusal.message)


def test_objects_are_closed_and_limits_are_told() -> None:
    written = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["name", "score"],
        "properties": {
            "name": {"type": "string", "minLength": 2, "pattern": "^[a-z]+$", "description": "who"},
            "score": {"type": "integer", "minimum": 0, "maximum": 10, "default": 3},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
            "when": {"type": "string", "format": "date"},
            "inner": {"type": "object", "properties": {"x": {"type": ["number", "null"], "minimum": 1}}},
        },
    }
    before = copy.deepcopy(written)
    strict = strict_schema(written)
    accepted_by_the_api(strict)
    assert written == before
    assert strict["additionalProperties"] is False
    assert strict["properties"]["inner"]["additionalProperties"] is False
    assert strict["properties"]["name"] == {
        "type": "string",
        "description": 'who (minLength: 2, pattern: "^[a-z]+$")',
    }
    assert "minItems: 2" in strict["properties"]["tags"]["description"]
    assert strict["properties"]["when"]["format"] == "date"
    assert strict["properties"]["inner"]["properties"]["x"]["anyOf"][1] == {"type": "null"}


def test_definitions_alternatives_and_literals_keep_their_meaning() -> None:
    strict = strict_schema(
        {
            "type": "object",
            "definitions": {"Item": OBJECT},
            "properties": {
                "one": {"$ref": "#/definitions/Item"},
                "either": {"oneOf": [{"type": "string"}, {"$ref": "#/definitions/Item"}], "description": "d"},
                "level": {"type": "string", "enum": ["low", "high"]},
                "fixed": {"const": 7},
            },
        }
    )
    accepted_by_the_api(strict)
    assert strict["$defs"]["Item"]["additionalProperties"] is False
    assert strict["properties"]["one"] == {"$ref": "#/$defs/Item"}
    assert strict["properties"]["either"]["anyOf"][0] == {"type": "string"}
    assert strict["properties"]["level"] == {"enum": ["low", "high"]}
    assert strict["properties"]["fixed"] == {"const": 7}


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "object", "additionalProperties": {"type": "number"}}, "free keys"),
        ({"type": "object"}, "free keys"),
        ({"type": "object", "properties": {"a": {}}}, "any type"),
        ({"type": "array"}, "list of anything"),
        ({**OBJECT, "patternProperties": {"^x": {"type": "string"}}}, "patternProperties"),
        ({**OBJECT, "if": {"required": ["a"]}}, "if"),
        ({**OBJECT, "required": ["b"]}, "required key"),
        ({**OBJECT, "anyOf": [OBJECT]}, "anyOf"),
        ({"enum": [{"a": 1}]}, "enum"),
        ({"$ref": "https://example.org/schema"}, "reference"),
        ({"type": "object", "properties": {"a": True}}, "True"),
        (
            {"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}},
            "recursive definition Node",
        ),
    ],
)
def test_what_the_dialect_would_lose_is_refused_by_name(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(Inexpressible, match=named):
        strict_schema(schema)


@pytest.mark.parametrize(
    ("schema", "lost"),
    [
        ({"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]}, False),
        ({"type": "array", "items": {"$ref": "#/$defs/a", "description": "x"}, "minItems": 1}, False),
        ({"type": "string", "format": "date", "title": "t", "default": "x", "examples": ["y"]}, False),
        ({"enum": [{"minimum": 1}]}, False),
        ({"type": "string", "format": "phone"}, True),
        ({"type": "array", "items": {"type": "integer", "minimum": 1}}, True),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, True),
        ({"$ref": "#/$defs/a", "maximum": 3}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "maxLength": 3}}}, True),
        ({"anyOf": [{"type": "integer", "multipleOf": 2}, {"type": "null"}]}, True),
        ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, True),
    ],
)
def test_what_the_dialect_does_not_enforce_is_known(schema: dict[str, Any], lost: bool) -> None:
    assert loses(schema) is lost
