"""How long faults are waited out: the one place that says it, its page, and the waiting itself."""

from __future__ import annotations

import asyncio
import pickle
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from blocks.current_time import use_clock
from blocks.ledger.tables.clock import LedgerClock, SeenTime
from blocks.ledger.tables.errors import LedgerAway
from blocks.models import ProviderAway
from blocks.patience import (
    AT_START,
    FAULTS,
    LEDGER,
    PROVIDER,
    SERVER,
    STORE,
    Fault,
    Outage,
    Patience,
    PatienceOver,
    PrefectAway,
    Telling,
    Vigil,
    Wait,
)
from blocks.storage.artifacts import ArtifactStore
from blocks.storage.errors import StoreAway
from deployments.server import supervisor as server_supervisor
from tasks.context import RunContext
from workflows.core.errors import UsageError
from workflows.core.units import shown_duration

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "failures.md").read_text("utf-8")


def row_of(fault: Fault) -> str:
    pauses = f"{shown_duration(fault.first)} to {shown_duration(fault.longest)}"
    return f"| {fault.name} | {fault.counts} | {pauses} | {fault.bound} | {fault.over} |"


def test_the_page_shows_the_table_as_the_code_has_it() -> None:
    section = PAGE.split("## What is waited out", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| .*\|$", section, re.MULTILINE)
    assert rows[1:] == [row_of(fault) for fault in FAULTS]


def test_the_supervisor_of_the_server_keeps_to_the_table() -> None:
    assert (SERVER.first, SERVER.longest) == (server_supervisor.FIRST_PAUSE, server_supervisor.LONGEST_PAUSE)
    assert shown_duration(server_supervisor.PATIENCE) == "10m"


@pytest.mark.parametrize(
    ("environ", "catalog", "seconds"),
    [
        ({}, None, 600),
        ({}, 30.0, 30),
        ({"PHASELINE_PATIENCE": "2m"}, 30.0, 120),
        ({"PHASELINE_PATIENCE": " "}, 30.0, 30),
    ],
)
def test_who_says_how_long(environ: dict[str, str], catalog: float | None, seconds: float) -> None:
    assert Patience.read(environ, catalog).seconds == seconds


@pytest.mark.parametrize("written", ["soon", "-3", "0"])
def test_what_is_no_time_is_refused(written: str) -> None:
    with pytest.raises(UsageError, match="PHASELINE_PATIENCE") as caught:
        Patience.read({"PHASELINE_PATIENCE": written})
    assert "10m" in caught.value.cure


class Flaky:
    """Work that fails so often, then works."""

    def __init__(self, times: float, error: Exception | None = None) -> None:
        self.left = times
        self.error = error or OSError("busy")
        self.done = 0

    def __call__(self) -> str:
        self.done += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "done"


def outwait(vigil: Vigil, work: Flaky) -> Any:
    return vigil.outwait_blocking(
        STORE,
        work,
        lambda error: str(error) if isinstance(error, OSError) else None,
        lambda error, waited, wake: PatienceOver(str(error), "cure", waited, wake),
    )


def test_a_fault_that_passes_is_waited_out_and_told() -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    vigil = Vigil(Patience(3.0), lambda *event: told.append(event))
    assert outwait(vigil, Flaky(7)) == "done"
    assert [name for name, _ in told][0::10] == ["fault.waiting"] and told[-1][0] == "fault.passed"
    waiting = told[0][1]
    assert waiting["part"] == "store" and waiting["reason"] == "busy" and waiting["until"] > waiting["since"]


def test_one_that_does_not_stops_with_a_time_to_try_again() -> None:
    work = Flaky(float("inf"))
    with pytest.raises(PatienceOver, match=r"busy \(waited 0\.\d") as caught:
        outwait(Vigil(Patience(0.3)), work)
    assert work.done > 3 and caught.value.exit_code == 4
    assert caught.value.cure == "cure; once it answers, run the command again"
    caught.value.goes_on("r-1")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and again.wake_at == caught.value.wake_at


def test_any_other_is_raised_at_once() -> None:
    work = Flaky(9, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        outwait(Vigil(), work)
    assert work.done == 1


def test_a_moment_is_nobodys_concern() -> None:
    told: list[str] = []
    assert outwait(Vigil(Patience(600), lambda name, _: told.append(name)), Flaky(1)) == "done"
    assert told == []


def test_who_is_in_a_hurry_does_not_wait() -> None:
    vigil = Vigil(Patience(600))
    threading.Timer(0.2, vigil.hurry.set).start()
    began = time.monotonic()
    with pytest.raises(PatienceOver):
        outwait(vigil, Flaky(float("inf")))
    assert time.monotonic() - began < 30


def test_a_part_that_is_closed_hurries_no_other() -> None:
    vigil = Vigil(Patience(600))
    part = vigil.apart()
    threading.Timer(0.2, part.over.set).start()
    with pytest.raises(PatienceOver):
        outwait(part, Flaky(float("inf")))
    assert part.hurried and not vigil.hurried
    other = vigil.apart()
    vigil.hurry.set()
    assert other.hurried, "the run is cancelled"


def test_when_to_go_on_is_by_the_clock_that_the_ledger_believes() -> None:
    before = SeenTime.now().latest - 30 * 86_400_000_000
    clock = LedgerClock()
    clock._seen = SeenTime(before)
    with use_clock(clock):
        over = PatienceOver("away", wake_after=60.0)
    assert int(over.wake_at.timestamp()) == before // 1_000_000 + 60


@pytest.mark.parametrize("kind", [PatienceOver, StoreAway, LedgerAway, PrefectAway, ProviderAway])
def test_nobody_is_told_that_a_run_goes_on_but_by_who_knows(kind: type[PatienceOver]) -> None:
    over = kind("away", "mend it")
    assert over.cure == "mend it; once it answers, run the command again"
    over.goes_on("r-1")
    at = f"{over.wake_at:%Y-%m-%d %H:%M} UTC"
    assert over.cure == f"mend it; it goes on by itself after {at}; or now: phaseline resume r-1"
    over.continued_by("phaseline resume r-1")
    assert over.cure == "mend it; once it answers: phaseline resume r-1"
    assert kind("away").cure == "once it answers, run the command again"


def test_what_is_back_is_not_waited_for_any_more(tmp_path: Path) -> None:
    with ArtifactStore.open(str(tmp_path), environ={}) as store:
        context = RunContext("r", tmp_path, store, {}, offline=True)
        with context.waiting_out("s", lambda *_: None) as tell:
            tell("request.retry", {"reason": "busy"})
            assert context.waited_for == {"s": "busy"}
            tell("request.started", {"attempt": 2})
            assert context.waited_for == {"s": "busy"}, "it has not answered yet"
            tell("request.progress", {"kind": "text", "characters": 1})
            assert not context.waited_for, "it answers, however long that takes"


def test_before_anything_was_done_less_is_waited() -> None:
    assert Vigil(Patience(600)).at_start().patience.seconds == 600 / AT_START


def test_long_waits_are_not_told_with_every_try() -> None:
    told: list[str] = []
    wait = Wait(Vigil(Patience(2.0), lambda name, _: told.append(name)), LEDGER)
    tries = 0
    while (pause := wait.next("gone")) is not None:
        time.sleep(pause)
        tries += 1
    assert 0 < len(told) < tries


def test_an_outage_is_given_up_for_who_is_no_more_patient() -> None:
    outage = Outage()
    assert outage.lets_in(Patience(0), PROVIDER, 100.0), "nobody waited yet"
    outage.give_up(Patience(5), 100.0)
    assert outage.lets_in(Patience(5), PROVIDER, 100.0), "there is none"
    outage.note(100.0)
    outage.note(104.0)
    outage.give_up(Patience(5), 105.0)
    assert not outage.lets_in(Patience(5), PROVIDER, 105.4)
    assert outage.lets_in(Patience(6), PROVIDER, 105.4), "it waits longer"
    seen = [outage.lets_in(Patience(5), PROVIDER, 105.0 + n / 10) for n in range(1, 13)]
    assert [n for n, one in enumerate(seen, 1) if one] == [5, 10], "one after each longest pause"
    outage.end()
    assert outage.lets_in(Patience(5), PROVIDER, 105.0)


def test_what_one_waits_for_all_wait_for_until_it_answers() -> None:
    vigil = Vigil(Patience(0.3))
    first, later = Flaky(float("inf")), Flaky(float("inf"))
    for work in (first, later, later):
        with pytest.raises(PatienceOver, match=r"waited 0\.[3-9]"):
            outwait(vigil, work)
    assert first.done > 3 and later.done == 2, "once each: it is not waited for anew"
    assert outwait(vigil, Flaky(0)) == "done"
    assert outwait(vigil, Flaky(3)) == "done", "it was back: this is another fault"


def test_that_something_can_be_read_does_not_end_what_keeps_from_writing() -> None:
    vigil = Vigil(Patience(0.3))
    with pytest.raises(PatienceOver):
        outwait(vigil, Flaky(float("inf")))
    reading = vigil.reading()
    assert outwait(reading, Flaky(0)) == "done" and vigil.outage.given_up is not None
    work = Flaky(float("inf"))
    with pytest.raises(PatienceOver):
        outwait(vigil, work)
    assert work.done == 1
    vigil.outage.end()
    with pytest.raises(PatienceOver):
        outwait(reading, Flaky(float("inf")))
    assert outwait(reading, Flaky(0)) == "done" and vigil.outage.given_up is None


def test_what_is_out_of_order_for_one_part_is_so_for_no_other() -> None:
    vigil = Vigil(Patience(0.3))
    with pytest.raises(PatienceOver):
        outwait(vigil.apart(), Flaky(float("inf")))
    assert vigil.outage.given_up is None and outwait(vigil.apart(), Flaky(3)) == "done"


def test_the_error_itself_may_be_what_is_raised_in_the_end() -> None:
    error = OSError("busy")
    with pytest.raises(OSError, match="busy") as caught:
        Vigil(Patience(0.1)).outwait_blocking(STORE, Flaky(float("inf"), error), str, lambda fault, *_: fault)
    assert caught.value is error and error.__cause__ is not error


def test_it_is_waited_out_in_an_event_loop_as_in_a_thread() -> None:
    async def waited(work: Flaky) -> str:
        async def flaky() -> str:
            return work()

        return await Vigil(Patience(0.3)).outwait(STORE, flaky, str, lambda fault, *_: fault)

    assert asyncio.run(waited(Flaky(3))) == "done"
    with pytest.raises(OSError, match="busy"):
        asyncio.run(waited(Flaky(float("inf"))))


def test_the_last_pause_is_cut_to_what_is_left() -> None:
    for fault in FAULTS:
        wait = Wait(Vigil(Patience(600)).at_start(), fault)
        pauses = list(iter(lambda wait=wait: wait.next("gone"), None))
        assert sum(pauses) == pytest.approx(30.0, abs=0.5)


def test_the_pauses_of_the_table_are_those_of_the_usual_patience() -> None:
    for fault in FAULTS:
        patience = Patience().at_start if "twentieth" in fault.bound else Patience()
        pauses = [patience.pause(fault, n) for n in range(1, 20)]
        assert (pauses[0], pauses[-1]) == (fault.first, fault.longest)


def test_nobody_is_told_to_wait_for_a_moment_more() -> None:
    telling, patience = Telling(), Patience(30.0)
    assert not telling.due(0.0, 0.5, patience), "nor of the first moment"
    assert telling.due(0.9, 0.5, patience) and telling.due(28.0, 1.0, patience)
    assert not telling.due(29.5, 0.5, patience)
    assert not Telling().due(0.0, 0.5, Patience(0.5))
