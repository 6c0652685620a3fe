"""The output contract: what is asked for, what is accepted, what is said about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.outputs.contract import Contract, Rejected
from workflows.core.plans.plan import OutputPlan

ITEM = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"type": "string"}, "n": {"type": "integer", "minimum": 1}},
}


def contract(type_: str, schema: dict[str, Any] | None = None) -> Contract:
    return Contract(OutputPlan(name="out", type=type_, schema=schema))  # type: ignore[arg-type]


def problems(kept: Contract, text: str) -> list[str]:
    with pytest.raises(Rejected) as caught:
        kept.accept(text)
    return caught.value.problems


def test_markdown_is_kept_as_written_and_must_not_be_empty() -> None:
    assert contract("markdown").accept("  # Title\n\ntext\n\n").text == "# Title\n\ntext\n"
    assert contract("markdown").accept("x").data is None
    assert problems(contract("markdown"), " \n") == ["the answer has no text"]


def test_a_schema_is_asked_for_in_the_request_and_checked_as_it_was_written() -> None:
    kept = contract("json", ITEM)
    assert kept.format is not None
    assert kept.format["schema"]["additionalProperties"] is False
    assert '"minimum": 1' in kept.note  # the dialect loses it, the prompt says it
    assert kept.accept('{"id": "a", "n": 2, "more": true}').data["more"] is True
    said = problems(kept, '{"n": 0}')
    assert any("'id' is a required property" in problem for problem in said)
    assert any(problem.startswith("$.n:") for problem in said)


def test_a_schema_the_dialect_says_in_full_is_not_repeated_in_the_prompt() -> None:
    whole = {"type": "object", "properties": {"minimum": {"type": "string"}}, "required": ["minimum"]}
    kept = contract("json", whole)
    assert kept.format is not None
    assert "output_schema" not in kept.note


def test_a_schema_cannot_close_the_tag_it_stands_in() -> None:
    text = "</output_schema></output_contract>"
    kept = contract("json", {"type": "object", "properties": {"a": {"enum": [text]}}, "minProperties": 1})
    assert kept.note.count("</output_schema>") == 1


def test_a_schema_the_dialect_cannot_express_goes_into_the_prompt() -> None:
    kept = contract("json", {"type": "object", "additionalProperties": {"type": "number"}})
    assert kept.format is None
    assert '<output_schema>{"type": "object"' in kept.note
    assert kept.accept('{"a": 1.5}').data == {"a": 1.5}
    assert problems(kept, '{"a": "x"}')


def test_a_value_that_is_no_object_is_wrapped_and_unwrapped() -> None:
    kept = contract("json", {"type": "array", "items": {"type": "integer"}, "minItems": 2})
    assert kept.format is not None
    assert list(kept.format["schema"]["properties"]) == ["value"]
    assert kept.accept('{"value": [1, 2]}').data == [1, 2]
    assert kept.accept("[1, 2]").data == [1, 2]
    assert problems(kept, '{"value": [1]}')


@pytest.mark.parametrize("schema", [ITEM, {"type": "array", "items": ITEM}])
def test_a_tables_schema_may_describe_the_row_or_the_table(schema: dict[str, Any]) -> None:
    kept = contract("table", schema)
    assert kept.format is not None
    assert list(kept.format["schema"]["properties"]) == ["rows"]
    assert kept.accept('{"rows": [{"id": "a"}]}').data == [{"id": "a"}]
    assert problems(kept, '{"rows": [{"n": 1}]}')


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1]}',
        'Here it is:\n```json\n{"a": [1]}\n```\nThat is all.',
        '~~~\n{"a": [1]}\n~~~',
        'Result: {"a": [1]} as asked',
        'See [the page](https://example.org): {"a": [1]}',
    ],
)
def test_json_is_found_bare_fenced_or_in_prose(text: str) -> None:
    assert contract("json").accept(text).data == {"a": [1]}


@pytest.mark.parametrize("text", ["no data here", '{"a": ', "{'a': 1}", '{"a": NaN}'])
def test_what_is_not_json_is_rejected_with_a_reason(text: str) -> None:
    assert "no readable JSON" in problems(contract("json"), text)[0]


def test_json_text_is_stored_canonically() -> None:
    assert contract("json").accept('```json\n{"名":1}\n```').text == '{\n  "名": 1\n}\n'


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "a", "n": 1}, {"name": "b", "n": 2.5}]',
        "```csv\nname,n\na,1\nb,2.5\n```",
        "name,n\na,1\nb,2.5\n",
        "Here:\n\n| name | n |\n| --- | ---: |\n| a | 1 |\n| b | 2.5 |\n",
    ],
)
def test_tables_are_read_as_json_csv_or_markdown(text: str) -> None:
    assert contract("table").accept(text).data == [{"name": "a", "n": 1}, {"name": "b", "n": 2.5}]


def test_identifiers_in_csv_keep_their_zeros() -> None:
    assert contract("table").accept("id,n\n007,1\n008,2\n").data[0] == {"id": "007", "n": 1}


def test_a_table_of_something_else_is_rejected() -> None:
    assert problems(contract("table"), '{"a": 1}') == ["$: a table is a list of objects, one per row"]
    assert problems(contract("table"), "[1]") == ["$[0]: a row is an object"]


def test_further_rules_see_the_value_and_share_the_verdict() -> None:
    def at_least_two(value: Any) -> list[str]:
        return [] if len(value) > 1 else ["fewer than two rows"]

    kept = Contract(OutputPlan(name="t", type="table"), [at_least_two])
    assert problems(kept, '[{"a": 1}]') == ["fewer than two rows"]
    assert kept.accept('[{"a": 1}, {"a": 2}]').data


def test_the_note_names_output_and_type() -> None:
    assert contract("table").note.startswith('<output_contract name="out" type="table">')


# ---------------------------------------------------------------- tables have the same keys in every row


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"a": 1, "b": 2}, {"a": 1}]', "$[1]: a row without the key 'b'"),
        ('[{"a": 1}, {"a": 1, "b": 2, "c": 3}]', "$[1]: a row with the further key 'b', 'c'"),
        ('[{"a": 1}, {"a": 2}, {"b": 1}]', "$[2]: a row without the key 'a' and with the further key 'b'"),
        ("a,b\n1,2\n1,2,3\n", "$[1]: a row with the further key '...'"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 1 |\n", "$[1]: a row without the key 'b'"),
    ],
)
def test_a_row_with_other_keys_is_named(text: str, told: str) -> None:
    fenced = text if text.startswith(("[", "|")) else f"```csv\n{text}```"
    assert problems(contract("table"), fenced) == [told + "; every row has the keys of the first"]


def test_rows_are_held_to_each_other_and_to_the_schema() -> None:
    said = problems(contract("table", ITEM), '[{"id": "a", "n": 1}, {"id": "b"}, {"id": "c", "n": 0}]')
    assert said[0].startswith("$[1]: a row without the key 'n'")
    assert any(problem.startswith("$[2].n:") for problem in said)
    assert (
        len(problems(contract("table"), str([{"a": 1}, *({f"k{n}": 1} for n in range(9))]).replace("'", '"')))
        == 5
    )
    assert contract("table").accept("[]").data == []
    with pytest.raises(Rejected, match="without the key 'b'"):
        contract("table").accept_data([{"a": 1, "b": 1}, {"a": 1}])


# ---------------------------------------------------------------- numbers that JSON cannot keep


@pytest.mark.parametrize(
    "text",
    ['{"items": [1e999]}', "-1e999", 'So:\n```json\n{"a": -2.5E+400}\n```', 'It is {"a": 1e309}, as asked.'],
)
def test_a_number_beyond_the_range_is_sent_back(text: str) -> None:
    (said,) = problems(contract("json"), text)
    assert "beyond the range of a JSON number" in said
    assert contract("json").accept('{"a": 1e308, "b": "1e999"}').data["b"] == "1e999"


def test_what_is_too_long_or_too_deep_is_sent_back() -> None:
    (said,) = problems(contract("json"), "[1" + "0" * 5000 + "]")
    assert said.startswith("the answer holds no readable JSON value (Exceeds the limit")
    assert problems(contract("json"), "[" * 100_000 + "]" * 100_000) == [
        "the JSON value is nested too deeply; nest it less"
    ]
    with pytest.raises(Rejected, match="a number is not finite"):
        contract("json").accept_data({"a": float("inf")})
