"""A clock that is days ahead decides nothing, until somebody says that it is right: the real command.

The clock of this machine is left alone: what the ledger has seen is moved back instead, which is the same.
"""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from blocks.current_time import now_us
from blocks.ledger import Amount, Ledger, Owner, RunStart, StepRecord
from blocks.ledger.waits.waits import WaitStart
from tests.support.command import Answer, User
from tests.support.durable import Desk
from tests.support.ledgers import DAY, make_older, user_with

RULES = ("approve", "reject", "fail", "escalate")


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody whose runs wait for two days at most: for people, for a quota, for another machine."""
    return user_with(tmp_path, _begun, lease_seconds=2 * 24 * 3600)


async def _begun(ledger: Ledger) -> None:
    lease = await ledger.begin_run(RunStart(run_id="asked", workflow="w"))
    now = now_us()
    await ledger.record_step(lease, StepRecord(step_path="ask", state="waiting"))
    for rule in RULES:
        people = {"assignees": ("kim",), "escalate_to": ("noa",)}
        await ledger.waits.open(
            lease,
            WaitStart(
                run_id="asked",
                step_path=rule,
                wait_key=rule,
                kind="approval",
                ask="Ship?",
                deadline=now + 2 * DAY,
                on_timeout=rule,
                **people,
            ),
        )
    await ledger.finish_run(lease, "waiting")
    lease = await ledger.begin_run(RunStart(run_id="parked", workflow="w"))
    await ledger.budgets.set_limits(lease, "run/parked", {"tokens": 1000}, "parked")
    await ledger.budgets.reserve(lease, "request", ["run/parked"], Amount(tokens=500), "s", 2 * DAY)
    await ledger.finish_run(lease, "stopped", wake_at=now + 2 * DAY, wake_reason="quota")
    elsewhere = replace(Owner.current(), host=f"other-than-{socket.gethostname()}", boot="another")
    await ledger.begin_run(RunStart(run_id="elsewhere", workflow="w"), elsewhere)


def let_pass(user: User, days: float, *, boot: str | None = None, asleep: bool = False) -> None:
    """Everything in the user's ledger is that much older."""
    make_older(user.home / "ledger.db", days, boot=boot, asleep=asleep)


def states(user: User) -> dict[str, str]:
    """The state of each wait, and of the runs."""
    with Ledger.open(user.home / "ledger.db") as ledger:
        waits = {row.step_path: row.state for row in ledger.waits.of_run_blocking("default", "asked")}
        return waits | {row.run_id: row.state for row in ledger.reader.list_runs("default")}


def due(user: User) -> list[str]:
    with Ledger.open(user.home / "ledger.db") as ledger:
        return ledger.steering.due("default")


def wait_id(user: User, step: str) -> str:
    with Ledger.open(user.home / "ledger.db") as ledger:
        return next(
            r.wait_id for r in ledger.waits.of_run_blocking("default", "asked") if r.step_path == step
        )


OPEN = {**dict.fromkeys(RULES, "open"), "asked": "waiting", "parked": "stopped", "elsewhere": "running"}


@pytest.mark.parametrize("boot", [None, "an earlier start of the machine"])
@pytest.mark.parametrize("words", [("runs",), ("inbox",), ("show", "parked"), ("wake",), ("event", "t")])
def test_no_command_decides_by_it(user: User, words: tuple[str, ...], boot: str | None) -> None:
    let_pass(user, 5, boot=boot)
    for _ in range(2):  # what the first has seen of the clock does not make the second believe it
        answer = user.phaseline(*words)
        assert answer.code == 0, answer
        assert_told(answer, user)
    assert states(user) == OPEN
    assert due(user) == []
    assert reserved(user) == 500


def reserved(user: User) -> int:
    with Ledger.open(user.home / "ledger.db") as ledger:
        row = ledger.budgets.get("default", "run/parked")
        assert row is not None
        return row.reserved.tokens


def assert_told(answer: Answer, user: User) -> None:
    """What the clock would decide is named, and how a person says that it is right."""
    assert "5.0 days after anything that the ledger has seen" in answer.err
    assert "nothing is decided by time" in answer.err
    for rule in RULES:
        assert f"{wait_id(user, rule)}: its deadline would have passed ({rule})" in answer.err
    assert "parked: it would go on by itself" in answer.err
    assert "elsewhere: it would be free for others to take over" in answer.err
    assert "1 requests would count as paid in full" in answer.err
    assert "phaseline wake --confirm-clock" in answer.err


