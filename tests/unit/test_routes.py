"""What a winning routing rule runs: a named workflow, its own steps, an agent, a panel, a skill."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import pytest

from deployments.catalogs.opening import plan_of, route
from deployments.commands.route import execute
from deployments.terminal.display import Out
from tests.support.catalogs import make_catalog
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.compile.compiler import compile_workflow
from workflows.core.compile.inputs import bind_inputs
from workflows.core.errors import InvalidDefinition, Mistake, UsageError
from workflows.core.plans.plan import Plan
from workflows.core.routing.matching import Rule, choose
from workflows.core.routing.routes import one_step_workflow, resolve_rule, rules

WORKFLOW = "workflow: w\ninputs: {request: string, level: {type: integer, default: 1}}\n"
WORKFLOW += "steps: [{id: a, agent: ann}]\n"


def ruled(root: Path, text: str, **workflows: str) -> Catalog:
    make_catalog(root, **workflows)
    (root / "orchestrator").mkdir()
    (root / "orchestrator" / "routing-rules.yaml").write_text("routing_rules:\n" + text)
    return Catalog.load(root)


def run_of(catalog: Catalog, text: str) -> tuple[Plan, dict[str, object]]:
    choice = choose(rules(catalog), text)
    assert choice.rule is not None
    target = resolve_rule(catalog, choice.rule, text)
    plan = compile_workflow(target.file, catalog)
    return plan, bind_inputs(plan, target.inputs)


def warnings(catalog: Catalog) -> list[Mistake]:
    found = check_catalog(catalog)
    assert found.errors == []
    return found.warnings


def test_one_agent_answers_the_text(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, "  - {name: r, pattern: x, agents: [ann], timeout: 60}\n")
    plan, inputs = run_of(catalog, "x {{ not a template }}")
    (step,) = plan.steps
    assert (plan.workflow, step.kind, step.prompt, step.reads) == (
        "r",
        "agent",
        "{{ request }}",
        ("request",),
    )
    assert plan.total_timeout == 60 and inputs == {"request": "x {{ not a template }}"}


def test_the_plan_does_not_depend_on_the_text(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, "  - {name: r, pattern: x, agents: [ann]}\n")
    first, second = run_of(catalog, "x one")[0], run_of(catalog, "x two")[0]
    assert first == second


def test_several_agents_are_a_panel(tmp_path: Path) -> None:
    plan, _ = run_of(ruled(tmp_path, "  - {name: r, pattern: x, agents: [ann, bob]}\n"), "x")
    assert plan.steps[0].kind == "panel" and [a.id for a in plan.steps[0].agents] == ["ann", "bob"]
    assert one_step_workflow(["ann", "bob"]).steps[0].agents == ("ann", "bob")


def test_a_skill_answers_without_an_agent(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, "  - {name: r, pattern: x, agents: null, skill: shared/tool}\n")
    plan, inputs = run_of(catalog, "x")
    (step,) = plan.steps
    assert (step.kind, step.args, step.reads, step.agents) == ("skill", {"text": "request"}, ("request",), ())
    assert inputs == {"request": "x"} and warnings(catalog) == []


def test_a_named_workflow_gets_the_text_when_it_asks_for_it(tmp_path: Path) -> None:
    text = "  - {name: r, pattern: x, workflow: w, priority: 2}\n  - {name: s, pattern: y, workflow: v}\n"
    other = "workflow: v\nsteps: [{id: a, agent: ann}]\n"
    catalog = ruled(tmp_path, text, w=WORKFLOW, v=other)
    assert run_of(catalog, "x")[1] == {"request": "x", "level": 1}
    assert run_of(catalog, "y")[1] == {}


def test_a_rule_that_names_nobody_is_warned_of_and_refused(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, '  - {name: r, pattern: ".*", agents: null}\n')
    (warning,) = warnings(catalog)
    assert "names no agent, workflow or skill" in warning.message and warning.line == 2
    with pytest.raises(UsageError, match="add `skill:` to the rule"):
        run_of(catalog, "anything")


def test_a_named_workflow_that_is_gone(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, "  - {name: r, pattern: x, workflow: w}\n", w=WORKFLOW)
    with pytest.raises(UsageError, match="no workflow 'v'"):
        resolve_rule(catalog, Rule("r2", "x", workflow="v"), "x")


def test_mistakes_of_a_rules_own_steps_stand_in_the_rules(tmp_path: Path) -> None:
    catalog = ruled(
        tmp_path, "  - name: r\n    pattern: x\n    workflow:\n      - step: 1\n        agent: nobody\n"
    )
    with pytest.raises(InvalidDefinition) as caught:
        run_of(catalog, "x")
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line) == ("orchestrator/routing-rules.yaml", 6)
    assert (mistake.path, mistake.value) == ("routing_rules[0].workflow[0].agent", "nobody")


def test_a_rule_behind_one_that_takes_everything_can_never_win(tmp_path: Path) -> None:
    text = '  - {name: all, pattern: ".*", agents: [ann], priority: 5}\n'
    text += "  - {name: late, pattern: x, agents: [ann], priority: 1}\n"
    text += "  - {name: early, pattern: x, agents: [ann], priority: 9}\n"
    (warning,) = warnings(ruled(tmp_path, text))
    assert "'late' can never win: 'all' comes first" in warning.message and warning.line == 3


def test_a_timeout_beside_the_workflows_own_is_told(tmp_path: Path) -> None:
    timed = WORKFLOW.replace("steps:", "total_timeout: 90\nsteps:")
    (warning,) = warnings(ruled(tmp_path, "  - {name: r, pattern: x, workflow: w, timeout: 60}\n", w=timed))
    assert warning.message == "60 s here, but 90 s in w.yaml; the workflow's holds"


def test_step_timeouts_beyond_the_rules_are_told(tmp_path: Path) -> None:
    own = "  - name: r\n    pattern: x\n    timeout: 60\n    workflow:\n"
    own += "      - {step: 1, agent: ann, timeout: 50}\n"
    own += "      - {step: 2, agent: ann, timeout: 50, depends_on: 1}\n"
    (warning,) = warnings(ruled(tmp_path, own))
    assert "make 100 s, more than 60 s" in warning.message and warning.line == 4


def test_every_rule_of_the_default_catalog_compiles() -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    for rule in rules(catalog):
        target = resolve_rule(catalog, rule, "text")
        assert compile_workflow(target.file, catalog).steps
        assert rule.file == "orchestrator/routing-rules.yaml" and rule.line > 1


# ---------------------------------------------------------------- rules that cannot be tried

BROKEN = """  - {name: low, pattern: x, agents: [ann], priority: 1}
  - {name: bad, pattern: '(x', agents: [bob], priority: 2}
  - {name: high, pattern: y, agents: [ann], priority: 3}
