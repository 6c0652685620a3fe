"""Words of the commands about waits and going on: what they are read as, and the commands that are told."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger.tables.records import TAKEN_BACK
from blocks.run_request import RunRequest, catalog_of, request_of
from deployments.runs.budget_raises import Raised, raised_limits
from deployments.runs.next_commands import (
    answering,
    going_on_by,
    resuming,
    words_of,
)
from deployments.services.answer import read_field
from deployments.terminal.arguments import read
from deployments.terminal.json_arguments import read_object
from tests.support.runs import run_row
from workflows.core.cures import anew_command
from workflows.core.errors import UsageError


def arguments(*words: str) -> argparse.Namespace:
    return read(words)


def test_the_commands_that_continue_runs() -> None:
    args = arguments("resume", "r", "--from", "b", "--use", "new", "--raise-budget", "tokens=5")
    assert (args.module, args.run_id, args.step, args.use, args.plan) == ("resume", "r", "b", "new", False)
    assert arguments("cancel", "r", "--undo").undo
    assert arguments("plan", "w", "--run-id", "r").run_id == "r"
    assert arguments("show", "r", "--events", "--cost").events
    with pytest.raises(UsageError, match="may not be 'old'"):
        arguments("resume", "r", "--use", "old")


def test_the_commands_that_answer() -> None:
    args = arguments("answer", "w-1", "-f", "a=1", "--field", "b=2", "--as", "ann", "--resume")
    assert (args.fields, args.name, args.resume, args.reject) == (["a=1", "b=2"], "ann", True, False)
    assert arguments("inbox", "--run", "r").run == "r"
    args = arguments("event", "paid", "--key", "o-1", "--id", "e")
    assert (args.type, args.key, args.id, args.data) == ("paid", "o-1", "e", None)


@pytest.mark.parametrize(
    ("text", "schema", "expected"),
    [
        ("7", {"type": "integer"}, 7),
        ("7", {"type": "string"}, "7"),
        ("7", {"type": ["string", "integer"]}, "7"),
        ("seven", {"type": "integer"}, "seven"),
        ("yes", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("1", {"type": "boolean"}, "1"),
        ('["a"]', {"type": "array"}, ["a"]),
        ("1", {"enum": ["1", "2"]}, "1"),
        ("2", None, 2),
        ("plain text", None, "plain text"),
        ("NaN", {"type": "number"}, "NaN"),
    ],
)
def test_a_field_is_read_as_its_form_says(text: str, schema: Any, expected: Any) -> None:
    assert read_field(text, schema) == expected
    assert type(read_field(text, schema)) is type(expected)


def test_a_whole_answer(tmp_path: Path) -> None:
    assert read_object('{"a": 1}', "--data") == {"a": 1}
    (tmp_path / "a.json").write_text('\ufeff{"b": 2}', "utf-8")
    assert read_object(f"@{tmp_path}/a.json", "--data") == {"b": 2}
    (tmp_path / "odd.json").write_bytes(b"\xff")
    for written, expected in (
        ("[1]", "not an object"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"a": NaN}', "NaN is no JSON"),
        (f"@{tmp_path}/none.json", "No such file"),
        (f"@{tmp_path}/odd.json", "no UTF-8"),
        (f"@{tmp_path}", "--data: "),
    ):
        with pytest.raises(UsageError, match=expected):
            read_object(written, "--data")


def test_budgets_that_are_raised() -> None:
    assert raised_limits(["tokens=2_000,usd=1.5", "turns=9", "time=2h"]) == [
        Raised("", "tokens", 2000),
        Raised("", "usd", 1_500_000),
        Raised("", "turns", 9),
        Raised("", "time", 7200.0),
    ]
    assert raised_limits(["each/ab-0/a.b/workflow.turns=3", "agent:team/ann.tokens=5"]) == [
        Raised("each/ab-0/a.b/workflow", "turns", 3),
        Raised("agent:team/ann", "tokens", 5),
    ]
    assert raised_limits(["each/ab-0/workflow.time=1h30m"]) == [Raised("each/ab-0/workflow", "time", 5400.0)]
    for word in ("tokens", "tokens=many", "usd=nan", "money=5", "time=soon", "agent:a.time=2h", ".tokens"):
        with pytest.raises(UsageError, match=r"no amount|raises no budget"):
            raised_limits([word])


def test_commands_to_copy() -> None:
    places = ("--catalog", "/my catalog")
    assert resuming(places, "r") == "phaseline --catalog '/my catalog' resume r"
    form = {
        "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}, "x": {"enum": ["a", "b"]}},
        "required": ["n", "ok", "x"],
    }
    told = answering((), {"wait_id": "w-1", "form": form})
    assert told == "phaseline answer w-1 -f n=INTEGER -f 'ok=true|false' -f 'x=a|b'"
    event = {"wait_id": "w-2", "event": {"type": "paid", "key": "o 1"}}
    assert answering(places, event) == "phaseline --catalog '/my catalog' event paid --key 'o 1'"


def test_what_the_ledger_keeps_of_a_start() -> None:
    request = RunRequest("w", home="/h", offline=True)
    labels = json.loads(json.dumps(request.to_labels(Path("/c"))))
    assert (request_of(labels), catalog_of(labels)) == (request, "/c")
    assert request.places == ("--home", "/h")
    assert (request_of({}), catalog_of({}), RunRequest("w").places) == (None, None, ())
    assert request_of({"request": {**labels["request"], "version": 2}}) is None


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (["run", "w"], RunRequest("w")),
        (
            ["--catalog", "/my catalog", "--home", "/h", "run", "/my catalog/w.yaml", "--offline"],
            RunRequest("/my catalog/w.yaml", catalog="/my catalog", home="/h", offline=True),
        ),
        (
            ["run", "--text", "run --offline", "--storage", "s3://b/p", "--latest", "online"],
            RunRequest(text="run --offline", storage="s3://b/p", latest="online"),
        ),
    ],
)
def test_runs_of_before_kept_the_words_of_a_command(words: list[str], request_: RunRequest) -> None:
    kept = ["phaseline", *words]
    assert request_of({"started_with": kept}) == request_
    assert words_of(request_) == kept
    assert request_of({"started_with": []}) is None


def test_the_command_with_which_a_run_goes_on() -> None:
    request = RunRequest("w", home="/my home")
    here, elsewhere = run_row(labels=request.to_labels(Path("/c"))), run_row(labels={TAKEN_BACK: True})
    assert going_on_by(here, ("--home", "/h")) == "phaseline --home '/my home' resume r"
    assert going_on_by(elsewhere, ("--home", "/h")) == "phaseline --home /h cancel r --undo"


def test_a_run_that_fails_again_at_once_goes_on_with_the_step_done_anew() -> None:
    late = {"message": "nobody answered in time", "cure": f"be asked again: {anew_command('r', 'a/3')}"}
    other = {"message": "no key", "cure": "set it"}
    failed = run_row(state="failed", error=other)
    assert going_on_by(failed, ()) == "phaseline resume r"
    assert going_on_by(failed, (), [None, late]) == "phaseline resume r --from a"
    assert going_on_by(run_row(state="failed", error=late), ()) == "phaseline resume r --from a"
    assert going_on_by(run_row(state="waiting", error=other), (), [late]) == "phaseline resume r"
