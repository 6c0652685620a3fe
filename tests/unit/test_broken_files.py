"""The bad-input corpus: every broken file is reported where it is broken, with a cure, all mistakes at once.

The files below tests/fixtures/broken say themselves what is expected (see tests/support/broken.py). What
cannot be a readable text file is made here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.broken import broken_files, compare, expected, expected_of_catalog
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.compile.compiler import compile_workflow
from workflows.core.errors import InvalidDefinition, Mistake, PhaselineError, UsageError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BROKEN = FIXTURES / "broken"
GOOD = "workflow: good\nsteps:\n  - id: a\n    agent: agent-pm-002\n"
ENDLESS = "/dev/zero"
_FILE = b'workflow: x\ninputs: {f: {type: file, default: "%s"}}\nsteps: [{id: a, agent: agent-pm-002}]\n'
NULL_DEFAULT = _FILE % rb"a\x00b.md"
LONG_DEFAULT = _FILE % (b"a" * 5000 + b".md")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(DEFAULT_ROOT)


def mistakes_of(file: Path, catalog: Catalog) -> tuple[Mistake, ...]:
    """What compiling a file reports, as the command would: an error of exit code 2."""
    with pytest.raises(PhaselineError) as caught:
        compile_workflow(catalog.find_workflow(str(file)), catalog)
    assert isinstance(caught.value, InvalidDefinition) and caught.value.exit_code == 2
    for mistake in caught.value.mistakes:
        assert mistake.file and mistake.message and mistake.cure, mistake
        assert mistake.line >= 1 and mistake.column >= 1, mistake
        assert "Traceback" not in str(mistake) and "pydantic" not in str(mistake)
    return caught.value.mistakes


@pytest.mark.parametrize("file", broken_files(BROKEN / "workflows"), ids=lambda p: p.stem)
def test_broken_workflow(file: Path, catalog: Catalog) -> None:
    wanted = expected(file.read_text("utf-8"))
    assert wanted, "the file announces no mistake"
    assert compare(wanted, mistakes_of(file, catalog)) == []


@pytest.mark.parametrize("root", sorted((BROKEN / "catalogs").iterdir()), ids=lambda p: p.name)
def test_broken_catalog(root: Path) -> None:
    wanted = expected_of_catalog(root)
    assert wanted, "the catalog announces no mistake"
    found = check_catalog(Catalog.load(root))
    assert compare(wanted, found.errors) == []
    assert all(m.cure and m.message for m in (*found.errors, *found.warnings))
    assert found.errors == sorted(found.errors, key=lambda m: (m.file, m.line, m.column))


def test_the_corpus_is_large_enough() -> None:
    files = [p for p in BROKEN.rglob("*") if p.is_file()]
    assert len(files) >= 100


def test_a_broken_file_leaves_the_others_alone(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("workflow: bad\nsteps: 3\n")
    (tmp_path / "fine.yaml").write_text("workflow: fine\nsteps: [{id: a, skill: shared/none}]\n")
    catalog = Catalog.load(tmp_path)
    assert list(catalog.workflows) == ["fine"]
    with pytest.raises(InvalidDefinition) as caught:
        catalog.find_workflow("bad")
    assert caught.value.mistakes[0].file == "bad.yaml"


def nested(levels: int) -> bytes:
    return b"workflow: deep\nsteps: " + b"[" * levels + b"]" * levels


def nested_blocks(levels: int) -> bytes:
    return b"workflow: deep\nsteps:\n  " + b"- " * levels + b"a\n"


def bomb() -> bytes:
    """Nine levels of nine aliases: 400 million values out of ten lines."""
    lines = ["workflow: bomb", 'a0: &a0 ["x"]']
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines).encode()


GENERATED: dict[str, tuple[Callable[[], bytes], int, str, str]] = {
    "empty": (lambda: b"", 1, "found nothing", "known keys: workflow"),
    "only-a-bom": (lambda: b"\xef\xbb\xbf", 1, "found nothing", "known keys: workflow"),
    "only-line-breaks": (lambda: b"\n\n\n", 1, "found nothing", "known keys"),
    "ten-megabytes": (
        lambda: GOOD.encode() + b"# " + b"x" * 10_000_000,
        1,
        "larger than",
        "files of its own",
    ),
    "binary": (lambda: bytes(range(256)) * 4, 2, "", "save the file as UTF-8"),
    "null-bytes": (lambda: GOOD.encode() + b"\x00\x00", 5, "control characters", "write it as text"),
    "escape-characters": (lambda: b"workflow: \x1b[31mred\n", 1, "control characters", "write it as text"),
    "latin-1": (
        lambda: GOOD.encode() + "# f\xfcr\n".encode("latin-1"),
        5,
        "not UTF-8",
        "save the file as UTF-8",
    ),
    "utf-16": (lambda: GOOD.encode("utf-16"), 1, "not UTF-8", "save the file as UTF-8"),
    "gzip": (lambda: b"\x1f\x8b\x08\x00" + b"\xff" * 40, 1, "not UTF-8", "save the file as UTF-8"),
    "brackets-61-deep": (lambda: nested(61), 2, "nested too deeply", "flatten"),
    "brackets-400-deep": (lambda: nested(400), 2, "nested too deeply", "flatten"),
    "brackets-400000-deep": (lambda: nested(400_000), 2, "nested too deeply", "flatten"),
    "lists-70-deep": (lambda: nested_blocks(70), 3, "nested too deeply", "flatten"),
    "lists-400000-deep": (lambda: nested_blocks(400_000), 3, "nested too deeply", "flatten"),
    "anchor-bomb": (bomb, 2, "too many values", "write the values out"),
    "tab-before-a-key": (lambda: b"workflow: x\n\tsteps: []\n", 2, "a tab indents", "indent with spaces"),
    "carriage-returns": (lambda: b"workflow: x\r\nsteps: 3\r\n", 2, "should be a list", "write a list"),
    "huge-number": (lambda: b"workflow: " + b"9" * 5000, 1, "not a number that can be read", "shorter"),
    "tagged-number": (lambda: b"workflow: !!int x", 1, "not a number that can be read", "a text"),
    "null-byte-in-a-path": (lambda: NULL_DEFAULT, 2, "outside the catalog", "copy it"),
    "endless-path": (lambda: LONG_DEFAULT, 2, "no file", "check its name"),
    "long-name": (lambda: b"workflow: " + b"x" * 500 + b"\nsteps: []\n", 1, "longer than 120", ""),
}


@pytest.mark.parametrize("case", GENERATED)
def test_broken_bytes(case: str, catalog: Catalog, tmp_path: Path) -> None:
    make, line, message, cure = GENERATED[case]
    file = tmp_path / "broken.yaml"
    file.write_bytes(make())
    first = mistakes_of(file, catalog)[0]
    assert (first.line, first.file) == (line, str(file))
    assert message in first.message and cure in first.cure


@pytest.mark.parametrize(
    "body",
    [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode(), GOOD.encode().rstrip()],
    ids=["bom", "windows", "no-last-line-break"],
)
def test_what_editors_add_is_no_mistake(body: bytes, catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_bytes(body)
    assert compile_workflow(catalog.find_workflow(str(file)), catalog).workflow == "good"


@pytest.mark.parametrize(
    "name", ["nowhere.yaml", "x" * 5000 + ".yaml", "no-such-workflow", "../../etc/passwd.yaml", "", "a\x00b"]
)
def test_names_of_nothing(name: str, catalog: Catalog) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.find_workflow(name)
    assert caught.value.exit_code == 2 and caught.value.cure


def test_a_link_out_of_the_catalog_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(GOOD)
    root = tmp_path / "catalog"
    (root / "skills" / "a").mkdir(parents=True)
    (root / "linked.yaml").symlink_to(outside)
    (root / "skills" / "a" / "SKILL.md").symlink_to(outside)
    (root / "agents").mkdir()
    (root / "agents" / "x").symlink_to(tmp_path)
    found = check_catalog(Catalog.load(root))
    told = {(m.file, m.message) for m in found.errors}
    assert ("linked.yaml", "the file lies outside the catalog") in told
    assert ("skills/a/SKILL.md", "the file lies outside the catalog") in told
    assert ("agents/x", "the folder lies outside the catalog") in told
    assert "good" not in Catalog.load(root).workflows


def test_a_link_to_an_endless_device_is_refused(tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").symlink_to(ENDLESS)
    assert check_catalog(Catalog.load(tmp_path)).errors[0].message == "the file lies outside the catalog"


def test_a_default_may_not_be_a_link_out_of_the_catalog(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (root / "inside.txt").symlink_to(tmp_path / "secret.txt")
    (root / "w.yaml").write_text(
        "workflow: w\ninputs: {f: {type: file, default: inside.txt}}\nsteps: [{id: a, agent: b}]\n"
    )
    messages = [m.message for m in check_catalog(Catalog.load(root)).errors]
    assert "the file lies outside the catalog" in messages


def test_a_folder_in_place_of_a_file_and_an_unreadable_catalog(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").mkdir()
    errors = check_catalog(Catalog.load(tmp_path)).errors
    assert errors and errors[0].file == "w.yaml" and errors[0].cure
    with pytest.raises(UsageError, match="there is no catalog"):
        Catalog.load(tmp_path / "nowhere")


# What the two documents print broken, as published.


def test_the_documents_corrupt_workflow(catalog: Catalog) -> None:
    first, *_ = mistakes_of(FIXTURES / "documents/corrupt/end-to-end-delivery.yaml", catalog)
    text = (FIXTURES / "documents/corrupt/end-to-end-delivery.yaml").read_text("utf-8").splitlines()
    assert "edback" in text[first.line - 1] or "edback" in text[first.line - 2]


@pytest.mark.parametrize("name", ["agent.yml", "agent-host.yml"])
def test_the_documents_corrupt_agent_yml(name: str, tmp_path: Path) -> None:
    (tmp_path / "orchestrator").mkdir()
    body = (FIXTURES / "documents/corrupt" / name).read_bytes()
    (tmp_path / "orchestrator" / "agent.yml").write_bytes(body)
    errors = check_catalog(Catalog.load(tmp_path)).errors
    assert errors and all(m.file == "orchestrator/agent.yml" and m.line and m.cure for m in errors)


def test_the_documents_corrupt_cluster_file_is_no_workflow(catalog: Catalog) -> None:
    assert mistakes_of(FIXTURES / "documents/corrupt/kubernetes-deployment.yaml", catalog)


BROKEN_JSON = {
    "half-a-pair": ('{"name": "\\ud800"}', "surrogate"),
    "infinite": ('{"name": "A", "options": {"max_tokens": 1e999}}', "1e999 is no number"),
    "not-a-number": ('{"name": NaN}', "NaN is no number"),
    "digits": ('{"name": ' + "9" * 5000 + "}", "not JSON"),
    "deep": ('{"name": ' + "[" * 300 + "]" * 300 + "}", "nested too deeply"),
    "endless": ('{"name": ' * 100_000, "nested too deeply"),
    "yaml": ("name: One\n", "not JSON"),
    "comment": ('{"name": "One"} // one\n', "not JSON"),
    "list": ("[1, 2]", "expected keys and values here, found a list"),
    "nothing": ("", "not JSON"),
}


@pytest.mark.parametrize("case", BROKEN_JSON)
def test_broken_json(case: str, tmp_path: Path) -> None:
    text, message = BROKEN_JSON[case]
    file = tmp_path / "agents" / "one" / "package.yao"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    first, *_ = check_catalog(Catalog.load(tmp_path)).errors
    assert first.file == "agents/one/package.yao" and first.line == 1 and first.cure
    assert message in first.message
