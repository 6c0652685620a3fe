"""Who answers what calling a tool can ask: `people` of a rule in tools-config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.catalogs import SKILL, compiled, examined, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.errors import InvalidDefinition
from workflows.core.plans.plan import DecidersPlan, Plan
from workflows.core.read.editor_schemas import schema
from workflows.core.read.findings import Findings

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
    (tool / "config.yaml").write_text("handlers:\n  - {name: idle, effect: none}\n  - count\n")
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
    name, _, index = key.removesuffix("]").partition("[")
    shown = json.dumps(people[name][int(index)]) if index else f'"{name}"'
    at = lines[mistake.line - 1][mistake.column - 1 :]
    assert at.startswith((shown, json.dumps(people.get(key))))


@pytest.mark.parametrize(
    ("name", "rule", "people", "told"),
    [
        ("tool__count", {"effect": "none"}, ANN, "asks nobody: it needs no approval, and may be repeated"),
        ("tool__count", {"effect": "idempotent"}, ANN, "asks nobody"),
        ("tool__idle", {}, ANN, "asks nobody"),
        ("read_skill", {}, ANN, "asks nobody"),
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


def test_of_equal_names_the_strongest_effect_counts(tmp_path: Path) -> None:
    """Two skills give a tool `tool__idle`: whichever a step has, the warning must not say too much."""
    for number, effect in enumerate(("once", "idempotent", "none")):
        root = catalog(tmp_path / str(number), {"tool__idle": {"people": ANN}})
        for group in ("a", "z"):  # before and behind the shared one
            skill = root / "skills" / group / "tool"
            (skill / "handlers").mkdir(parents=True)
            (skill / "SKILL.md").write_text(SKILL.format(name="tool"))
            (skill / "handlers" / "idle.py").write_text(
                'def idle() -> str:\n    """Idle."""\n    return ""\n'
            )
            (skill / "config.yaml").write_text("handlers: [{name: idle, effect: none}]\n")
        (root / "skills/a/tool/config.yaml").write_text(f"handlers: [{{name: idle, effect: {effect}}}]\n")
        told = [w.message for w in Catalog.load(root).findings.warnings if w.path.startswith("tools.")]
        assert len(told) == (effect != "once")


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
    behind = {"pay": {"effect": "idempotent", "approval": True}}
    plain = definition(tmp_path / "a", behind)
    keys = {
        definition(tmp_path / str(n), {**behind, first: rule})
        for n, rule in enumerate(
            (
                {"effect": None, "approval": False, "people": ANN},
                {"effect": None, "approval": False},
            )
        )
    }
    assert len(keys) == 1 and plain not in keys


def test_a_rule_before_one_that_only_names_people_is_as_no_rule(tmp_path: Path) -> None:
    plain = definition(tmp_path / "a", {})
    assert definition(tmp_path / "b", {"pay": {"people": ANN}, "bank.pay": {"people": ESCALATED}}) == plain


# --- a step's own skill and undo -----------------------------------------------------------------------


def step_catalog(root: Path, step: str, effect: str = "once") -> Path:
    """A workflow of one step; the handler `idle` of the shared skill has the effect, `count` has `once`."""
    make_catalog(root, w=f"workflow: w\nsteps: [{{id: a, {step}}}]\n")
    tool = root / "skills" / "shared" / "tool"
    (tool / "handlers" / "idle.py").write_text('def idle() -> str:\n    """Idle."""\n    return ""\n')
    (tool / "config.yaml").write_text(f"handlers:\n  - {{name: idle, effect: {effect}}}\n")
    return root


IDLE = "skill: shared/tool, handler: idle"
UNDO = "undo: {skill: shared/tool, handler: idle}"


@pytest.mark.parametrize("step", [IDLE, f"agent: ann, {UNDO}"])
def test_a_step_says_who_answers(tmp_path: Path, step: str) -> None:
    plan = compiled(step_catalog(tmp_path, f"{step}, people: {{assignees: [kim], deadline: 1d}}"))
    assert plan.step("a").people == DecidersPlan(assignees=("kim",), deadline=86_400)


def test_who_answers_is_no_part_of_a_step(tmp_path: Path) -> None:
    plain = compiled(step_catalog(tmp_path / "a", IDLE)).step("a").definition
    assert compiled(step_catalog(tmp_path / "b", f"{IDLE}, people: {{assignees: [kim]}}")).step(
        "a"
    ).definition == (plain)


@pytest.mark.parametrize(
    ("step", "message", "cure"),
    [
        ("agent: ann, people: {}", "`people` goes with `skill` or `undo`", "tools-config.json"),
        ("approval: {ask: Well?}, people: {}", "`people` does nothing beside `approval`", "`assignees:`"),
        ("await_event: {type: t}, people: {}", "`people` does nothing beside `await_event`", "needs nobody"),
        (f"{IDLE}, people: {{quorum: 2, assignees: [kim]}}", "2 must agree", "quorum: 1"),
        (f"{IDLE}, people: {{on_timeout: fail}}", "there is no deadline", "deadline:"),
        (f"{IDLE}, people: {{deadline: 1d, on_timeout: reject}}", "nobody can reject", "fail or escalate"),
    ],
)
def test_what_is_wrong_with_those_of_a_step(tmp_path: Path, step: str, message: str, cure: str) -> None:
    (error,) = examined(step_catalog(tmp_path, step)).errors
    assert message in error.message and cure in f"{error.message} {error.cure}" and error.line


def test_silence_says_nothing_of_a_step(tmp_path: Path) -> None:
    step = f"{IDLE}, people: {{deadline: 1d, on_timeout: approve}}"
    with pytest.raises(InvalidDefinition, match="silence never approves"):
        compiled(step_catalog(tmp_path, step))


@pytest.mark.parametrize(("effect", "warned"), [("once", 0), ("idempotent", 1), ("none", 1)])
def test_those_of_a_call_that_asks_nobody(tmp_path: Path, effect: str, warned: int) -> None:
    found = examined(step_catalog(tmp_path, f"{IDLE}, people: {{assignees: [kim]}}", effect))
    assert not found.errors and len(found.warnings) == warned
