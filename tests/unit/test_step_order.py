"""`show` lists steps as the plan has them, else as they began."""

from __future__ import annotations

import asyncio
from pathlib import Path

from blocks.ledger import RunRow, StepRecord
from blocks.storage import ArtifactStore
from deployments.step_order import in_order, planned_ids


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
    assert planned_ids(run_in(tmp_path.as_uri())) == ["b", "a", "last"]
    assert planned_ids(run_in((tmp_path / "none").as_uri())) == []
    assert planned_ids(run_in("ftp://nowhere")) == []
    assert planned_ids(run_in("")) == []


def run_in(storage: str) -> RunRow:
    """A run whose storage is there."""
    return RunRow(
        run_id="r",
        tenant="default",
        workflow="w",
        state="completed",
        offline=True,
        storage=storage,
        plan_digest="",
        models={},
        inputs={},
        labels={},
        outputs={},
        error=None,
        usage={},
        active_us=0,
        created=0,
        updated=0,
        ended=None,
        heartbeat=0,
        parent_run_id="",
        root_run_id="",
        flow_run_id="",
        version=1,
        epoch=1,
        holder=None,
    )