def test_a_person_confirms_it_and_then_time_decides(user: User) -> None:
    let_pass(user, 5, boot="an earlier start of the machine")
    answer = user.phaseline("wake", "--confirm-clock")
    assert "this machine's clock is taken for right" in answer.out, answer
    assert "nothing is decided" not in answer.err
    found = states(user)
    assert {rule: found[rule] for rule in RULES} == {
        "approve": "answered",
        "reject": "rejected",
        "fail": "expired",
        "escalate": "open",
    }
    assert found["elsewhere"] == "interrupted"
    assert "parked" in due(user) or found["parked"] != "stopped"
    assert reserved(user) == 0


def test_a_clock_that_was_set_right_needs_nobody(user: User) -> None:
    let_pass(user, 5)
    assert "nothing is decided by time" in user.phaseline("runs").err
    let_pass(user, -5)
    answer = user.phaseline("runs")
    assert "nothing is decided" not in answer.err
    assert states(user) == OPEN


@pytest.mark.parametrize(
    ("days", "boot", "asleep"),
    [(0.5, None, False), (0.5, "an earlier start of the machine", False), (30, None, True)],
)
def test_a_night_and_a_laptop_that_slept_for_a_month_are_believed(
    user: User, days: float, boot: str | None, asleep: bool
) -> None:
    let_pass(user, days, boot=boot, asleep=asleep)
    answer = user.phaseline("runs")
    assert "nothing is decided" not in answer.err
    assert (states(user)["approve"] == "answered") == (days > 2)


def test_where_nothing_waits_for_a_time_a_clock_is_believed_without_a_word(user: User) -> None:
    """A machine that was off for weeks; with a question open that is not due yet, a person is asked once."""
    let_pass(user, 1.5, boot="an earlier start of the machine")
    answer = user.phaseline("runs")
    assert "nothing is decided" in answer.err and "would have passed" not in answer.err
    assert states(user) == OPEN
    assert user.phaseline("wake", "--confirm-clock").code == 0
    assert "nothing is decided" not in user.phaseline("runs").err
    assert states(user) == OPEN
    with Ledger.open(user.home / "ledger.db") as ledger:
        ledger.access.write_blocking(_forget, "test")
    let_pass(user, 21, boot="an earlier start of the machine")
    assert "nothing is decided" not in user.phaseline("runs").err


def _forget(connection: Connection) -> None:
    connection.execute(text("DELETE FROM reservation"))
    connection.execute(text("UPDATE wait SET state = 'cancelled'"))
    connection.execute(text("UPDATE run SET state = 'cancelled', wake_at = NULL"))


def test_people_and_systems_decide_meanwhile(user: User) -> None:
    """What somebody says counts as in time: it is time that is not believed."""
    let_pass(user, 5)
    answered = user.phaseline("answer", wait_id(user, "approve"), "--as", "kim", "--reject", "--json")
    assert answered.code == 0 and answered.document["state"] == "rejected", answered
    assert states(user) == {**OPEN, "approve": "rejected"}


def test_how_far_is_too_far_can_be_said(user: User) -> None:
    let_pass(user, 5)
    assert states(user) == OPEN
    lax = user.with_variables(PHASELINE_CLOCK_AHEAD="30d")
    assert "nothing is decided" not in lax.phaseline("runs").err
    assert states(user)["approve"] == "answered"
    wrong = user.with_variables(PHASELINE_CLOCK_AHEAD="soon").phaseline("runs")
    assert wrong.code == 2 and "PHASELINE_CLOCK_AHEAD is 'soon'" in wrong.err


def test_a_clock_that_goes_back_does_no_harm(user: User) -> None:
    let_pass(user, -5)
    for words in (("runs",), ("inbox",), ("wake",), ("cancel", "asked")):
        answer = user.phaseline(*words)
        assert answer.code == 0 and "nothing is decided" not in answer.err, answer
    assert states(user)["elsewhere"] == "running"


def test_a_run_that_goes_on_and_what_wakes_by_itself_do_not_decide_by_it(
    newcomer: User,
) -> None:
    """A question whose deadline approves: continued by its id, by `resume`, and woken in the background."""
    desk = Desk.make(newcomer.with_variables(PHASELINE_WAKE="on"))
    asked = "  - {id: ask, approval: {ask: Ship?, deadline: 2d, on_timeout: approve}}\n"
    desk.write("ship", asked, desk.step("shipped", "depends_on: ask"))
    assert desk.run("ship").code == 3
    let_pass(desk.user, 5)
    for words in (desk.words("ship"), ["resume", "ship", "--use", "stored"]):
        answer = desk.user.phaseline(*words)
        assert answer.code == 3, answer
    again = desk.user.phaseline("runs")
    assert "nothing is decided by time" in again.err and "in the background" not in again.err, again
    assert desk.user.phaseline("wake", "ship", "--json").document["woken"] == []
    assert desk.marks == []
    woken = desk.json("wake", "--confirm-clock")
    assert [run["run_id"] for run in woken["woken"]] == ["ship"] and desk.marks == ["shipped"]
