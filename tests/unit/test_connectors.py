"""Which variable an agent's connector may name, what it may hold, and when the default key stands in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blocks.providers.connections import connect, key_of
from deployments.runs.host import Notice
from deployments.runs.model_keys import answers_offline, say_keys
from tests.support.catalogs import compiled, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.compile.compiler import examine
from workflows.core.errors import UsageError
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan

ONE = "workflow: w\nsteps: [{id: a, agent: ann}]\n"
EVERYWHERE = """workflow: w
steps:
  - {id: a, agents: [ann, bob], merge: {agent: cat}}
  - {id: inner, workflow: below}
finally:
  - {id: last, agent: eve}
"""
BELOW = "workflow: below\nsteps: [{id: s, agent: dan}]\nfinally: [{id: f, agent: fay}]\n"


def catalog_of(root: Path, **connectors: str) -> Path:
    """A catalog whose agents have these connectors, by name."""
    make_catalog(root, w=ONE)
    for name, connector in connectors.items():
        folder = root / "agents" / name
        folder.mkdir(exist_ok=True)
        (folder / "SOUL.md").write_text(name)
        (folder / "config.yaml").write_text(f"agent:\n  id: {name}\n  connector: {connector}\n")
    return root


def told(root: Path) -> tuple[list[tuple[str, int, str]], list[str]]:
    found = check_catalog(Catalog.load(root))
    return [(m.file, m.line, m.cure) for m in found.errors], [m.message for m in found.warnings]


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "TEAM_API_KEY"])
def test_the_name_of_a_key_is_taken(tmp_path: Path, name: str) -> None:
    root = catalog_of(tmp_path, ann=f"$ENV.{name}")
    assert told(root) == ([], [])
    assert [a.model.connection for a in agents_of(compiled(root))] == [name]


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "HOME", "TEAM_KEY", "_API_KEYS"])
def test_any_other_variable_is_a_mistake_until_it_is_listed(tmp_path: Path, name: str) -> None:
    root = catalog_of(tmp_path, ann=f"$ENV.{name}", bob=f"$ENV.{name}")
    errors, _ = told(root)
    assert [(file, line) for file, line, _ in errors] == [
        ("agents/ann/config.yaml", 3),
        ("agents/bob/config.yaml", 3),
    ]
    assert f"`connections: [{name}]`" in errors[0][2]
    # What is run without `check` is held to it as well, and told once.
    catalog = Catalog.load(root)
    plan, found = examine(catalog.find_workflow("w"), catalog)
    assert plan is None
    assert [m.file for m in found.errors] == ["agents/ann/config.yaml"]
    (root / "models.yaml").write_text(
        f"connections: [{name}]\nfamilies: {{claude-sonnet: {{latest: claude-sonnet-5}}}}\n"
    )
    config = root / "agents/ann/config.yaml"
    config.write_text(config.read_text() + "  model: {name: claude-sonnet}\n")
    assert [a.model.connection for a in agents_of(compiled(root))] == [name]


def test_a_name_that_says_which_connection_is_meant_stands_for_the_default(tmp_path: Path) -> None:
    root = catalog_of(tmp_path, ann="$ENV.DEFAULT_CONNECTOR")
    assert told(root) == ([], ["DEFAULT_CONNECTOR is not the name of a key; ANTHROPIC_API_KEY is used"])
    plan = compiled(root)
    assert [a.model.connection for a in agents_of(plan)] == [""]
    environ = {"DEFAULT_CONNECTOR": "openai.gpt", "ANTHROPIC_API_KEY": "sk-0123456789"}
    assert said(root, plan, environ) == (
        "DEFAULT_CONNECTOR is not the name of a key: ANTHROPIC_API_KEY is used for ann\n"
    )


def said(root: Path, plan: Plan, environ: dict[str, str]) -> str:
    """What the command says of the keys of a run."""
    notices: list[Notice] = []
    say_keys(plan, Catalog.load(root), environ, notices.append)
    return "".join(f"{notice.text}\n" for notice in notices)


def test_a_key_that_is_not_set_is_said_once(tmp_path: Path) -> None:
    root = catalog_of(tmp_path, ann="$ENV.TEAM_API_KEY", bob="$ENV.TEAM_API_KEY")
    (root / "w.yaml").write_text(
        "workflow: w\nsteps: [{id: a, agents: [ann, bob]}, {id: b, agent: ann, depends_on: a}]\n"
    )
    plan = compiled(root)
    environ = {"ANTHROPIC_API_KEY": "sk-0123456789"}
    assert said(root, plan, environ) == "TEAM_API_KEY is not set: ANTHROPIC_API_KEY is used for ann, bob\n"
    assert said(root, plan, {**environ, "TEAM_API_KEY": "tk-0123456789"}) == ""


@pytest.mark.parametrize(
    "value", ["two words here", "line\nbreak-0123", "postgresql://u:p@h/db", "short", "naïve-key-01"]
)
def test_a_value_that_is_no_key_is_not_sent(tmp_path: Path, value: str) -> None:
    root = catalog_of(tmp_path, ann="$ENV.TEAM_API_KEY")
    environ = {"ANTHROPIC_API_KEY": "sk-0123456789", "TEAM_API_KEY": value}
    plan = compiled(root)
    asks: tuple[Any, ...] = (
        lambda: said(root, plan, environ),
        lambda: connect(environ, False, key_variable="TEAM_API_KEY"),
    )
    for ask in asks:
        with pytest.raises(UsageError, match="what TEAM_API_KEY holds is no model key") as caught:
            ask()
        assert caught.value.exit_code == 2
        assert value not in str(caught.value)


def test_blanks_around_a_key_do_not_count() -> None:
    assert key_of({"TEAM_API_KEY": " tk-0123456789\n"}, "TEAM_API_KEY") == "tk-0123456789"
    assert key_of({}, "TEAM_API_KEY") == ""


def test_everybody_who_takes_part_is_known(tmp_path: Path) -> None:
    names = ("ann", "bob", "cat", "dan", "eve", "fay")
    root = catalog_of(tmp_path, **{name: f"$ENV.{name.upper()}_API_KEY" for name in names})
    (root / "w.yaml").write_text(EVERYWHERE)
    (root / "below.yaml").write_text(BELOW)
    plan = compiled(root)
    assert [a.id for a in agents_of(plan)] == ["ann", "bob", "cat", "dan", "fay", "eve"]
    # Whoever has a key, the run is one with a real model.
    notices: list[Notice] = []
    for name in names:
        assert (
            answers_offline(False, plan, {f"{name.upper()}_API_KEY": "k-0123456789"}, None, notices.append)
            is False
        )
    assert answers_offline(False, plan, {}, None, notices.append) is True


def test_a_workflow_whose_only_agents_are_in_finally_asks_a_model(tmp_path: Path) -> None:
    root = make_catalog(
        tmp_path,
        w="workflow: w\ninputs: {t: {type: file}}\n"
        "steps: [{id: a, skill: shared/tool, handler: count, args: {text: t}}]\n"
        "finally: [{id: b, agent: ann}]\n",
    )
    notices: list[Notice] = []
    assert answers_offline(False, compiled(root), {}, None, notices.append)
    assert [notice.kind for notice in notices] == ["offline"]
