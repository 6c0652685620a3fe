"""CONTRIBUTING.md: what it says of where something new goes is so."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blocks.offline import OfflineModel
from blocks.providers.anthropic_api import AnthropicConnection
from blocks.providers.connections import connect
from blocks.storage.root import open_root
from blocks.storage.s3_root import S3Root
from deployments import cli
from deployments.terminal.arguments import LATER, build
from tests.support.catalogs import compiled, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check import catalog as checking
from workflows.core.errors import PhaselineError
from workflows.core.models.workflow import Step
from workflows.core.plans.plan import AsWritten
from workflows.core.read.findings import Findings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MOST_FILES = 5
"""Named in one row: folders of new files, and files that get an entry."""


def rows() -> Iterator[tuple[str, list[str], str]]:
    """What is added, the places that are named for it, and the test that shows it."""
    table = PAGE.partition("| to add |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        _, thing, places, shown, _ = (cell.strip() for cell in line.split("|"))
        yield thing, [p for p in re.findall(r"`([^`]+)`", places) if "/" in p], shown.strip("`")


def test_the_page_knows_what_is_added_most() -> None:
    things = {re.sub(r"^an? ", "", thing) for thing, _, _ in rows()}
    assert things == {
        *("kind of doer", "tool of phaseline's own", "key of a step", "check of the catalog", "command"),
        *("error", "table of the ledger", "storage", "model connection"),
    }


@pytest.mark.parametrize(("thing", "places", "shown"), list(rows()))
def test_every_place_and_every_test_exists(thing: str, places: list[str], shown: str) -> None:
    assert places and len(places) < MOST_FILES, thing
    assert all((ROOT / place).exists() for place in places), thing
    file, _, name = shown.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text("utf-8"), thing


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"`make ([a-z-]+)", PAGE))
    assert targets >= {"lint", "test", "test-cluster", "prove", "bench"}
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_a_key_that_a_plan_holds_as_written_needs_nothing_of_the_compiler(tmp_path: Path) -> None:
    keys = "patience: 7s, cache: never, requires: all, on_failure: continue, timeout: 9s"
    root = make_catalog(tmp_path, w=f"workflow: w\nsteps:\n  - {{id: a, agent: ann, prompt: Go., {keys}}}\n")
    (step,) = compiled(root).steps
    held = (step.patience, step.cache, step.requires, step.on_failure, step.timeout)
    assert held == (7, "never", "all", "continue", 9)
    assert AsWritten.model_fields.keys() <= Step.model_fields.keys()
    source = (ROOT / "workflows/core/compile/compiler.py").read_text("utf-8")
    assert not [name for name in AsWritten.model_fields if re.search(rf'"{name}": step\.{name}\b', source)]


def test_a_check_is_a_function_and_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_tea(catalog: Catalog, found: Findings) -> None:
        for file in catalog.workflows.values():
            found.warn(file.source, ("workflow",), f"{file.name} is served with tea", "serve coffee")

    monkeypatch.setattr(checking, "_CHECKS", (*checking._CHECKS, refuse_tea))
    root = make_catalog(tmp_path, w="workflow: w\nsteps:\n  - {id: a, agent: ann, prompt: Go.}\n")
    (told,) = [m for m in checking.check_catalog(Catalog.load(root)).warnings if "tea" in m.message]
    assert (told.line, told.cure) == (1, "serve coffee")


def test_a_command_is_a_file_and_its_words() -> None:
    _, commands = build()
    modules = {parser.get_default("module") for name, parser in commands.items() if name not in LATER}
    files = {file.stem for file in (ROOT / "deployments/commands").glob("*.py")} - {"__init__"}
    assert modules == files
    for module in modules:
        assert callable(importlib.import_module(f"deployments.commands.{module}").execute)


def test_an_error_is_told_with_its_cure_and_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OutOfTea(PhaselineError):
        exit_code = 4

    def execute(args: Any, out: Any) -> int:
        raise OutOfTea("there is no tea left", "wait for the next ship")

    monkeypatch.setattr(cli, "_command", lambda name: SimpleNamespace(execute=execute))
    assert cli.main(["--home", str(tmp_path / "home"), "robots"]) == 4
    told = capsys.readouterr().err
    assert "there is no tea left" in told and "wait for the next ship" in told and "Traceback" not in told


def test_a_storage_is_a_root_chosen_by_its_scheme(tmp_path: Path) -> None:
    assert isinstance(open_root("s3://bucket/prefix", {}), S3Root)
    assert open_root(str(tmp_path), {}).uri == tmp_path.resolve().as_uri()
    others = [
        str(file.relative_to(ROOT))
        for package in ("blocks", "tasks", "flows", "deployments")
        for file in (ROOT / package).rglob("*.py")
        if "S3Root" in file.read_text("utf-8") and file.name not in ("root.py", "s3_root.py")
    ]
    assert others == []


def test_a_model_connection_is_chosen_in_one_place() -> None:
    assert isinstance(connect({}, offline=True), OfflineModel)
    assert isinstance(connect({"ANTHROPIC_API_KEY": "sk-ant-test-0000"}, offline=False), AnthropicConnection)
    others = [
        str(file.relative_to(ROOT))
        for package in ("tasks", "flows", "deployments")
        for file in (ROOT / package).rglob("*.py")
        if "AnthropicConnection" in file.read_text("utf-8")
    ]
    assert others == []
