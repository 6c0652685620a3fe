"""Steps that wait: their plans, whom a rejection holds up, who may ask, what is warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import compiled, examined, make_catalog
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.compile.compiler import compile_workflow
from workflows.core.expressions.templates import Expression, Template
from workflows.core.plans.estimate import estimate_waiting
from workflows.core.plans.plan import ApprovalPlan, AwaitEventPlan, Plan

FORM = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number", "minimum": 1}}}
ASK = {"id": "ask", "approval": {"ask": "Go on?"}}


def written(*steps: dict[str, Any], **more: Any) -> str:
    """A workflow `w` of these steps; JSON is YAML."""
    return json.dumps({"workflow": "w", "steps": list(steps), **more})


def plan_of(root: Path, *steps: dict[str, Any], **more: Any) -> Plan:
    return compiled(make_catalog(root, w=written(*steps, **more)))


def test_an_approval_as_a_plan(tmp_path: Path) -> None:
    asked = {
        "ask": "Refund {{ draft }}?",
        "form": FORM,
        "assignees": "alice",
        "deadline": "2d",
        "on_timeout": "escalate",
        "escalate_to": ["bob", "carol@example.com"],
    }
    step = plan_of(
        tmp_path,
        {"id": "a", "agent": "ann", "expected_output": "draft"},
        {"id": "ask", "approval": asked, "depends_on": "a", "inputs": ["draft"], "expected_output": "answer"},
    ).step("ask")
    assert (step.kind, step.output.name, step.output.type) == ("approval", "answer", "json")
    assert (step.reads, step.inputs, step.depends_on) == (("draft",), ("draft",), ("a",))
    assert step.approval == ApprovalPlan(
        ask="Refund {{ draft }}?",
        form=FORM,
        assignees=("alice",),
        deadline=172_800,
        on_timeout="escalate",
        escalate_to=("bob", "carol@example.com"),
    )
    assert not step.agents and step.prompt == ""


def test_a_wait_for_an_event_as_a_plan(tmp_path: Path) -> None:
    event = {"type": "payment.settled", "key": "{{ order.id }}", "deadline": "1h", "on_timeout": "continue"}
    plan = plan_of(tmp_path, {"id": "paid", "await_event": event}, inputs={"order": "json"})
    step = plan.step("paid")
    assert (step.kind, step.output.name, step.output.type) == ("await_event", "paid", "json")
    assert step.await_event == AwaitEventPlan(
        type="payment.settled", key="{{ order.id }}", deadline=3600, on_timeout="continue"
    )
    assert step.reads == ("order",)
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


@pytest.mark.parametrize(
    ("follower", "guards"),
    [
        ({"depends_on": "ask"}, ("ask",)),
        ({"inputs": ["decision"]}, ("ask",)),
        ({"depends_on": "ask", "when": "steps.ask.status == 'completed'"}, ("ask",)),
        ({"depends_on": ["ask", "other"], "when": "decision.approved"}, ("other",)),
        ({"depends_on": "ask", "when": "not decision.approved"}, ()),
        ({"depends_on": "ask", "when": "decision.data.amount > 5 and topic"}, ()),
        ({"depends_on": "ask", "when": True}, ("ask",)),
        ({"depends_on": "ask", "when": "topic == 'decision'"}, ("ask",)),
        ({"depends_on": "between"}, ()),
        ({"depends_on": "paid"}, ()),
        ({}, ()),
    ],
)
def test_a_rejection_skips_what_follows_unless_its_condition_reads_the_answer(
    follower: dict[str, Any], guards: tuple[str, ...], tmp_path: Path
) -> None:
    plan = plan_of(
        tmp_path,
        ASK | {"expected_output": "decision"},
        ASK | {"id": "other"},
        {"id": "paid", "await_event": {"type": "paid"}},
        {"id": "between", "agent": "ann", "depends_on": "ask"},
        {"id": "next", "agent": "ann", **follower},
        inputs={"topic": "string"},
    )
    assert plan.step("next").guards == guards
    assert plan.step("ask").guards == ()


def test_an_approval_guards_the_next_one(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ASK, ASK | {"id": "second", "depends_on": "ask"})
    assert plan.step("second").guards == ("ask",)


@pytest.mark.parametrize(
    ("when", "cure"),
    [("ask", "write ask.approved"), ("not ask", "write not ask.approved"), ("  ask ", "write ask.approved")],
)
def test_an_answer_as_a_condition_is_told(when: str, cure: str, tmp_path: Path) -> None:
    text = written(ASK, {"id": "b", "agent": "ann", "depends_on": "ask", "when": when})
    found = examined(make_catalog(tmp_path, w=text))
    (warning,) = found.warnings
    assert "true whatever was decided" in warning.message and cure in warning.cure
    assert not found.errors


def test_what_is_only_odd_is_a_warning(tmp_path: Path) -> None:
    asked = {"ask": "Go on?", "form": FORM, "assignees": ["ann"], "deadline": 60, "on_timeout": "approve"}
    found = examined(make_catalog(tmp_path, w=written({"id": "ask", "approval": asked})))
    assert [w.message for w in found.warnings] == [
        "'ann' is an agent; only people answer",
        "approved by its deadline it has no data, while the form requires amount",
    ]
    assert not found.errors


KEYS_BESIDE = {
    "description": "About.",
    "name": "Ask",
    "requires": "all",
    "when": "topic",
    "on_failure": "continue",
    "inputs": ["topic"],
    "expected_output": "answer",
}


@pytest.mark.parametrize("doer", [{"approval": {"ask": "Go on?"}}, {"await_event": {"type": "paid"}}])
def test_keys_that_a_wait_takes(doer: dict[str, Any], tmp_path: Path) -> None:
    found = examined(
        make_catalog(tmp_path, w=written({"id": "a", **doer, **KEYS_BESIDE}, inputs={"topic": "string"}))
    )
    assert not found.errors and not found.warnings


# --- content keys --------------------------------------------------------------------------------------


def definition(root: Path, step: dict[str, Any]) -> str:
    root.mkdir()
    return plan_of(root, step).step(step["id"]).definition


SAME = [
    {"assignees": ["alice", "bob"], "quorum": 2},
    {"deadline": "1d", "on_timeout": "reject"},
    {"deadline": "1d", "on_timeout": "escalate", "escalate_to": "bob"},
]


@pytest.mark.parametrize("more", SAME)
def test_who_is_asked_and_until_when_is_not_in_the_content_key(more: dict[str, Any], tmp_path: Path) -> None:
    changed = {"id": "ask", "approval": {"ask": "Go on?", **more}}
    assert definition(tmp_path / "a", ASK) == definition(tmp_path / "b", changed)


@pytest.mark.parametrize("more", [{"ask": "Really?"}, {"form": FORM}])
def test_what_is_asked_is_in_the_content_key(more: dict[str, Any], tmp_path: Path) -> None:
    changed = {"id": "ask", "approval": {"ask": "Go on?", **more}}
    assert definition(tmp_path / "a", ASK) != definition(tmp_path / "b", changed)


def test_of_an_event_type_and_key_are_in_the_content_key(tmp_path: Path) -> None:
    events = [
        {"type": "paid"},
        {"type": "paid", "deadline": 5, "on_timeout": "continue"},
        {"type": "sent"},
        {"type": "paid", "key": "1"},
    ]
    keys = [definition(tmp_path / str(n), {"id": "e", "await_event": e}) for n, e in enumerate(events)]
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_a_workflow_step_changes_with_whom_a_rejection_holds_up(tmp_path: Path) -> None:
    """Whether an inner step is skipped decides what the workflow gives."""
    keys = []
    for number, after in enumerate((["ask"], [])):
        inner = {"workflow": "inner", "steps": [ASK, {"id": "b", "agent": "ann", "depends_on": after}]}
        outer = written({"id": "call", "workflow": "inner"})
        root = make_catalog(tmp_path / str(number), w=outer, inner=json.dumps(inner))
        keys.append(compiled(root).step("call").definition)
    assert keys[0] != keys[1]


# --- agents that ask -----------------------------------------------------------------------------------


def asking_agent(root: Path, permissions: str = "", tools: dict[str, Any] | None = None) -> Path:
    """A catalog whose agent `ann` has these permissions and this tools-config.json."""
    steps: list[dict[str, Any]] = [
        {"id": "a", "agent": "ann"},
        {"id": "p", "agents": ["ann", "bob"], "merge": {"agent": "ann"}},
    ]
    make_catalog(root, w=written(*steps, **{"finally": [{"id": "z", "agent": "ann"}]}))
    config = root / "agents/ann/config.yaml"
    config.write_text(config.read_text() + permissions)
    if tools is not None:
        (root / "agents/ann/tools-config.json").write_text(json.dumps({"tools": tools}))
    return root


@pytest.mark.parametrize(
    ("permissions", "tools", "asks"),
    [
        ("", None, False),
        ("", {}, False),
        ("", {"ask_person": {}}, True),
        ("", {"ask_person": {"allow": False}}, False),
        ("  permissions: {tools: [ask_person]}\n", None, True),
        ("  permissions: [{tools: [read_skill]}]\n", None, False),
        ("  permissions: {tools: [ask_person]}\n", {"ask_person": {"allow": False}}, False),
    ],
)
def test_which_agents_may_ask(
    permissions: str, tools: dict[str, Any] | None, asks: bool, tmp_path: Path
) -> None:
    plan = compiled(asking_agent(tmp_path, permissions, tools))
    assert [a.ask_person for a in (*plan.step("a").agents, *plan.step("p").agents)] == [asks, asks, False]


def test_nobody_is_asked_in_finally_and_in_a_synthesis(tmp_path: Path) -> None:
    plan = compiled(asking_agent(tmp_path, tools={"ask_person": {}}))
    assert [a.ask_person for a in plan.step("z").agents] == [False]
    merge = plan.step("p").merge
    assert merge is not None and merge.agent is not None and not merge.agent.ask_person


def test_the_tool_is_in_the_content_key(tmp_path: Path) -> None:
    silent = compiled(asking_agent(tmp_path / "a"))
    asking = compiled(asking_agent(tmp_path / "b", tools={"ask_person": {}}))
    assert silent.step("a").definition != asking.step("a").definition


# --- how long ------------------------------------------------------------------------------------------


def test_how_long_a_plan_may_wait(tmp_path: Path) -> None:
    late = {"ask": "Go on?", "deadline": "1d", "on_timeout": "escalate", "escalate_to": "bob"}
    inner = {"workflow": "inner", "steps": [{"id": "paid", "await_event": {"type": "paid", "deadline": 60}}]}
    outer = written(
        {"id": "a", "approval": late},
        {"id": "b", "approval": {"ask": "Go on?", "deadline": "3h"}, "depends_on": "a"},
        {"id": "c", "workflow": "inner", "depends_on": "a"},
    )
    found = estimate_waiting(compiled(make_catalog(tmp_path, w=outer, inner=json.dumps(inner))))
    assert found.steps == ("a", "b", "c/paid")
    assert found.seconds == 2 * 86_400 + 3 * 3_600


def test_a_wait_without_a_deadline_has_no_end(tmp_path: Path) -> None:
    found = estimate_waiting(plan_of(tmp_path, ASK, {"id": "a", "agent": "ann"}))
    assert (found.steps, found.seconds) == (("ask",), None)
    assert estimate_waiting(plan_of(tmp_path / "b", {"id": "a", "agent": "ann"})).seconds == 0


# --- the default catalog's example ---------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "number": "RF-1",
    "register_folder": "",
    "proposal": {"amount": 947.0, "reason": "Not used.", "doubts": ["Which day?"]},
    "entry": {"amount": 900.0, "number": "RF-1", "reason": "Not used."},
}
APPROVED = {
    "approved": True,
    "data": {"amount": 900},
    "votes": [{"voter": "alice", "decision": "approve", "note": "", "at": 1}],
    "by_timeout": False,
}
LATE: dict[str, Any] = {"approved": False, "data": {}, "votes": [], "by_timeout": True}


def example() -> Plan:
    catalog = Catalog.load(DEFAULT_ROOT)
    return compile_workflow(catalog.find_workflow("refund-with-approval"), catalog)


def test_the_example_records_only_what_was_approved() -> None:
    plan = example()
    assert plan.step("record").guards == ("decide",)
    assert plan.step("decline").guards == () and plan.step("decline").when is not None
    assert Expression.parse(plan.step("decline").when or "").holds({"decision": LATE})
    assert not Expression.parse(plan.step("decline").when or "").holds({"decision": APPROVED})
    assert plan.step("confirm").depends_on == ("record",)


def test_the_example_reads_every_kind_of_answer() -> None:
    plan, scope = example(), {**VALUES, "decision": APPROVED}
    asked = plan.step("decide").approval
    assert asked is not None
    assert "建议退 947.0 元" in Template.parse(asked.ask).render(scope)
    voters = plan.step("record").args["decided_by"].removeprefix("{{").removesuffix("}}")
    assert Expression.parse(voters).evaluate(scope) == ["alice"]
    for step_id, decision, text in (
        ("confirm", APPROVED, "原路退回"),
        ("confirm", APPROVED | {"data": {"amount": 1, "comment": "抱歉"}}, "抱歉"),
        ("decline", LATE, "没有答复"),
        ("decline", APPROVED | {"votes": [{"voter": "bob", "note": "缺发票"}]}, "缺发票"),
    ):
        points = plan.step(step_id).args["points"]
        found = [Template.parse(p).render({**VALUES, "decision": decision}) for p in points]
        assert any(text in line for line in found), found
