"""Runs that wait for people and outside systems: asked, answered, cancelled, by the real command."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger
from tests.support.command import User
from tests.support.durable import Desk, eventually, statuses
from tests.support.gates import make_overdue

ME = pwd.getpwuid(os.getuid()).pw_name
ASK = """\
  - id: ask
    approval:
      ask: May 5 be paid?
      form: {required: [limit], properties: {limit: {type: integer}}}
"""


@pytest.fixture
def desk(newcomer: User) -> Desk:
    """A person with an empty home and a catalog of steps that leave marks."""
    return Desk.make(newcomer)


def refused(desk: Desk, *words: str, expected: str) -> None:
    """Exit code 2, a message with a cure, no traceback."""
    answer = desk.user.phaseline(*words)
    assert answer.code == 2, answer
    assert expected in answer.err and "cure: " in answer.err and "Traceback" not in answer.err


def output(document: Any, name: str) -> Any:
    """A published JSON output."""
    return json.loads(Path(document["places"][name]).read_text("utf-8"))


def test_an_approval_with_a_form(desk: Desk) -> None:
    """Other branches finish first; what is printed can be copied; a wrong answer loses nothing."""
    desk.write(
        "w", ASK, desk.step("side"), desk.step("pay", "depends_on: ask", text="at most {{ ask.data.limit }}")
    )
    answer = desk.run("w")
    assert answer.code == 3, answer
    assert desk.marks == ["side"]
    (line,) = [x for x in answer.out.splitlines() if x.strip().startswith("answer ")]
    command = line.split(None, 1)[1]
    wait_id = desk.wait_id("w")
    assert command == f"phaseline --catalog {desk.catalog} answer {wait_id} -f limit=INTEGER"
    (wait,) = desk.json("inbox")["waits"]
    assert (wait["run_id"], wait["step"], wait["ask"]) == ("w", "ask", "May 5 be paid?")
    assert wait["form"]["required"] == ["limit"]
    waiting = desk.json("resume", "w", code=3)
    assert [w["wait_id"] for w in waiting["waits"]] == [wait_id]
    refused(desk, *shlex.split(command)[1:], expected="limit: 'INTEGER' is not of type 'integer'")
    refused(desk, "answer", wait_id, expected="limit is missing")
    refused(desk, "answer", wait_id[:-1] + "!", expected=f"did you mean '{wait_id}'")
    answered = desk.json("answer", wait_id, "-f", "limit=7", "--note", "fine")
    assert (answered["state"], answered["due"], answered["voter"]) == ("answered", True, ME)
    refused(desk, "answer", wait_id, "-f", "limit=8", expected=f"{ME} approved it at")
    assert "w is due: phaseline" in desk.user.phaseline("runs").err
    document = desk.json(*shlex.split(answered["resume"])[1:])
    assert statuses(document) == {"ask": "completed", "side": "completed", "pay": "completed"}
    assert desk.marks == ["side", "at most 7"]
    assert output(document, "ask")["data"] == {"limit": 7}
    shown = desk.json("show", "w", "--events")
    assert [w["state"] for w in shown["waits"]] == ["answered"]
    assert [e["name"] for e in shown["events"] if e["name"].startswith("wait.")] == [
        "wait.opened",
        "wait.voted",
        "wait.answered",
    ]


def test_a_quorum_of_two(desk: Desk) -> None:
    ask = '  - {id: ask, approval: {ask: "Ship?", assignees: [ann, bob, eve], quorum: 2}}\n'
    desk.write("w", ask, desk.step("ship", "depends_on: ask"))
    waits = desk.json(*desk.words("w"), code=3)["waits"]
    wait_id = waits[0]["wait_id"]
    refused(desk, "answer", wait_id, "--as", "mallory", expected="does not ask mallory")
    assert desk.json("answer", wait_id, "--as", "ann")["state"] == "open"
    refused(desk, "answer", wait_id, "--as", "ann", expected="ann has answered the wait")
    document = desk.json("answer", wait_id, "--as", "bob", "--resume")
    assert document["status"] == "completed"
    assert [v["voter"] for v in output(document, "ask")["votes"]] == ["ann", "bob"]
    assert desk.marks == ["ship"]


def test_a_quorum_agrees_on_the_same(desk: Desk) -> None:
    form = "form: {required: [limit], properties: {limit: {type: integer}}}"
    desk.write("w", f'  - {{id: ask, approval: {{ask: "How much?", quorum: 2, {form}}}}}\n')
    assert desk.run("w").code == 3
    wait_id = desk.wait_id("w")
    refused(
        desk, "answer", wait_id, "-f", "limt=7", expected="limt is no field of it (did you mean 'limit'?)"
    )
    desk.json("answer", wait_id, "--as", "ann", "-f", "limit=7")
    for words in (("inbox",), ("show", "w")):
        assert 'ann approved {"limit": 7}' in desk.user.phaseline(*words).out
    refused(desk, "answer", wait_id, "--as", "bob", "-f", "limit=8", expected='others approved {"limit": 7}')
    answered = desk.json("answer", wait_id, "--as", "bob")
    assert answered["state"] == "answered"
    assert [v["data"] for v in answered["decided_by"]] == [{"limit": 7}, {"limit": 7}]


def test_answers_keep_no_secret(desk: Desk) -> None:
    secret = "correct-horse-battery"
    form = "form: {required: [how], properties: {how: {type: string}}}"
    desk.write(
        "w",
        f'  - {{id: ask, approval: {{ask: "How?", {form}}}}}\n',
        "  - {id: paid, await_event: {type: payment.settled}}\n",
    )
    assert desk.run("w").code == 3
    desk.user = desk.user.with_variables(MY_TOKEN=secret)
    wait_id = desk.wait_id("w", "ask")
    answered = desk.json("answer", wait_id, "-f", f"how=with {secret}", "--note", f"it is {secret}")
    assert answered["answer"]["data"] == {"how": "with [secret MY_TOKEN]"}
    assert answered["decided_by"][0]["note"] == "it is [secret MY_TOKEN]"
    assert desk.json("event", "payment.settled", "--data", json.dumps({secret: [secret]}))["wait_id"]
    kept = b"".join(
        file.read_bytes() for file in desk.user.home.rglob("*") if file.name.startswith("ledger.db")
    )
    assert b"[secret MY_TOKEN]" in kept and secret.encode() not in kept


def test_changed_people_and_questions_reach_the_inbox(desk: Desk) -> None:
    def ask(text: str, *people: str) -> None:
        asked = f'ask: "{text}", assignees: [{", ".join(people)}]'
        desk.write("w", f"  - {{id: ask, approval: {{{asked}}}}}\n")

    ask("Ship?", "ann")
    assert desk.run("w").code == 3
    (first,) = desk.json("inbox")["waits"]
    ask("Ship?", "bob")
    assert desk.run("w").code == 3
    (same,) = desk.json("inbox")["waits"]
    assert (same["wait_id"], same["assignees"]) == (first["wait_id"], ["bob"])
    ask("Ship it now?", "bob")
    assert desk.run("w").code == 3
    (newer,) = desk.json("inbox")["waits"]
    assert newer["wait_id"] != first["wait_id"] and newer["ask"] == "Ship it now?"
    assert desk.json("answer", newer["wait_id"], "--as", "bob", "--resume")["status"] == "completed"
    assert [w["state"] for w in desk.json("show", "w")["waits"]] == ["cancelled", "answered"]


ORDER = '''"""Orders."""

from pathlib import Path


def order() -> dict[str, str]:
    """Place the order."""
    with Path({file!r}).open("a") as marks:
        marks.write("ordered\\n")
    return {{"order": "placed"}}
'''


def ordering(desk: Desk, **people: Any) -> None:
    """A workflow whose agent places an order, which people have to agree to."""
    tool = desk.catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "order.py").write_text(ORDER.format(file=str(desk.file)))
    config = (tool / "config.yaml").read_text()
    (tool / "config.yaml").write_text(config + "  - {name: order, effect: once}\n")
    rule = {"approval": True, "people": people}
    file = desk.catalog / "agents" / "ann" / "tools-config.json"
    file.write_text(json.dumps({"tools": {"tool__order": rule}}, indent=1))
    desk.write("w", "  - {id: buy, agent: ann, prompt: Call tool__order and say what came of it.}\n")


def test_a_call_that_two_of_three_agree_to(desk: Desk) -> None:
    ordering(desk, assignees=["kim", "lee", "max"], quorum=2)
    answer = desk.run("w")
    assert answer.code == 3 and "May buy call tool__order with these arguments?" in answer.out, answer
    assert "of        kim, lee, max" in desk.user.phaseline("inbox").out
    wait_id = desk.wait_id("w")
    refused(desk, "answer", wait_id, expected=f"does not ask {ME}")
    assert desk.json("answer", wait_id, "--as", "lee")["state"] == "open"
    assert "lee approved" in desk.user.phaseline("inbox").out
    assert desk.json("resume", "w", code=3)["waits"][0]["assignees"] == ["kim", "lee", "max"]
    assert desk.marks == []
    assert desk.json("answer", wait_id, "--as", "kim", "--resume")["status"] == "completed"
    assert desk.json("resume", "w")["status"] == "completed"
    assert desk.marks == ["ordered"]


def test_a_call_that_nobody_agrees_to_in_time_asks_others(desk: Desk) -> None:
    late = {"deadline": "1h", "on_timeout": "escalate", "escalate_to": ["noa"]}
    ordering(desk, assignees=["kim"], **late)
    assert desk.run("w").code == 3
    with Ledger.open(desk.user.home / "ledger.db") as ledger:
        wait_id = make_overdue(ledger).wait_id
    (escalated,) = desk.json("inbox")["waits"]
    assert (escalated["wait_id"], escalated["assignees"]) == (wait_id, ["noa"])
    assert ", then fail" in desk.user.phaseline("inbox").out
    refused(desk, "answer", wait_id, "--as", "kim", expected="does not ask kim")
    assert desk.json("answer", wait_id, "--as", "noa", "--resume")["status"] == "completed"
    assert desk.marks == ["ordered"]


def test_silence_does_not_approve_a_call(desk: Desk) -> None:
    ordering(desk, assignees=["kim"], deadline="1h", on_timeout="approve")
    refused(desk, *desk.words("w"), expected="silence never approves a call")
    checked = desk.user.phaseline("--catalog", str(desk.catalog), "check")
    told = "agents/ann/tools-config.json:10:19: error: tools.tool__order.people.on_timeout: silence never"
    assert checked.code == 2 and told in checked.out


def test_a_rejection_skips_what_follows(desk: Desk) -> None:
    desk.write(
        "w",
        '  - {id: ask, approval: {ask: "Ship?"}}\n',
        desk.step("ship", "depends_on: ask"),
        desk.step("tell", "depends_on: ask", 'when: "not ask.approved"'),
    )
    assert desk.run("w").code == 3
    document = desk.json("answer", desk.wait_id("w"), "--reject", "--note", "not yet", "--resume")
    assert statuses(document) == {"ask": "completed", "ship": "skipped", "tell": "completed"}
    assert desk.marks == ["tell"]


def test_events_before_and_after(desk: Desk) -> None:
    paid = '  - {id: paid, await_event: {type: payment.settled, key: "{{ order }}"}}\n'
    desk.write("w", paid, also="inputs: {order: {type: string}}\n")
    kept = desk.json("event", "payment.settled", "--key", "o-1", "--id", "e1", "--data", '{"amount": 5}')
    assert kept["wait_id"] is None
    document = desk.json(*desk.words("w", "-i", "order=o-1"))
    assert output(document, "paid") == {"payload": {"amount": 5}, "event_id": "e1", "by_timeout": False}
    late = desk.words("w", "-i", "order=o-2")
    late[late.index("--run-id") + 1] = "late"
    assert desk.json(*late, code=3)["waits"][0]["event"] == {"type": "payment.settled", "key": "o-2"}
    told = ("event", "payment.settled", "--key", "o-2", "--id", "e2", "--data", '{"amount": 6}')
    first, again = desk.json(*told), desk.json(*told)
    assert first["wait_id"] == again["wait_id"] and first["due"]
    document = desk.json(*shlex.split(first["resume"])[1:])
    assert output(document, "paid")["payload"] == {"amount": 6}
    refused(desk, "event", "payment.settled", "--data", "[1]", expected="not an object")


def test_a_deadline_and_wake(desk: Desk) -> None:
    ask = '  - {id: ask, approval: {ask: "Ship?", deadline: 500ms, on_timeout: reject}}\n'
    desk.write("w", ask, desk.step("after", "depends_on: ask", 'when: "ask.by_timeout"'))
    assert desk.run("w").code == 3
    (woken,) = eventually(lambda: desk.json("wake")["woken"])
    assert woken == {"run_id": "w", "status": "completed", "exit_code": 0, "error": None}
    assert desk.marks == ["after"]
    assert desk.json("wake") == {"woken": [], "skipped": [], "expired": [], "reminded": []}


def test_any_command_lets_what_is_due_go_on_in_the_background(desk: Desk) -> None:
    """What a deadline decided; of what a person answered, and with PHASELINE_WAKE=off, it only tells."""
    on = desk.user.with_variables(PHASELINE_WAKE="on")
    ask = '  - {id: ask, approval: {ask: "Ship?", deadline: 500ms, on_timeout: reject}}\n'
    desk.write("timed", ask, desk.step("after", "depends_on: ask", 'when: "ask.by_timeout"'))
    desk.write("asked", '  - {id: ask, approval: {ask: "Ship?"}}\n', desk.step("shipped", "depends_on: ask"))
    assert [desk.run(name).code for name in ("timed", "asked")] == [3, 3]
    desk.json("answer", desk.wait_id("asked"))
    eventually(lambda: "2 runs are due" in desk.user.phaseline("runs").err)
    log = desk.user.home / "wake.log"
    assert not log.exists()
    notes = on.phaseline("runs").err
    assert f"the run timed goes on in the background; what is written: {log}" in notes
    assert "the run asked is due: phaseline" in notes
    with (desk.user.home / "wake.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # free when that process has ended
    assert "timed: completed" in log.read_text("utf-8")
    assert log.stat().st_mode & 0o077 == 0
    assert desk.marks == ["after"]
    states = {run["id"]: run["status"] for run in desk.json("runs")["runs"]}
    assert states == {"timed": "completed", "asked": "waiting"}
    assert "background" not in on.phaseline("runs").err
    wrong = desk.user.with_variables(PHASELINE_WAKE="no")
    desk.write("timed", ask)
    assert desk.run("timed", "--run-id", "again").code == 3
    refusal = eventually(lambda: (found := wrong.phaseline("runs")).code and found)
    assert refusal.code == 2 and "PHASELINE_WAKE is 'no'" in refusal.err


def test_an_answer_is_given_by_whom_the_system_knows_and_goes_on_here(desk: Desk) -> None:
    """Not by whom a variable names; and the command leaves nothing of its own run to the background."""
    late = '  - {id: late, approval: {ask: "Now?", deadline: 500ms, on_timeout: reject}}\n'
    desk.write(
        "w", '  - {id: ask, approval: {ask: "Ship?"}}\n', late, "  - {id: paid, await_event: {type: t}}\n"
    )
    assert desk.run("w").code == 3
    wait_id = desk.wait_id("w", "ask")
    eventually(lambda: [w["step"] for w in desk.json("inbox")["waits"]] == ["ask", "paid"])
    assert "w is due" in desk.user.phaseline("runs").err
    desk.user = desk.user.with_variables(PHASELINE_WAKE="on", LOGNAME="mallory", USER="mallory")
    assert desk.json("event", "t")["run_id"] == "w"
    document = desk.json("answer", wait_id, "--resume")
    assert document["status"] == "completed"
    assert [v["voter"] for v in output(document, "ask")["votes"]] == [ME]
    assert not (desk.user.home / "wake.log").exists()


def test_an_answer_while_the_run_works_is_not_lost(desk: Desk) -> None:
    ask = '  - {id: one, approval: {ask: "One?"}}\n  - {id: two, approval: {ask: "Two?"}}\n'
    desk.write("w", ask, desk.step("side", until="go"), desk.step("pay", "depends_on: one"))
    with desk.user.start(*desk.words("w")) as process:
        eventually(lambda: "side" in desk.marks and len(desk.json("inbox")["waits"]) == 2)
        desk.json("answer", desk.wait_id("w", "one"))
        desk.path("go").touch()
        assert process.wait(60) == 3
    assert "w is due" in desk.user.phaseline("runs").err
    document = desk.json("resume", "w", code=3)
    assert (statuses(document)["one"], statuses(document)["pay"]) == ("completed", "completed")
    assert desk.marks == ["side", "pay"]
    assert desk.json("resume", "w", code=3)["status"] == "waiting"
    assert "is due" not in desk.user.phaseline("runs").err


def test_two_answers_at_once(desk: Desk) -> None:
    desk.write("w", '  - {id: ask, approval: {ask: "Ship?"}}\n')
    assert desk.run("w").code == 3
    words = ("answer", desk.wait_id("w"), "--as")
    with desk.user.start(*words, "ann") as one, desk.user.start(*words, "bob") as other:
        codes = sorted(process.wait(60) for process in (one, other))
    assert codes == [0, 2], desk.user.log.read_text()
    assert len(desk.json("show", "w")["waits"][0]["votes"]) == 1


def test_a_wait_survives_the_kill_of_its_process(desk: Desk) -> None:
    """Killed while another branch works; answered while nobody works on the run; gone on with anew."""
    desk.write("w", ASK, desk.step("side", until="go"), desk.step("pay", "depends_on: ask"))
    with desk.user.start(*desk.words("w")) as process:
        eventually(lambda: "side" in desk.marks and desk.json("inbox")["waits"])
        answer = desk.user.phaseline("resume", "w")
        assert (answer.code, "is being worked on by" in answer.err) == (1, True)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert desk.json("show", "w")["status"] == "interrupted"
    desk.json("answer", desk.wait_id("w"), "-f", "limit=1")
    desk.path("go").touch()
    assert statuses(desk.json("resume", "w")) == {
        "ask": "completed",
        "side": "completed",
        "pay": "completed",
    }
    assert desk.marks[0] == "side"
    assert sorted(desk.marks[1:]) == ["pay", "side"]  # two branches, in no order of their own


def test_cancelling_a_run_of_another_process(desk: Desk) -> None:
    desk.write("w", ASK, desk.step("side", until="never"), also="")
    text = (desk.catalog / "w.yaml").read_text()
    (desk.catalog / "w.yaml").write_text(text + "finally:\n" + desk.step("last"))
    with desk.user.start(*desk.words("w")) as process:
        eventually(lambda: "side" in desk.marks)
        assert desk.json("cancel", "w")["status"] == "cancelled"
        assert process.wait(30) == 1
    assert desk.marks == ["side", "last"]
    assert desk.json("inbox")["waits"] == []
    assert [w["state"] for w in desk.json("show", "w")["waits"]] == ["cancelled"]


def test_cancel_and_undo(desk: Desk) -> None:
    """In the reverse order of completion, each once; one that fails keeps none from the rest."""

    def undo(text: str, unless: str = "") -> str:
        args = {"file": str(desk.file), "text": text}
        args |= {"unless": str(desk.path(unless))} if unless else {}
        return f"undo: {{skill: shared/tool, handler: mark, args: {json.dumps(args)}}}"

    desk.write(
        "w",
        desk.step("one", undo("undo {{ output.text }}")),
        desk.step("two", "depends_on: one", undo("undo {{ two.text }}", unless="in-the-way")),
        desk.step("three", "depends_on: two", undo("undo three")),
        '  - {id: ask, depends_on: three, approval: {ask: "Keep it?"}}\n',
        desk.step("four", "depends_on: ask", undo("undo four")),
    )
    assert desk.run("w").code == 3
    desk.path("in-the-way").touch()
    document = desk.json("cancel", "w", "--undo", code=1)
    assert [(u["step"], u["done"]) for u in document["undone"]] == [
        ("three", True),
        ("two", False),
        ("one", True),
    ]
    assert "in the way" in document["undone"][1]["message"]
    assert desk.marks == ["one", "two", "three", "undo three", "undo two", "undo one"]
    desk.path("in-the-way").unlink()
    shown = desk.json("show", "w")
    assert shown["status"] == "cancelled"
    refused(desk, "resume", "w", expected="taken back")
    document = desk.json("cancel", "w", "--undo")
    assert [u["done"] for u in document["undone"]] == [True, True, True]
    assert desk.marks[6:] == ["undo two"]
