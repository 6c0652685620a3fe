"""A kind of doer that comes from outside: one entry a floor, and all between a file and a run knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployments.prover.reach import refuse_far_reaching
from flows.steps.parts import IN_UNITS
from tasks.doers import registry as doing
from tasks.doers.work import Work
from tasks.outputs.stored import store_output
from tasks.results import StepResult
from tests.support.catalogs import examined
from tests.support.flows import FLOW_MARKS, Bench
from workflows.core.doers import registry as planning
from workflows.core.doers.kind import Doer, Looks, Planner
from workflows.core.errors import UsageError
from workflows.core.graph.picture import picture_of
from workflows.core.graph.text import dot, mermaid
from workflows.core.models.workflow import DOERS, NOT_YET
from workflows.core.plans.estimate import estimate_plan
from workflows.core.plans.plan import Plan, WorkPlan

pytestmark = FLOW_MARKS

STEPS = """inputs: {topic: {type: string, default: tea}}
steps:
  - {id: a, process: house.shout, args: {text: "{{ topic }}"}}
  - {id: b, depends_on: a, skill: shared/tool, handler: give, args: {text: "{{ a.loud }}"}}
"""


def _plan(planner: Planner) -> dict[str, Any]:
    name = planner.step.process or ""
    return {"work": WorkPlan(doer=name, facts={"process": name})}


async def _do(work: Work) -> StepResult:
    data = {"loud": (await work.render(work.step.args["text"])).upper()}
    ref = await store_output("", data, work.step.output, work.context, work.path)
    return StepResult(step=work.step.id, path=work.path, output=ref, agent=work.step.doer)


PROCESS = Doer(
    kind="process",
    key="process",
    looks=Looks(("#ffffff", "#123456"), mermaid=("[[", "]]"), dot="component"),
    plan=_plan,
    describe=lambda step: f"process {step.doer}",
    brief=lambda step: step.doer,
    lines=lambda step: (f"process {step.doer}",),
    takes=frozenset(("args",)),
)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind `process` on each floor."""
    monkeypatch.setitem(planning.DOERS, "process", PROCESS)
    monkeypatch.setitem(doing.DOERS, "process", _do)


@pytest.mark.usefixtures("process")
def test_a_new_kind_goes_from_the_file_to_the_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=STEPS)
    plan = bench.plan()
    assert (plan.steps[0].kind, plan.steps[0].doer, plan.steps[0].output.type) == (
        "process",
        "house.shout",
        "json",
    )
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan
    assert estimate_plan(plan, {}).ceiling.tokens == 0
    picture = picture_of(plan)
    assert "process house.shout" in mermaid(picture) and "shape=component" in dot(picture)
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert json.loads(bench.output(ran, "b")) == {"value": 0, "text": "TEA"}
    assert bench.rows()["a"].agent == "house.shout"


@pytest.mark.usefixtures("process")
def test_what_a_new_kind_does_is_in_the_content_key(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=STEPS, v=STEPS.replace("house.shout", "house.whisper"))
    assert bench.plan("w").steps[0].definition != bench.plan("v").steps[0].definition


@pytest.mark.usefixtures("process")
def test_keys_that_a_new_kind_does_not_read_are_told(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=STEPS.replace("process: house.shout,", "process: house.shout, skills: [],"))
    found = [mistake.message for mistake in examined(bench.catalog).errors]
    assert found == ["`skills` does nothing beside `process`"]


@pytest.mark.usefixtures("process")
def test_who_does_not_say_is_taken_to_act(tmp_path: Path) -> None:
    step = "  - {id: a, process: house.shout, cache: always, args: {text: hi}}\n"
    bench = Bench(tmp_path, w=f"steps:\n{step}")
    assert any("has the effect `once`" in m.message for m in examined(bench.catalog).errors)
    with pytest.raises(UsageError, match=r"house\.shout in the step 'a'"):
        refuse_far_reaching(Bench(tmp_path / "b", w=f"steps:\n{step.replace(' cache: always,', '')}").plan())


def test_without_its_entry_it_is_not_available(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=STEPS)
    assert "`process` is not available yet" in [m.message for m in examined(bench.catalog).errors]


def test_every_kind_has_an_entry_on_each_floor() -> None:
    planned = set(planning.DOERS)
    assert planned == set(doing.DOERS) | set(IN_UNITS)
    assert not set(doing.DOERS) & set(IN_UNITS), "a step is one unit or several"
    assert planning.available_keys() == set(DOERS) - set(NOT_YET["step"])
