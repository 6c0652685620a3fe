"""Values of inputs as people give them: what is read, and what could not be stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blocks.run_request import RunRequest
from deployments.runs.next_commands import continuing, resuming
from workflows.core.compile.inputs import MOST_DEPTH, coerce, read_json
from workflows.core.errors import UsageError
from workflows.core.plans.plan import InputPlan


def read(kind: Any, value: Any) -> Any:
    return coerce(InputPlan(name="x", type=kind), value)


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("json", '{"a": NaN}'),
        ("json", "-Infinity"),
        ("json", "[1e999]"),
        ("json", {"a": [float("nan")]}),
        ("list", "[Infinity]"),
        ("json", '"\\udc00"'),
        ("json", {"\ud800": 1}),
        ("string", "\udcff"),
        ("list", "a,\udcff"),
        ("file", "\udcff"),
        ("json", nested(MOST_DEPTH + 1)),
        ("json", nested(200_000)),
        ("list", nested(200_000)),
    ],
)
def test_what_could_not_be_stored_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        read(kind, value)
    assert caught.value.cure
    assert len(caught.value.message) < 120


def test_what_can_be_stored_is_read() -> None:
    assert read("json", nested(MOST_DEPTH)) == json.loads(nested(MOST_DEPTH))
    assert read("json", '{"a": [1.5, null, "\\ud83d\\ude00"]}') == {"a": [1.5, None, "😀"]}
    assert read("list", "a, b") == ["a", "b"]
    assert read_json(" 3 ") == 3


def test_the_command_that_continues_is_quoted() -> None:
    request = RunRequest(text="it's", catalog="/my catalog")
    line = "phaseline --catalog '/my catalog' run --text 'it'\"'\"'s' --run-id r1"
    assert continuing(request, "r1") == line
    assert resuming(request.places, "r1") == "phaseline --catalog '/my catalog' resume r1"
