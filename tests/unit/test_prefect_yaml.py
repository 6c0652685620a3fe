"""prefect.yaml deploys the default catalog: all of it, nothing else, on any machine."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.compile.compiler import compile_workflow

FILE = Path(__file__).resolve().parents[2] / "prefect.yaml"
GENERIC = "run-workflow"


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return document


@pytest.fixture(scope="module")
def deployments(written: dict[str, Any]) -> dict[str, dict[str, Any]]:
    named = {entry["name"]: entry for entry in written["deployments"]}
    assert len(named) == len(written["deployments"])
    return named


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load(DEFAULT_ROOT)


def test_one_deployment_per_workflow_and_the_generic_one(
    deployments: dict[str, dict[str, Any]], catalog: Catalog
) -> None:
    assert set(deployments) == {*catalog.workflows, GENERIC}


def test_entrypoints_are_modules_that_name_the_workflow(
    deployments: dict[str, dict[str, Any]], catalog: Catalog
) -> None:
    for name in catalog.workflows:
        attribute = re.sub(r"\W", "_", name)
        assert deployments[name]["entrypoint"] == f"flows.compiled.{attribute}"
    assert deployments[GENERIC]["entrypoint"] == "flows.workflow.run_workflow"
    for module in {entry["entrypoint"].rpartition(".")[0] for entry in deployments.values()}:
        assert importlib.util.find_spec(module) is not None


def test_descriptions_are_those_of_the_workflows(
    deployments: dict[str, dict[str, Any]], catalog: Catalog
) -> None:
    for name in catalog.workflows:
        plan = compile_workflow(catalog.find_workflow(name), catalog)
        assert deployments[name]["description"] == plan.description


def test_all_go_to_the_one_pool_with_a_tag_and_no_schedule(deployments: dict[str, dict[str, Any]]) -> None:
    for entry in deployments.values():
        assert entry["work_pool"] == {"name": "phaseline"}
        assert "phaseline" in entry["tags"]
        assert not {"schedule", "schedules", "triggers"} & set(entry)


def test_no_folder_of_a_machine_is_named(written: dict[str, Any]) -> None:
    """Without a pull step Prefect would store the folder it was deployed from."""
    assert written["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}]
    assert not re.search(r"(?m)(^|[\s:'\"])/\w", FILE.read_text("utf-8"))
