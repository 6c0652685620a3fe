"""What exists twice: the one that is awaited has the plain name, its blocking twin ends with `_blocking`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("blocks", "tasks", "flows", "deployments")
Twins = tuple[str, bool, bool]
"""A name without its ending, whether that is awaited, and whether the one with the ending is."""


def scopes() -> Iterator[tuple[str, dict[str, bool]]]:
    """The functions of each module and class, and whether each is awaited."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            for scope in (tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))):
                yield (
                    str(file.relative_to(ROOT)),
                    {
                        node.name: isinstance(node, ast.AsyncFunctionDef)
                        for node in scope.body
                        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                    },
                )


def test_a_blocking_twin_is_named_after_the_awaited_one() -> None:
    found = 0
    for file, functions in scopes():
        for name, awaited in functions.items():
            if name.endswith("_blocking"):
                found += 1
                assert not awaited, f"{file}: {name} is awaited"
                assert functions.get(name.removesuffix("_blocking")), f"{file}: {name} is no twin"
    assert found > 4


@pytest.mark.parametrize("ending", ["_async", "_sync", "_awaiting", "_now"])
def test_no_twin_is_told_apart_otherwise(ending: str) -> None:
    told = [
        (file, name)
        for file, functions in scopes()
        for name in functions
        if name.endswith(ending) and name.removesuffix(ending) in functions
    ]
    assert told == []
