"""A plain yes settles no event, and an event answers what it is about: by the real command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, RunStart, StepRecord
from blocks.ledger.waits.waits import WaitStart
from tests.support.command import User
from tests.support.ledgers import user_with

FORM = {"properties": {"limit": {"type": "integer"}}, "required": ["limit"]}


@pytest.fixture
def user(tmp_path: Path) -> User:
    """Somebody whose run awaits the payment of two orders, an amount, and a plain yes."""
    return user_with(tmp_path, _begun)


async def _begun(ledger: Ledger) -> None:
    lease = await ledger.begin_run(RunStart(run_id="w", workflow="w"))
    for step, more in {
        "o-1": {"kind": "event", "event_type": "paid", "event_key": "o-1"},
        "o-2": {"kind": "event", "event_type": "paid", "event_key": "o-2"},
        "amount": {"kind": "approval", "form": FORM},
        "ship": {"kind": "approval"},
    }.items():
        await ledger.record_step(lease, StepRecord(step_path=step, state="waiting"))
        asked: Any = {"run_id": "w", "step_path": step, "wait_key": step, "ask": "", **more}
        await ledger.waits.open(lease, WaitStart(**asked))
    await ledger.finish_run(lease, "waiting")


def waits(user: User) -> dict[str, tuple[str, str, Any]]:
    """(id, state, answered data) by step."""
    with Ledger.open(user.home / "ledger.db") as ledger:
        rows = ledger.waits.of_run_blocking("default", "w")
    return {r.step_path: (r.wait_id, r.state, (r.answer or {}).get("data")) for r in rows}


@pytest.mark.parametrize(
    ("step", "told"), [("o-1", "awaits the event paid for o-1"), ("amount", "limit is missing")]
)
def test_an_answer_without_data_where_data_is_needed(user: User, step: str, told: str) -> None:
    wait_id = waits(user)[step][0]
    for words in ((), ("--json",)):
        answer = user.phaseline("answer", wait_id, *words)
        assert answer.code == 2 and told in answer.out + answer.err, answer
        assert "Traceback" not in answer.err
    assert waits(user)[step][1:] == ("open", None)


def test_an_answer_in_the_place_of_an_event_says_what_it_would_have_said(user: User) -> None:
    first, second = waits(user)["o-1"][0], waits(user)["o-2"][0]
    assert user.phaseline("answer", first, "--data", '{"usd": 3}').code == 0
    assert user.phaseline("answer", second, "--data", "{}").code == 0
    found = waits(user)
    assert (found["o-1"][1:], found["o-2"][1:]) == (("answered", {"usd": 3}), ("answered", {}))


def test_a_plain_yes_is_enough_where_nothing_is_asked(user: User) -> None:
    assert user.phaseline("answer", waits(user)["ship"][0]).code == 0
    assert waits(user)["ship"][1] == "answered"


def test_one_id_under_two_keys_is_two_events(user: User) -> None:
    told = [
        user.phaseline("event", "paid", "--key", key, "--id", "1", "--data", f'{{"of": "{key}"}}', "--json")
        for key in ("o-1", "o-2")
    ]
    assert [(t.code, t.document["result"], t.document["step"]) for t in told] == [
        (0, "answered", "o-1"),
        (0, "answered", "o-2"),
    ]
    found = waits(user)
    assert (found["o-1"][2], found["o-2"][2]) == ({"of": "o-1"}, {"of": "o-2"})


def test_what_became_of_an_event_is_told(user: User) -> None:
    words = ("event", "paid", "--key", "o-1", "--id", "e")
    assert "it answers" in user.phaseline(*words, "--data", '{"n": 1}').out
    again = user.phaseline(*words, "--data", '{"n": 2}')
    assert "came before, and answered" in again.out and "said something else" in again.err
    document = user.phaseline(*words, "--data", '{"n": 2}', "--json").document
    assert (document["result"], document["duplicate"], document["differs"]) == ("duplicate", True, True)
    assert waits(user)["o-1"][2] == {"n": 1}
    nobody = user.phaseline("event", "paid", "--key", "o-9", "--id", "e", "--json").document
    assert (nobody["result"], nobody["wait_id"], nobody["duplicate"]) == ("kept", None, False)


DECIDING = [
    ("answer", "SHIP"),
    ("event", "paid", "--key", "o-1"),
    ("cancel", "w"),
    ("cancel", "w", "--undo"),
    ("wake", "--confirm-clock"),
    ("resume", "w"),
    ("resume", "w", "--raise-budget", "tokens=9000"),
    ("resume", "w", "--woken", "--repeat-effects", "--from", "ship"),
    ("resume", "w", "--woken", "--use", "new"),
]


def test_what_a_run_has_started_decides_nothing(user: User) -> None:
    """By any command by which a person decides; what only reads, and what wakes by itself, goes on."""
    within = user.with_variables(PHASELINE_WITHIN_RUN="1")
    before = waits(user)
    for words in DECIDING:
        answer = within.phaseline(*(before["ship"][0] if word == "SHIP" else word for word in words))
        assert answer.code == 2 and "does not decide for people" in answer.err, (words, answer)
        assert "cure: give the command in a shell of your own" in answer.err
    assert waits(user) == before
    for words in (("runs",), ("inbox",), ("wake",), ("resume", "w", "--plan", "--woken")):
        assert "does not decide" not in within.phaseline(*words).err


def test_nor_does_what_descends_from_its_process(user: User) -> None:
    """This process works on a run."""
    with Ledger.open(user.home / "ledger.db") as ledger:
        lease = asyncio.run(ledger.begin_run(RunStart(run_id="at-work", workflow="w")))
        told = user.phaseline("event", "paid", "--key", "o-1")
        asyncio.run(ledger.finish_run(lease, "completed"))
    assert told.code == 2 and "which works on a run" in told.err, told
    assert waits(user)["o-1"][1] == "open"
    assert user.phaseline("event", "paid", "--key", "o-1").code == 0
