"""From a workflow to its plan: order, edges, names, inputs, limits of what is available, size."""

from __future__ import annotations

import json
import string
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.catalogs import AGENT, compiled, examined, make_catalog
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.check.catalog import check_workflow
from workflows.core.compile.compiler import compile_workflow, examine
from workflows.core.compile.edges import find_cycle, order_steps, upstream
from workflows.core.compile.inputs import bind_inputs, coerce
from workflows.core.errors import UsageError
from workflows.core.models.workflow import NOT_YET
from workflows.core.plans.plan import InputPlan, Plan
from workflows.core.read.findings import Findings
from workflows.core.read.output_schemas import check_schema
from workflows.core.read.source import Source


def steps(*lines: str, head: str = "") -> str:
    return f"workflow: w\n{head}steps:\n" + "".join(f"  - {line}\n" for line in lines)


def test_a_plan_is_the_same_after_json(tmp_path: Path) -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    for file in catalog.workflows.values():
        plan = compile_workflow(file, catalog)
        text = json.dumps(plan.model_dump(mode="json", by_alias=True), ensure_ascii=False, allow_nan=False)
        again = Plan.model_validate_json(text)
        assert again == plan and again.definition == plan.definition


def test_edges_come_from_depends_on_and_from_inputs(tmp_path: Path) -> None:
    text = steps(
        "{id: last, agent: ann, inputs: [draft, facts], depends_on: [first]}",
        "{id: write, agent: ann, inputs: [topic], expected_output: draft}",
        "{id: first, agent: ann}",
        "{id: look, agent: bob, depends_on: write, expected_output: facts}",
        head="inputs: {topic: string}\n",
    )
    plan = compiled(make_catalog(tmp_path, w=text))
    assert [s.id for s in plan.steps] == ["write", "first", "look", "last"]
    assert plan.step("last").depends_on == ("first", "write", "look")
    assert plan.step("last").reads == ("draft", "facts")


def test_a_bare_number_names_its_step(tmp_path: Path) -> None:
    text = steps("{id: step-1, agent: ann}", "{id: step-2, agent: ann, depends_on: 1}")
    assert compiled(make_catalog(tmp_path, w=text)).step("step-2").depends_on == ("step-1",)


def test_finally_comes_after_everything_and_reads_all(tmp_path: Path) -> None:
    text = steps("{id: a, agent: ann}", "{id: b, agent: ann}") + (
        'finally:\n  - {id: z, agent: ann, prompt: "{{ a }} {{ b }} {{ steps.a.status }}"}\n'
    )
    plan = compiled(make_catalog(tmp_path, w=text))
    assert plan.finally_[0].reads == ("a", "b", "steps.a")
    assert plan.outputs == ("a", "b")


