"""Who answers what calling a tool can ask: `people` of a rule in tools-config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.catalogs import compiled, make_catalog
from workflows.core.catalog import Catalog
from workflows.core.catalog_check import check_catalog
from workflows.core.errors import InvalidDefinition
from workflows.core.findings import Findings
from workflows.core.plan import DecidersPlan, Plan
from workflows.core.schema import schema

WORKFLOW = "workflow: w\nsteps: [{id: a, agent: ann}]\n"
SERVERS = {"bank": {"command": "c", "trust_annotations": True}}
ANN: dict[str, Any] = {"assignees": ["kim"]}
ESCALATED: dict[str, Any] = {
    "assignees": ["kim", "lee"],
    "quorum": 2,
    "deadline": "2d",
    "on_timeout": "escalate",
    "escalate_to": ["max", "noa"],
}


def catalog(root: Path, rules: dict[str, Any], servers: dict[str, Any] | None = None) -> Path:
    """A catalog whose agent `ann` has these rules; the handler `idle` of its skill changes nothing."""
    make_catalog(root, w=WORKFLOW)
    tool = root / "skills" / "shared" / "tool"
    (tool / "handlers" / "idle.py").write_text('def idle() -> str:\n    """Idle."""\n    return ""\n')
    (tool / "config.yaml").write_text("handlers:\n  - {name: idle, effect: none}\n")
    config = {"mcpServers": servers or {}, "tools": rules}
    (root / "agents/ann/tools-config.json").write_text(json.dumps(config, indent=1))
    return root


def found(root: Path, people: dict[str, Any], name: str = "tool__count", **rule: Any) -> Findings:
    servers = SERVERS if name.startswith("bank") else None
    return Catalog.load(catalog(root, {name: {**rule, "people": people}}, servers)).findings


def test_a_plan_says_who_answers(tmp_path: Path) -> None:
    rules = {"tool__count": {"people": ESCALATED}, "ask_person": {"people": ANN}, "bank.pay": {}}
    plan = compiled(catalog(tmp_path, rules, SERVERS))
    (agent,) = plan.step("a").agents
    assert agent.ask_person
    assert {rule.name: rule.people for rule in agent.tool_rules} == {
        "ask_person": DecidersPlan(assignees=("kim",)),
        "bank.pay": None,
        "tool__count": DecidersPlan(
            assignees=("kim", "lee"),
            quorum=2,
            deadline=172_800,
            on_timeout="escalate",
            escalate_to=("max", "noa"),
        ),
    }
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


# --- what is wrong with it ---


@pytest.mark.parametrize(
    ("people", "key", "told", "cure"),
    [
        (
            {"assignees": "kim", "deadline": "1d", "on_timeout": "approve"},
            "on_timeout",
            "silence never approves a call",
            "write reject, fail or escalate",
        ),
        ({"asignees": "kim"}, "asignees", "unknown key 'asignees'", "did you mean 'assignees'?"),
        ({"assignees": "kim", "quorum": 2}, "quorum", "2 must agree, but assignees names 1", "quorum: 1"),
        ({"assignees": ["kim", "kim"]}, "assignees[1]", "'kim' is named twice", "name each once"),
        ({"assignees": ["kim lee"]}, "assignees[0]", "'kim lee' names no person", "such as alice"),
        ({**ANN, "on_timeout": "fail"}, "on_timeout", "there is no deadline", "add `deadline:`"),
        (
            {**ANN, "deadline": "1d", "on_timeout": "escalate"},
            "on_timeout",
            "nobody is named to escalate to",
            "add `escalate_to",
        ),
        ({**ANN, "deadline": 5, "escalate_to": "max"}, "escalate_to", "does nothing without", "add it"),
        (
            {**ESCALATED, "escalate_to": "max"},
            "escalate_to",
            "2 must agree, but escalate_to names 1",
            "quorum: 1",
        ),
        ({**ANN, "deadline": "soon"}, "deadline", "not a duration", "write seconds"),
    ],
)
def test_people_that_mean_nothing(
    tmp_path: Path, people: dict[str, Any], key: str, told: str, cure: str
) -> None:
    (mistake,) = found(tmp_path, people).errors
    assert told in mistake.message and cure in mistake.cure
    assert mistake.path == f"tools.tool__count.people.{key}"
    lines = (tmp_path / mistake.file).read_text().splitlines()
    assert mistake.file == "agents/ann/tools-config.json"
    assert f'"{key.partition("[")[0]}"' in lines[mistake.line - 1] or "[" in key


@pytest.mark.parametrize(
    ("name", "rule", "people", "told"),
    [
        ("tool__count", {"effect": "none"}, ANN, "asks nobody: it needs no approval, and may be repeated"),
        ("tool__count", {"effect": "idempotent"}, ANN, "asks nobody"),
        ("tool__idle", {}, ANN, "asks nobody"),
        ("http_request", {"methods": ["GET", "PUT"]}, ANN, "asks nobody"),
        ("http_request", {"effect": "idempotent"}, ANN, "asks nobody"),
        ("tool__count", {"allow": False}, ANN, "'tool__count' is not offered"),
        ("ask_person", {"allow": False}, ANN, "'ask_person' is not offered"),
        ("tool__count", {}, {}, "names nobody and no deadline"),
        ("tool__count", {}, {"assignees": ["bob"]}, "'bob' is an agent; only people answer"),
    ],
)
def test_people_that_are_never_asked_are_warned_of(
    tmp_path: Path, name: str, rule: dict[str, Any], people: dict[str, Any], told: str
) -> None:
    findings = found(tmp_path, people, name, **rule)
    assert not findings.errors
    (warning,) = [w for w in findings.warnings if w.path.startswith("tools.")]
    assert told in warning.message and warning.cure and warning.line > 1


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("tool__count", {}),
        ("tool__count", {"effect": "once"}),
        ("tool__count", {"effect": "none", "approval": True}),
        ("tool__idle", {"effect": "once"}),
        ("http_request", {}),
        ("http_request", {"methods": ["GET", "POST"]}),
        ("http_request", {"methods": ["GET"], "effect": "once"}),
        ("bank.balance", {"effect": "none"}),
        ("bank__balance", {"effect": "idempotent"}),
        ("ask_person", {}),
    ],
)
def test_people_that_may_be_asked(tmp_path: Path, name: str, rule: dict[str, Any]) -> None:
    for number, people in enumerate((ANN, ESCALATED, {"deadline": "1h"}, {"quorum": 2})):
        findings = found(tmp_path / str(number), people, name, **rule)
        assert not findings.errors
        assert [w.message for w in findings.warnings if w.path.startswith("tools.")] == []


def test_the_schema_knows_people() -> None:
    known = schema("tools")

    def valid(people: Any) -> bool:
        rules = {"tools": {"ask_person": {"people": people}}}
        return jsonschema.Draft202012Validator(known).is_valid(rules)

    assert all(valid(people) for people in (ANN, ESCALATED, {"assignees": "kim"}, None))
    assert not valid({"on_timeout": "approve"}) and not valid({"who": "kim"})
    assert not valid({"on_timeout": 1})


# --- files that are wrong ---


@pytest.mark.parametrize(
    "rule", [{"aproval": True}, {"approval": True, "people": {**ANN, "quorum": 2}}, {"approval": "perhaps"}]
)
def test_an_agent_whose_rules_are_wrong_does_no_step(tmp_path: Path, rule: dict[str, Any]) -> None:
    """A rule that is left out would leave calls without the approval it asks for."""
    root = catalog(tmp_path, {"tool__count": rule})
    with pytest.raises(InvalidDefinition) as caught:
        compiled(root)
    (mistake,) = caught.value.mistakes
    assert mistake.file == "agents/ann/tools-config.json" and mistake.path.startswith("tools.tool__count.")
    assert check_catalog(Catalog.load(root)).errors == [mistake]
    (root / "w.yaml").write_text(WORKFLOW.replace("ann", "bob"))
    assert compiled(root).step("a").agents[0].id == "bob"


# --- content keys ---


def definition(root: Path, rules: dict[str, Any]) -> str:
    return compiled(catalog(root, rules, SERVERS)).step("a").definition


@pytest.mark.parametrize(
    "rule", [{}, {"approval": True}, {"effect": "idempotent", "effect_key": ["to"], "approval": True}]
)
def test_who_answers_is_not_in_the_content_key(tmp_path: Path, rule: dict[str, Any]) -> None:
    peoples: list[dict[str, Any]] = [{}, {"people": ANN}, {"people": ESCALATED}]
    found = {
        definition(tmp_path / str(n), {"bank.pay": {**rule, **more}, "ask_person": more})
        for n, more in enumerate(peoples)
    }
    assert len(found) == 1


def test_a_rule_only_of_people_is_as_no_rule(tmp_path: Path) -> None:
    plain = definition(tmp_path / "a", {"pay": {"effect": "once"}})
    assert definition(tmp_path / "b", {"pay": {"effect": "once"}, "bank.move": {"people": ANN}}) == plain
    assert definition(tmp_path / "c", {"pay": {"effect": "none"}, "bank.move": {"people": ANN}}) != plain


@pytest.mark.parametrize("first", ["bank.pay", "bank__pay"])
def test_a_rule_that_stands_before_another_is_in_the_content_key(tmp_path: Path, first: str) -> None:
    """The first rule that a tool has counts whole: what the one behind it says is then not said."""
    plain = definition(tmp_path / "a", {"pay": {"effect": "idempotent"}})
    before = definition(tmp_path / "b", {"pay": {"effect": "idempotent"}, first: {"people": ANN}})
    assert plain != before
    assert before == definition(
        tmp_path / "c", {"pay": {"effect": "idempotent"}, first: {"people": ESCALATED}}
    )
