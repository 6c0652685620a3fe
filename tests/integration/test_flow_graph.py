"""What Prefect draws of a run: exactly the declared edges, once the parts of a step are folded into it."""

from __future__ import annotations

from pathlib import Path

from deployments.server.kept_server import ServerInfo
from tests.support.flows import FLOW_MARKS, Bench, Script, agent, graph_of, steps

pytestmark = FLOW_MARKS

INNER = steps(
    agent("one"), agent("two", after="one"), also="inputs: {topic: {type: string, default: x}}\n"
).replace("[one] go", "[one] {{ topic }}")


def test_a_chain_with_an_edge_from_data_only(tmp_path: Path, prefect_server: ServerInfo) -> None:
    c = agent("c", "inputs: [a]", after="b")
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", "inputs: [a]"), c))
    ran = bench.run()
    assert ran.outcome.status == "completed"
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 3)
    assert graph.edges == {("a", "b"), ("a", "c"), ("b", "c")}
    assert graph.nodes == {"a": ["a"], "b": ["b"], "c": ["c"]}
    assert graph.double == []


def test_a_diamond_with_a_panel(tmp_path: Path, prefect_server: ServerInfo) -> None:
    panel = '  - id: c\n    agents: [ann, bob]\n    prompt: "[c] go"\n    depends_on: [a]\n'
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", after="a"), panel, agent("d", after="b, c")))
    ran = bench.run()
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 6)
    assert graph.edges == {("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert sorted(graph.nodes["c"]) == ["c", "c · ann", "c · bob"]
    assert graph.double == []


def test_each_item_is_a_task_run(tmp_path: Path, prefect_server: ServerInfo) -> None:
    each = agent("each", 'for_each: ["x", "y", "z"]', after="a")
    bench = Bench(tmp_path, w=steps(agent("a"), each, agent("b", after="each")))
    ran = bench.run()
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 6)
    assert graph.edges == {("a", "each"), ("each", "b")}
    assert len(graph.nodes["each"]) == len(set(graph.nodes["each"])) == 4
    assert graph.double == []


def test_a_long_list_is_done_in_at_most_a_hundred_batches(tmp_path: Path, prefect_server: ServerInfo) -> None:
    each = agent("each", "for_each: range(300) | list", "max_concurrent: 5", after="a")
    bench = Bench(tmp_path, w=steps(agent("a"), each, agent("b", after="each"), also="max_concurrent: 3\n"))
    ran = bench.run()
    assert ran.outcome.status == "completed"
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 103)
    assert graph.edges == {("a", "each"), ("each", "b")}
    assert len(graph.nodes["each"]) == 101
    assert graph.double == []
    assert bench.model.asked.count("each") == 300
    assert bench.model.most <= 3
    rows = bench.rows()
    assert sum(path.startswith("each/") for path in rows) == 300
    again = bench.run()
    assert again.reused == {"a": True, "each": True, "b": True}
    assert bench.model.asked.count("each") == 300


def test_iterations_follow_each_other(tmp_path: Path, prefect_server: ServerInfo) -> None:
    again = agent("r", "repeat: {until: iteration == 3, max: 5}", after="a")
    bench = Bench(tmp_path, w=steps(agent("a"), again, agent("b", after="r")))
    ran = bench.run()
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 5)
    assert graph.edges == {("a", "r"), ("r", "b")}
    assert sorted(graph.nodes["r"]) == ["r · 1", "r · 2", "r · 3"]


def test_a_workflow_is_a_subflow_with_its_own_graph(tmp_path: Path, prefect_server: ServerInfo) -> None:
    call = "  - id: call\n    workflow: inner\n    args: {topic: hello}\n    depends_on: [a]\n"
    bench = Bench(tmp_path, inner=INNER, w=steps(agent("a"), call, agent("b", after="call")))
    ran = bench.run()
    assert ran.outcome.status == "completed"
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 4)
    assert graph.edges == {("a", "call"), ("call", "b")}
    assert sorted(graph.nodes["call"]) == ["call", "inner / call · inner"]
    assert set(bench.rows()) == {"a", "call", "call/one", "call/two", "b"}
    assert ran.step("call")["usage"]["input_tokens"] == 20


def test_skipped_and_continued_steps_keep_their_edges(tmp_path: Path, prefect_server: ServerInfo) -> None:
    bench = Bench(
        tmp_path,
        w=steps(
            agent("a"),
            agent("skipped", "when: a == 'never'", after="a"),
            agent("broken", "on_failure: continue", after="a"),
            agent("b", after="a, skipped, broken"),
        ),
    )
    bench.model = Script({"broken": [ValueError("no")]})
    ran = bench.run()
    assert ran.statuses == {"a": "completed", "skipped": "skipped", "broken": "failed", "b": "completed"}
    graph = graph_of(prefect_server, ran.outcome.flow_run_id, 4)
    declared = {("a", "skipped"), ("a", "broken"), ("a", "b"), ("skipped", "b"), ("broken", "b")}
    assert graph.edges == declared
    assert graph.states == {"a": "COMPLETED", "skipped": "COMPLETED", "broken": "FAILED", "b": "COMPLETED"}
