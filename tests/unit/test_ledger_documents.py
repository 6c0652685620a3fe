"""What the ledger takes as JSON and as text."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.ledger import LedgerError
from blocks.ledger.tables.columns import (
    STEP_LIMIT,
    checked_path,
    from_text,
    labels_text,
    plain,
    to_text,
    to_text_or_none,
)


@pytest.mark.parametrize(
    "value", [{}, [], "需求", {"b": 1, "a": [None, True, 1.5, 2**70]}, "\x00", "\ud800", {"\ud800": "\x00"}]
)
def test_json_comes_back(value: Any) -> None:
    text = to_text(value, "it")
    assert from_text(text) == value and "\x00" not in text
    text.encode()


def test_order_of_keys_is_kept() -> None:
    assert to_text({"b": 1, "a": 2}, "it") == '{"b":1,"a":2}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object(), {(1, 2): 3}])
def test_what_is_not_json_is_refused_by_name(value: Any) -> None:
    with pytest.raises(LedgerError, match="it cannot be kept as JSON") as caught:
        to_text({"x": value} if not isinstance(value, dict) else value, "it")
    assert caught.value.cure


def test_the_limit_counts_bytes() -> None:
    fits = "x" * (STEP_LIMIT - 2)
    assert to_text(fits, "it")
    with pytest.raises(LedgerError, match=f"it has {STEP_LIMIT + 1} bytes") as caught:
        to_text(fits + "x", "it")
    assert "artifact" in caught.value.cure
    with pytest.raises(LedgerError, match="bytes"):
        to_text("需" * (STEP_LIMIT // 2), "it")


def test_nothing_stays_nothing() -> None:
    assert to_text_or_none(None, "it") is None and from_text(None) is None


def test_text_for_people_loses_only_what_no_database_takes() -> None:
    assert plain("需求\n\t\x00\ud800") == "需求\n\t\ufffd?"


def test_step_paths() -> None:
    assert checked_path("step-1/2/项 1") == "step-1/2/项 1" and checked_path("") == ""
    for path in ("a\n", "a\x00", "x" * 1001):
        with pytest.raises(LedgerError):
            checked_path(path)


def test_paths_in_labels_lead_where_they_led(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "rvproject")
    catalog = "/srv/rvproject/catalog"
    words = ["phaseline", "--catalog", catalog, "run", f"{catalog}/w.yaml"]
    labels = {"catalog": catalog, "started_with": words, "deployed": "rvproject", "revived": [1, 2]}
    shown = from_text(labels_text(labels))
    assert shown == {**labels, "deployed": "[secret DB_PASSWORD]"}
    said = {"started_with": ["phaseline", "run", "--text", "/say rvproject", "/srv/rvproject"]}
    hidden = ["phaseline", "run", "--text", "/say [secret DB_PASSWORD]", "/srv/rvproject"]
    assert from_text(labels_text(said)) == {"started_with": hidden}
    asked = {"request": {"version": 1, "workflow": f"{catalog}/w.yaml", "text": "/say rvproject", "home": ""}}
    told = {**asked["request"], "text": "/say [secret DB_PASSWORD]"}
    assert from_text(labels_text(asked)) == {"request": told}
    with pytest.raises(LedgerError, match="labels"):
        labels_text({"many": "x" * 2**21})
