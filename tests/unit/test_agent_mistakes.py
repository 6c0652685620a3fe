"""What `check` calls an error of an agent stops every workflow in which it does a step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.catalogs import AGENT, SKILL, compiled, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.errors import InvalidDefinition

CONFIG = "agents/ann/config.yaml"
TOOLS = "agents/ann/tools-config.json"
RULES = json.dumps({"tools": {"tool__count": {"approval": True}}})


def _link(name: str) -> Callable[[Path], None]:
    def broken(root: Path) -> None:
        (root / "agents/ann" / name).unlink(missing_ok=True)
        (root / "agents/ann" / name).symlink_to(root / "nowhere")

    return broken


def _folder(name: str) -> Callable[[Path], None]:
    def broken(root: Path) -> None:
        (root / "agents/ann" / name).unlink(missing_ok=True)
        (root / "agents/ann" / name).mkdir()

    return broken


def _config(more: str) -> Callable[[Path], None]:
    def broken(root: Path) -> None:
        file = root / CONFIG
        file.write_text(file.read_text() + more)

    return broken


def _server(root: Path) -> None:
    server = {"command": "c", "env": {"A": "${X"}}
    (root / TOOLS).write_text(json.dumps({"mcpServers": {"bank": server}}))


def _copy(root: Path) -> None:
    """The copy comes first, without the rules of the other."""
    copy = root / "agents/aaa"
    copy.mkdir()
    (copy / "config.yaml").write_text(AGENT.format(name="ann"))
    (copy / "SOUL.md").write_text("You are ann.\n")


def _private(root: Path) -> None:
    skill = root / "skills/own"
    skill.mkdir()
    (skill / "SKILL.md").write_text(SKILL.format(name="own"))
    (root / "orchestrator").mkdir()
    entry = "skills: [{id: own, owner: bob, visibility: private}]\n"
    (root / "orchestrator/skill-registry.yaml").write_text(entry)
    _config("    - skill_id: own\n")(root)


@pytest.mark.parametrize(
    ("broken", "file", "message"),
    [
        (_link("tools-config.json"), TOOLS, "the file does not exist"),
        (_folder("tools-config.json"), TOOLS, "the file cannot be read"),
        (_link("SOUL.md"), "agents/ann/SOUL.md", "not readable"),
        (_folder("IDENTITY.md"), "agents/ann/IDENTITY.md", "not readable"),
        (_link("prompts.yml"), "agents/ann/prompts.yml", "the file does not exist"),
        (_copy, CONFIG, "the agent id 'ann' is taken by agents/aaa/config.yaml"),
        (_config("    - skill_id: shared/none\n"), CONFIG, "unknown skill 'shared/none'"),
        (_config("    - skill_id: shared/tool\n"), CONFIG, "the skill 'shared/tool' is bound twice"),
        (_private, CONFIG, "the skill 'own' is private to 'bob'"),
        (_server, TOOLS, "'${' without its '}'"),
    ],
)
def test_a_mistake_of_an_agent_stops_its_workflows(
    tmp_path: Path, broken: Callable[[Path], None], file: str, message: str
) -> None:
    step = "workflow: {}\nsteps: [{{id: a, agent: {}}}]\n"
    root = make_catalog(tmp_path, w=step.format("w", "ann"), other=step.format("other", "bob"))
    (root / TOOLS).write_text(RULES)
    assert compiled(root).step("a").agents[0].tool_rules[0].approval
    broken(root)
    with pytest.raises(InvalidDefinition) as caught:
        compiled(root)
    (mistake,) = caught.value.mistakes
    assert mistake.file == file and mistake.message.startswith(message) and mistake.cure
    assert mistake in check_catalog(Catalog.load(root)).errors
    assert compiled(root, "other").step("a").agents[0].id == "bob"


def test_a_registry_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    root = make_catalog(tmp_path)
    (root / "orchestrator").mkdir()
    (root / "orchestrator/skill-registry.yaml").symlink_to(root / "nowhere")
    (mistake,) = Catalog.load(root).findings.errors
    assert (mistake.file, mistake.message) == ("orchestrator/skill-registry.yaml", "the file does not exist")
