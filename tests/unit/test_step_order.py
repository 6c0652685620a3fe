"""`show` lists steps as the plan has them, else as they began."""

from __future__ import annotations

import asyncio
from pathlib import Path

from blocks.ledger import StepRecord
from blocks.storage.artifacts import ArtifactStore
from deployments.runs.step_order import in_order, planned_ids
from tests.support.runs import run_row
from workflows.core.refs import digest


def record(path: str, started: int | None) -> StepRecord:
    return StepRecord(step_path=path, state="completed", started=started)


RECORDS = [
    record("a", 7),
    record("a/x", 1),
    record("a/b", 2),
    record("c", None),
    record("b", 3),
    record("gone", 0),
]


def paths(ids: list[str]) -> list[str]:
    return [r.step_path for r in in_order(RECORDS, ids)]


def test_the_order_of_the_plan() -> None:
    assert paths(["b", "c", "a"]) == ["b", "c", "a", "a/x", "a/b", "gone"]


def test_without_a_plan_as_they_began() -> None:
    assert paths([]) == ["gone", "a/x", "a/b", "b", "a", "c"]


def test_the_plan_is_read_from_the_runs_storage(tmp_path: Path) -> None:
    plan = {"steps": [{"id": "b"}, {"id": "a"}], "finally": [{"id": "last"}]}
    with ArtifactStore.open(str(tmp_path), environ={}) as store:
        asyncio.run(store.write_manifest("default", "r", {"plan": plan}))
    known = digest(plan)
    assert planned_ids(run_row(storage=tmp_path.as_uri(), plan_digest=known), {}) == ["b", "a", "last"]
    assert planned_ids(run_row(storage=tmp_path.as_uri(), plan_digest=digest({})), {}) == [], "somebody's own"
    assert planned_ids(run_row(storage=(tmp_path / "none").as_uri()), {}) == []
    assert planned_ids(run_row(storage="ftp://nowhere"), {}) == []
    assert planned_ids(run_row(storage=""), {}) == []
