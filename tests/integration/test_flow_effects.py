"""Effects of steps: done once, whatever becomes of the process; in doubt a person is asked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, RunStart, WaitRow
from blocks.patience import Patience
from blocks.secrecy import secrets
from flows.undo import undo_run
from tests.support.flows import FLOW_MARKS, Bench, steps

pytestmark = FLOW_MARKS

PAY = '''"""Pays."""

import time
from pathlib import Path


def pay(book: str, usd: int, stuck: str = "", fails: bool = False) -> dict[str, int]:
    """Write a payment into a book.

    Args:
        book: File that every payment is added to.
        usd: How much.
        stuck: A file; while it exists, the payment is made but its answer does not come.
        fails: Whether it fails after the payment.
    """
    with Path(book).open("a") as file:
        file.write(f"{usd}\\n")
    while stuck and Path(stuck).exists():
        time.sleep(0.02)
    if fails:
        raise ValueError("the bank closed the line")
    return {"paid": usd}
'''


def bench_of(folder: Path, effect: str, step: str = "", args: str = "") -> Bench:
    """A workflow with one payment and a step after it."""
    pay = (
        "  - id: pay\n    skill: shared/tool\n    handler: pay\n"
        f'    args: {{book: "{folder / "book"}", usd: 7, stuck: "{folder / "stuck"}"{args}}}\n{step}'
    )
    bench = Bench(folder, w=steps(pay, "  - id: after\n    agent: ann\n    inputs: [pay]\n"))
    tool = bench.catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "pay.py").write_text(PAY)
    (tool / "config.yaml").write_text(f"handlers:\n  - {{name: pay, effect: {effect}}}\n")
    return bench


def payments(bench: Bench) -> int:
    book = bench.folder / "book"
    return len(book.read_text().split()) if book.exists() else 0


def cut_off(bench: Bench, made: int = 1, **more: Any) -> None:
    """A run that is cancelled once its payment is in the book, as the last of `made`, and has no answer."""
    stuck = bench.folder / "stuck"
    stuck.touch()

    async def main() -> None:
        run = asyncio.create_task(bench.go(**more))
        while payments(bench) < made:  # noqa: ASYNC110 - another process writes the file
            await asyncio.sleep(0.01)
        run.cancel()
        assert (await run).outcome.status == "cancelled"

    asyncio.run(main())
    gc.collect()
    stuck.unlink()
    assert payments(bench) == made


def answer(bench: Bench, outcome: str, **more: Any) -> WaitRow:
    with Ledger.open(bench.settings.database) as ledger:
        (wait,) = ledger.waits.list_open("default")
        assert wait.kind == "unknown"
        data = {"outcome": outcome, **more}
        return ledger.waits.vote("default", wait.wait_id, "ann", "approve", data)


def test_a_payment_in_doubt_is_asked_about(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "once")
    cut_off(bench)
    ran = bench.run()
    assert ran.outcome.status == "waiting"
    assert "shared/tool.pay" in ran.outcome.waits[0]["ask"]
    assert payments(bench) == 1, "never a blind retry"
    answer(bench, "done", result=json.dumps({"paid": 7}))
    assert bench.run().outcome.status == "completed"
    assert payments(bench) == 1


def test_a_step_says_who_is_asked_about_its_payment(tmp_path: Path) -> None:
    people = "    people: {assignees: [kim, lee], deadline: 1ms, on_timeout: escalate, escalate_to: [noa]}\n"
    bench = bench_of(tmp_path, "once", people)
    cut_off(bench)
    (wait,) = bench.run().outcome.waits
    assert wait["assignees"] == ["kim", "lee"]
    with Ledger.open(bench.settings.database) as ledger:
        (escalated,) = ledger.waits.expire_due("default")
        assert escalated.state == "open" and escalated.assignees == ("noa",)
        (expired,) = ledger.waits.expire_due("default")
        assert expired.state == "expired"
    assert bench.run().statuses["pay"] == "failed"
    assert payments(bench) == 1, "that time passed says nothing about the payment"


def test_an_undo_in_doubt_is_asked_about_as_the_step_says(tmp_path: Path) -> None:
    args = f'{{book: "{tmp_path / "book"}", usd: 1, fails: true}}'
    undo = f"    undo: {{skill: shared/tool, handler: pay, args: {args}}}\n"
    bench = bench_of(tmp_path, "once", "    people: {assignees: [kim], deadline: 1ms}\n" + undo)
    assert bench.run().outcome.status == "completed"
    with Ledger.open(bench.settings.database) as ledger:
        for _ in ("it fails after it has paid", "nobody knows whether it did"):
            taken = asyncio.run(undo_run(ledger, bench.row(), bench.plan(), bench.settings, {}, Patience()))
            assert [one.done for one in taken.undone] == [False]
        (wait,) = ledger.waits.list_open("default")
    assert (wait.assignees, wait.deadline) == (("kim",), None) and payments(bench) == 2


USE = '''"""Uses."""

from pathlib import Path


def use(token: str, got: str) -> str:
    """Write a token down.

    Args:
        token: The token.
        got: File that it is added to.
    """
    with Path(got).open("a") as file:
        file.write(f"{token}\\n")
    return f"used {token}"
'''


@pytest.mark.parametrize("nested", [False, True])
def test_taking_back_gets_the_secret_that_the_step_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    args = f'args: {{token: "{{{{ ticket }}}}", got: "{tmp_path / "got"}"}}'
    used = (
        "inputs: {ticket: {type: secret}}\n"
        f"steps:\n  - id: use\n    skill: shared/tool\n    handler: use\n    {args}\n"
        f"    undo: {{skill: shared/tool, handler: use, {args}}}\n"
    )
    outer = (
        "inputs: {pass_on: {type: secret}}\n"
        'steps:\n  - {id: deep, workflow: inner, args: {ticket: "{{ pass_on }}"}}\n'
    )
    bench = Bench(tmp_path, **({"inner": used, "w": outer} if nested else {"w": used}))
    tool = bench.catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "use.py").write_text(USE)
    (tool / "config.yaml").write_text("handlers:\n  - {name: use, effect: once}\n")
    secret = {"CRM_LOGIN": "a-ticket-of-the-crm"}  # a name that does not tell what it holds
    given = {"pass_on" if nested else "ticket": "env:CRM_LOGIN"}
    assert bench.run(environ=secret, **given).outcome.status == "completed"
    monkeypatch.setattr(secrets, "_named", set())  # as another process knows it
    with Ledger.open(bench.settings.database) as ledger:
        lacking = asyncio.run(undo_run(ledger, bench.row(), bench.plan(), bench.settings, {}, Patience()))
        assert [one.done for one in lacking.undone] == [False]
        assert "CRM_LOGIN" in lacking.undone[0].cure
        back = asyncio.run(undo_run(ledger, bench.row(), bench.plan(), bench.settings, secret, Patience()))
        effects = asyncio.run(ledger.effects.of_run("default", "r"))
    assert [one.done for one in back.undone] == [True]
    assert (tmp_path / "got").read_text().split() == [secret["CRM_LOGIN"]] * 2
    assert len(effects) == 2 and secret["CRM_LOGIN"] not in str(effects)


def test_what_did_not_happen_is_done(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "once")
    cut_off(bench)
    (bench.folder / "book").unlink()  # the bank says: it never came
    bench.run()
    answer(bench, "not_done")
    assert bench.run().outcome.status == "completed"
    assert payments(bench) == 1


def test_what_may_be_repeated_is_repeated(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "idempotent")
    cut_off(bench)
    assert bench.run().outcome.status == "completed"
    assert payments(bench) == 2


def test_an_abandoned_payment_fails_its_step(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "once")
    cut_off(bench)
    bench.run()
    answer(bench, "abandon")
    ran = bench.run()
    assert ran.statuses == {"pay": "failed", "after": "not_started"}
    assert payments(bench) == 1


def test_retries_do_not_pay_again(tmp_path: Path) -> None:
    retries = "    retries: {max: 2, delay: 0.001}\n"
    bench = bench_of(tmp_path, "once", retries, ", fails: true")
    ran = bench.run()
    assert payments(bench) == 1
    assert ran.outcome.status == "waiting"


@pytest.mark.parametrize(("repeat", "count"), [(False, 1), (True, 2)])
def test_a_step_done_again_does_not_act_again(tmp_path: Path, repeat: bool, count: int) -> None:
    bench = bench_of(tmp_path, "once")
    assert bench.run().outcome.status == "completed"
    ran = bench.run(redo=("pay", "after"), repeat_effects=repeat)
    assert ran.outcome.status == "completed"
    assert ran.reused == {"pay": False, "after": False}
    assert payments(bench) == count


def test_a_repetition_that_is_cut_off_is_asked_about(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "once")
    assert bench.run().outcome.status == "completed"
    cut_off(bench, made=2, redo=("pay", "after"), repeat_effects=True)
    ran = bench.run()
    assert ran.outcome.status == "waiting", "the outcome of the first payment is not that of the second"
    answer(bench, "done", result=json.dumps({"paid": 7}))
    assert bench.run().outcome.status == "completed"
    assert bench.run(redo=("pay", "after")).outcome.status == "completed"
    assert payments(bench) == 2


def test_a_repetition_asked_for_before_the_last_one_began(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "once")
    assert bench.run().outcome.status == "completed"

    async def dropped(repeat: bool) -> None:
        async with Ledger.open(bench.settings.database) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            word = f"epoch {lease.epoch}" if repeat else ""
            await ledger.drop_steps(lease, ["pay", "after"], word)
            await ledger.finish_run(lease, "stopped")

    asyncio.run(dropped(False))
    asyncio.run(dropped(True))
    asyncio.run(dropped(False))
    assert bench.run().outcome.status == "completed"
    assert payments(bench) == 2


def test_an_abandoned_payment_is_asked_about_again_when_its_step_is_done_anew(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, "once")
    cut_off(bench)
    bench.run()
    answer(bench, "abandon")
    assert bench.run().statuses["pay"] == "failed"
    assert bench.run().statuses["pay"] == "failed", "a plain resume asks nobody again"
    assert bench.run(redo=("pay",)).outcome.status == "waiting"
    answer(bench, "done", result=json.dumps({"paid": 7}))
    assert bench.run().outcome.status == "completed"
    assert payments(bench) == 1


LOSE = '''"""Loses."""

from pathlib import Path


def lose(book: str, storage: str) -> str:
    """Write a line into a book, while the storage goes away.

    Args:
        book: File that a line is added to.
        storage: Folder that is moved away.
    """
    with Path(book).open("a") as file:
        file.write("1\\n")
    Path(storage).rename(f"{storage}.away")
    Path(storage).write_text("no folder")
    return "y" * 100_000
'''


def test_a_large_result_without_a_storage_leaves_no_doubt(tmp_path: Path) -> None:
    args = f'{{book: "{tmp_path / "book"}", storage: "{tmp_path / "storage"}"}}'
    pay = f"  - id: pay\n    skill: shared/tool\n    handler: lose\n    args: {args}\n"
    bench = Bench(tmp_path, w=steps(pay))
    tool = bench.catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "lose.py").write_text(LOSE)
    (tool / "config.yaml").write_text("handlers:\n  - {name: lose, effect: once}\n")
    with contextlib.suppress(Exception):  # how it is told is in test_storage_faults
        bench.run(patience=Patience(0.2))
    assert payments(bench) == 1
    with Ledger.open(bench.settings.database) as ledger:
        (effect,) = asyncio.run(ledger.effects.of_run("default", "r"))
        assert effect.state == "done", effect
    Path(bench.storage).unlink()
    (tmp_path / "storage.away").rename(bench.storage)
    ran = bench.run()
    assert ran.statuses["pay"] == "failed" and payments(bench) == 1
    assert "--repeat-effects" in (ran.outcome.error or {})["cure"], ran.outcome.error
    with Ledger.open(bench.settings.database) as ledger:
        assert ledger.waits.list_open("default") == []
