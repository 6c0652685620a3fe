"""The JSON Schemas accept what the loader accepts, and refuse misspelt keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from workflows.core.catalog.contents import DEFAULT_ROOT
from workflows.core.errors import UsageError
from workflows.core.read.editor_schemas import DIALECT, KINDS, schema

DOCUMENTS = Path(__file__).resolve().parents[1] / "fixtures" / "documents"

FILES = {
    "workflow": ["*.yaml"],
    "agent": ["agents/*/config.yaml"],
    "manifest": ["agents/**/package.yao"],
    "tools": ["agents/**/tools-config.json"],
    "skill-config": ["skills/**/config.yaml"],
    "skill-registry": ["orchestrator/skill-registry.yaml"],
    "agent-registry": ["orchestrator/agent-registry.yaml"],
    "routing-rules": ["orchestrator/routing-rules.yaml"],
    "models": ["models.yaml"],
    "agent-yml": ["orchestrator/agent.yml"],
}


def written() -> list[tuple[str, Path]]:
    roots = (DEFAULT_ROOT, DOCUMENTS / "openclaw")
    found = [(k, f) for root in roots for k, globs in FILES.items() for g in globs for f in root.glob(g)]
    return [(k, f) for k, f in found if (k == "workflow") <= (f.name != "models.yaml")]


@pytest.mark.parametrize(("kind", "file"), written(), ids=lambda v: v.name if isinstance(v, Path) else v)
def test_real_files_are_accepted(kind: str, file: Path) -> None:
    text = file.read_text("utf-8")
    data = json.loads(text) if file.suffix in (".json", ".yao") else yaml.safe_load(text)
    jsonschema.validate(data, schema(kind), jsonschema.Draft202012Validator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_stands_for_itself(kind: str) -> None:
    made = schema(kind)
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$schema"] == DIALECT
    assert "$id" not in made
    assert kind in made["title"]
    assert made["description"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"misspelt": 1}, made)


@pytest.mark.parametrize(
    "step",
    [
        {"id": "a", "agent": "x", "depends_on": "b", "retries": 2, "output": "json", "timeout": "5m"},
        {"id": "w", "approval": {"ask": "Go on?", "assignees": "alice", "deadline": "2d"}},
        {"id": "w", "approval": {"ask": "Go on?", "assignees": ["a@b.c"], "form": {"type": "object"}}},
        {"id": "w", "await_event": {"type": "paid", "on_timeout": "continue", "deadline": 5}},
        {"id": "w", "agent": "x", "budget": {"usd": 0.5}, "effect_key": "order", "undo": {"skill": "a"}},
        {"id": 7, "agents": ["x"], "retries": {"max": 1, "jitter": "50%"}, "inputs": None},
    ],
)
def test_short_spellings(step: dict[str, Any]) -> None:
    whole = {"workflow": "w", "inputs": {"a": "string", "b": None, "c": {"type": "file"}}, "steps": [step]}
    jsonschema.validate(whole, schema("workflow"))


def test_wrong_values_are_refused() -> None:
    ask = {"ask": "Go on?"}
    for step in (
        {"id": "a", "agent": "x", "timeoutt": 1},
        {"id": "a", "agent": []},
        {"agent": "x"},
        {"id": "a", "approval": {}},
        {"id": "a", "approval": {**ask, "assignees": {"user": "alice"}}},
        {"id": "a", "approval": {**ask, "quorum": 0}},
        {"id": "a", "await_event": {"type": "x", "on_timeout": "escalate"}},
        {"id": "a", "agent": "x", "budget": {"tokens": 0}},
        {"id": "a", "agent": "x", "undo": {"skil": "a"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"workflow": "w", "steps": [step]}, schema("workflow"))


def test_an_unknown_kind() -> None:
    with pytest.raises(UsageError, match="did you mean 'robot'"):
        schema("robots")
