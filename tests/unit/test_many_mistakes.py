"""Thousands of mistakes in one file: all are told, and the work goes with their number, not with its square.

Work is counted in lines of Python that run, those of comprehensions included.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from deployments.catalogs.opening import compile_named, open_catalog
from tests.support.catalogs import make_catalog
from workflows.core.errors import InvalidDefinition

FEW, MANY = 400, 1_600


def steps(*keys: str) -> Callable[[int], str]:
    """A step for each number, which `{n}` stands for."""
    text = "  - {{id: s{n}, agent: ann, prompt: Say it., " + ", ".join(keys) + "}}\n"
    return lambda count: "".join(text.format(n=n) for n in range(count))


def one(before: str, each: str, after: str) -> Callable[[int], str]:
    """One step that names as many."""
    return lambda count: before + "".join(each.format(n=n) for n in range(count)) + after


FILES: dict[str, Callable[[int], str]] = {
    "unknown steps": steps("depends_on: zz{n}"),
    "unknown steps in one list": one("  - {id: a, agent: ann, prompt: x, depends_on: [", "zz{n}, ", "]}\n"),
    "unknown names": steps("when: zz{n}"),
    "unknown names in one text": one("  - {id: a, agent: ann, prompt: '", "{{{{ zz{n} }}}}", "'}\n"),
    "unknown agents": lambda count: "".join(
        f"  - {{id: s{n}, agent: x{n}, prompt: x}}\n" for n in range(count)
    ),
    "unknown skills": steps("skills: [shared/zz{n}]"),
    "unknown keys": steps("promt: x"),
    "unknown workflows": lambda count: "".join(f"  - {{id: s{n}, workflow: w{n}}}\n" for n in range(count)),
    "undeclared inputs": steps("inputs: [zz{n}]"),
    "one id": lambda count: "  - {id: s, agent: ann, prompt: x}\n" * count,
}


def work_of(call: Callable[[], Any]) -> int:
    """How many lines of Python a call runs."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("what", FILES)
def test_the_work_of_many_mistakes_goes_with_their_number(tmp_path: Path, what: str) -> None:
    spent = []
    for count in (FEW, MANY):
        root = make_catalog(tmp_path / str(count), w="workflow: w\nsteps:\n" + FILES[what](count))
        catalog, told = open_catalog(root), []

        def compiled(catalog: Any = catalog, told: list[Any] = told) -> None:
            try:
                compile_named(catalog, "w")
            except InvalidDefinition as fault:
                told.append(len(fault.mistakes))

        spent.append(work_of(compiled))
        # One id is told for each step but the first; undeclared inputs are taken as inputs of the workflow.
        assert told == [] if what == "undeclared inputs" else told[0] >= count - 1
    assert spent[1] < 5.5 * spent[0], spent


def test_the_first_mistakes_have_their_cure_and_the_others_say_what_to_do(tmp_path: Path) -> None:
    text = "".join(f"  - {{id: step{n}, agent: ann, prompt: x, depends_on: stepp{n}}}\n" for n in range(300))
    root = make_catalog(tmp_path / "c", w="workflow: w\nsteps:\n" + text)
    with pytest.raises(InvalidDefinition) as raised:
        compile_named(open_catalog(root), "w")
    cures = [mistake.cure for mistake in raised.value.mistakes]
    assert len(cures) == 300 and all(cures)
    assert all(cure.startswith("did you mean 'step") for cure in cures[:200])
    assert cures[-1] == "mend the mistakes before it first, then check again"
