"""What a wait may ask, and how an answer that does not fit its form is refused."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.ledger import Lease, UnfitAnswer, UnfitForm, UnfitWait, WaitStart
from blocks.ledger.waits.forms import check_answer, checked_form, free_form
from blocks.ledger.waits.opening import checked_start

FAR = 4_000_000_000_000_000
LEASE = Lease("default", "r-1", 1, "token", True, None)
FORM = {
    "type": "object",
    "properties": {
        "amount": {"type": "integer"},
        "by": {"type": "string", "format": "email"},
        "lines": {"type": "array", "items": {"properties": {"price": {"type": "number"}}}},
    },
    "required": ["amount"],
    "additionalProperties": False,
}


def start(**fields: Any) -> WaitStart:
    given = {"run_id": "r-1", "step_path": "s", "wait_key": "k", "kind": "approval", "ask": "Go on?"}
    return WaitStart(**{**given, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "action", "on_timeout": "approve", "deadline": FAR}, "silence is no consent"),
        ({"kind": "unknown", "on_timeout": "approve", "deadline": FAR}, "silence is no consent"),
        ({"kind": "unknown", "on_timeout": "reject", "deadline": FAR}, "time tells nobody"),
        ({"kind": "event"}, "names no event"),
        ({"kind": "event", "event_type": "t", "on_timeout": "reject"}, "fail or continue"),
        ({"on_timeout": "continue"}, "has no on_timeout: continue"),
        ({"kind": "riddle"}, "not a kind of wait"),
        ({"wait_key": ""}, "not the key"),
        ({"quorum": 0}, "a quorum of 0"),
        ({"assignees": ("ann",), "quorum": 2}, "can never be reached"),
        ({"assignees": ("ann", "ann")}, "names somebody twice"),
        ({"assignees": "ann"}, "no list of identities"),
        ({"on_timeout": "escalate", "deadline": FAR}, "names nobody"),
        ({"on_timeout": "escalate", "escalate_to": ("ann",), "quorum": 2}, "escalate_to are 1"),
    ],
)
def test_what_nobody_could_answer_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UnfitWait) as caught:
        checked_start(LEASE, start(**fields))
    assert said in str(caught.value) and caught.value.cure


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"amount": {"type": "integer"}}, "its `type` is not given"),
        ({"type": "array"}, "its `type` is array"),
        ({"type": "object", "properties": {"a": {"type": "integr"}}}, "properties.a.type"),
        ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:1/x"}}}, "outside of it"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}, "refers to nothing"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "properties.a.pattern"),
        (["amount"], "a list"),
    ],
)
def test_a_form_that_is_no_schema_of_an_object_is_refused(form: Any, said: str) -> None:
    with pytest.raises(UnfitForm) as caught:
        checked_start(LEASE, start(form=form))
    assert said in caught.value.message and caught.value.cure


def test_a_wait_belongs_to_the_run_that_asks() -> None:
    with pytest.raises(ValueError, match="r-2"):
        checked_start(LEASE, start(run_id="r-2"))


def test_a_form_of_properties_alone_is_one_of_an_object() -> None:
    assert checked_form({"properties": {}}) == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, ["amount is missing"]),
        ({"amount": "3"}, ["amount: '3' is not of type 'integer'"]),
        ({"amount": 3, "amonut": 4}, ["amonut is no field of it (did you mean 'amount'?)"]),
        ({"amount": 3, "by": "nobody"}, ["by: 'nobody' is not a 'email'"]),
        ({"amount": 3, "lines": [{}, {"price": "x"}]}, ["lines[1].price: 'x' is not of type 'number'"]),
        ({"amount": None, "x": 1}, ["amount: None", "x is no field"]),
        ([3], ["is a list, not an object"]),
        (None, ["is empty, not an object"]),
    ],
)
def test_an_answer_that_does_not_fit_names_every_field(data: Any, said: list[str]) -> None:
    with pytest.raises(UnfitAnswer) as caught:
        check_answer(FORM, data)
    assert all(part in caught.value.message for part in said)
    assert "amount (integer, required), by (string), lines (array)" in caught.value.cure


def test_an_answer_that_fits_is_none_to_talk_about() -> None:
    check_answer(FORM, {"amount": 3, "by": "ann@example.com", "lines": []})
    check_answer(free_form(required=False), {})


def test_an_undeclared_field_is_refused_unless_the_form_says_otherwise() -> None:
    properties = {"properties": {"amount": {"type": "integer"}}}
    form = {"type": "object", **properties}
    with pytest.raises(UnfitAnswer) as caught:
        check_answer(form, {"amonut": 1})
    assert "amonut is no field of it (did you mean 'amount'?)" in caught.value.message
    with pytest.raises(UnfitAnswer, match="x is no field of it \\(it has none\\)"):
        check_answer({"type": "object", "properties": {}}, {"x": 1})
    check_answer({**form, "additionalProperties": True}, {"x": 1})
    check_answer({**form, "allOf": [{"properties": {"x": {"type": "integer"}}}]}, {"x": 1})
    check_answer({"type": "object"}, {"x": 1})


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(UnfitAnswer) as caught:
        check_answer(FORM, {"amount": "x" * 10_000})
    assert len(caught.value.message) < 400


def test_free_text_has_to_be_some_where_it_is_needed() -> None:
    with pytest.raises(UnfitAnswer, match="text"):
        check_answer(free_form(required=True), {"text": ""})


def test_a_form_can_neither_hang_nor_fetch_nor_crash_an_answer() -> None:
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a|aa)+$"}}}
    with pytest.raises(UnfitAnswer, match="too long"):
        check_answer(slow, {"a": "a" * 60 + "b"})
    for form in ({"type": "object", "$ref": "http://127.0.0.1:1/x"}, {"type": "object", "$ref": "#"}):
        with pytest.raises(UnfitAnswer, match="cannot be used"):
            check_answer(form, {})
