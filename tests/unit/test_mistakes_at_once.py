"""Wrong keys do not hide a file's other mistakes, and what only follows from them is not told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.catalogs import make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog, check_workflow
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


# ---------------------------------------------------------------- wrong values hide nothing else


def lines_of(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    return told(make_catalog(tmp_path, w=text))


def test_a_file_without_one_readable_step(tmp_path: Path) -> None:
    text = """workflow: w
inputs: {x: {type: file, default: ../../etc/passwd}}
steps:
  - id: a
    agent: agent-pm-02
    timeout: -5
"""
    assert lines_of(tmp_path, text) == [
        (2, "the file lies outside the catalog"),
        (5, "unknown agent 'agent-pm-02'"),
        (6, "a duration must be more than zero"),
    ]


@pytest.mark.parametrize(
    "step", ["{agent: agent-pm-02, timeout: -5}", "{id: a b, agent: agent-pm-02, retries: x}"]
)
def test_a_step_without_a_usable_id_is_looked_at_as_well(tmp_path: Path, step: str) -> None:
    text = f"workflow: w\ninputs: {{x: {{type: file, default: ../x.md}}}}\nsteps:\n  - {step}\n"
    found = [message for _, message in lines_of(tmp_path, text)]
    assert "unknown agent 'agent-pm-02'" in found and "the file lies outside the catalog" in found
    assert len(found) == 4
    assert not any("unreadable" in message or "#" in message for message in found)


def test_what_stands_beside_a_wrong_key_of_a_step_is_told(tmp_path: Path) -> None:
    text = """workflow: w
steps:
  - id: a
    agent: ann
    skills: [shared/tol]
    prompt: "{{ nothing }} {{ 1 +"
    when: "1 +"
    output: {type: jsn, schema: {type: objekt}}
    retries: {max: many}
  - id: b
    agent: nobody
    timout: 5
    depends_on: [a, z]
"""
    assert lines_of(tmp_path, text) == [
        (5, "unknown skill 'shared/tol'"),
        (6, "unexpected 'end of template'"),
        (7, "unexpected 'end of template'"),
        (8, "'jsn' is not one of the choices"),
        (8, "'objekt' is no JSON type"),
        (9, "should be a whole number"),
        (11, "unknown agent 'nobody'"),
        (12, "unknown key 'timout'"),
        (13, "unknown step 'z'"),
    ]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        # The doer is what is wrong, or misspelt: nobody is missing.
        ("- {id: a, agent: [ann]}", 1),
        ("- {id: a, agnet: ann}", 1),
        ("- {id: a, zzz: ann}", 1),
        ("- {id: a, approval: {asc: Go on?}}", 2),
        # Names that went with it are not called unknown.
        ("- {id: a, agent: ann, expected-output: facts}\n  - {id: b, agent: bob, inputs: [facts]}", 1),
        ("- {id: a b, agent: ann}\n  - {id: c, agent: bob, depends_on: a b}", 1),
        ("- {id: a, agent: ann, for-each: [1], prompt: '{{ item }}'}", 1),
        ("- {id: a, agent: ann, repeat: {untl: x, max: 2}, prompt: '{{ previous }}'}", 2),
        # What comes before what is not known any more.
        ("- {id: a, agent: ann}\n  - {id: b, agent: bob, dependson: a, prompt: '{{ a }}'}", 1),
        # The skill's arguments went with their key.
        ("- {id: a, skill: shared/tool, handler: count, args: [x]}", 1),
        ("- 3\n  - {id: b, agent: ann}", 1),
    ],
)
def test_what_only_follows_is_not_told(tmp_path: Path, text: str, mistakes: int) -> None:
    found = lines_of(tmp_path, f"workflow: w\ninputs: {{t: {{type: file}}}}\nsteps:\n  {text}\n")
    assert len(found) == mistakes, found


def test_one_wrong_input_does_not_hide_the_others(tmp_path: Path) -> None:
    text = """workflow: w
inputs:
  x: {type: fle}
  y: {type: integer, default: many}
  z: {typ: file}
steps:
  - {id: a, agent: ann, inputs: [x, t], prompt: "{{ x }} {{ z }} {{ q }}"}
"""
    assert lines_of(tmp_path, text) == [
        (3, "'fle' is not one of the choices"),
        (4, "the input 'y' is no integer: 'many'"),
        (5, "unknown key 'typ'"),
        (7, "unknown name 'q'"),
    ]


def test_ids_that_nobody_wrote_are_not_offered(tmp_path: Path) -> None:
    """A second step of an id is checked under a made-up one, which no message shows."""
    text = """workflow: w
steps:
  - {id: a, agent: ann}
  - {id: a, agent: ann, expected_output: twice}
  - {id: a}
  - {id: b, agent: bob, depends_on: zzzz, prompt: "{{ qqqq }} {{ twice }} {{ steps.yyyy.status }}"}
outputs: [wwww]
"""
    found = check_workflow(Catalog.load(make_catalog(tmp_path, w=text)), "w").errors
    assert len(found) == 8, found
    assert not any("#" in f"{m.message} {m.cure}" or "a_" in m.cure for m in found), found
    cures = {m.message: m.cure for m in found}
    assert cures["unknown step 'zzzz'"] == "known: a, b"
    assert cures["no step makes 'wwww'"] == "known: a, b, twice"
    assert "the step 'a' has nobody to do it" in cures
