"""Continuing a run: what is finished is not done again, what changed is, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from pathlib import Path

import pytest

from blocks.ledger import RunHeld
from blocks.models import ModelError
from tests.support.flows import FLOW_MARKS, Bench, Ran, Script, agent, steps
from workflows.core.errors import UsageError
from workflows.core.usage import Usage

pytestmark = FLOW_MARKS

CHAIN = steps(agent("a"), agent("b", "inputs: [a]"), agent("c", "inputs: [b]"), agent("other"))


def blob(bench: Bench, sha256: str) -> Path:
    return Path(bench.storage) / "default" / "blobs" / sha256[:2] / sha256


def first_artifact(ran: Ran, step: str) -> str:
    return str(ran.step(step)["artifacts"][0]["sha256"])


def test_only_what_is_not_finished_runs_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=CHAIN)
    bench.model.replies["b"] = [ValueError("no")]
    assert bench.run().outcome.status == "failed"
    bench.model = Script()
    again = bench.run()
    assert again.outcome.status == "completed"
    assert bench.model.asked == ["b", "c"]
    assert again.reused == {"a": True, "b": False, "c": False, "other": True}
    bench.model = Script()
    third = bench.run()
    assert all(third.reused.values()) and bench.model.asked == []
    assert third.outcome.outputs == again.outcome.outputs


def test_a_changed_prompt_reruns_its_step_and_what_reads_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=CHAIN)
    bench.model.replies = {"b": ["first"], "c": ["third"]}
    bench.run()
    bench.write("w", CHAIN.replace("[b] go", "[b] go on"))
    bench.model = Script({"b": ["another"]})
    again = bench.run()
    assert bench.model.asked == ["b", "c"]
    assert again.told("step.rerun") == [
        {"step": "b", "reason": "its definition or its inputs changed"},
        {"step": "c", "reason": "its definition or its inputs changed"},
    ]
    # What the replaced answers cost stays paid.
    assert again.outcome.usage.input_tokens == 60


def test_the_same_answer_again_reruns_nothing_behind_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=CHAIN)
    bench.run()
    bench.write("w", CHAIN.replace("[b] go", "[b] go on"))
    bench.model = Script()
    assert bench.run().reused == {"a": True, "b": False, "c": True, "other": True}


def test_limits_and_file_names_rerun_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w="workflow: named\n" + CHAIN)
    bench.run("named")
    (bench.catalog / "w.yaml").unlink()
    limits = "id: a\n    timeout: 20m\n    retries: {max: 3}\n    on_failure: continue\n"
    changed = CHAIN.replace("id: a\n", limits)
    bench.write("moved", "workflow: named\nmax_concurrent: 2\ntotal_timeout: 1h\n" + changed)
    bench.model = Script()
    again = bench.run("named")
    assert all(again.reused.values()) and bench.model.asked == []


@pytest.mark.parametrize("fault", ["deleted", "corrupted"])
def test_a_body_that_is_lost_makes_its_step_run_again(tmp_path: Path, fault: str) -> None:
    bench = Bench(tmp_path, w=CHAIN)
    ran = bench.run()
    body = blob(bench, first_artifact(ran, "b"))
    if fault == "deleted":
        body.unlink()
    else:
        body.chmod(0o600)
        body.write_text("somebody's own words")
    bench.model = Script()
    again = bench.run()
    assert again.outcome.status == "completed"
    assert again.reused == {"a": True, "b": False, "c": True, "other": True}
    assert bench.model.asked == [], "its answer is paid"
    (told,) = again.told("step.rerun")
    assert told["step"] == "b" and ("not in" if fault == "deleted" else "was changed") in told["reason"]


def test_items_are_known_by_what_they_are(tmp_path: Path) -> None:
    each = agent("each", "for_each: items").replace("[each]", "[{{ item }}]")
    bench = Bench(tmp_path, w=steps(each, also="inputs: {items: {type: list}}\n"))
    bench.run(items=["x", "y", "x"])
    assert sorted(bench.model.asked) == ["x", "x", "y"]
    bench.model = Script()
    again = bench.run(items=["new", "x", "y", "x"])
    assert bench.model.asked == ["new"]
    listed = [f"The answer to {word}.\n" for word in ("new", "x", "y", "x")]
    assert json.loads(bench.output(again, "each")) == listed


def test_finally_runs_at_each_end_that_is_new(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", after="a")) + "finally:\n" + agent("last"))
    bench.model.replies["b"] = [ValueError("no")]
    bench.run()
    bench.model = Script()
    again = bench.run()
    assert again.outcome.status == "completed" and bench.model.asked == ["b", "last"]
    bench.model = Script()
    assert all(bench.run().reused.values()) and bench.model.asked == []


def test_inputs_stay_as_the_run_began(tmp_path: Path) -> None:
    step = agent("a").replace("[a]", "[{{ topic }} {{ count }}]")
    also = "inputs: {topic: {type: string}, count: {type: integer, default: 1}}\n"
    bench = Bench(tmp_path, w=steps(step, also=also))
    bench.run(topic="bees", count=3)
    assert bench.row().inputs == {"topic": {"value": "bees"}, "count": {"value": 3}}
    assert bench.model.asked == ["bees 3"]


def test_a_lost_input_is_asked_for_before_anything_runs(tmp_path: Path) -> None:
    also = "inputs: {paper: {type: file, required: false}}\n"
    bench = Bench(tmp_path, w=steps(agent("a", "inputs: [paper]"), agent("b", after="a"), also=also))
    bench.model.replies["b"] = [ValueError("no")]
    assert bench.run(paper="About bees.").outcome.status == "failed"
    blob(bench, bench.row().inputs["paper"]["ref"]["sha256"]).unlink()
    bench.model = Script()
    with pytest.raises(UsageError, match="'paper' of the run r is not there any more"):
        bench.run()
    assert (bench.model.asked, bench.row().state) == ([], "failed")
    assert bench.run(paper="About bees.").outcome.status == "completed"


def test_a_refused_start_changes_nothing(tmp_path: Path) -> None:
    text = steps(
        "  - id: agreed\n    approval: {ask: Go?}\n", also="inputs: {n: {type: integer, default: 1}}\n"
    )
    bench = Bench(tmp_path, w=text)
    assert bench.run().outcome.status == "waiting"
    before = bench.row()
    with pytest.raises(UsageError, match="began with a real model"):
        bench.run(offline=True)
    after = bench.row()
    assert (after.state, after.flow_run_id, after.holder) == ("waiting", before.flow_run_id, None)


# ---------------------------------------------------------------- money


def test_usage_is_counted_once_failed_attempts_included(tmp_path: Path) -> None:
    def refused() -> ModelError:
        error = ModelError("not today")
        error.spent = Usage(input_tokens=7, output_tokens=0)
        return error

    panel = '  - id: p\n    agents: [ann, bob]\n    prompt: "[p] go"\n    merge: {agent: ann}\n'
    bench = Bench(
        tmp_path, w=steps(agent("a", "retries: {max: 1, delay: 10ms}"), panel, agent("b", after="a"))
    )
    bench.model.replies["a"] = [refused(), refused(), "fine"]
    failed = bench.run()
    assert failed.outcome.status == "failed"
    assert failed.step("a")["usage"]["input_tokens"] == 14
    # Two members and the merging one.
    assert failed.step("p")["usage"]["input_tokens"] == 30
    assert failed.outcome.usage.input_tokens == 44
    done = bench.run()
    assert done.outcome.status == "completed"
    assert done.step("a")["usage"]["input_tokens"] == 24 and done.outcome.usage.input_tokens == 64
    # Two refusals of 7 tokens, five answers (see PRICES).
    assert done.outcome.usage.usd == pytest.approx(2 * 0.7 + 5 * 2.0)
    again = bench.run()
    assert again.outcome.usage == done.outcome.usage
    assert bench.row().usage == done.outcome.usage.model_dump()
    assert sum(r.usage["input_tokens"] for r in bench.rows().values()) == 64


# ---------------------------------------------------------------- sharing


def test_a_shared_result_serves_other_runs_at_no_cost(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "skills: []", "cache: always"), agent("own")))
    bench.run(run_id="one")
    bench.model = Script()
    other = bench.run(run_id="two")
    assert bench.model.asked == ["own"]
    assert other.reused == {"a": True, "own": False}
    assert other.step("a")["usage"]["input_tokens"] == 0 and other.outcome.usage.input_tokens == 10
    assert bench.rows("two")["a"].reused_from == "one"


def test_a_shared_result_is_not_offered_to_other_tenants_nor_made_by_no_model(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "skills: []", "cache: always")))
    bench.run(run_id="one", offline=True)
    bench.run(run_id="two")
    assert bench.model.asked == ["a"]
    bench.tenant = "others"
    bench.run(run_id="three")
    assert bench.model.asked == ["a", "a"]


def test_a_shared_result_expires(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "skills: []", "cache: always", "ttl: 1ms")))
    bench.run(run_id="one")
    bench.run(run_id="two")
    assert bench.model.asked == ["a", "a"]
    # Within its own run, finished is finished.
    assert bench.run(run_id="one").reused == {"a": True}


@pytest.mark.parametrize("cache", ["run", "never"])
def test_other_policies_share_nothing(tmp_path: Path, cache: str) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", f"cache: {cache}")))
    bench.run(run_id="one")
    assert bench.run(run_id="two").reused == {"a": False}
    assert bench.run(run_id="one").reused == {"a": True}
    assert bench.model.asked == ["a", "a"]


def test_a_stored_result_of_another_run_is_not_believed(tmp_path: Path) -> None:
    """Somebody copies results about, or two homes share a storage: only the run's own results count."""
    bench = Bench(tmp_path, w=steps(agent("a", "skills: []")))
    bench.run(run_id="one")
    results, runs = Path(bench.storage) / "_results" / "default", Path(bench.storage) / "default" / "runs"
    manifest = (runs / "one" / "run.json").read_text("utf-8")
    for name in ("two", "three"):
        shutil.copytree(results / "one", results / name)
        (runs / name).mkdir()
        (runs / name / "run.json").write_text(manifest.replace('"one"', f'"{name}"'), "utf-8")
    copied = next(path for path in (results / "three").rglob("*") if path.is_file())
    copied.write_text(copied.read_text("utf-8").replace("default/one/", "default/three/"), "utf-8")
    plain, renamed = bench.run(run_id="two"), bench.run(run_id="three")
    assert plain.reused == renamed.reused == {"a": False} and bench.model.asked == ["a", "a", "a"]
    (refused,) = plain.told("storage.refused")
    assert refused["step"] == "a" and "stored under another key" in refused["reason"]
    assert renamed.told("step.rerun") == [
        {"step": "a", "reason": "what was stored under its key belongs to another run"}
    ]


def test_a_new_run_does_not_look_for_results_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")))
    bench.run(run_id="one")
    results = Path(bench.storage) / "_results" / "default"
    shutil.copytree(results / "one", results / "two")
    other = bench.run(run_id="two")
    assert other.reused == {"a": False} and bench.model.asked == ["a", "a"] and not other.told("step.rerun")


# ---------------------------------------------------------------- one at a time


def test_two_starts_of_one_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")))

    async def main() -> tuple[Ran, BaseException | None]:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> str:
            began.set()
            await go_on.wait()
            return "done"

        bench.model.replies["a"] = [slow]
        first = asyncio.create_task(bench.go())
        await began.wait()
        try:
            await bench.go()
            refusal: BaseException | None = None
        except RunHeld as error:
            refusal = error
        go_on.set()
        return await first, refusal

    try:
        ran, refusal = asyncio.run(main())
    finally:
        gc.collect()
    assert ran.outcome.status == "completed"
    assert refusal is not None and "is being worked on by" in str(refusal)
    assert bench.row().state == "completed"
