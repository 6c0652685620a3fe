"""docs/language.md: its workflows compile, its other blocks load, and no key of the language is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tests.support.given import read_inputs
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.compile.compiler import compile_workflow, examine
from workflows.core.errors import UsageError
from workflows.core.models import people
from workflows.core.models import workflow as models
from workflows.core.models.agent import AgentFile
from workflows.core.models.registry import RoutingRule, RoutingRules
from workflows.core.models.workflow import DOERS, NOT_YET
from workflows.core.read.documents import parse_source
from workflows.core.read.validation import read_model

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "language.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
WORKFLOWS = {
    block.split("\n", 1)[0].split(": ")[1]: block for block in BLOCKS if block.startswith("workflow:")
}
OTHERS = {"agent:": AgentFile, "routing_rules:": RoutingRules}
MODELS = [
    value
    for module in (models, people)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == module.__name__
]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_workflow_compiles_without_a_warning(name: str, tmp_path: Path) -> None:
    catalog = Catalog.load(DEFAULT_ROOT)
    file = tmp_path / f"{name}.yaml"
    file.write_text(WORKFLOWS[name], "utf-8")
    plan, found = examine(catalog.find_workflow(str(file)), catalog)
    assert plan is not None and not found.errors and not found.warnings, [*found.errors, *found.warnings]


def test_the_first_block_runs_with_the_input_that_the_page_names(tmp_path: Path) -> None:
    catalog, name = Catalog.load(DEFAULT_ROOT), next(iter(WORKFLOWS))
    file = tmp_path / f"{name}.yaml"
    file.write_text(WORKFLOWS[name], "utf-8")
    plan = compile_workflow(catalog.find_workflow(str(file)), catalog)
    (pair,) = re.findall(r"`-i (\S+)` for the first one", TEXT)
    assert read_inputs(plan, [pair], None, whole=True)
    with pytest.raises(UsageError, match="missing input: topic"):
        read_inputs(plan, [], None, whole=True)


def test_other_blocks_load() -> None:
    others = [b for b in BLOCKS if not b.startswith("workflow:")]
    assert [b.split("\n", 1)[0] for b in others] == list(OTHERS)
    for block in others:
        value, mistakes = read_model(OTHERS[block.split("\n", 1)[0]], parse_source(block.encode(), "f"))
        assert value is not None and not mistakes


def documented(key: str) -> bool:
    return re.search(rf"`{re.escape(key)}`", TEXT) is not None


@pytest.mark.parametrize("model", [*MODELS, RoutingRule], ids=lambda m: m.__name__)
def test_every_key_is_documented(model: type[BaseModel]) -> None:
    keys = [info.alias or name for name, info in model.model_fields.items()]
    assert [key for key in keys if not documented(key)] == []


def test_what_is_not_available_is_marked() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    for level, keys in NOT_YET.items():
        for key in keys:
            assert any(f"`{key}`" in row.split("|")[1] and "**not yet**" in row for row in rows), (level, key)


def test_every_available_doer_has_an_example() -> None:
    shown = "\n".join(WORKFLOWS.values())
    for doer in DOERS:
        assert (doer in NOT_YET["step"]) != (re.search(rf"^ +{doer}:\s", shown, re.MULTILINE) is not None), (
            doer
        )


def test_every_available_key_of_a_step_has_an_example() -> None:
    shown = "\n".join(WORKFLOWS.values())
    keys = [key for key in models.Step.model_fields if key not in NOT_YET["step"] and key not in DOERS]
    told = ("name", "description", "skills", "people")  # no handler of the default catalog asks anybody
    assert [k for k in keys if k not in told and not re.search(rf"\b{k}: ?", shown)] == []


def test_the_example_of_people_of_a_step_is_one() -> None:
    (example,) = re.findall(r"`people: (\{assignees.+?\})`", TEXT)
    asked = people.Deciders.model_validate(yaml.safe_load(example))
    assert asked.quorum <= len(asked.assignees) and asked.model_fields_set == set(
        people.Deciders.model_fields
    )


@pytest.mark.parametrize(
    "model", [people.Approval, people.AwaitEvent, models.Budget], ids=lambda m: m.__name__
)
def test_every_key_of_waits_and_budgets_has_an_example(model: type[BaseModel]) -> None:
    shown = "\n".join(WORKFLOWS.values())
    assert [key for key in model.model_fields if not re.search(rf"\b{key}: ?", shown)] == []
