"""The flow of a workflow as Prefect sees it: its name, its typed parameters, what it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prefect.exceptions import ParameterTypeError

from blocks.ledger import Ledger
from flows.compiled import build_flow
from tests.support.flows import FLOW_MARKS, Bench, agent, steps
from workflows.core.errors import UsageError

pytestmark = FLOW_MARKS

INPUTS = """description: What it is for.
inputs:
  topic: {type: string, description: What about}
  count: {type: integer, default: 2}
  share: {type: number, required: false}
  loud: {type: boolean, default: false}
  size: {type: string, choices: [small, large], default: small}
  brief: {type: file}
  names: {type: list, default: [x]}
  extra: {type: json, required: false}
"""


def bench_of(tmp_path: Path) -> Bench:
    step = agent("a").replace("[a] go", "[a {{ topic }} {{ count + 1 }} {{ size }}] {{ brief }}")
    return Bench(tmp_path, w=steps(step, also=INPUTS))


def test_the_schema_of_a_flow(tmp_path: Path) -> None:
    flow = build_flow(bench_of(tmp_path).plan())
    assert flow.name == "w" and flow.description == "What it is for."
    schema = flow.parameters.model_dump()
    assert schema["required"] == ["topic", "brief"]
    properties = schema["properties"]
    assert properties["topic"] | {"position": 0, "title": "topic"} == {
        "type": "string",
        "description": "What about",
        "position": 0,
        "title": "topic",
    }
    assert properties["count"]["type"] == "integer" and properties["count"]["default"] == 2
    assert {"type": "number"} in properties["share"]["anyOf"]
    assert properties["loud"]["type"] == "boolean"
    assert properties["size"]["enum"] == ["small", "large"] and properties["size"]["default"] == "small"
    assert {"type": "string"} in properties["brief"]["anyOf"] and len(properties["brief"]["anyOf"]) == 2
    assert properties["names"]["type"] == "array" and properties["names"]["default"] == ["x"]
    assert {"run_id", "offline"} <= set(properties)


def test_typed_values_reach_the_steps(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    assert bench.run(topic="bees", brief="# A brief", count=4).outcome.status == "completed"
    assert bench.model.asked == ["a bees 5 small"]
    assert set(bench.row().inputs["brief"]) == {"ref"}


@pytest.mark.parametrize(
    "wrong",
    [{"count": "many"}, {"size": "medium"}, {"names": 3}, {"loud": "perhaps"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_parameter_is_refused_before_the_start(tmp_path: Path, wrong: dict[str, object]) -> None:
    bench = bench_of(tmp_path)
    with pytest.raises(ParameterTypeError):
        bench.run(topic="bees", brief="text", **wrong)
    assert bench.model.asked == [] and not bench.home.exists()


def test_a_missing_input_is_refused_before_anything_starts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "inputs: [brief]")))
    plan = bench.plan()
    assert [i.required for i in plan.inputs] == [True]
    with pytest.raises((UsageError, TypeError)):
        bench.run()
    assert bench.model.asked == []
    if bench.home.exists():
        with Ledger.open(bench.settings.database) as ledger:
            assert ledger.reader.list_runs("default") == []


def test_a_flow_is_given_what_another_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")))
    bench.write("second", "inputs: {a: {type: file}}\n" + steps(agent("b", "inputs: [a]")))
    ran = bench.run()
    document = asyncio.run(ran.state.aresult())
    assert (document["run_id"], document["status"], document["statuses"]) == (
        "r",
        "completed",
        {"a": "completed"},
    )
    assert bench.run("second", "r2", a=document["outputs"]["a"]).outcome.status == "completed"
    assert "The answer to a." in str(bench.model.requests[-1]["messages"])
