"""Which rule of tools-config.json counts for a tool, and rules that count for none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import SKILL, compiled, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import InvalidDefinition, Mistake
from workflows.core.read.findings import Findings
from workflows.core.tools.names import Overlap, overlaps, rule_names, served_name

WORKFLOW = "workflow: w\nsteps: [{id: a, agent: ann}]\n"
PEOPLE: dict[str, Any] = {"people": {"assignees": ["kim"]}}
APPROVED: dict[str, Any] = {"approval": True}
LONG = "read." + "x" * 80


def catalog(root: Path, rules: dict[str, Any], **servers: list[str]) -> Path:
    """A catalog whose agent `ann` has these rules, and servers with these tools only (none: all)."""
    make_catalog(root, w=WORKFLOW)
    entries = {n: {"command": "c", "trust_annotations": True, "tools": t} for n, t in servers.items()}
    config = {"mcpServers": entries, "tools": rules}
    (root / "agents/ann/tools-config.json").write_text(json.dumps(config, indent=1))
    return root


def found(root: Path) -> Findings:
    return Catalog.load(root).findings


def refused(root: Path) -> Mistake:
    """The one mistake for which `run` does not begin, as `check` tells it."""
    with pytest.raises(InvalidDefinition) as caught:
        compiled(root)
    (mistake,) = caught.value.mistakes
    assert found(root).errors == [mistake] and mistake.file == "agents/ann/tools-config.json"
    return mistake


# --- names ---------------------------------------------------------------------------------------------


def test_names_for_the_model() -> None:
    assert served_name("files", "read_text") == "files__read_text"
    odd, other = served_name("files", "read.text"), served_name("files", "read/text")
    assert odd.startswith("files__read_text_") and odd != other
    long = served_name("files", "x" * 80)
    assert len(long) == 64 and long != served_name("files", "x" * 81)


def test_two_servers_can_be_meant_by_one_name() -> None:
    names = ("my__bank__pay", "bank__pay", "pay")
    assert list(overlaps(names, {"my": (), "my__bank": ()})) == [
        Overlap("my", "bank__pay", "my__bank__pay", "bank__pay"),
        Overlap("my__bank", "pay", "my__bank__pay", "pay"),
    ]
    assert list(overlaps(names, {"my": ("read",), "my__bank": ("read",)})) == []


# --- one rule before another ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "first", "behind"),
    [
        ("bank", "bank.pay", "pay"),
        ("bank", "bank__pay", "pay"),
        ("bank", "bank.pay", "bank__pay"),
        ("my__bank", "my__bank__pay", "pay"),
        ("my", "my__bank__pay", "bank__pay"),
        ("bank", f"bank.{LONG}", served_name("bank", LONG)),
    ],
)
def test_a_rule_that_switches_off_what_another_says_is_an_error(
    tmp_path: Path, server: str, first: str, behind: str
) -> None:
    hidden = {"approval": True, "effect": "once"}
    mistake = refused(catalog(tmp_path / "a", {behind: hidden, first: PEOPLE}, **{server: []}))
    assert mistake.path == f"tools.{first}" and mistake.line > 1
    assert f'"approval", "effect" of \'{behind}\' is lost' in mistake.message
    assert f'"approval", "effect" in \'{first}\' too' in mistake.cure
    both = {behind: hidden, first: {**hidden, **PEOPLE, "approval": False}}
    assert not found(catalog(tmp_path / "b", both, **{server: []})).errors


@pytest.mark.parametrize("behind", [APPROVED, {"allow": False}, PEOPLE])
def test_every_key_may_be_lost(tmp_path: Path, behind: dict[str, Any]) -> None:
    (key,) = behind
    assert f'"{key}"' in refused(catalog(tmp_path, {"pay": behind, "bank.pay": {}}, bank=[])).message


def test_rules_of_different_tools_stand_beside_each_other(tmp_path: Path) -> None:
    rules = {"pay": APPROVED, "bank.read": PEOPLE, "shop.pay": PEOPLE, "tool__count": PEOPLE}
    (mistake,) = found(catalog(tmp_path / "a", rules, bank=[], shop=["pay"])).errors
    assert mistake.path == "tools.shop.pay"
    del rules["shop.pay"]
    assert found(catalog(tmp_path / "b", rules, bank=["pay", "read"], shop=["list"])).errors == []


def test_a_declared_tool_is_known_by_each_of_its_names(tmp_path: Path) -> None:
    for number, name in enumerate(rule_names("bank", "pay")):
        root = catalog(tmp_path / str(number), {name: {"effect": "once"}}, bank=["pay"])
        file = root / "agents/ann/tools-config.json"
        file.write_text(file.read_text().replace("true", "false"))
        assert [m.message for m in found(root).warnings if "runs as you" not in m.message] == []


# --- rules of no tool ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("tool__cuont", "did you mean 'tool__count'?"),
        ("count", "did you mean 'tool__count'?"),
        ("read_skil", "did you mean 'read_skill'?"),
        ("read_input", "did you mean 'read_skill'?"),
        ("bank__pay", "known: ask_person, http_request, read_skill, tool__count"),
    ],
)
def test_a_rule_of_no_tool_is_an_error(tmp_path: Path, name: str, cure: str) -> None:
    mistake = refused(catalog(tmp_path, {name: APPROVED}))
    assert mistake.message == f"'{name}' is no tool that ann can have"
    assert mistake.path == f"tools.{name}" and cure in mistake.cure and mistake.line > 1


def test_names_of_servers_tools(tmp_path: Path) -> None:
    rules = {"pay": APPROVED, "bank__read": APPROVED}
    assert found(catalog(tmp_path / "open", rules, bank=[])).errors == []
    assert found(catalog(tmp_path / "closed", rules, bank=["pay", "read"])).errors == []
    root = catalog(tmp_path / "other", {"bank__pya": APPROVED}, bank=["pay", "read"])
    assert refused(root).cure == "did you mean 'bank__pay'?"


def test_tools_that_rules_can_be_about(tmp_path: Path) -> None:
    names = ("tool__count", "http_request", "ask_person", "read_skill")
    assert found(catalog(tmp_path, dict.fromkeys(names, APPROVED))).errors == []


def registered(root: Path, owner: str) -> Path:
    """The catalog with a private skill `own/more` of that owner, whose handler is `act`."""
    more = root / "skills/own/more"
    (more / "handlers").mkdir(parents=True)
    (more / "SKILL.md").write_text(SKILL.format(name="more"))
    (more / "handlers/act.py").write_text('def act() -> str:\n    """Act."""\n    return ""\n')
    (root / "orchestrator").mkdir()
    entry = f"skills:\n  - {{id: own/more, owner: {owner}, visibility: private}}\n"
    (root / "orchestrator/skill-registry.yaml").write_text(entry)
    return root


def test_a_private_skill_of_another_gives_no_tool(tmp_path: Path) -> None:
    rules = {"more__act": APPROVED}
    assert found(registered(catalog(tmp_path / "a", rules), "ann")).errors == []
    assert "more__act" in refused(registered(catalog(tmp_path / "b", rules), "bob")).message


def test_a_skill_that_is_wrong_may_have_such_a_handler(tmp_path: Path) -> None:
    root = catalog(tmp_path, {"tool__other": APPROVED})
    (root / "skills/shared/tool/handlers/other.py").write_text("def other(:\n")
    (mistake,) = found(root).errors
    assert mistake.file == "skills/shared/tool/handlers/other.py"
