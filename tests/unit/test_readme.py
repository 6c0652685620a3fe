"""The README holds: its YAML compiles, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployments.terminal.arguments import LATER, build
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog, WorkflowFile
from workflows.core.compile.compiler import examine
from workflows.core.models.workflow import Workflow
from workflows.core.read.documents import parse_source
from workflows.core.read.validation import read_model

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_the_yaml_compiles_against_the_default_catalog(block: str) -> None:
    source = parse_source(block.encode(), "README.md")
    workflow, mistakes = read_model(Workflow, source)
    assert workflow is not None, mistakes
    plan, findings = examine(WorkflowFile(source, workflow), Catalog.load(DEFAULT_ROOT))
    assert plan is not None, findings.errors
    written = Catalog.load(DEFAULT_ROOT).workflows[plan.workflow].workflow
    assert [s.id for s in workflow.steps] == [s.id for s in written.steps]
    assert [s.expected_output for s in workflow.steps] == [s.expected_output for s in written.steps]


def test_every_command_that_is_named_can_be_used() -> None:
    named = set(re.findall(r"(?:`|\$ |\$\()phaseline ([a-z]+)", TEXT))
    _, commands = build()
    assert named <= set(commands) and not named & set(LATER)


def test_every_link_leads_to_a_file() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in t]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"\$ make ([a-z-]+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
