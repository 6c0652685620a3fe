"""Names, keys and suffixes of stored things."""

from __future__ import annotations

import pytest

from blocks.names import checked_key, checked_output, checked_run_id, checked_tenant
from blocks.storage.artifacts import suffix_of
from workflows.core.errors import UsageError


@pytest.mark.parametrize("key", ["a", "a/b", "default/run-1/step/1/key", "键/值", "a b", "a..b/..c"])
def test_good_keys(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        *[
            "",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\b",
            "a\x00",
            "a\nb",
            "k?versionId=1",
        ],
        *["x" * 256, "/".join(["x" * 200] * 5)],
    ],
)
def test_bad_keys(key: str) -> None:
    with pytest.raises(ValueError, match="storage key"):
        checked_key(key)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "_a", "a b", "租户", "a" * 64, "a\n"])
def test_bad_tenants(name: str) -> None:
    with pytest.raises(UsageError):
        checked_tenant(name)


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a" * 129, "a\n"])
def test_bad_run_ids(name: str) -> None:
    with pytest.raises(UsageError):
        checked_run_id(name)


def test_good_names() -> None:
    assert checked_tenant("team.A-1_b") == "team.A-1_b"
    assert checked_run_id("2026-11-20.r_1") == "2026-11-20.r_1"
    assert checked_output("_review report (2)") == "_review report (2)"


@pytest.mark.parametrize(
    ("media_type", "suffix"),
    [
        ("text/markdown", "md"),
        ("text/markdown; charset=utf-8", "md"),
        ("Application/JSON", "json"),
        ("application/vnd.x+json", "json"),
        ("text/csv", "csv"),
        ("image/png", "png"),
        ("application/x-nobody-knows", "bin"),
        ("", "bin"),
    ],
)
def test_suffixes(media_type: str, suffix: str) -> None:
    assert suffix_of(media_type) == suffix
