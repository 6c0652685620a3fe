"""Progress in plain lines, and the panel at the end of a run."""

from __future__ import annotations

import io
from typing import Any

import pytest

from deployments.terminal.closing import closing, place
from deployments.terminal.display import Out, width
from deployments.terminal.progress import Progress
from deployments.terminal.progress_table import cut
from tests.support.plans import delivery
from workflows.core.cures import anew_command


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("run.started", {"run_id": "r1", "workflow": "end-to-end-delivery"}),
    ("step.started", {"step": "step-1", "agent": "agent-pm-002", "attempt": 1}),
    ("step.progress", {"step": "step-1", "kind": "text", "text": "writing"}),
    ("turn.started", {"step": "step-1", "turn": 1}),
    ("request.progress", {"step": "step-1", "kind": "thinking", "characters": 1200}),
    ("tool.started", {"step": "step-1", "tool": "data-analysis__trend"}),
    ("request.retry", {"step": "step-1", "attempt": 1, "reason": "over\nloaded", "delay": 1.5}),
    ("output.rejected", {"step": "step-1", "problems": ["no heading", "too short"]}),
    ("step.interrupted", {"step": "step-1"}),
    ("step.attempt_failed", {"step": "step-1", "attempt": 1, "reason": "cut off"}),
    ("step.started", {"step": "step-1", "agent": "agent-pm-002", "attempt": 2}),
    (
        "step.finished",
        {
            "step": "step-1",
            "status": "completed",
            "reused": False,
            "seconds": 62.0,
            "usage": {
                "input_tokens": 200,
                "cache_read_input_tokens": 700,
                "cache_creation_input_tokens": 300,
                "output_tokens": 300,
                "usd": 0.0123,
            },
            "offline": True,
        },
    ),
    (
        "step.finished",
        {"step": "step-2", "status": "completed", "reused": True, "seconds": 0.1, "usage": None},
    ),
    ("step.finished", {"step": "step-3", "status": "failed", "seconds": 1, "error": {"message": "refused"}}),
    ("step.finished", {"step": "step-4", "status": "not_started"}),
    ("something.else", {"a": 1}),
    ("run.finished", {"status": "failed", "seconds": 64.2}),
]


def play(out: Out) -> None:
    with Progress(out, delivery(), clock=lambda: 0.0) as progress:
        for name, data in EVENTS:
            progress.on_event(name, data)


@pytest.mark.parametrize("json_mode", [False, True])
def test_plain_lines_on_standard_error(json_mode: bool) -> None:
    out = Out(json_mode, stdout := io.StringIO(), stderr := io.StringIO())
    play(out)
    assert stdout.getvalue() == ""
    assert stderr.getvalue().splitlines() == [
        "run end-to-end-delivery  r1",
        "step-1  started  agent-pm-002",
        "step-1  asks again in 1.5s: over loaded",
        "step-1  answer sent back: no heading; too short",
        "step-1  was at work when an earlier process ended: what a model was asked just then may be billed, "
        "and is counted only within a budget",
        "step-1  attempt 1 failed: cut off",
        "step-1  started  agent-pm-002  attempt 2",
        "step-1  completed  1m2s  1,500 tokens  $0.012  offline",
        "step-2  completed  (reused)",
        "step-3  failed  1s  refused",
        "step-4  not started",
        "run failed in 1m4s",
    ]


def test_a_terminal_gets_one_table() -> None:
    out = Out(False, io.StringIO(), screen := Screen())
    play(out)
    last = screen.getvalue()
    assert screen.getvalue().count("was at work when an earlier process ended") == 1
    for word in ("4/4 steps", "需求分析", "1,500", "$0.012", "reused", "refused"):
        assert word in last
    assert "asks again" not in last


def test_how_many_requests_wait_for_the_provider_and_until_when() -> None:
    """Elsewhere than on a terminal not with each that comes or goes."""
    lines, screen = io.StringIO(), Screen()
    waiting = {"reason": "it is out of order", "until": "2026-01-01T10:00:00+00:00", "seconds": 3.0}
    for stream in (lines, screen):
        with Progress(Out(False, io.StringIO(), stream), delivery()) as progress:
            for count in (1, 8, 9, 7, 20):
                progress.on_event("provider.waiting", {"waiting": count, **waiting})
            if stream is lines:
                progress.on_event("provider.passed", {})
    told = lines.getvalue().splitlines()
    assert [line.split(" for ")[0] for line in told[:3]] == [
        "1 request waits",
        "8 requests wait",
        "20 requests wait",
    ]
    assert "the provider: it is out of order (until " in told[0]
    assert told[3:] == ["no request waits for the provider any more"]
    assert "20 requests wait for the provider" in " ".join(screen.getvalue().split())


