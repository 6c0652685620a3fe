"""The delivery with a model, over the real SDK, against a strict stand-in of the Messages API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Answer, User
from tests.support.delivery import ANSWERS, EDGES, NODES, TOOLS, Writer, documents_of, step_of, turn_of
from tests.support.messages_api import MessagesApi
from tests.support.prefect_api import PrefectApi

KEY = "sk-ant-acceptance-8c1f0d9b7e"
FAULTS = {
    ("step-1", 0): [{"fault": "rate_limit", "retry_after": 1}],
    ("step-1", 1): [{"fault": "not_json"}],
    ("step-2", 0): [{"fault": "overloaded"}],
    ("step-3", 0): [{"fault": "cut"}],
}
MODELS = {"step-1": "claude-sonnet-5-5", "step-2": "claude-opus-5-5", "step-3": "claude-opus-5-5"}


@dataclass(frozen=True)
class Delivery:
    """One run and what the stand-in saw of it."""

    answer: Answer
    document: Any
    asked: list[dict[str, Any]]

    def bodies(self, step: str) -> list[dict[str, Any]]:
        """The bodies a step sent, in order."""
        return [record["body"] for record in self.asked if step_of(record["body"]) == step]


def with_key(user: User, api: MessagesApi, key: str = KEY) -> User:
    return user.with_variables(ANTHROPIC_API_KEY=key, ANTHROPIC_BASE_URL=api.base_url)


def deliver(user: User, run_id: str) -> Answer:
    return user.phaseline("run", "end-to-end-delivery", "--json", "--run-id", run_id)


@pytest.fixture(scope="module")
def delivery(session_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Delivery:
    """A delivery with a 429, an answer that is not JSON, a 529 and a cut stream on its way."""
    somebody = User(session_home, tmp_path_factory.mktemp("empty"))
    with MessagesApi(keys={KEY}) as api:
        api.answer_with(Writer(FAULTS))
        answer = deliver(with_key(somebody, api), "delivery-model")
        return Delivery(answer, answer.completed, api.asked)


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


# ---------------------------------------------------------------- what came out


def test_it_completes_in_spite_of_the_faults(delivery: Delivery) -> None:
    steps = delivery.document["steps"]
    assert [(s["status"], s["attempts"], s["reused"]) for s in steps] == [("completed", 1, False)] * 4
    assert delivery.document["offline"] is False
    assert [s["model"] for s in steps[:3]] == list(MODELS.values())
    assert "Traceback" not in delivery.answer.err


def test_the_outputs_are_the_models_words(delivery: Delivery) -> None:
    places = {n: Path(p).read_text("utf-8") for n, p in delivery.document["places"].items()}
    assert places["product_spec"] == ANSWERS["step-1"]
    assert places["tech_design_doc"] == ANSWERS["step-2"]
    assert places["deployed_model"] == ANSWERS["step-3"]
    assert places["review_report"].count("review-3377") >= 3


def test_no_request_more_than_needed(delivery: Delivery) -> None:
    seen = Counter((step_of(r["body"]), turn_of(r["body"]), r["fault"]) for r in delivery.asked)
    assert seen == {
        ("step-1", 0, "rate_limit"): 1,
        ("step-1", 0, None): 1,
        ("step-1", 1, "not_json"): 1,
        ("step-1", 1, None): 1,
        ("step-2", 0, "overloaded"): 1,
        ("step-2", 0, None): 1,
        ("step-3", 0, "cut"): 1,
        ("step-3", 0, None): 1,
        ("step-4", 0, None): 3,
    }


def test_retry_after_is_obeyed(delivery: Delivery) -> None:
    limited, again = [r["at"] for r in delivery.asked if step_of(r["body"]) == "step-1"][:2]
    assert again - limited >= 1


def test_what_it_cost_is_what_was_answered(delivery: Delivery) -> None:
    for step in delivery.document["steps"]:
        assert step["usage"]["output_tokens"] > 0
        assert step["usage"]["usd"] > 0
    total = sum(step["usage"]["usd"] for step in delivery.document["steps"])
    assert delivery.document["usage"]["usd"] == pytest.approx(total)


# ---------------------------------------------------------------- what was asked


def test_models_thinking_and_effort(delivery: Delivery) -> None:
    for step, model in MODELS.items():
        assert {b["model"] for b in delivery.bodies(step)} == {model}
    panel = Counter(b["model"] for b in delivery.bodies("step-4"))
    assert panel == {"claude-sonnet-5-5": 1, "claude-opus-5-5": 2}
    for record in delivery.asked:
        body = record["body"]
        assert body["thinking"] == {"type": "adaptive"}
        assert body["output_config"] == {"effort": "medium"}
        assert not {"temperature", "top_p", "top_k"} & set(body)
        assert body["stream"] is True
    limits = {step: delivery.bodies(step)[0]["max_tokens"] for step in MODELS}
    assert limits == {"step-1": 4000, "step-2": 6000, "step-3": 8000}
    assert sorted(b["max_tokens"] for b in delivery.bodies("step-4")) == [4000, 6000, 8000]


def test_documents_of_each_step(delivery: Delivery) -> None:
    names = {step: list(documents_of(delivery.bodies(step)[0])) for step in (*MODELS, "step-4")}
    assert names == {
        "step-1": ["user_feedback", "market_research"],
        "step-2": ["product_spec"],
        "step-3": ["tech_design_doc", "training_data"],
        "step-4": ["deployed_model", "product_spec", "tech_design_doc"],
    }
    assert documents_of(delivery.bodies("step-2")[0])["product_spec"].strip() == ANSWERS["step-1"].strip()
    for body in delivery.bodies("step-4"):
        given = documents_of(body)
        for name, step in (
            ("product_spec", "step-1"),
            ("tech_design_doc", "step-2"),
            ("deployed_model", "step-3"),
        ):
            assert given[name].strip() == ANSWERS[step].strip()
    assert "FB-001" in documents_of(delivery.bodies("step-1")[0])["user_feedback"]


def test_skills_are_offered_as_tools(delivery: Delivery) -> None:
    offered = {step: {t["name"] for t in delivery.bodies(step)[0]["tools"]} for step in (*MODELS, "step-4")}
    assert {t["name"] for t in TOOLS} < offered["step-1"]
    assert "system-design__find_constraints" in offered["step-2"]
    assert "ai-engineer__model_training" in offered["step-3"]
    assert "communication__merge_feedback" in offered["step-4"]
    assert all("read_skill" in names for names in offered.values())
    assert not any(name.startswith("ai-engineer__") for name in offered["step-1"])


def test_tool_results_and_thinking_come_back(delivery: Delivery) -> None:
    body = delivery.bodies("step-1")[-1]
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "user"]
    thought, *calls = body["messages"][1]["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "先取数，再下结论。")
    assert thought["signature"]
    assert [(c["name"], c["input"]) for c in calls] == [(t["name"], t["input"]) for t in TOOLS]
    results = [block for block in body["messages"][2]["content"] if block["type"] == "tool_result"]
    assert [r["tool_use_id"] for r in results] == [c["id"] for c in calls]
    assert not any(r.get("is_error") for r in results)
    assert "severity" in str(results[0]["content"])


def test_the_stable_prefix_is_marked_for_the_cache(delivery: Delivery) -> None:
    def marks(value: Any) -> int:
        if isinstance(value, list):
            return sum(map(marks, value))
        return sum(map(marks, value.values())) + ("cache_control" in value) if isinstance(value, dict) else 0

    assert all(1 <= marks(record["body"]) <= 4 for record in delivery.asked)
    first, last = delivery.bodies("step-1")[0], delivery.bodies("step-1")[-1]
    assert first["tools"] == last["tools"]
    assert first["system"] == last["system"]
    assert delivery.document["steps"][0]["usage"]["cache_read_input_tokens"] > 0


# ---------------------------------------------------------------- what others can see


def test_the_graph_has_exactly_the_declared_edges(delivery: Delivery, prefect_api: PrefectApi) -> None:
    assert prefect_api.step_edges(delivery.document["flow_run_id"], NODES) == EDGES
    runs = prefect_api.task_runs(delivery.document["flow_run_id"], 7)
    names = sorted(run["name"] for run in runs)
    assert names == [
        "step-1 需求分析",
        "step-2 技术方案",
        "step-3 模型训练与部署",
        "step-4 · agent-ai-001",
        "step-4 · agent-arch-003",
        "step-4 · agent-pm-002",
        "step-4 交叉评审",
    ]
    assert prefect_api.get(f"/flow_runs/{delivery.document['flow_run_id']}")["name"] == "delivery-model"


def test_the_key_is_nowhere(delivery: Delivery, prefect_api: PrefectApi, session_home: Path) -> None:
    assert KEY not in delivery.answer.out + delivery.answer.err
    files = [file for file in session_home.rglob("*") if file.is_file()]
    assert any(file.name == "ledger.db" for file in files)
    assert any(file.name == "prefect.db" for file in files)
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    told = prefect_api.everything()
    assert delivery.document["flow_run_id"] in told
    assert KEY not in told


# ---------------------------------------------------------------- crash and terminal errors


def test_killed_in_the_middle_it_goes_on_where_it_was(
    user: User, api: MessagesApi, prefect_api: PrefectApi
) -> None:
    writer = Writer(held=frozenset({"step-3"}))
    api.answer_with(writer)
    words = ("run", "end-to-end-delivery", "--json", "--run-id", "delivery-killed")
    with with_key(user, api).start(*words) as process:
        writer.hold(process)
        process.kill()
    before = Counter(step_of(record["body"]) for record in api.asked)
    assert before == {"step-1": 2, "step-2": 1, "step-3": 1}
    writer.release()
    document = deliver(with_key(user, api), "delivery-killed").completed
    assert [s["reused"] for s in document["steps"]] == [True, True, False, False]
    after = Counter(step_of(record["body"]) for record in api.asked)
    assert after == {"step-1": 2, "step-2": 1, "step-3": 2, "step-4": 3}
    assert Path(document["places"]["product_spec"]).read_text("utf-8") == ANSWERS["step-1"]
    assert prefect_api.step_edges(document["flow_run_id"], NODES) == EDGES


def test_a_refused_key_is_told_once_with_a_cure(user: User, api: MessagesApi) -> None:
    wrong = "sk-ant-not-the-right-one"  # the stand-in repeats it in its error, as a careless proxy would
    answer = deliver(with_key(user, api, wrong), "delivery-refused")
    assert answer.code == 1
    assert answer.document["status"] == "failed"
    assert "ANTHROPIC_API_KEY" in answer.document["error"]["cure"]
    assert answer.document["error"]["step"] == "step-1"
    assert [s["status"] for s in answer.document["steps"]] == ["failed", *["not_started"] * 3]
    assert api.count == 1
    assert "Traceback" not in answer.out + answer.err
    assert wrong not in answer.out + answer.err
    leaks = [f for f in user.home.rglob("*") if f.is_file() and wrong.encode() in f.read_bytes()]
    assert leaks == []


def test_a_spent_quota_stops_the_run_which_goes_on_later(user: User, api: MessagesApi) -> None:
    faults = {("step-2", 0): [{"fault": "spend_limit"}]}
    api.answer_with(Writer(faults))
    person = with_key(user, api)
    answer = person.phaseline("run", "end-to-end-delivery", "--run-id", "delivery-stopped")
    assert answer.code == 4
    assert "cure:" in answer.out
    assert "phaseline resume delivery-stopped" in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert Counter(step_of(r["body"]) for r in api.asked) == {"step-1": 2, "step-2": 1}
    document = deliver(person, "delivery-stopped").completed
    assert [s["reused"] for s in document["steps"]] == [True, False, False, False]
    assert Counter(step_of(r["body"]) for r in api.asked)["step-1"] == 2
