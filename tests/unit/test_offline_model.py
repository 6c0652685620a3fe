"""The offline model: deterministic, from the request alone, honest about itself."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from blocks.connections import connect
from blocks.models import Answer
from blocks.offline import OfflineModel
from blocks.offline.patterns import match_for
from tasks.outputs import Contract
from workflows.core.errors import UsageError
from workflows.core.plan import OutputPlan
from workflows.core.usage import Usage

REPORT = """# Market report

## Demand
The team must answer within 3 seconds. Customers like blue.
- Risk: the export fails for large accounts.
- Should we support fax? To be decided.

## Price
The price is 40 per month.
"""
SALES = "region,units,price\nnorth,10,1.5\nsouth,30,2.5\nnorth,20,2.0\n"


def documents(*given: tuple[str, str, str]) -> str:
    return "".join(f'<document name="{n}" type="{t}">\n{b}\n</document>\n' for n, t, b in given)


def request(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-5-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


def answer(asked: dict[str, Any]) -> Answer:
    return asyncio.run(OfflineModel().send(asked))


def schema_answer(schema: dict[str, Any], text: str = "Make it.") -> Any:
    asked = request(text, output_config={"format": {"type": "json_schema", "schema": schema}})
    value = json.loads(answer(asked).text)
    Draft202012Validator(schema).validate(value)
    return value


def test_it_is_a_pure_function_of_the_request_and_free() -> None:
    asked = request(documents(("report", "text/markdown", REPORT)) + "Write a summary of `report`.")
    one, two = answer(asked), answer(json.loads(json.dumps(asked)))
    assert one == two
    assert one.offline
    assert one.usage == Usage()
    assert one.stop_reason == "end_turn"


def test_the_document_begins_with_the_note_and_holds_what_the_inputs_hold() -> None:
    given = documents(("report", "text/markdown", REPORT), ("sales", "text/csv", SALES))
    text = answer(request(given + "Write the plan. Include: demand, price and staffing.")).text
    assert text.startswith("> Made by phaseline's offline model")
    assert "No language model was asked" in text.splitlines()[0]
    assert "must answer within 3 seconds" in text
    assert "| units | 3 | 10 | 30 | 20 |" in text
    assert "north x2, south x1" in text
    assert re.search(r"## price\n\n- The price is 40 per month", text)
    assert re.search(r"## staffing\n\n_The inputs and tool results hold nothing about this._", text)
    assert "Should we support fax?" in text


def test_chinese_instructions_get_a_chinese_document() -> None:
    body = "# 调研\n\n## 关键要求\n- 必须在 3 秒内给出结果。\n- 预算待确认。\n"
    text = answer(
        request(documents(("research", "text/markdown", body)) + "写方案。\n\n依次包含：关键要求、预算。")
    ).text
    assert text.startswith("> 本文由 phaseline 的离线模型 (offline model)")
    assert "## 关键要求" in text
    assert "必须在 3 秒内给出结果" in text
    assert "## 输入" in text


def test_its_own_notes_are_not_quoted_by_later_steps() -> None:
    first = answer(request("Say something about trees.")).text
    second = answer(request(documents(("first", "text/markdown", first)) + "Sum up `first`.")).text
    assert second.count("Made by phaseline's") == 1


def test_plain_text_has_no_markdown_marks() -> None:
    note = Contract(OutputPlan(name="memo", type="text")).note
    text = answer(request(documents(("r", "text/markdown", REPORT)) + "Write a memo.\n" + note)).text
    assert "offline model" in text.splitlines()[0]
    assert not re.search(r"^(#|>|- )", text, re.M)


def test_data_without_a_schema() -> None:
    given = documents(("sales", "text/csv", SALES))
    table = answer(request(given + "List it." + Contract(OutputPlan(name="t", type="table")).note)).text
    assert json.loads(table)[0] == {"region": "north", "units": 10, "price": 1.5}
    value = answer(request(given + "Give it." + Contract(OutputPlan(name="j", type="json")).note)).text
    assert json.loads(value)["documents"][0]["name"] == "sales"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
        {"type": "object", "required": ["x"], "additionalProperties": {"type": "number"}, "minProperties": 3},
        {"type": "array", "items": {"type": "string"}, "minItems": 5, "uniqueItems": True},
        {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 2, "uniqueItems": True},
        {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2},
        {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$"},
        {"type": "string", "pattern": "^(low|high)$"},
        {"type": "string", "minLength": 300},
        {"type": "string", "maxLength": 3},
        {"type": "string", "format": "date"},
        {"type": "string", "format": "date-time"},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5},
        {"type": "integer", "exclusiveMinimum": 4, "multipleOf": 5},
        {"type": "integer", "maximum": -3},
        {"type": ["null", "integer"]},
        {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 2}]},
        {"oneOf": [{"type": "string", "maxLength": 5}, {"type": "integer"}]},
        {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"const": 4}}}]},
        {"type": "boolean"},
        {"type": "null"},
        {
            "$defs": {"P": {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}},
            "type": "object",
            "properties": {"people": {"type": "array", "items": {"$ref": "#/$defs/P"}, "minItems": 1}},
            "required": ["people"],
        },
        {
            "$defs": {"T": {"type": "object", "properties": {"next": {"$ref": "#/$defs/T"}}}},
            "$ref": "#/$defs/T",
        },
    ],
)
def test_schemas_are_satisfied(schema: dict[str, Any]) -> None:
    note = f'<output_contract name="x" type="json"><output_schema>{json.dumps(schema)}</output_schema>'
    note += "</output_contract>"
    text = answer(request(documents(("report", "text/markdown", REPORT)) + "Make it." + note)).text
    Draft202012Validator(schema).validate(json.loads(text))


def test_values_come_from_where_the_names_match() -> None:
    schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "the ticket number"},
            "price": {"type": "number"},
            "owner": {"type": "string"},
            "urgency": {"enum": ["later", "now"]},
        },
        "required": ["id", "price", "owner", "urgency"],
    }
    facts = documents(("order", "application/json", '{"price": 12.5, "who": {"owner": "Lin"}}'))
    made = schema_answer(schema, facts + "Classify.\n- ticket number: T-77\n- urgency: now\n")
    assert made == {"id": "T-77", "price": 12.5, "owner": "Lin", "urgency": "now"}


def test_rows_come_from_the_table_with_these_columns() -> None:
    row = {
        "type": "object",
        "properties": {"region": {"type": "string"}, "units": {"type": "integer"}},
        "required": ["region", "units"],
        "additionalProperties": False,
    }
    schema = {"type": "object", "properties": {"rows": {"type": "array", "items": row, "maxItems": 2}}}
    made = schema_answer(schema, documents(("sales", "text/csv", SALES)) + "List.")
    assert made["rows"] == [{"region": "north", "units": 10}, {"region": "south", "units": 30}]


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": "", "input_schema": schema}


def test_named_tools_are_called_once_with_arguments_from_their_schema() -> None:
    table = {"type": "string", "enum": ["report", "sales"]}
    tools = [
        tool("ghost"),
        tool("data__group", table=table, by={"type": "string"}),
        tool("data__count", table=table),
    ]
    text = documents(("report", "text/markdown", REPORT), ("sales", "text/csv", SALES))
    text += "1. Use `data__count` on report.\n2. Then `group` the rows.\nby: region\n"
    asked = request(text, tools=tools, system="You may use ghost.")
    first = answer(asked)
    assert first.stop_reason == "tool_use"
    assert [(call["name"], call["input"]) for call in first.tool_calls] == [
        ("data__count", {"table": "report"}),
        ("data__group", {"table": "sales", "by": "region"}),
    ]
    results = [
        {"type": "tool_result", "tool_use_id": first.tool_calls[0]["id"], "content": '{"rows": 3}'},
        {
            "type": "tool_result",
            "tool_use_id": first.tool_calls[1]["id"],
            "content": "broken",
            "is_error": True,
        },
    ]
    asked["messages"] += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    second = answer(asked)
    assert second.stop_reason == "end_turn"
    assert "### data__count\n\n- rows: 3" in second.text
    assert "### data__group (failed)\n\n~~~text\nbroken" in second.text


def test_tools_are_called_when_the_request_demands_them() -> None:
    tools = [tool("one"), tool("two")]
    assert answer(request("Hello.", tools=tools)).tool_calls == []
    forced = answer(request("Hello.", tools=tools, tool_choice={"type": "tool", "name": "two"}))
    assert [call["name"] for call in forced.tool_calls] == ["two"]
    any_ = answer(request("Hello.", tools=tools, tool_choice={"type": "any"}))
    assert [call["name"] for call in any_.tool_calls] == ["one"]
    assert not answer(request("Use `one`.", tools=tools, tool_choice={"type": "none"})).tool_calls


@pytest.mark.parametrize("text", ["", "?", "<document", "x" * 50_000, "\x00\ud800", "- " * 2000])
def test_odd_requests_are_answered(text: str) -> None:
    assert answer(request(text)).text.startswith("> ")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^FB-\d{3}$", "FB-007"),
        (r"^[a-z]+(-[a-z]+)?$", "one"),
        (r"^v\d+\.\d+$", "v0.0"),
        (r"^(?:AB|CD)x{2,3}$", "ABxx"),
        (r"^[^a]$", "0"),
        (r"^(?=x)y$", None),
        (r"(", None),
    ],
)
def test_texts_for_patterns(pattern: str, expected: str | None) -> None:
    assert match_for(pattern, ["one FB-007 x-1"]) == expected


def test_connect_chooses_by_environment() -> None:
    assert connect({}, True).offline
    assert connect({"PHASELINE_MODEL": "offline", "ANTHROPIC_API_KEY": "k"}, False).offline
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY is not set") as caught:
        connect({"ANTHROPIC_API_KEY": "  "}, False)
    assert "--offline" in caught.value.cure
    connection = connect({"OTHER": "secret-key-1"}, False, key_variable="OTHER")
    assert not connection.offline
    assert "secret-key-1" not in repr(connection)
    with pytest.raises(UsageError) as caught:
        connect({"ANTHROPIC_API_KEY": "secret key\n2"}, False)
    assert "secret" not in str(caught.value)
