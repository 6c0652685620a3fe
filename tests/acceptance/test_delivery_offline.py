"""The default catalog without a key: what a newcomer runs first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Answer, User
from tests.support.delivery import EDGES, NODES
from tests.support.prefect_api import PrefectApi

STEPS = ["step-1", "step-2", "step-3", "step-4"]
OUTPUTS = ["product_spec", "tech_design_doc", "deployed_model", "review_report"]
AGENTS = ["agent-pm-002", "agent-arch-003", "agent-ai-001"]
WORKFLOWS = sorted(
    file.stem
    for file in (Path(__file__).resolve().parents[2] / "workflows").glob("*.yaml")
    if file.stem != "models"
)
ASKING = ("refund-with-approval",)
"""Examples that do not complete by themselves: tests/acceptance/test_refund_example.py answers them."""


@pytest.fixture(scope="module")
def run_id() -> str:
    return "delivery-offline"


@pytest.fixture(scope="module")
def delivered(session_home: Path, tmp_path_factory: pytest.TempPathFactory, run_id: str) -> Any:
    """The document of one offline delivery."""
    somebody = User(session_home, tmp_path_factory.mktemp("empty"))
    answer = somebody.phaseline("run", "end-to-end-delivery", "--offline", "--json", "--run-id", run_id)
    return answer.completed


def files_below(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_four_steps_completed(delivered: Any, run_id: str) -> None:
    assert (delivered["run_id"], delivered["workflow"]) == (run_id, "end-to-end-delivery")
    assert [s["id"] for s in delivered["steps"]] == STEPS
    assert {s["status"] for s in delivered["steps"]} == {"completed"}
    assert [(s["reused"], s["attempts"], s["error"]) for s in delivered["steps"]] == [(False, 1, None)] * 4
    assert delivered["steps"][3]["agent"] == ", ".join(AGENTS)
    assert (delivered["error"], delivered["waits"], delivered["failed_steps"]) == (None, [], [])


def test_everything_is_marked_offline_and_cost_nothing(delivered: Any) -> None:
    assert delivered["offline"] is True
    refs = [ref for step in delivered["steps"] for ref in step["artifacts"]] + list(
        delivered["outputs"].values()
    )
    assert len(refs) == 7 + len(OUTPUTS)
    assert all(ref["offline"] for ref in refs)
    assert {s["model"] for s in delivered["steps"]} <= {"offline", ""}
    usage = delivered["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["usd"]) == (0, 0, 0)


def test_the_outputs_lie_on_disk_as_readable_markdown(delivered: Any, session_home: Path) -> None:
    assert list(delivered["places"]) == list(delivered["outputs"]) == OUTPUTS
    for name, place in delivered["places"].items():
        file = Path(place)
        assert file.suffix == ".md"
        assert session_home in file.parents
        text = file.read_text("utf-8")
        assert len(text.encode()) == delivered["outputs"][name]["size"] > 1000
        assert text.lstrip().startswith("#") or "\n#" in text
        assert "离线模型" in text
        assert "�" not in text


def test_the_review_names_who_said_what(delivered: Any) -> None:
    text = Path(delivered["places"]["review_report"]).read_text("utf-8")
    for agent in AGENTS:
        assert agent in text
    kinds = [ref["kind"] for ref in delivered["steps"][3]["artifacts"]]
    assert kinds == ["review_report", *(f"review_report.{agent}" for agent in AGENTS)]


def test_the_same_run_again_reuses_every_step(
    delivered: Any, user: User, session_home: Path, run_id: str
) -> None:
    """Nothing is asked and nothing stored: not even with a key and a model that would answer."""
    storage = session_home / "storage" / "default"
    before = files_below(storage / "blobs")
    nobody = {"ANTHROPIC_API_KEY": "sk-never-sent", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    again = user.with_variables(**nobody).phaseline(
        "run", "end-to-end-delivery", "--json", "--run-id", run_id
    )
    document = again.completed
    assert [s["reused"] for s in document["steps"]] == [True] * 4
    assert document["offline"] is True
    assert document["outputs"] == delivered["outputs"]
    assert files_below(storage / "blobs") == before
    assert again.err.count("(reused)") == 4
    assert "started" not in again.err


def test_its_graph_has_the_declared_edges(delivered: Any, prefect_api: PrefectApi) -> None:
    assert prefect_api.step_edges(delivered["flow_run_id"], NODES) == EDGES


def test_people_are_told_where_everything_is(user: User, exports: dict[str, str]) -> None:
    answer = user.phaseline("run", "end-to-end-delivery", "--offline")
    assert answer.code == 0, answer
    lines = {words[0]: line for line in answer.out.splitlines() if (words := line.split())}
    assert "completed" in lines["end-to-end-delivery"]
    assert "offline" in lines["offline:"]
    for name in OUTPUTS:
        assert Path(lines[name].split()[1]).is_file()
    page = exports["PREFECT_API_URL"].removesuffix("/api") + "/v2/runs/flow-run/"
    assert f"  {page}" in answer.out
    assert exports["PREFECT_API_AUTH_STRING"] in answer.out
    assert "\x1b" not in answer.out + answer.err
    for step in STEPS:
        assert f"{step}  completed" in answer.err
    assert list(user.folder.iterdir()) == []


@pytest.mark.parametrize(
    "workflow", [name for name in WORKFLOWS if name not in ("end-to-end-delivery", *ASKING)]
)
def test_every_example_completes_offline(user: User, workflow: str) -> None:
    document = user.phaseline("run", workflow, "--offline", "--json").completed
    assert {s["status"] for s in document["steps"]} <= {"completed", "skipped"}
    assert document["outputs"]
    assert all(Path(place).is_file() for place in document["places"].values())


def test_without_a_key_the_offline_model_is_said_to_answer(user: User) -> None:
    answer = user.phaseline("run", "draft-until-approved", "--json")
    assert answer.completed["offline"] is True
    assert "no ANTHROPIC_API_KEY: the offline model answers" in answer.err


def test_a_missing_server_is_no_traceback(user: User) -> None:
    gone = user.with_variables(PREFECT_API_URL="http://127.0.0.1:9/api", PHASELINE_PATIENCE="2s")
    answer: Answer = gone.phaseline("run", "end-to-end-delivery", "--offline", "--json")
    assert answer.code not in (0, 2)
    assert "Traceback" not in answer.err + answer.out
