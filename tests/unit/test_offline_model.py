"""The offline model: deterministic, from the request alone; it calls what it is told to, and marks itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from blocks.models import Answer
from blocks.offline import OfflineModel
from blocks.providers.connections import connect
from tasks.outputs.contract import Contract
from workflows.core.errors import UsageError
from workflows.core.plans.plan import OutputPlan
from workflows.core.usage import Usage

REPORT = """# Market report

## Demand
The team must answer within 3 seconds. Customers like blue.
- Risk: the export fails for large accounts.

## Price
The price is 40 per month.
"""
SALES = "region,units,price\nnorth,10,1.5\nsouth,30,2.5\nnorth,20,2.0\n"


def documents(*given: tuple[str, str, str]) -> str:
    return "".join(f'<document name="{n}" type="{t}">\n{b}\n</document>\n' for n, t, b in given)


def request(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}


def answer(asked: dict[str, Any]) -> Answer:
    return asyncio.run(OfflineModel().send(asked))


def note(type_: str, name: str = "out") -> str:
    return Contract(OutputPlan(name=name, type=type_)).note  # type: ignore[arg-type]


def test_it_is_a_pure_function_of_the_request_and_free() -> None:
    asked = request(documents(("report", "text/markdown", REPORT)) + "Write a summary of `report`.")
    one, two = answer(asked), answer(json.loads(json.dumps(asked)))
    assert one == two
    assert (one.offline, one.usage, one.stop_reason) == (True, Usage(), "end_turn")


@pytest.mark.parametrize("type_", ["markdown", "text"])
def test_a_document_says_first_that_no_model_was_asked(type_: str) -> None:
    text = answer(request("Write a memo.\n" + note(type_))).text
    assert "offline model" in text.splitlines()[0] and "no language model was asked" in text.splitlines()[0]


def test_data_without_a_schema() -> None:
    given = documents(("sales", "text/csv", SALES))
    table = json.loads(answer(request(given + "List it." + note("table"))).text)
    assert table[0] == {"region": "north", "units": 10, "price": 1.5} and len(table) == 3
    value = json.loads(answer(request(given + "Give it." + note("json"))).text)
    assert value["made_by"] == "offline model" and value["documents"] == [
        {"name": "sales", "type": "text/csv"}
    ]


@pytest.mark.parametrize(
    ("name", "title"), [("product_spec", "Product spec"), ("q3-plan", "Q3 plan"), ("", "Write a memo")]
)
def test_a_title_is_no_name_of_a_variable(name: str, title: str) -> None:
    text = answer(request("Write a memo. Be brief.\n" + (note("markdown", name) if name else ""))).text
    assert f"\n# {title}\n" in text


def tool(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": "", "input_schema": schema}


def calls(asked: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["input"]) for call in answer(asked).tool_calls]


TABLE = {"type": "string", "enum": ["report", "sales"]}
GIVEN = documents(("report", "text/markdown", REPORT), ("sales", "text/csv", SALES))


def test_named_tools_are_called_once_in_the_order_of_the_instruction() -> None:
    tools = [
        tool("ghost"),
        tool("data__group", table=TABLE, by={"type": "string"}),
        tool("data__count", table=TABLE),
    ]
    text = GIVEN + "1. Use `data__count` on report.\n2. Then `group` the rows.\nby: region\n"
    asked = request(text, tools=tools, system="You may use ghost.")
    first = answer(asked)
    assert first.stop_reason == "tool_use"
    assert calls(asked) == [
        ("data__count", {"table": "report"}),
        ("data__group", {"table": "sales", "by": "region"}),
    ]
    results = [
        {
            "type": "tool_result",
            "tool_use_id": call["id"],
            "content": content,
            "is_error": content == "broken",
        }
        for call, content in zip(first.tool_calls, ('{"rows": 3}', "broken"), strict=True)
    ]
    asked["messages"] += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    second = answer(asked)
    assert second.stop_reason == "end_turn"
    assert "### data__count\n\n- `rows`: 3\n" in second.text
    assert "### data__group (failed)\n\n~~~text\nbroken" in second.text


def test_tools_are_called_when_the_request_demands_them() -> None:
    tools = [tool("one"), tool("two")]
    assert calls(request("Hello.", tools=tools)) == []
    assert calls(request("Hello.", tools=tools, tool_choice={"type": "tool", "name": "two"})) == [("two", {})]
    assert calls(request("Hello.", tools=tools, tool_choice={"type": "any"})) == [("one", {})]
    assert calls(request("Use `one`.", tools=tools, tool_choice={"type": "none"})) == []


def test_optional_arguments_are_given_only_for_a_document_that_the_line_names() -> None:
    one = tool("one", table=TABLE, other={"type": "string"})
    one["input_schema"]["required"] = []
    assert calls(request(GIVEN + "Use `one` on sales.", tools=[one])) == [("one", {"table": "sales"})]
    assert calls(request(GIVEN + "Use `one`. Then look at sales.", tools=[one])) == [
        ("one", {"table": "sales"})
    ]
    assert calls(request(GIVEN + "Use `one`.\nThen look at sales.", tools=[one])) == [("one", {})]


def test_arguments_come_from_the_naming_line_or_a_fact_and_are_not_cut_out_of_anything() -> None:
    amount, number = {"type": "number"}, {"type": "string", "pattern": "^FB-\\d{3}$"}
    asked = [tool("book", amount=amount, number=number, question={"type": "string"})]
    told = calls(request("Settle it.\nUse `book` for FB-007.\namount: 12.5\n", tools=asked))
    assert told == [("book", {"amount": 12.5, "number": "FB-007", "question": "Settle it"})]
    ((_, made),) = calls(request("Use `book`.\nFB-999 costs SO-88213.\namount: SO-88213\n", tools=asked))
    assert (made["amount"], made["number"]) == (0, "FB-000")


@pytest.mark.parametrize("text", ["", "?", "<document", "x" * 50_000, "\x00\ud800", "- " * 2000])
def test_odd_requests_are_answered(text: str) -> None:
    assert answer(request(text)).text.startswith("> ")


def test_its_own_words_are_not_quoted_by_later_steps() -> None:
    ask = "Say something. Include: trees, demand, staffing."
    first = answer(request(documents(("report", "text/markdown", REPORT)) + ask)).text
    second = answer(
        request(documents(("first", "text/markdown", first)) + "Include: demand, tasks, rules.")
    ).text
    assert second.count("Made by phaseline's") == 1
    assert "## demand\n\n〔first · demand〕\n\nThe team must answer within 3 seconds." in second
    assert "〔report" not in second and "> Say something" not in second
    assert "staffing" not in second


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