def test_a_request_that_is_sent_again_is_no_line_with_every_try() -> None:
    lines, again = io.StringIO(), {"step": "step-1", "reason": "overloaded", "delay": 1.0}
    with Progress(Out(False, io.StringIO(), lines), delivery()) as progress:
        for due in (False, True, False):
            progress.on_event("request.retry", {**again, "due": due})
    assert lines.getvalue().count("asks again") == 1


def test_a_step_the_plan_does_not_know_is_shown_too() -> None:
    out = Out(False, io.StringIO(), stderr := io.StringIO())
    with Progress(out, delivery()) as progress:
        progress.on_event("step.started", {"step": "step-9[0]"})
        progress.on_event("step.finished", {"step": "step-9[0]", "status": "waiting"})
    assert stderr.getvalue() == "step-9[0]  started\nstep-9[0]  waiting\n"


def test_a_part_shows_in_the_row_of_its_step() -> None:
    """Members of a panel and steps of a sub-workflow neither add rows nor end their step's."""
    out = Out(False, io.StringIO(), screen := Screen())
    with Progress(out, delivery(), clock=lambda: 0.0) as progress:
        progress.on_event("step.started", {"step": "step-4/agent-1", "agent": "agent-1", "attempt": 1})
        progress.on_event("step.finished", {"step": "step-4/agent-1", "status": "completed"})
        progress.on_event("turn.started", {"step": "step-4/agent-2", "turn": 3})
    last = screen.getvalue().rpartition("steps")[2]
    assert last.count("step-4") == 1
    assert "agent-2  turn 3" in last
    assert "0/4 steps" in screen.getvalue()
    assert "✓" not in last


def test_a_failed_item_and_failed_tool_calls_are_told() -> None:
    events: list[tuple[str, dict[str, Any]]] = [
        ("step.started", {"step": "step-4", "agent": "agent-1", "attempt": 1}),
        ("step.finished", {"step": "step-4/ab12-0", "status": "failed", "seconds": 2, "error": "no\nrows"}),
        ("step.finished", {"step": "step-4", "status": "completed", "seconds": 3, "failed_tool_calls": 2}),
        ("step.finished", {"step": "step-1", "status": "failed", "error": "lost", "failed_tool_calls": 1}),
    ]
    plain = Out(False, io.StringIO(), stderr := io.StringIO())
    drawn = Out(False, io.StringIO(), screen := Screen())
    for out, count in ((plain, 4), (drawn, 2)):
        with Progress(out, delivery(), clock=lambda: 0.0) as progress:
            for name, data in events[:count]:
                progress.on_event(name, data)
    assert stderr.getvalue().splitlines() == [
        "step-4  started  agent-1",
        "step-4/ab12-0  failed  2s  no rows",
        "step-4  completed  3s  2 tool calls failed",
        "step-1  failed  1 tool call failed  lost",
    ]
    assert "ab12-0  failed" in screen.getvalue()


def test_cutting_counts_columns() -> None:
    assert cut("需求分析", 8) == "需求分析"
    assert cut("需求分析", 6) == "需求…"
    assert width(cut("需求分析", 6)) <= 6


def document(**changes: Any) -> dict[str, Any]:
    return {
        "run_id": "r1",
        "status": "completed",
        "workflow": "w",
        "steps": [{"id": "a", "status": "completed", "reused": True, "error": None}],
        "outputs": {"product_spec": {"uri": "file:///data/a%20b/spec.md"}, "方案": {"uri": "s3://b/c"}},
        "usage": {"input_tokens": 1000, "output_tokens": 20, "usd": 0.5},
        "waits": [],
        "error": None,
        **changes,
    }


def panel(shown: dict[str, Any], ui: str | None = "http://127.0.0.1:4200/x", auth: str | None = "u:p") -> str:
    out = Out(False, stdout := io.StringIO(), io.StringIO())
    closing(out, shown, ui, auth)
    return stdout.getvalue()


def test_the_panel_of_a_completed_run() -> None:
    text = panel(document())
    assert "w  completed  1 of 1 step, 1 reused" in text
    assert "  product_spec  /data/a b/spec.md\n  方案          s3://b/c\n" in text
    assert "spent     1,000 tokens in, 20 out, $0.5000" in text
    assert "  UI        http://127.0.0.1:4200/x\n  UI login  u:p\n" in text
    assert "--run-id" not in text
    assert "offline" not in text


def test_the_panel_of_a_failed_run_says_how_to_go_on() -> None:
    steps = [{"id": "a", "status": "failed", "error": {"message": "refused", "cure": "ask otherwise"}}]
    text = panel(document(status="failed", steps=steps, outputs={}, error={"message": "refused"}), None, None)
    assert text.count("refused") == 1
    assert "  a: refused\n    cure: ask otherwise\n" in text
    assert "go on  phaseline resume r1" in text
    assert "UI" not in text