NAMES = st.integers(2, 12)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Acyclic graphs, their steps written in any order."""
    ids = [f"s{i}" for i in range(draw(NAMES))]
    after = {
        name: tuple(draw(st.lists(st.sampled_from(ids[:i]), unique=True, max_size=4))) if i else ()
        for i, name in enumerate(ids)
    }
    order = draw(st.permutations(ids))
    return {name: after[name] for name in order}


@given(graphs())
def test_order_respects_every_edge(after: dict[str, tuple[str, ...]]) -> None:
    order = order_steps(after)
    place = {name: i for i, name in enumerate(order)}
    assert sorted(order) == sorted(after) and find_cycle(after) is None
    assert all(place[before] < place[name] for name, needed in after.items() for before in needed)
    above = upstream(after, order)
    for name, needed in after.items():
        assert above[name] == frozenset(needed).union(*(above[d] for d in needed))


@given(graphs(), st.data())
def test_a_closed_edge_is_a_cycle(after: dict[str, tuple[str, ...]], data: st.DataObject) -> None:
    above = upstream(after, order_steps(after))
    pairs = [(early, late) for late in after for early in sorted(above[late])]
    if not pairs:
        return
    early, late = data.draw(st.sampled_from(pairs))
    cycle = find_cycle({**after, early: (*after[early], late)})
    assert cycle is not None and cycle[0] == cycle[-1] and {early, late} <= set(cycle) | {early, late}
    closed = {**after, early: (*after[early], late)}
    assert all(following in closed[name] for name, following in pairwise(cycle))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(graphs())
def test_compiled_edges_are_the_written_ones(
    tmp_path_factory: pytest.TempPathFactory, after: dict[str, tuple[str, ...]]
) -> None:
    lines = [
        f"{{id: {name}, agent: ann, "
        + (f"inputs: [{', '.join(needed)}]}}" if i % 2 else f"depends_on: [{', '.join(needed)}]}}")
        for i, (name, needed) in enumerate(after.items())
    ]
    plan = compiled(make_catalog(tmp_path_factory.mktemp("catalog"), w=steps(*lines)))
    assert {s.id: set(s.depends_on) for s in plan.steps} == {k: set(v) for k, v in after.items()}


def test_a_thousand_steps_compile_and_share_their_agents(tmp_path: Path) -> None:
    lines = [
        f"{{id: s{i}, agent: ann, expected_output: out_{i}, inputs: [{f'out_{i - 1}' if i else ''}], "
        f'depends_on: [{f"s{i // 2}" if i > 1 else ""}], prompt: "Do {i} after {{{{ out_{i - 1} }}}}"}}'
        if i
        else "{id: s0, agent: ann, expected_output: out_0}"
        for i in range(1000)
    ]
    plan = compiled(make_catalog(tmp_path, w=steps(*lines)))
    assert [s.id for s in plan.steps] == [f"s{i}" for i in range(1000)]
    assert plan.step("s999").depends_on == ("s499", "s998")
    assert len({id(s.agents[0]) for s in plan.steps}) == 1
    assert len({s.definition for s in plan.steps}) == 1000


def test_a_long_chain_and_a_wide_fan_are_no_trouble(tmp_path: Path) -> None:
    chain = {f"s{i}": ((f"s{i - 1}",) if i else ()) for i in range(5000)}
    assert order_steps(chain) == list(chain) and find_cycle(chain) is None
    assert find_cycle({**chain, "s0": ("s4999",)}) is not None


def test_compiling_imports_no_engine() -> None:
    code = (
        "import sys; from workflows.core.catalog.contents import Catalog, DEFAULT_ROOT;"
        "from workflows.core.check.catalog import check_catalog; check_catalog(Catalog.load(DEFAULT_ROOT));"
        "heavy = ('prefect', 'anthropic', 'sqlalchemy', 'jsonschema', 's3fs', 'asyncio');"
        "print([m for m in heavy if m in sys.modules])"
    )
    root = str(DEFAULT_ROOT.parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


VALUES: dict[str, Any] = {
    "phase": "goals",
    "mcp": "server.tool",
    "process": "models.order.Find",
    "dispatch": "task_list",
    "idle_timeout": "5m",
    "context": {"goal": "recall"},
    "placement": {"pool": "gpu"},
    "rules": ["not empty"],
    "expectations": [{"type": "expect_table_row_count_to_be_between"}],
    "review": {"agent": "bob"},
    "triggers": {"clock": [{"cron": "0 9 * * 1"}]},
}
DOERS_TO_COME = ("phase", "mcp", "process", "dispatch")


@pytest.mark.parametrize(("level", "key"), [(level, key) for level, keys in NOT_YET.items() for key in keys])
def test_keys_that_are_not_available_yet(level: str, key: str, tmp_path: Path) -> None:
    step: dict[str, Any] = {"id": "a", "agent": "ann"}
    whole: dict[str, Any] = {"workflow": "w", "steps": [step]}
    if level == "workflow":
        whole[key] = VALUES[key]
    elif level in ("output", "undo"):
        step[level] = {key: VALUES[key]}
    else:
        step[key] = VALUES[key]
        if key in DOERS_TO_COME:
            del step["agent"]
    (mistake,) = examined(make_catalog(tmp_path, w=json.dumps(whole))).errors
    shown = f"{level}.{key}" if level in ("output", "undo") else key
    assert mistake.message == f"`{shown}` is not available yet" and mistake.path.endswith(key)
    assert mistake.line == 1 and mistake.column > 1 and mistake.cure


def test_a_workflow_as_a_step_and_its_inputs(tmp_path: Path) -> None:
    inner = "workflow: inner\ninputs: {topic: string}\nsteps: [{id: a, agent: ann}]\n"
    outer = steps(
        '{id: call, workflow: inner, args: {topic: "about {{ theme }}"}}', head="inputs: {theme: string}\n"
    )
    plan = compiled(make_catalog(tmp_path, w=outer, inner=inner))
    (step,) = plan.steps
    assert (step.kind, step.reads, step.output.type) == ("workflow", ("theme",), "json")
    assert step.workflow is not None and step.workflow.workflow == "inner"


def test_workflows_may_not_call_themselves(tmp_path: Path) -> None:
    found = examined(make_catalog(tmp_path, w=steps("{id: a, workflow: w}")))
    assert [m.message for m in found.errors] == ["workflows call each other: w -> w"]


def test_a_called_workflow_is_compiled_once(tmp_path: Path) -> None:
    """Twenty levels of two calls each would be a million compilations."""
    calls = "workflow: level{}\nsteps:\n  - {{id: a, workflow: level{}}}\n  - {{id: b, workflow: level{}}}\n"
    levels = {f"level{i}": calls.format(i, i + 1, i + 1) for i in range(20)}
    levels["level20"] = "workflow: level20\nsteps: [{id: a, agent: ann}]\n"
    plan = compiled(make_catalog(tmp_path, **levels), "level0")
    assert plan.steps[0].workflow is plan.steps[1].workflow


def test_two_members_of_a_panel_may_not_be_one_part(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agents: [x.y, ann, x/y]}]\n")
    for folder, name in (("one", "x.y"), ("two", "x/y")):
        (root / "agents" / folder).mkdir()
        (root / "agents" / folder / "config.yaml").write_text(AGENT.format(name=name))
    (error,) = examined(root).errors
    assert "'x/y' and 'x.y' are one part of the panel" in error.message and error.line == 2


def test_a_panel_keeps_its_members_and_their_private_skills(tmp_path: Path) -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    file = tmp_path / "w.yaml"
    file.write_text(
        steps(
            "{id: a, agents: [agent-pm-002, agent-arch-003], skills: [product-design, system-design], "
            "merge: {agent: agent-ai-001, prompt: Compare.}}"
        )
    )
    plan, found = examine(catalog.find_workflow(str(file)), catalog)
    assert plan is not None and not found.errors
    (step,) = plan.steps
    assert {a.id: [s.id for s in a.skills] for a in step.agents} == {
        "agent-pm-002": ["product-design"],
        "agent-arch-003": ["system-design"],
    }
    assert step.merge is not None and step.merge.agent is not None and not step.merge.agent.skills


def test_times_in_a_row_that_do_not_fit_are_told(tmp_path: Path) -> None:
    text = steps(
        "{id: a, agent: ann, timeout: 60}",
        "{id: b, agent: ann, timeout: 60, depends_on: a}",
        "{id: c, agent: ann, timeout: 90}",
        head="total_timeout: 100\n",
    )
    (warning,) = examined(make_catalog(tmp_path, w=text)).warnings
    assert "make 120 s, more than 100 s" in warning.message and warning.line == 2


@pytest.mark.parametrize(
    ("kind", "given_", "value"),
    [
        ("string", "x", "x"),
        ("string", 5, "5"),
        ("integer", "12", 12),
        ("integer", 3.0, 3),
        ("number", "1.5", 1.5),
        ("boolean", "yes", True),
        ("boolean", False, False),
        ("json", '{"a": [1]}', {"a": [1]}),
        ("json", [1], [1]),
        ("list", "a, b,c", ["a", "b", "c"]),
        ("list", '["a", 1]', ["a", 1]),
        ("list", "", []),
        ("secret", "env:S", "[secret S]"),
        ("file", "anything", "anything"),
    ],
)
def test_inputs_are_read_as_their_type(kind: Any, given_: Any, value: Any) -> None:
    read = coerce(InputPlan(name="x", type=kind), given_)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("kind", "given_"),
    [
        ("integer", "1.5"),
        ("integer", True),
        ("integer", 1.5),
        ("integer", "many"),
        ("number", "nan"),
        ("number", "inf"),
        ("number", False),
        ("boolean", "perhaps"),
        ("json", "{"),
        ("list", 5),
        ("list", "[1"),
        ("string", ["a"]),
        ("string", {"a": 1}),
    ],
)
def test_inputs_of_a_wrong_type_are_refused(kind: Any, given_: Any) -> None:
    with pytest.raises(UsageError) as caught:
        coerce(InputPlan(name="x", type=kind), given_)
    assert "'x'" in caught.value.message and caught.value.cure


def test_binding_names_what_is_missing_and_what_is_unknown(tmp_path: Path) -> None:
    head = "inputs:\n  topic: string\n  notes: file\n  level: {type: integer, default: 3, choices: [1, 3]}\n"
    plan = compiled(make_catalog(tmp_path, w=steps("{id: a, agent: ann}", head=head)))
    with pytest.raises(UsageError) as caught:
        bind_inputs(plan, {})
    assert caught.value.message == "missing input: topic, notes"
    assert caught.value.cure == "add -i topic=VALUE -i notes=@FILE"
    with pytest.raises(UsageError, match="has no input 'topik'"):
        bind_inputs(plan, {"topik": "x"})
    with pytest.raises(UsageError, match="may not be '2'"):
        bind_inputs(plan, {"topic": "x", "notes": "y", "level": "2"})
    assert bind_inputs(plan, {"topic": "x", "notes": "y"}) == {"topic": "x", "notes": "y", "level": 3}


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=string.printable + "é需\u200b{}[]&*!|>%@`", max_size=200))
def test_no_text_escapes_as_another_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    catalog = Catalog(DEFAULT_ROOT)
    file = tmp_path_factory.mktemp("junk") / "junk.yaml"
    file.write_text("workflow: w\nsteps:\n" + text, "utf-8")
    found = check_workflow(catalog, str(file))
    assert all(m.cure and m.line >= 1 for m in (*found.errors, *found.warnings))


@pytest.mark.parametrize(
    ("output", "key", "line"),
    [
        ("output: {schema: {type: object}}", "schema", 5),
        ("output: json", "type", 5),
        ("output: {type: table}", "type", 5),
    ],
)
def test_a_panel_with_a_contract_of_data_is_warned_of(
    output: str, key: str, line: int, tmp_path: Path
) -> None:
    text = f"workflow: w\nsteps:\n  - id: a\n    agents: [ann, bob]\n    {output}\n"
    merged = f"{text.replace('workflow: w', 'workflow: merged')}    merge: {{agent: ann}}\n"
    root = make_catalog(tmp_path, w=text, merged=merged)
    (warning,) = examined(root).warnings
    assert (warning.line, warning.path) == (line, f"steps[0].output.{key}")
    assert f"the {key} holds for each member's answer" in warning.message
    assert "{voices: [{agent, name, answer}, ...]}" in warning.message and "NAME.voices" in warning.cure
    assert examined(root, "merged").warnings[0].message.endswith("with `synthesis`")


def test_a_panel_of_texts_and_a_single_agent_are_not(tmp_path: Path) -> None:
    text = steps("{id: a, agents: [ann, bob], output: markdown}", "{id: b, agent: ann, output: json}")
    assert examined(make_catalog(tmp_path, w=text)).warnings == []


@pytest.mark.parametrize("circle", [False, True])
def test_a_long_chain_of_references_ends(circle: bool) -> None:
    defs: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(3000)}
    defs["d3000"] = {"$ref": "#/$defs/d1500"} if circle else {"type": "string"}
    found = Findings()
    check_schema(Source("f", None), (), {"$ref": "#/$defs/d0", "$defs": defs}, found)
    assert [m.message for m in found.errors] == ["the reference leads back to itself"] * circle
