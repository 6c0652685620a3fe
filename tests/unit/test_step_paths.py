"""Which paths lie within which."""

from __future__ import annotations

import pytest

from workflows.core.step_paths import all_within, within

PATHS = ("", "draft", "draft/item-1", "draft/item-10", "draft/item-1/write", "drafts", "outer/draft")


@pytest.mark.parametrize(
    ("outer", "inside"),
    [
        ("", PATHS),  # the run
        ("draft", ("draft", "draft/item-1", "draft/item-10", "draft/item-1/write")),
        ("draft/item-1", ("draft/item-1", "draft/item-1/write")),
        ("draft/item-1/write", ("draft/item-1/write",)),
        ("outer", ("outer/draft",)),
        ("draf", ()),
    ],
)
def test_a_path_holds_itself_and_its_parts(outer: str, inside: tuple[str, ...]) -> None:
    assert tuple(path for path in PATHS if within(path, outer)) == inside
    assert tuple(all_within(PATHS, outer)) == inside


def test_many_paths_keep_their_order_and_may_be_gone_through_once() -> None:
    assert list(all_within(iter(["a/2", "b", "a", "a/1"]), "a")) == ["a/2", "a", "a/1"]