def test_the_panel_names_the_step_that_must_be_done_anew() -> None:
    """Also behind a step that failed otherwise, and in a fan-out, which keeps the cure of its first item."""
    error = {
        "type": "ItemsFailed",
        "message": "late",
        "cure": f"be asked again: {anew_command('r1', 'a/3/b')}",
    }
    steps = [
        {"id": "first", "status": "failed", "error": {"message": "no key", "cure": "set it"}},
        {"id": "a", "status": "failed", "error": error},
    ]
    text = panel(document(status="failed", steps=steps, error=steps[0]["error"]), None, None)
    assert "  go on  phaseline resume r1 --from a\n" in text
    assert "  go on  phaseline resume r1\n" in panel(document(status="waiting", steps=steps), None, None)


def test_the_panel_says_the_command_that_goes_on_and_a_cure_once() -> None:
    error = {"message": "no key", "cure": "set ANTHROPIC_API_KEY"}
    steps = [{"id": i, "status": "failed", "error": {**error, "message": f"no key for {i}"}} for i in "ab"]
    out = Out(False, stdout := io.StringIO(), io.StringIO())
    places = ("--catalog", "my catalog")
    closing(out, document(status="failed", steps=steps, outputs={}, error=error), None, None, places)
    assert "  go on  phaseline --catalog 'my catalog' resume r1\n" in stdout.getvalue()
    assert stdout.getvalue().count("set ANTHROPIC_API_KEY") == 1


def test_the_panel_names_failed_items_and_failed_tool_calls() -> None:
    parts = [{"id": f"each/{n}", "error": {"message": f"refused {n}"}} for n in range(12)]
    steps = [
        {"id": "each", "status": "completed", "error": None, "failed_parts": parts, "failed_tool_calls": 2},
        {"id": "b", "status": "completed", "error": None, "failed_tool_calls": 0},
        {"id": "c", "status": "completed", "error": None, "failed_tool_calls": 1},
    ]
    text = panel(document(steps=steps))
    assert "  each/0: refused 0\n" in text and "  each/9: refused 9\n" in text
    assert "each/10" not in text
    assert "  each: and 2 more items failed\n" in text
    assert "  3 tool calls failed (each: 2, c: 1)\n" in text
    assert "tool call" not in panel(document())


def test_an_error_of_several_lines_stays_one_entry() -> None:
    error = {"message": "it said:\n\n  Traceback\nboom", "cure": "mend it\nsoon"}
    steps = [{"id": "a", "status": "failed", "error": error}]
    text = panel(document(status="failed", steps=steps, outputs={}, error=error), None, None)
    assert "  a: it said:\n        Traceback\n      boom\n    cure: mend it\n      soon\n" in text
    assert text.count("boom") == 1
    wait = {"wait_id": "w-1", "ask": "Pay?\nReally?", "form": {}}
    asked = panel(document(status="waiting", waits=[wait]), None, None)
    lines = asked.splitlines()
    (at,) = [n for n, line in enumerate(lines) if "Pay?" in line]
    assert lines[at + 1].index("Really?") == lines[at].index("Pay?")


def test_tokens_of_the_cache_are_spent_too() -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 7000,
        "cache_creation_input_tokens": 2000,
        "usd": 0.01,
    }
    assert "spent     9,010 tokens in (7,000 from the cache), 5 out, $0.0100" in panel(document(usage=usage))


def test_an_attempt_that_was_cut_off_did_not_fail() -> None:
    out = Out(False, io.StringIO(), stderr := io.StringIO())
    with Progress(out, delivery()) as progress:
        told = {"step": "step-1", "attempt": 1, "reason": "CancelledError"}
        progress.on_event("step.attempt_failed", told)
    assert stderr.getvalue() == "step-1  attempt 1 was cut off\n"


def test_offline_work_is_marked() -> None:
    offline = {"spec": {"uri": "file:///x", "offline": True}}
    text = panel(document(outputs=offline, usage={"input_tokens": 0, "output_tokens": 0}))
    assert "offline: the offline model answered" in text
    assert "no tokens" in text


def test_no_panel_under_json() -> None:
    out = Out(True, stdout := io.StringIO(), stderr := io.StringIO())
    closing(out, document(), None, None)
    assert stdout.getvalue() + stderr.getvalue() == ""


def test_places() -> None:
    assert place({"uri": "file:///a%20b"}) == "/a b"
    assert place({"uri": "s3://bucket/x"}) == "s3://bucket/x"
    assert place(None) == "-"
