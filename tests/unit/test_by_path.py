"""What belongs to a step among the values of all units."""

from __future__ import annotations

from workflows.core.step_paths import ByPath


def filled(*paths: str) -> ByPath[int]:
    found: ByPath[int] = ByPath()
    for number, path in enumerate(paths):
        found[path] = number
    return found


def test_a_step_and_its_parts_in_their_order() -> None:
    units = filled("b/2", "a", "b", "bc", "b/1/x", "c/b")
    assert list(units.below("b")) == ["b/2", "b", "b/1/x"]
    assert list(units.below("b/1")) == ["b/1/x"]
    assert list(units.below("bc")) == ["bc"]
    assert list(units.below("nowhere")) == []
    assert list(units) == ["b/2", "a", "b", "bc", "b/1/x", "c/b"]


def test_what_is_taken_away_is_not_found() -> None:
    units = filled("a", "a/1")
    assert units.pop("a") == 0
    assert units.pop("a", None) is None
    del units["a/1"]
    assert list(units.below("a")) == [] and "a" not in units


def test_what_is_replaced_keeps_its_place() -> None:
    units = filled("a/1", "a/2")
    units["a/1"] = 7
    assert list(units.below("a")) == ["a/1", "a/2"] and units["a/1"] == 7


def test_filled_in_any_way() -> None:
    units = filled("a")
    units.update({"a/1": 1})
    units.setdefault("a/2", 2)
    assert list(units.below("a")) == ["a", "a/1", "a/2"]
    units.clear()
    assert list(units.below("a")) == [] and not units
