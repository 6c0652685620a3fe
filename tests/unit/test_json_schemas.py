"""Checks on a budget say the same as jsonschema itself, where that comes to an end."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from blocks.schemas.checking import TooMuchWork, Unchecked, UnusableSchema, errors_of, schema_fault
from workflows.core.text.patterns import TakesTooLong, UnusablePattern, found_in, schema_pattern_fault

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_2019 = "https://json-schema.org/draft/2019-09/schema"
VALUES: list[Any] = [
    None, True, 0, 1, 1.0, "a", "ab", [], [1, 1.0], [1, True], [{"a": 1}, {"a": 1.0}], [1, "a", 2], {},
    {"a": 1}, {"a": 1, "b": 2}, {"x-a": "t", "c": 3}, {"kind": "k", "a": 1, "c": 1}, [[1], [1]], ["a", 1, 2],
]  # fmt: skip
SCHEMAS: list[dict[str, Any]] = [
    {"uniqueItems": True},
    {"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False},
    {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
    {"properties": {"a": {"type": "integer"}}, "unevaluatedProperties": False},
    {"allOf": [{"properties": {"a": {}}}, {"patternProperties": {"^x": {}}}], "unevaluatedProperties": False},
    {"anyOf": [{"properties": {"a": {}}}, {}], "unevaluatedProperties": {"type": "string"}},
    {"$ref": "#/$defs/d", "$defs": {"d": {"properties": {"a": {}}}}, "unevaluatedProperties": False},
    {"if": {"required": ["kind"]}, "then": {"properties": {"kind": {}}}, "unevaluatedProperties": False},
    {"dependentSchemas": {"kind": {"properties": {"kind": {}, "a": {}}}}, "unevaluatedProperties": False},
    {"prefixItems": [{}], "unevaluatedItems": False},
    {"contains": {"type": "string"}, "unevaluatedItems": {"type": "integer"}},
    {"anyOf": [{"prefixItems": [{"type": "string"}]}, {}], "unevaluatedItems": {"type": "integer"}},
    {"enum": [1, "a", [1], {"a": 1}]},
    {"const": {"a": 1}},
    {"not": {"type": "object"}},
    {"oneOf": [{"type": "integer"}, {"minimum": 1}]},
    {"pattern": "^a$"},
    {"type": "array", "items": {"$ref": "#"}},
    {"$schema": DRAFT_7, "items": [{"type": "integer"}], "additionalItems": False},
    {"$schema": DRAFT_2019, "unevaluatedProperties": False, "properties": {"a": {}}},
    {"$schema": DRAFT_4, "minimum": 1, "exclusiveMinimum": True},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_the_verdicts_are_those_of_jsonschema(schema: dict[str, Any]) -> None:
    plain = validator_for(schema, default=Draft202012Validator)(schema)
    for value in VALUES:
        mine = {(error.json_path, error.validator) for error in errors_of(schema, value)}
        theirs = {(error.json_path, error.validator) for error in plain.iter_errors(value)}
        assert mine == theirs, value


def test_what_cannot_be_checked_is_told() -> None:
    with pytest.raises(TooMuchWork, match="takes too long on this text"):
        errors_of({"pattern": "^(a|aa)+$"}, "a" * 5_000 + "!")
    for schema in ({"$ref": "#"}, {"$ref": "#/$defs/none"}, {"pattern": "("}):
        with pytest.raises(UnusableSchema):
            errors_of(schema, "x")
    for address in ("http://127.0.0.1:9/x", "file:///etc/passwd"):  # nothing is fetched
        with pytest.raises(Unchecked, match="leads to nothing"):
            errors_of({"$dynamicRef": address}, 1)


def test_the_same_value_gets_the_same_verdict_each_time() -> None:
    """The budget counts work, not time: what was refused is refused when the run is resumed."""
    doubling: dict[str, Any] = {
        "$defs": {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(30)} | {"a30": {}},
        "$ref": "#/$defs/a0",
    }
    for _ in range(2):
        with pytest.raises(TooMuchWork):
            errors_of(doubling, "x")


def test_large_ordinary_data_is_within_the_budget() -> None:
    row = {
        "type": "object",
        "properties": {name: {"type": "string", "minLength": 1, "maxLength": 99} for name in "abcdefgh"},
        "required": list("abcdefgh"),
        "additionalProperties": False,
    }
    rows = [dict.fromkeys("abcdefgh", "text") for _ in range(5_000)]
    assert errors_of({"type": "array", "items": row}, rows) == []


def test_schemas_that_cannot_be_used_are_told() -> None:
    assert schema_fault({"type": "object", "properties": {"a": {"type": "string"}}}) is None
    assert "integr" in (schema_fault({"type": "integr"}) or "")
    assert "$.properties.a.pattern" in (schema_fault({"properties": {"a": {"pattern": "("}}}) or "")
    assert "values" in (schema_fault({"enum": list(range(30_000))}) or "")
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"items": deep}
    assert schema_fault(deep) is not None


def test_patterns_are_read_as_json_schema_has_them() -> None:
    assert not found_in("^a$", "a\n")
    assert not found_in(r"^\d$", "٣")
    assert found_in(r"^[\d.]+$", "1.5")
    assert found_in("[$]", "$") and found_in(r"\$", "$")
    assert found_in(r"^\p{L}+$", "字")
    assert found_in("(?<year>[0-9]{4})", "in 2026")
    with pytest.raises(TakesTooLong):
        found_in("^(a|aa)+$", "a" * 5_000 + "!")
    with pytest.raises(UnusablePattern):
        found_in("(", "a")
    assert schema_pattern_fault("(?:a{1000}){1000}") and schema_pattern_fault("a" * 9_000)
