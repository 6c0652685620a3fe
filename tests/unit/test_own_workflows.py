"""Which workflows a worker's generic flow runs: those of its catalog, by name or by a path inside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflows.core.catalog.contents import Catalog
from workflows.core.errors import PhaselineError, UsageError

WORKFLOW = "workflow: {name}\nsteps:\n  - {{id: ask, approval: {{ask: Go on?}}}}\n"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    root = tmp_path / "catalog"
    (root / "drafts").mkdir(parents=True)
    (root / "own.yaml").write_text(WORKFLOW.format(name="own"))
    (root / "drafts" / "late.yaml").write_text(WORKFLOW.format(name="late"))
    (tmp_path / "foreign.yaml").write_text(WORKFLOW.format(name="foreign"))
    (root / "drafts" / "out.yaml").symlink_to(tmp_path / "foreign.yaml")
    (root / "drafts" / "up").symlink_to(tmp_path)
    (root / "drafts" / "round.yaml").symlink_to("round.yaml")
    (root / "drafts" / "in.yaml").symlink_to(root / "own.yaml")
    return Catalog.load(root)


@pytest.mark.parametrize("name", ["own", "own.yaml", "./own.yaml", "drafts/late.yaml", "drafts/in.yaml"])
def test_a_workflow_of_the_catalog_is_found(catalog: Catalog, name: str) -> None:
    assert catalog.find_own_workflow(name).name in ("own", "late")


@pytest.mark.parametrize(
    "name",
    [
        *("{outside}/foreign.yaml", "{root}/own.yaml", "../foreign.yaml", "drafts/../../foreign.yaml"),
        *("drafts/out.yaml", "drafts/up/foreign.yaml", "drafts/round.yaml", "~/x.yaml", "/dev/zero.yaml"),
        *("none.yaml", "none", "", "a\0.yaml", "x" * 300 + ".yaml", "file:///etc/x.yaml", "drafts", ".yaml"),
    ],
)
def test_nothing_else_is_read(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    named = name.format(outside=tmp_path, root=catalog.root)
    with pytest.raises(UsageError) as refused:
        catalog.find_own_workflow(named)
    assert refused.value.cure


def test_a_path_relative_to_the_working_folder_is_no_path_of_the_catalog(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert catalog.find_workflow("foreign.yaml").name == "foreign", "who sits at the machine may"
    with pytest.raises(PhaselineError, match=r"no workflow 'foreign\.yaml'"):
        catalog.find_own_workflow("foreign.yaml")
