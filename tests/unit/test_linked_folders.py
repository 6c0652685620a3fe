"""Linked folders of agents and skills: read inside the catalog, refused outside, never dropped silently."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.catalogs import AGENT, SKILL, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog

OUTSIDE = "the folder lies outside the catalog"


def told(root: Path) -> list[tuple[str, str]]:
    return [(m.file, m.message) for m in check_catalog(Catalog.load(root)).errors]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_catalog(tmp_path / "catalog")


def skill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(SKILL.format(name="linked"))
    return folder


def test_folders_outside_are_told(root: Path, tmp_path: Path) -> None:
    agent = tmp_path / "elsewhere"
    agent.mkdir()
    (agent / "config.yaml").write_text(AGENT.format(name="eve"))
    (root / "agents" / "eve").symlink_to(agent)
    (root / "skills" / "shared" / "linked").symlink_to(skill(tmp_path / "linked"))
    assert told(root) == [("agents/eve", OUTSIDE), ("skills/shared/linked", OUTSIDE)]
    catalog = Catalog.load(root)
    assert "eve" not in catalog.agents and "shared/linked" not in catalog.skills


def test_folders_inside_are_read(root: Path) -> None:
    kept = root / "kept" / "agents" / "eve"
    kept.mkdir(parents=True)
    (kept / "config.yaml").write_text(AGENT.format(name="eve"))
    (kept / "SOUL.md").write_text("You are eve.\n")
    (root / "agents" / "eve").symlink_to(kept)
    (root / "skills" / "linked").symlink_to(skill(root / "kept" / "linked"))
    (root / "skills" / "group").symlink_to(root / "kept")
    catalog = Catalog.load(root)
    assert told(root) == []
    assert (catalog.agents["eve"].folder, catalog.agents["eve"].persona) == ("agents/eve", "You are eve.")
    assert (catalog.skills["linked"].folder, len(catalog.skills["linked"].files)) == ("skills/linked", 1)
    assert catalog.skills["group/linked"].folder == "skills/group/linked"


def test_circles_and_dangling_links_end(root: Path) -> None:
    (root / "skills" / "all").symlink_to(root / "skills")
    (root / "skills" / "shared" / "up").symlink_to(root)
    (root / "skills" / "itself").symlink_to(root / "skills" / "itself")
    (root / "skills" / "gone").symlink_to(root / "nowhere")
    links = root / "links"
    links.mkdir()
    (links / "deeper").symlink_to(root / "skills")
    (root / "skills" / "more").symlink_to(links)
    assert told(root) == [
        ("skills/gone", "the link leads to nothing"),
        ("skills/itself", OUTSIDE),
        ("skills/more/deeper", "a link inside a linked folder is not followed"),
    ]
    assert list(Catalog.load(root).skills) == ["shared/tool"]


def test_a_linked_folder_inside_a_skill_is_told(root: Path) -> None:
    (root / "notes").mkdir()
    (root / "skills" / "shared" / "tool" / "references").symlink_to(root / "notes")
    assert told(root) == [("skills/shared/tool/SKILL.md", "references is a linked folder and is not read")]


def test_a_refused_soul_is_told_once(root: Path, tmp_path: Path) -> None:
    soul = root / "agents" / "ann" / "SOUL.md"
    soul.write_bytes(b"\xff\xfe")
    found = Catalog.load(root).findings
    assert [m.message for m in found.errors] == ["not readable as UTF-8 text"] and not found.warnings
    (tmp_path / "soul.md").write_text("You are free.")
    soul.unlink()
    soul.symlink_to(tmp_path / "soul.md")
    found = Catalog.load(root).findings
    assert [m.message for m in found.errors] == ["the file lies outside the catalog"] and not found.warnings


def test_an_empty_and_a_missing_soul_are_warned_of(root: Path) -> None:
    (root / "agents" / "ann" / "SOUL.md").write_text("\n")
    (root / "agents" / "bob" / "SOUL.md").unlink()
    assert [m.message.split(";")[0] for m in Catalog.load(root).findings.warnings] == [
        "the agent's SOUL.md is empty",
        "the agent has no SOUL.md",
    ]
