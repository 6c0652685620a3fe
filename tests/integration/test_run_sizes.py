"""Runs of many steps, items, outputs and failures: nothing of a run's size is found out at its last write."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger.tables.columns import RUN_LIMIT
from blocks.storage.artifacts import ArtifactCorrupt, ArtifactStore
from blocks.storage.spilled import INLINE_BYTES, SPILLED, spill, whole
from flows.steps.keeper import MOST_OF_A_MESSAGE, named_parts, shown_error
from tasks.failures import Refused
from tests.support.flows import FLOW_MARKS, Bench, agent, steps
from workflows.core.errors import PhaselineError

LONG = "长" * 400
"""As long as a summary gets: 1.2 KB."""


def answering(bench: Bench, text: str) -> None:
    """Whatever is asked is answered by this."""

    class Same(dict[str, Any]):
        def get(self, word: str, default: Any = None) -> Any:
            return [f"{word} {text}"]

    bench.model.replies = Same()


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with ArtifactStore.open(str(tmp_path / "storage"), environ={}) as opened:
        yield opened


class TestRuns:
    """Whole runs."""

    pytestmark = FLOW_MARKS

    def test_outputs_that_no_row_holds_complete_and_are_found_again(self, tmp_path: Path) -> None:
        names = [f"{'output_of_a_step_with_a_long_name_':x<70}{n:04d}" for n in range(1000)]
        bench = Bench(
            tmp_path, w=steps(*(agent(f"s{n}", f"expected_output: {x}") for n, x in enumerate(names)))
        )
        answering(bench, LONG)
        ran = bench.run()
        assert ran.outcome.status == "completed", ran.outcome.error
        document = {name: ref.model_dump(mode="json") for name, ref in ran.outcome.outputs.items()}
        assert len(document) == 1000 and len(json.dumps(document, ensure_ascii=False).encode()) > RUN_LIMIT
        row = bench.row()
        assert row.state == "completed" and row.outputs.keys() == {SPILLED}
        assert len(json.dumps(row.outputs)) < 2000
        with ArtifactStore.open(bench.storage, environ={}) as opened:
            assert asyncio.run(whole(row.outputs, opened)) == document
        again = bench.run()
        assert again.outcome.status == "completed" and all(again.reused.values())
        assert again.outcome.outputs == ran.outcome.outputs

    def test_a_workflow_as_a_step_may_have_as_many(self, tmp_path: Path) -> None:
        inner = "workflow: inner\n" + steps(*(agent(f"s{n}") for n in range(150)))
        bench = Bench(tmp_path, w="steps:\n  - {id: call, workflow: inner}\n", inner=inner)
        answering(bench, LONG)
        ran = bench.run()
        assert ran.outcome.status == "completed", ran.outcome.error
        result = bench.rows()["call"].result
        assert result is not None and result["nested"].keys() == {SPILLED}
        assert all(bench.run().reused.values())
        # What the row keeps is not believed without its body.
        body = Path(result["nested"][SPILLED]["uri"].removeprefix("file://"))
        body.write_bytes(body.read_bytes().replace(b"s1", b"s2"))
        asked = len(bench.model.asked)
        once_more = bench.run()
        assert once_more.outcome.status == "completed"
        assert not once_more.reused["call"] and len(bench.model.asked) == asked

    def test_many_items_that_fail_with_long_words(self, tmp_path: Path) -> None:
        each = agent("each", "for_each: range(150) | list", "on_failure: continue", "max_concurrent: 50")
        bench = Bench(tmp_path, w=steps(each, agent("after", after="each")))
        bench.model.replies = {"each": [Refused(LONG * 20, LONG * 20)]}
        ran = bench.run()
        assert ran.outcome.status == "completed", ran.outcome.error
        result = bench.rows()["each"].result
        assert result is not None
        assert 20 < len(result["failed_parts"]) <= 100
        assert all("(cut: 8,000 characters)" in why for why in result["part_errors"].values())
        rows = [row for path, row in bench.rows().items() if path.startswith("each/")]
        assert len(rows) == 150 and all(row.state == "failed" for row in rows)

    def test_thousands_of_items(self, tmp_path: Path) -> None:
        each = agent("each", "for_each: range(3000) | list", "max_concurrent: 50")
        bench = Bench(tmp_path, w=steps(each))
        ran = bench.run()
        assert ran.outcome.status == "completed", ran.outcome.error
        assert len(json.loads(bench.output(ran, "each"))) == 3000
        asked = len(bench.model.asked)
        assert bench.run().reused == {"each": True} and len(bench.model.asked) == asked


def test_an_error_is_cut_with_a_mark() -> None:
    shown = shown_error(PhaselineError("x" * 100_000, "y" * 100_000))
    assert shown["message"] == "x" * MOST_OF_A_MESSAGE + "… (cut: 100,000 characters)"
    assert len(shown["cure"]) < MOST_OF_A_MESSAGE + 100
    assert shown_error(ValueError("short"))["message"] == "short"


def test_of_very_many_failed_parts_the_first_are_named() -> None:
    told = named_parts({f"each/{n:04d}": "\x00长" * 1000 for n in range(2000)})
    assert list(told) == [f"each/{n:04d}" for n in range(len(told))] and len(told) > 10
    assert len(json.dumps(told, ensure_ascii=False).encode()) < 40_000
    assert named_parts({"a": ""}) == {"a": ""}


def test_a_document_stays_in_its_row_while_it_is_small(store: ArtifactStore) -> None:
    kept = {"tenant": "default", "run_id": "r", "kind": "outputs"}
    small = {"b": 1, "a": "长"}
    large = {f"k{n}": "长" * 1000 for n in range(INLINE_BYTES // 3000 + 1)}
    assert asyncio.run(spill(small, store, **kept)) == small
    row = asyncio.run(spill(large, store, **kept))
    assert row.keys() == {SPILLED}
    assert list(asyncio.run(whole(row, store)).items()) == list(large.items())
    assert asyncio.run(whole(small, store)) == small


def test_a_body_that_was_changed_is_refused(store: ArtifactStore) -> None:
    row = asyncio.run(spill({"k": "x" * INLINE_BYTES}, store, tenant="default", run_id="r", kind="outputs"))
    body = Path(row[SPILLED]["uri"].removeprefix("file://"))
    body.write_text('{"k": "another"}')
    with ArtifactStore.open(store.root, environ={}) as other, pytest.raises(ArtifactCorrupt):
        asyncio.run(whole(row, other))
