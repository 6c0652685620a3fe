"""How steps and runs end when something goes wrong: the rows of docs/failures.md."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from blocks.models import QuotaExhausted, Terminal
from blocks.providers.anthropic_api import AnthropicConnection
from tests.support.flows import FLOW_MARKS, Bench, Ran, Script, agent, steps
from tests.support.messages_api import MessagesApi

pytestmark = FLOW_MARKS

RETRY = "retries: {max: 2, delay: 10ms, jitter: 0}"


async def forever() -> str:
    await asyncio.Event().wait()
    return ""


def started(step: str) -> Callable[[str, Mapping[str, Any]], bool]:
    """Whether an event says that the step asks its model."""
    return lambda event, data: event == "request.started" and data["step"] == step


def skill(step: str, *more: str) -> str:
    return "  - " + "\n    ".join([f"id: {step}", "skill: shared/tool", *more]) + "\n"


def error_of(ran: Ran, step: str) -> str:
    return str((ran.step(step)["error"] or {}).get("message"))


# ---------------------------------------------------------------- order and bounds


def test_a_slow_sibling_does_not_hold_back_another_branch(tmp_path: Path) -> None:
    written = steps(agent("a"), agent("slow", after="a"), agent("b", after="a"), agent("c", after="b"))
    bench = Bench(tmp_path, w=written)
    slow_began, c_began = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        slow_began.set()
        async with asyncio.timeout(60):
            await c_began.wait()
        return "late"

    async def beside() -> str:
        async with asyncio.timeout(60):
            await slow_began.wait()
        return "soon"

    async def below() -> str:
        c_began.set()
        return "below"

    bench.model.replies = {"slow": [slow], "b": [beside], "c": [below]}
    # With barriers between levels, `c` and `slow` would wait for each other.
    assert bench.run().outcome.status == "completed"
    assert bench.model.log.index("begin c") < bench.model.log.index("end slow")


@pytest.mark.parametrize(
    "written",
    [
        steps(*(agent(f"s{i}") for i in range(6)), also="max_concurrent: 2\n"),
        steps(agent("each", "for_each: [1, 2, 3, 4, 5, 6]", "max_concurrent: 2")),
        steps(agent("each", "for_each: [1, 2, 3, 4, 5, 6]"), also="max_concurrent: 2\n"),
        steps("  - id: p\n    workflow: inner\n"),
    ],
    ids=["steps", "items", "items-of-a-bounded-workflow", "inner-workflow"],
)
def test_no_more_runs_at_once_than_allowed(tmp_path: Path, written: str) -> None:
    bench = Bench(tmp_path, w=written)
    bench.write("inner", steps(*(agent(f"s{i}") for i in range(6)), also="max_concurrent: 2\n"))

    async def wait_for_company() -> str:
        async with asyncio.timeout(60):
            while bench.model.most < 2:  # noqa: ASYNC110 - what is waited for is a counter
                await asyncio.sleep(0.005)
        for _ in range(5):
            await asyncio.sleep(0.005)  # room for one too many
        return "x"

    bench.model.replies = {f"s{i}": [wait_for_company] for i in range(6)} | {"each": [wait_for_company]}
    assert bench.run().outcome.status == "completed"
    assert bench.model.most == 2


# ---------------------------------------------------------------- retries and failures


def test_a_step_that_fails_after_its_retries(tmp_path: Path) -> None:
    written = steps(agent("a", RETRY), agent("b", after="a"), agent("c", after="b"), agent("other"))
    bench = Bench(tmp_path, w=written)
    bench.model.replies["a"] = [ValueError("first"), ValueError("second"), ValueError("third")]
    ran = bench.run()
    assert ran.outcome.status == "failed" and ran.outcome.exit_code == 1
    assert ran.statuses == {"a": "failed", "b": "not_started", "c": "not_started", "other": "completed"}
    assert ran.step("a")["attempts"] == 3 and bench.model.asked.count("a") == 3
    assert error_of(ran, "a") == "third"
    assert ran.step("b")["reason"] == "a failed" and ran.step("c")["reason"] == "b did not start"
    assert ran.outcome.error is not None and ran.outcome.error["step"] == "a"
    assert ran.outcome.failed_steps == ("a",)
    told = ran.told("step.attempt_failed")
    assert [(t["attempt"], t["reason"], t["delay"]) for t in told] == [
        (1, "first", 0.01),
        (2, "second", 0.02),
    ]
    rows = bench.rows()
    assert {p: r.state for p, r in rows.items()} == {
        "a": "failed",
        "b": "not_started",
        "c": "not_started",
        "other": "completed",
    }
    assert rows["a"].attempts == 3 and rows["a"].error is not None
    assert bench.row().state == "failed"
    assert ran.state.is_failed()


def test_a_retry_that_helps(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", RETRY)))
    bench.model.replies["a"] = [ValueError("once"), "good"]
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert ran.step("a")["attempts"] == 2 and bench.rows()["a"].attempts == 2


def test_a_final_error_is_not_retried(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", RETRY), agent("each", RETRY, "for_each: range(101) | list")))
    bench.model.replies = {"a": [Terminal("no such model")], "each": [Terminal("no such model")]}
    ran = bench.run()
    assert ran.statuses == {"a": "failed", "each": "failed"}
    assert bench.model.asked.count("a") == 1 and bench.model.asked.count("each") == 101


def test_on_failure_continue_leaves_null(tmp_path: Path) -> None:
    after = skill("b", "handler: give", 'args: {text: "null is {{ a is none }}"}', "depends_on: [a, c]")
    bench = Bench(tmp_path, w=steps(agent("a", "on_failure: continue"), agent("c"), after))
    bench.model.replies["a"] = [ValueError("no")]
    ran = bench.run()
    assert ran.outcome.status == "completed" and ran.outcome.exit_code == 0
    assert ran.outcome.failed_steps == ("a",)
    assert ran.statuses == {"a": "failed", "c": "completed", "b": "completed"}
    assert "null is true" in bench.output(ran, "b").lower()
    assert ran.state.is_completed() and "1 steps failed" in ran.state.message


def test_who_follows_only_steps_without_output_is_skipped(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        w=steps(
            agent("a", "on_failure: continue"),
            agent("only", after="a"),
            agent("both", after="a, good"),
            agent("all", "requires: all", after="a, good"),
            agent("good"),
            agent("below", after="only"),
        ),
    )
    bench.model.replies["a"] = [ValueError("no")]
    ran = bench.run()
    assert ran.statuses == {
        "a": "failed",
        "only": "skipped",
        "both": "completed",
        "all": "skipped",
        "good": "completed",
        "below": "skipped",
    }
    assert ran.step("all")["reason"] == "requires: all, and a left no output"
    assert bench.rows()["only"].state == "skipped"


def test_when(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        w=steps(
            agent("a"),
            agent("yes", "when: \"'answer' in a\"", after="a"),
            agent("no", "when: \"'nonsense' in a\"", after="a"),
            agent("wrong", 'when: "a.b.c > 1"', after="a"),
            agent("after", after="wrong"),
        ),
    )
    ran = bench.run()
    assert ran.statuses == {
        "a": "completed",
        "yes": "completed",
        "no": "skipped",
        "wrong": "failed",
        "after": "not_started",
    }
    assert "wrong" not in bench.model.asked and "no" not in bench.model.asked
    assert bench.rows()["wrong"].state == "failed"


def test_statuses_in_conditions(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path,
        w=steps(
            agent("a", "on_failure: continue"),
            agent("b"),
            agent("mend", "when: steps.a.status == 'failed' and 'no' in steps.a.error", after="a, b"),
        ),
    )
    bench.model.replies["a"] = [ValueError("no")]
    assert bench.run().statuses["mend"] == "completed"


def test_a_panel_whose_member_fails(tmp_path: Path) -> None:
    panel = '  - id: p\n    agents: [ann, bob]\n    prompt: "[p] go"\n'
    bench = Bench(tmp_path, w=steps(panel, agent("b", after="p")))
    bench.model.replies["p"] = [ValueError("no"), "fine"]
    ran = bench.run()
    assert ran.statuses == {"p": "failed", "b": "not_started"}
    rows = bench.rows()
    assert rows["p"].state == "failed"
    assert sorted(rows[p].state for p in ("p/ann", "p/bob")) == ["completed", "failed"]
    bench.model.replies["p"] = ["better"]
    again = bench.run()
    assert again.outcome.status == "completed"
    assert bench.model.asked.count("p") == 3


# ---------------------------------------------------------------- time


def test_a_step_that_takes_too_long(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "timeout: 200ms", "retries: {max: 1, delay: 10ms}")))
    bench.model.replies["a"] = [forever]
    ran = bench.run()
    assert ran.statuses == {"a": "failed"} and ran.step("a")["attempts"] == 2
    assert error_of(ran, "a") == "it took longer than its timeout of 0.2s"
    assert bench.rows()["a"].state == "failed"
    assert ran.step("a")["seconds"] >= 0.2


def test_a_handler_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    mark, until = tmp_path / "mark", tmp_path / "until"
    step = skill("a", "handler: block", "timeout: 1s", f'args: {{started: "{mark}", until: "{until}"}}')
    bench = Bench(tmp_path, w=steps(step))
    ran = bench.run()
    assert ran.statuses == {"a": "failed"}
    assert error_of(ran, "a") == "it took longer than its timeout of 1s"


def test_an_item_of_a_batch_has_the_timeout_of_the_step(tmp_path: Path) -> None:
    each = agent("each", "for_each: range(101) | list", "timeout: 5s", "max_concurrent: 101")
    bench = Bench(tmp_path, w=steps(each, also="max_concurrent: 101\n"))
    bench.model.replies["each"] = [forever, "fine"]
    ran = bench.run()
    assert ran.statuses == {"each": "failed"}
    assert "1 of 101 items failed; the first: it took longer" in error_of(ran, "each")


def test_an_inner_workflow_has_the_timeout_of_its_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps("  - id: call\n    workflow: inner\n    timeout: 5s\n"))
    bench.write("inner", steps(agent("one")))
    bench.model.replies["one"] = [forever]
    ran = bench.run()
    assert ran.statuses == {"call": "failed"}
    assert "timeout of 5s" in error_of(ran, "call")
    assert {p: r.state for p, r in bench.rows().items()} == {"call": "failed", "call/one": "cancelled"}


def test_the_total_time(tmp_path: Path) -> None:
    text = steps(agent("quick"), agent("a"), agent("b", after="a"), also="total_timeout: 2s\n")
    bench = Bench(tmp_path, w=text + "finally:\n" + agent("last"))
    bench.model.replies["a"] = [forever]
    ran = bench.run()
    assert ran.outcome.status == "failed" and ran.outcome.exit_code == 1
    assert ran.outcome.error is not None and "total_timeout" in ran.outcome.error["message"]
    assert ran.statuses == {"quick": "completed", "a": "cancelled", "b": "not_started", "last": "completed"}
    assert {p: r.state for p, r in bench.rows().items()} == {
        "quick": "completed",
        "a": "cancelled",
        "b": "not_started",
        "last": "completed",
    }
    assert bench.row().state == "failed"


# ---------------------------------------------------------------- cancellation, finally


def test_a_cancelled_run(tmp_path: Path) -> None:
    panel = '  - id: p\n    agents: [ann, bob]\n    prompt: "[p] go"\n'
    bench = Bench(tmp_path, w=steps(agent("a"), panel, agent("b", after="a")) + "finally:\n" + agent("last"))
    bench.model.replies = {"a": [forever], "p": [forever]}
    ran = bench.cancelled(started("a"))
    assert ran.outcome.status == "cancelled" and ran.outcome.exit_code == 1
    assert ran.statuses == {"a": "cancelled", "p": "cancelled", "b": "not_started", "last": "completed"}
    states = {p: r.state for p, r in bench.rows().items()}
    assert set(states.values()) == {"cancelled", "not_started", "completed"}
    assert states["a"] == states["p/ann"] == states["p"] == "cancelled" and states["b"] == "not_started"
    assert {i: ran.step(i)["attempts"] for i in ("a", "p", "b")} == {"a": 1, "p": 1, "b": 0}
    assert {p: r.attempts for p, r in bench.rows().items() if r.state == "cancelled"} == dict.fromkeys(
        ("a", "p", "p/ann", "p/bob"), 1
    )
    assert bench.row().state == "cancelled"
    assert ran.state.is_cancelled()
    bench.model.replies = {}
    again = bench.run()
    assert again.outcome.status == "completed"


def test_a_step_cut_off_before_its_retry_goes_on_with_that_attempt(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a", "retries: {max: 1, delay: 1h, jitter: 0}")))
    bench.model.replies["a"] = [ValueError("broken"), "done"]
    ran = bench.cancelled(lambda event, data: event == "step.attempt_failed")
    assert (ran.statuses, bench.rows()["a"].attempts) == ({"a": "cancelled"}, 2)
    assert bench.run().step("a")["attempts"] == 2


def test_a_run_that_is_cancelled_in_its_finally_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")) + "finally:\n" + agent("last"))
    bench.model.replies["last"] = [forever]
    ran = bench.cancelled(started("last"))
    assert ran.outcome.status == "cancelled"
    assert ran.statuses == {"a": "completed", "last": "cancelled"}
    assert bench.row().state == "cancelled" and bench.rows()["last"].state == "cancelled"


def test_a_cancelled_inner_workflow_runs_its_own_finally(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps("  - id: call\n    workflow: inner\n"))
    bench.write("inner", steps(agent("one")) + "finally:\n" + agent("inner_last"))
    bench.model.replies["one"] = [forever]
    ran = bench.cancelled(started("call/one"))
    assert ran.outcome.status == "cancelled"
    assert "inner_last" in bench.model.asked
    assert {p: r.state for p, r in bench.rows().items()} == {
        "call": "cancelled",
        "call/one": "cancelled",
        "call/inner_last": "completed",
    }


@pytest.mark.parametrize("how", ["completed", "failed"])
def test_finally_sees_how_it_went(tmp_path: Path, how: str) -> None:
    last = skill("last", "handler: give", 'args: {text: "{{ steps.a.status }} {{ b is none }}"}')
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", after="a")) + "finally:\n" + last)
    if how == "failed":
        bench.model.replies["a"] = [ValueError("no")]
    ran = bench.run()
    assert ran.outcome.status == how
    assert ran.statuses["last"] == "completed"
    ref = next(a for a in ran.step("last")["artifacts"])
    body = (tmp_path / "storage" / "default" / "blobs" / ref["sha256"][:2] / ref["sha256"]).read_text()
    assert f"{how} {how == 'failed'}".lower() in body.lower()


def test_a_finally_step_that_fails(tmp_path: Path) -> None:
    last = agent("last") + agent("after", after="last")
    bench = Bench(tmp_path, w=steps(agent("a")) + "finally:\n" + last)
    bench.model.replies["last"] = [ValueError("no")]
    ran = bench.run()
    assert ran.outcome.status == "failed"
    assert ran.statuses == {"a": "completed", "last": "failed", "after": "completed"}
    assert ran.outcome.outputs.keys() == {"a"}


def test_the_first_failure_is_told_not_that_of_finally(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")) + "finally:\n" + agent("last"))
    bench.model.replies = {"a": [ValueError("first")], "last": [ValueError("second")]}
    ran = bench.run()
    assert ran.outcome.error is not None and ran.outcome.error["message"] == "first"
    assert ran.outcome.failed_steps == ("a", "last")


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize("count", [3, 101])
@pytest.mark.parametrize("on_failure", ["fail", "continue"])
def test_one_failing_item(tmp_path: Path, count: int, on_failure: str) -> None:
    each = agent("each", f"for_each: range(-1, {count - 1}) | list", f"on_failure: {on_failure}")
    bench = Bench(tmp_path, w=steps(each.replace("[each]", "[each {{ item }}]")))
    bench.model.replies["each -1"] = [ValueError("below zero")]
    ran = bench.run()
    items = {p: r.state for p, r in bench.rows(ran.outcome.run_id).items() if p.startswith("each/")}
    assert sorted(items.values()) == ["completed"] * (count - 1) + ["failed"]
    if on_failure == "fail":
        assert ran.outcome.status == "failed"
        assert f"1 of {count} items failed" in error_of(ran, "each")
    else:
        assert ran.outcome.status == "completed"
        assert bench.output(ran, "each").startswith("[\n  null,\n")
        assert len(ran.outcome.failed_steps) == 1 and ran.outcome.failed_steps[0].startswith("each/")
        (part,) = ran.step("each")["failed_parts"]
        assert part == {"id": ran.outcome.failed_steps[0], "error": {"message": "below zero"}}
        assert bench.run().step("each")["failed_parts"] == [part], "also where the result is reused"
    (told,) = [d for d in ran.told("step.finished") if d["step"].startswith("each/")]
    assert (told["status"], told["error"]) == ("failed", "below zero")
    assert items[told["step"]] == "failed"


def test_an_item_that_fails_inside_an_inner_workflow_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps("  - id: call\n    workflow: inner\n"))
    bench.write("inner", steps(agent("one", "on_failure: continue"), agent("two")))
    bench.model.replies["one"] = [ValueError("refused")]
    ran = bench.run()
    assert ran.outcome.failed_steps == ("call/one",)
    assert ran.step("call")["failed_parts"] == [{"id": "call/one", "error": {"message": "refused"}}]


def test_failed_tool_calls_are_counted(tmp_path: Path) -> None:
    """The agent is told and goes on; people should know all the same."""
    text = steps(agent("a"), agent("p", after="a").replace("agent: ann", "agents: [ann, bob]"))
    bench = Bench(tmp_path, w=text)
    wrong = {"tools": [{"name": "tool__count", "input": {"text": "nothing"}}]}
    with MessagesApi() as api:
        bench.model = AnthropicConnection("sk-any-key", api.base_url)  # type: ignore[assignment]
        api.queue(wrong, {"tools": [*wrong["tools"], *wrong["tools"]]}, {"text": "done"})
        ran = bench.run()
        assert ran.outcome.status == "completed"
        assert [s["failed_tool_calls"] for s in ran.outcome.steps] == [3, 0]
        told = {d["step"]: d["failed_tool_calls"] for d in ran.told("step.finished")}
        assert told == {"a": 3, "p": 0}
        bench.model = AnthropicConnection("sk-any-key", api.base_url)  # type: ignore[assignment]
        again = bench.run()
    assert again.reused == {"a": True, "p": True}
    assert [s["failed_tool_calls"] for s in again.outcome.steps] == [3, 0]


def test_an_empty_list(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("each", "for_each: range(0) | list", after="a")))
    ran = bench.run()
    assert ran.outcome.status == "completed" and bench.output(ran, "each") == "[]\n"
    assert "each" not in bench.model.asked


def test_a_for_each_over_no_list(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("each", "for_each: a", after="a")))
    ran = bench.run()
    assert ran.statuses == {"a": "completed", "each": "failed"}
    assert "not a list" in error_of(ran, "each")


def test_a_workflow_per_item(tmp_path: Path) -> None:
    call = '  - id: call\n    workflow: inner\n    for_each: [x, y]\n    args: {topic: "{{ item }}"}\n'
    bench = Bench(tmp_path, w=steps(call))
    inner = agent("one").replace("[one] go", "[one {{ topic }}] go")
    bench.write("inner", steps(inner, also="inputs: {topic: {type: string}}\n"))
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert sorted(bench.model.asked) == ["one x", "one y"]
    assert "one x" in bench.output(ran, "call")


@pytest.mark.parametrize(("until", "asked"), [("'done' in r", 2), ("false", 3), ("iteration == 1", 1)])
def test_repeat(tmp_path: Path, until: str, asked: int) -> None:
    step = agent("r", f'repeat: {{until: "{until}", max: 3}}').replace("go", "before: {{ previous }}")
    bench = Bench(tmp_path, w=steps(step))
    bench.model.replies["r"] = ["draft one", "draft two, done", "draft three"]
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert bench.model.asked.count("r") == asked
    last = ["draft one", "draft two, done", "draft three"][asked - 1]
    assert last in bench.output(ran, "r")


def test_a_failing_inner_workflow(tmp_path: Path) -> None:
    call = "  - id: call\n    workflow: inner\n    retries: {max: 1, delay: 10ms}\n"
    bench = Bench(tmp_path, w=steps(call, agent("b", after="call")))
    bench.write("inner", steps(agent("one"), agent("two", after="one")))
    bench.model.replies["two"] = [ValueError("no")]
    ran = bench.run()
    assert ran.statuses == {"call": "failed", "b": "not_started"}
    assert error_of(ran, "call") == "inner: step 'two' failed: no"
    assert ran.step("call")["attempts"] == 2
    assert bench.model.asked == ["one", "two", "two"]


# ---------------------------------------------------------------- quota, storage


@pytest.mark.parametrize(
    "limited",
    [
        agent("a"),
        agent("a", "for_each: [1, 2, 3]", "max_concurrent: 1"),
        agent("a", "for_each: range(101) | list", "max_concurrent: 1", "on_failure: continue"),
        '  - id: a\n    agents: [ann, bob]\n    prompt: "[a] go"\n',
        "  - id: a\n    workflow: inner\n",
    ],
    ids=["step", "items", "batches", "panel", "workflow"],
)
def test_a_spent_quota_stops_the_run(tmp_path: Path, limited: str) -> None:
    written = steps(
        agent("first"), limited, agent("b", after="a"), agent("c", after="first"), also="max_concurrent: 1\n"
    )
    bench = Bench(tmp_path, w=written + "finally:\n" + agent("last"))
    bench.write("inner", steps(agent("a")))
    bench.model.replies["a"] = [QuotaExhausted("the limit is spent")]
    ran = bench.run()
    assert ran.outcome.status == "stopped" and ran.outcome.exit_code == 4
    assert ran.outcome.error is not None and ran.outcome.error["message"] == "the limit is spent"
    assert "phaseline resume r, or" in ran.outcome.error["cure"]
    assert "failed" not in ran.statuses.values() and ran.outcome.failed_steps == ()
    assert ran.statuses["a"] == ran.statuses["b"] == ran.statuses["last"] == "not_started"
    assert "failed" not in {r.state for r in bench.rows().values()}
    after = bench.model.asked[bench.model.asked.index("a") + 1 :]
    # Members of a panel were started together; nothing else is.
    assert set(after) <= {"a"} and len(after) <= 1
    assert not ran.state.is_completed() and ran.state.name == "Stopped"
    assert bench.row().state == "stopped"
    bench.model = Script()
    again = bench.run()
    assert again.outcome.status == "completed" and "first" not in bench.model.asked


def test_a_storage_fault_fails_the_step(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a"), agent("b", after="a")))
    blobs = tmp_path / "storage" / "default" / "blobs"

    async def without_a_place() -> str:
        shutil.rmtree(blobs, ignore_errors=True)
        blobs.parent.mkdir(parents=True, exist_ok=True)
        blobs.write_text("a file where the folder should be")
        return "an answer that cannot be kept"

    bench.model.replies["a"] = [without_a_place]
    ran = bench.run()
    assert ran.outcome.status == "failed"
    assert ran.statuses == {"a": "failed", "b": "not_started"}
    assert ran.step("a")["error"]["type"] == "StorageError"
    assert ran.state.is_failed()
    blobs.unlink()
    bench.model.replies = {}
    assert bench.run().outcome.status == "completed"
