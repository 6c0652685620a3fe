"""`prefect deploy --all` on a fresh server, and runs by a real process worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.command import ROOT, User, clean_environment
from tests.support.delivery import EDGES, NODES
from tests.support.prefect_api import PrefectApi

DELIVERY = "end-to-end-delivery"
REFUND = "refund-with-approval"
SHELL = """\
set -euo pipefail
eval "$("$PYTHON" -m deployments.cli env)"
"$PYTHON" -m prefect work-pool create phaseline --type process
"$PYTHON" -m prefect --no-prompt deploy --all
"""


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """Somebody with a server of their own and the deployment file in an otherwise empty folder."""
    folder = tmp_path_factory.mktemp("operator")
    shutil.copy(ROOT / "prefect.yaml", folder)
    person = User(tmp_path_factory.mktemp("operator-home") / "home", folder)
    try:
        answer = person.phaseline("up", "--json")
        assert answer.code == 0, answer
        yield person
    finally:
        person.phaseline("down", "--json")


@pytest.fixture(scope="module")
def exported(operator: User) -> dict[str, str]:
    return operator.exports()


@pytest.fixture(scope="module")
def api(exported: dict[str, str]) -> PrefectApi:
    return PrefectApi.of(exported)


@pytest.fixture(scope="module")
def deployed(operator: User, api: PrefectApi) -> dict[str, Any]:
    """The deployments by name, made with the commands the documentation names."""
    ended = subprocess.run(
        ["bash", "-c", SHELL],
        cwd=operator.folder,
        env=clean_environment(operator.home, {"PYTHON": sys.executable}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {deployment["name"]: deployment for deployment in api.post("/deployments/filter", {})}


@pytest.fixture(scope="module")
def worker(operator: User, exported: dict[str, str], deployed: dict[str, Any]) -> Iterator[None]:
    """A process worker without a model key; ended with everything it started."""
    person = operator.with_variables(**exported, PREFECT_WORKER_QUERY_SECONDS="1")
    words = ("-m", "prefect", "worker", "start", "--pool", "phaseline", "--type", "process")
    with person.started(*words) as process:
        yield
        assert process.poll() is None, "the worker ended by itself"


def create(
    api: PrefectApi, deployment: dict[str, Any], parameters: dict[str, Any], **more: Any
) -> tuple[int, Any]:
    path = f"/deployments/{deployment['id']}/create_flow_run"
    return api.ask(path, {"parameters": parameters, **more})


def created(api: PrefectApi, deployment: dict[str, Any], parameters: dict[str, Any], **more: Any) -> str:
    status, answer = create(api, deployment, parameters, **more)
    assert status == 201, answer
    return str(answer["id"])


# ---------------------------------------------------------------- what is deployed


def test_every_workflow_is_deployed(deployed: dict[str, Any]) -> None:
    written = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
    assert set(deployed) == {entry["name"] for entry in written["deployments"]} >= {DELIVERY, "run-workflow"}
    for deployment in deployed.values():
        assert deployment["work_pool_name"] == "phaseline"
        assert deployment["schedules"] == []
        assert str(ROOT) not in json.dumps(deployment)
    assert deployed[DELIVERY]["description"] == "从需求到评审的端到端交付"


def test_typed_inputs_make_a_form(deployed: dict[str, Any]) -> None:
    schema = deployed[DELIVERY]["parameter_openapi_schema"]
    fields = schema["properties"]
    assert list(fields) == ["user_feedback", "market_research", "training_data", "run_id", "offline"]
    assert schema.get("required", []) == []
    assert (fields["offline"]["type"], fields["offline"]["default"]) == ("boolean", False)
    assert {"type": "string"} in fields["run_id"]["anyOf"]
    assert {"type": "string"} in fields["user_feedback"]["anyOf"]
    assert fields["user_feedback"]["description"].startswith("用户反馈表")
    assert all(field["description"] for field in fields.values())
    triage = deployed["feedback-triage"]["parameter_openapi_schema"]["properties"]
    assert (triage["limit"]["type"], triage["limit"]["default"]) == ("integer", 8)
    draft = deployed["draft-until-approved"]["parameter_openapi_schema"]["properties"]
    assert draft["pass_score"]["type"] == "number"
    generic = deployed["run-workflow"]["parameter_openapi_schema"]
    assert generic["required"] == ["workflow"]
    assert all(field["description"] for field in generic["properties"].values())


def test_a_wrong_parameter_is_refused(api: PrefectApi, deployed: dict[str, Any]) -> None:
    for name, parameters in (
        (DELIVERY, {"offline": "perhaps"}),
        (DELIVERY, {"user_feedback": 7}),
        ("feedback-triage", {"limit": "many"}),
        ("run-workflow", {}),
    ):
        status, answer = create(api, deployed[name], parameters)
        assert status == 409, (name, parameters, answer)
    assert api.post("/flow_runs/filter", {}) == []


# ---------------------------------------------------------------- a worker's runs


@pytest.fixture(scope="module")
def runs(api: PrefectApi, deployed: dict[str, Any], worker: None) -> dict[str, Any]:
    """Three runs by the worker: offline, without model or key, and by the generic flow."""
    ids = {
        "offline": created(api, deployed[DELIVERY], {"offline": True, "run_id": "by-worker"}),
        "keyless": created(api, deployed[DELIVERY], {"run_id": "keyless"}),
        "generic": created(
            api, deployed["run-workflow"], {"workflow": "draft-until-approved", "offline": True}
        ),
    }
    final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    return {name: api.flow_run(id_, final) for name, id_ in ids.items()}


def test_a_worker_runs_the_delivery(operator: User, api: PrefectApi, runs: dict[str, Any]) -> None:
    run = runs["offline"]
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert "by-worker" in run["state"]["message"]
    outputs = operator.home / "storage" / "default" / "runs" / "by-worker" / "outputs"
    names = {"product_spec.md", "tech_design_doc.md", "deployed_model.md", "review_report.md"}
    assert {file.name for file in outputs.iterdir()} == names
    assert api.step_edges(run["id"], NODES) == EDGES
    shown = operator.phaseline("show", "by-worker", "--json").document
    assert [step["status"] for step in shown["steps"]] == ["completed"] * len(shown["steps"])


def test_the_generic_flow_runs_a_workflow_by_name(runs: dict[str, Any]) -> None:
    assert runs["generic"]["state_type"] == "COMPLETED", runs["generic"]["state"]["message"]


def test_a_worker_without_a_key_says_so(api: PrefectApi, operator: User, runs: dict[str, Any]) -> None:
    """The offline model answers on a worker only where the run asks for it."""
    run = runs["keyless"]
    assert run["state_type"] == "FAILED", run["state"]["message"]
    assert "ANTHROPIC_API_KEY" in run["state"]["message"]
    assert api.post("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}) == []
    assert not (operator.home / "storage" / "default" / "runs" / "keyless" / "outputs").exists()


# ---------------------------------------------------------------- runs that wait

APPROVED = {"approved": True, "data": {"amount": 12}}


def resumed(api: PrefectApi, flow_run: str, given: dict[str, Any] | None) -> str:
    """What the server makes of the form that a person filled in: ACCEPT or REJECT."""
    status, answer = api.ask(f"/flow_runs/{flow_run}/resume", {"run_input": given} if given else {})
    assert status in (200, 201), answer
    return str(answer["status"])


def test_a_waiting_run_is_suspended_and_goes_on_by_the_form(
    operator: User, api: PrefectApi, deployed: dict[str, Any], worker: None
) -> None:
    flow_run = created(api, deployed[REFUND], {"offline": True, "run_id": "by-form"})
    held = api.flow_run(flow_run, ("PAUSED", "FAILED", "COMPLETED", "CRASHED"))
    assert held["state_name"] == "Suspended", held["state"]
    assert "RF-2026-0117" in held["state"]["message"]
    (wakes,) = api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["by-form wakes"]}}})
    assert wakes["state_type"] == "SCHEDULED", "its deadline is a schedule"
    assert wakes["parameters"]["run_id"] == "by-form"
    assert resumed(api, flow_run, {"approved": True, "data": {"amount": -1}}) == "REJECT"
    assert resumed(api, flow_run, None) == "REJECT", "nothing is approved without a decision"
    assert resumed(api, flow_run, APPROVED) == "ACCEPT"
    run = api.flow_run(flow_run, ("COMPLETED", "FAILED", "CRASHED"))
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    shown = operator.phaseline("show", "by-form", "--json").document
    (decided,) = [w for w in shown["waits"] if w["state"] == "answered"]
    assert [vote["voter"] for vote in decided["votes"]] == ["prefect"]


def test_an_answer_wakes_a_suspended_run(
    operator: User, api: PrefectApi, deployed: dict[str, Any], worker: None
) -> None:
    """Of the generic flow: what waits is inside it, and what is suspended is the whole."""
    parameters = {"workflow": REFUND, "inputs": {"number": "RF-7"}, "offline": True, "run_id": "by-answer"}
    flow_run = created(api, deployed["run-workflow"], parameters)
    held = api.flow_run(flow_run, ("PAUSED", "FAILED", "COMPLETED", "CRASHED"))
    assert held["state_name"] == "Suspended", held["state"]
    (wait,) = operator.phaseline("inbox", "--json").document["waits"]
    answer = operator.phaseline("answer", wait["wait_id"], "--data", '{"amount": 5}', "--json")
    assert answer.code == 0, answer
    run = api.flow_run(flow_run, ("COMPLETED", "FAILED", "CRASHED"))
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert operator.phaseline("show", "by-answer", "--json").document["status"] == "completed"


def test_what_was_cancelled_is_not_woken(
    operator: User, api: PrefectApi, deployed: dict[str, Any], worker: None
) -> None:
    """Neither by what was scheduled, which ends with the run, nor by one that a worker has taken already."""
    flow_run = created(api, deployed[REFUND], {"offline": True, "run_id": "given-up"})
    assert api.flow_run(flow_run, ("PAUSED", "FAILED", "COMPLETED"))["state_name"] == "Suspended"
    cancelled = operator.phaseline("cancel", "given-up", "--json")
    assert cancelled.document["status"] == "cancelled", cancelled
    (wakes,) = api.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["given-up wakes"]}}})
    assert wakes["state_type"] == "CANCELLED" and "phaseline-wake" in wakes["tags"]
    assert api.flow_run(flow_run, ("CANCELLED",))["state_type"] == "CANCELLED"
    late = created(api, deployed[REFUND], wakes["parameters"], tags=wakes["tags"])
    ended = api.flow_run(late, ("CANCELLED", "COMPLETED", "FAILED", "CRASHED", "PAUSED"))
    assert ended["state_type"] == "CANCELLED", ended["state"]
    assert "was cancelled meanwhile" in ended["state"]["message"]
    assert operator.phaseline("show", "given-up", "--json").document["status"] == "cancelled"


def test_the_checkout_is_not_written_to(deployed: dict[str, Any], operator: User) -> None:
    assert [file.name for file in Path(operator.folder).iterdir()] == ["prefect.yaml"]
