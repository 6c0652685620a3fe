"""Wrong keys do not hide a file's other mistakes, and what only follows from them is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.catalogs import make_catalog
from workflows.core.catalog import Catalog
from workflows.core.catalog_check import check_catalog, check_workflow
from workflows.core.errors import UsageError

MIXED = """workflow: w
descripton: x
steps:
  - id: a
    agent: ann
    expected-output: facts
  - id: b
    agent: nobody
    depends_on: c
  - id: c
    agent: bob
    depends_on: b
    prompt: "{{ facts }}"
  - id: d
    skill: shared/tol
  - agent: ann
    expected_output: summary
  - id: f
    agent: ann
    prompt: "{{ summary }} {{ nothing }}"
"""


def told(root: Path) -> list[tuple[int, str]]:
    found = check_catalog(Catalog.load(root))
    one = check_workflow(Catalog.load(root), "w")
    assert found.errors == one.errors
    return [(m.line, m.message) for m in found.errors]


def test_keys_references_and_cycles_in_one_report(tmp_path: Path) -> None:
    lines = told(make_catalog(tmp_path, w=MIXED))
    assert lines == [
        (2, "unknown key 'descripton'"),
        (6, "unknown key 'expected-output'"),
        (7, "steps wait for each other: b -> c -> b"),
        (8, "unknown agent 'nobody'"),
        (15, "unknown skill 'shared/tol'"),
        (16, "the key 'id' is missing"),
        (20, "unknown name 'nothing'"),
    ]


def test_a_file_by_path_is_checked_the_same(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.yaml"
    file.write_text(MIXED)
    catalog = Catalog.load(make_catalog(tmp_path / "catalog"))
    found = check_workflow(catalog, str(file))
    assert [m.line for m in found.errors] == [2, 6, 7, 8, 15, 16, 20]
    assert {m.file for m in found.errors} == {str(file)}


@pytest.mark.parametrize(
    "text", ["steps: 3", "workflow: w\nsteps: [1, [], null]", "- a", "workflow: [w]\nsteps: []"]
)
def test_too_little_left_is_no_fault(text: str, tmp_path: Path) -> None:
    assert told_any(make_catalog(tmp_path, w=text))


def told_any(root: Path) -> bool:
    return bool(check_catalog(Catalog.load(root)).errors)


def test_a_good_workflow_and_one_that_is_not_there(tmp_path: Path) -> None:
    catalog = Catalog.load(make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: ann}]\n"))
    assert not check_workflow(catalog, "w").errors
    with pytest.raises(UsageError):
        check_workflow(catalog, "v")
