"""The offline model keeps the contracts people write: one case per keyword, and a family of schemas."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from blocks.offline import OfflineModel
from blocks.offline.schemas import FORMATS, texts_for
from tasks.conversation.turns import converse
from workflows.core.plans.plan import ModelPlan, OutputPlan

REPORT = """# Market report
- Risk: the export fails for 12 large accounts.
- The price is 40 per month, and customers like blue.
score: 77
name: a name that is much longer than some of the schemas below allow
"""
SALES = "region,units\nnorth,10\nsouth,30\n"
MESSAGE = f"""<document name="report" type="text/markdown">
{REPORT}
</document>
<document name="sales" type="text/csv">
{SALES}</document>
<document name="order" type="application/json">
{{"owner": "Lin", "who": {{"floor": 3}}, "tags": ["a", "b"]}}
</document>
Rate the report, now or later.
- ticket number: SO-88213
- level: later
"""


def made(schema: dict[str, Any], type_: str = "json", message: str = MESSAGE) -> Any:
    """What a step with this contract gets without a model, at the first try."""
    output = OutputPlan(name="out", type=type_, schema=schema, repair=0)  # type: ignore[arg-type]
    talk = converse(
        OfflineModel(),
        model=ModelPlan(family="claude-opus", id="claude-opus-5-5", max_tokens=1000),
        system="",
        messages=[{"role": "user", "content": message}],
        output=output,
    )
    return asyncio.run(talk).data


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def tree(again: dict[str, Any]) -> dict[str, Any]:
    return thing(label={"type": "string", "maxLength": 5}, children={"type": "array", "items": again})


NODE = {"$ref": "#/$defs/node"}
CHAIN = thing(left={"anyOf": [NODE, {"type": "null"}]}, v={"type": "integer", "minimum": 1})
NINE = {"type": "string", "pattern": "^[a-z]+$", "minLength": 9, "maxLength": 9}
SHORT = {"type": "string", "maxLength": 3}
CASES: dict[str, dict[str, Any]] = {
    "minimum-maximum": thing(score={"type": "integer", "minimum": 1, "maximum": 5}),
    "exclusive": thing(score={"type": "number", "exclusiveMinimum": 0.2, "exclusiveMaximum": 0.3}),
    "exclusive-integer": thing(n={"type": "integer", "exclusiveMinimum": 2.5, "maximum": 3}),
    "both-minima": thing(n={"type": "integer", "minimum": 1, "exclusiveMinimum": 5}),
    "multipleOf": thing(n={"type": "integer", "multipleOf": 7, "minimum": 8}),
    "multipleOf-fraction": thing(n={"type": "number", "multipleOf": 0.1, "minimum": 0.25}),
    "negative": thing(n={"type": "integer", "minimum": -9, "exclusiveMaximum": -3}),
    "minLength": thing(name={"type": "string", "minLength": 900}),
    "maxLength": thing(name={"type": "string", "maxLength": 4}),
    "pattern": thing(code={"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"}),
    "pattern-minLength": thing(code=NINE),
    "pattern-open": thing(code={"type": "string", "pattern": "ab", "minLength": 20}),
    "pattern-choice": thing(code={"type": "string", "pattern": "^(a|bcd)$", "minLength": 2}),
    "minItems": thing(tags={"type": "array", "items": {"type": "string"}, "minItems": 7}),
    "maxItems": thing(tags={"type": "array", "items": {"type": "string"}, "maxItems": 1}),
    "maxItems-zero": thing(tags={"type": "array", "items": {"type": "string"}, "maxItems": 0}),
    "uniqueItems": thing(tags={"type": "array", "items": SHORT, "minItems": 9, "uniqueItems": True}),
    "uniqueItems-range": thing(
        n={
            "type": "array",
            "items": {"type": "integer", "minimum": -5, "maximum": -1},
            "minItems": 5,
            "uniqueItems": True,
        }
    ),
    "uniqueItems-objects": thing(
        n={"type": "array", "items": thing(a={"type": "boolean"}), "minItems": 2, "uniqueItems": True}
    ),
    "contains": thing(
        n={"type": "array", "items": {"type": "integer"}, "contains": {"minimum": 50}, "minItems": 3}
    ),
    "maxContains": thing(
        n={
            "type": "array",
            "items": {"enum": ["x", "y"]},
            "contains": {"const": "x"},
            "minContains": 2,
            "maxContains": 2,
        }
    ),
    "prefixItems": thing(
        pair={"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}
    ),
    "prefixItems-minItems": thing(
        pair={
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "items": False,
            "minItems": 2,
        }
    ),
    "items-true": thing(any={"type": "array", "items": True, "minItems": 2}),
    "property-true": thing(any=True),
    "property-false": {"type": "object", "properties": {"never": False, "a": {"type": "integer"}}},
    "minProperties": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 3},
    "maxProperties": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "string"}},
        "required": ["c"],
        "maxProperties": 2,
    },
    "patternProperties": {
        "type": "object",
        "patternProperties": {"^q[1-4]$": {"type": "integer", "minimum": 2}},
        "additionalProperties": False,
        "minProperties": 2,
    },
    "propertyNames": {"type": "object", "propertyNames": {"pattern": "^[a-z]{3,}$"}, "minProperties": 3},
    "dependentRequired": {
        "type": "object",
        "properties": {"card": {"type": "string"}, "street": {"type": "string"}},
        "dependentRequired": {"card": ["street", "city"]},
        "required": ["card"],
    },
    "dependentSchemas": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "dependentSchemas": {"a": {"required": ["b"], "properties": {"b": {"const": 4}}}},
    },
    "recursive-definition": {"$defs": {"node": tree(NODE)}, **NODE},
    "recursive-root": tree({"$ref": "#"}),
    "recursive-list": {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#"}, {"type": "integer", "minimum": 3}]},
        "minItems": 1,
        "maxItems": 2,
    },
    "recursive-required": {"$defs": {"node": CHAIN}, **NODE},
    "anyOf-minimum": thing(v={"anyOf": [{"type": "integer", "minimum": 5}, {"type": "null"}]}),
    "oneOf": thing(v={"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}]}),
    "allOf-bounds": thing(v={"allOf": [{"type": "integer", "minimum": 3}, {"minimum": 9}, {"maximum": 9}]}),
    "not": thing(v={"not": {"type": "string"}}),
    "not-const": thing(v={"type": "integer", "not": {"const": 0}}),
    "if-then": {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}},
        "required": ["kind"],
        "if": {"properties": {"kind": {"const": "a"}}},
        "then": {"required": ["size"], "properties": {"size": {"type": "integer", "minimum": 3}}},
    },
    "ref-with-limits": {
        "$defs": {"n": {"type": "integer"}},
        **thing(v={"$ref": "#/$defs/n", "minimum": 6}),
    },
    "top-level-integer": {"type": "integer", "minimum": 2},
    "type-list": thing(v={"type": ["string", "integer"], "minLength": 700, "minimum": 3}),
}


@pytest.mark.parametrize("schema", CASES.values(), ids=CASES.keys())
def test_the_offline_model_keeps_the_keyword(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(made(schema))


def test_rows_keep_the_limits_of_their_columns() -> None:
    rows = made(
        thing(id={"type": "string", "pattern": "^R\\d{2}$"}, n={"type": "integer", "minimum": 4}), "table"
    )
    assert rows
    assert all(row["n"] >= 4 for row in rows)


LEFT_OPEN = "(left open by the offline model)"


def test_values_come_from_where_the_names_match_and_from_nowhere_else() -> None:
    text = {"type": "string"}
    asked = thing(
        id={"type": "string", "description": "The ticket number"},
        score={"type": "number"},
        owner=text,
        floor={"type": "integer"},
        tags={"type": "array", "items": text},
        level={"enum": ["now", "later"]},
        title=text,
        reason=text,
        notes={"type": "array", "items": text},
    )
    asked["properties"] |= {
        "ticketNumber": text,
        "due": {"type": "string", "format": "date"},
        "amount": {"type": "number"},
    }
    assert made(asked) == {
        "id": "SO-88213",
        "score": 77,
        "owner": "Lin",
        "floor": 3,
        "tags": ["a", "b"],
        "level": "later",
        "title": "Rate the report, now or later",
        "reason": LEFT_OPEN,
        "notes": [LEFT_OPEN],
        "ticketNumber": "SO-88213",
    }


def test_what_cannot_say_that_it_is_a_placeholder_is_named_beside_it() -> None:
    kind, amount = {"enum": ["refund", "other"]}, {"type": "number", "exclusiveMinimum": 0}
    inner = thing(date={"type": "string", "format": "date"}, ok={"type": "boolean"})
    value = made(
        thing(kind=kind, amount=amount, owner={"type": "string"}, reason={"type": "string"}, inner=inner)
    )
    assert value["reason"] == f"{LEFT_OPEN} (placeholders of the offline model: kind, amount, inner)"
    assert (value["kind"], value["owner"]) == ("other", "Lin")
    assert made(thing(kind=kind, owner={"type": "string"}))["owner"] == (
        "Lin (placeholders of the offline model: kind)"
    )


def test_what_may_be_null_is_left_open_so() -> None:
    optional = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    asked = thing(
        owner=optional,
        reason=optional,
        size={"type": ["integer", "null"]},
        who={"anyOf": [thing(floor={}), {"type": "null"}]},
    )
    assert made(asked) == {"owner": "Lin", "reason": None, "size": None, "who": {"floor": 3}}


def test_a_text_that_is_the_document_holds_the_document() -> None:
    body = made(thing(body={"type": "string", "description": "Markdown"}))["body"]
    assert body.startswith("> Made by phaseline's offline model") and "The price is 40 per month" in body


def test_rows_come_from_the_table_with_these_columns() -> None:
    row = thing(region={"type": "string"}, units={"type": "integer"}) | {"additionalProperties": False}
    asked = thing(rows={"type": "array", "items": row, "maxItems": 1})
    assert made(asked) == {"rows": [{"region": "north", "units": 10}]}
    assert made({"type": "array", "items": thing(units={"type": "string"})}) == [
        {"units": "10"},
        {"units": "30"},
    ]


@pytest.mark.parametrize("format_", sorted(FORMATS))
def test_formats_are_held(format_: str) -> None:
    value = made(thing(at={"type": "string", "format": format_}))["at"]
    Draft202012Validator({"format": format_}, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        value
    )


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^FB-\d{3}$", "FB-000"),
        (r"^[a-z]+(-[a-z]+)?$", "a"),
        (r"^v\d+\.\d+$", "v0.0"),
        (r"^(?:AB|CD)x{2,3}$", "ABxx"),
        (r"^[^a]$", "0"),
        (r"^(?!a)\w\s\S$", None),
        (r"^(?=x)y$", None),
        (r"(((a{256}){256}){256}){256}", None),
        (r"(", None),
    ],
)
def test_texts_for_patterns(pattern: str, text: str | None) -> None:
    found = next(texts_for(pattern, 0, 100), None)
    assert found == text or (text is None and found is not None and re.search(pattern, found))


def ranges(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(0, 9)).map(lambda p: (p[0], p[0] + p[1]))


leaves = st.one_of(
    ranges(-50, 50).map(lambda r: {"type": "integer", "minimum": r[0], "maximum": r[1]}),
    ranges(-50, 50).map(lambda r: {"type": "number", "exclusiveMinimum": r[0], "exclusiveMaximum": r[1] + 1}),
    st.tuples(ranges(-50, 50), st.integers(1, 9)).map(
        lambda p: {"type": "integer", "minimum": p[0][0], "multipleOf": p[1]}
    ),
    ranges(0, 40).map(lambda r: {"type": "string", "minLength": r[0], "maxLength": r[1]}),
    st.tuples(st.integers(1, 5), st.sampled_from(["[a-z]", "\\d", "[^x]", "(ab|c)"])).map(
        lambda p: {"type": "string", "pattern": f"^{p[1]}{{{p[0]},{p[0] + 2}}}$"}
    ),
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), min_size=1, max_size=3).map(
        lambda v: {"enum": v}
    ),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, True, {"const": {"a": [1]}}]),
)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.dictionaries(st.sampled_from(["name", "score", "tags", "x y", "0"]), inner, max_size=3)
    return st.one_of(
        st.tuples(inner, ranges(0, 4)).map(
            lambda p: {"type": "array", "items": p[0], "minItems": p[1][0], "maxItems": p[1][1]}
        ),
        st.tuples(st.lists(inner, min_size=1, max_size=3), st.booleans()).map(
            lambda p: (
                {"type": "array", "prefixItems": p[0], "items": False}
                | ({"minItems": len(p[0])} if p[1] else {})
            )
        ),
        st.tuples(keys, st.booleans(), st.integers(0, 2)).map(
            lambda p: (
                {"type": "object", "properties": p[0], "additionalProperties": p[1]}
                | {"required": list(p[0])[: p[2]]}
            )
        ),
        st.tuples(inner, st.integers(0, 3)).map(
            lambda p: (
                {"type": "object", "patternProperties": {"^k\\d+$": p[0]}, "additionalProperties": False}
                | {"minProperties": p[1]}
            )
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts}),
    )


schemas = st.recursive(leaves, grown, max_leaves=6).filter(lambda schema: isinstance(schema, dict))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schemas)
def test_the_offline_model_keeps_a_family_of_schemas(schema: dict[str, Any]) -> None:
    Draft202012Validator(schema).validate(made(schema))