"""


def test_a_rule_that_cannot_be_tried_is_not_passed_over(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, BROKEN)
    with pytest.raises(InvalidDefinition) as caught:
        route(catalog, "an x")
    (mistake,) = caught.value.mistakes
    assert (mistake.file, mistake.line, mistake.path) == (
        "orchestrator/routing-rules.yaml",
        3,
        "routing_rules[1].pattern",
    )
    assert "not a usable pattern: missing )" in mistake.message and mistake.cure
    # A text that is taken before the rule's turn comes does not need it.
    choice = route(catalog, "y before x")
    assert choice.rule is not None and choice.rule.name == "high"
    # Without a winner every rule was tried.
    with pytest.raises(InvalidDefinition):
        route(catalog, "nothing")


def test_the_commands_refuse_it(tmp_path: Path) -> None:
    catalog = ruled(tmp_path, BROKEN)
    args = argparse.Namespace(catalog=catalog.root, text="an x", explain=False)
    with pytest.raises(InvalidDefinition):
        execute(args, Out(stdout=io.StringIO(), stderr=io.StringIO()))
    with pytest.raises(InvalidDefinition):
        plan_of(catalog, "", args.text)


def test_a_rule_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    """Another workflow does not run in its place: a faster machine might have taken this one."""
    rules_text = "  - {name: slow, pattern: '(a|aa)+$', agents: [bob], priority: 2}\n"
    catalog = ruled(tmp_path, rules_text + "  - {name: next, pattern: b, agents: [ann]}\n")
    args = argparse.Namespace(catalog=catalog.root, text="a" * 60 + "b", explain=False)
    for refuse in (lambda: route(catalog, args.text), lambda: plan_of(catalog, "", args.text)):
        with pytest.raises(InvalidDefinition) as caught:
            refuse()
        (mistake,) = caught.value.mistakes
        assert (mistake.file, mistake.line) == ("orchestrator/routing-rules.yaml", 2)
        assert "the rule 'slow': the search took more than 0.2 s" in mistake.message and mistake.cure
