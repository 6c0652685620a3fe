"""How long faults are waited out: the one place that says it, its page, and the waiting itself."""

from __future__ import annotations

import pickle
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger.clock import LedgerClock, SeenTime, counting
from blocks.ledger.errors import LedgerAway
from blocks.models import ProviderAway
from blocks.patience import (
    AT_START,
    FAULTS,
    LEDGER,
    SERVER,
    STORE,
    Fault,
    Outage,
    Patience,
    PatienceOver,
    PrefectAway,
    Vigil,
    Wait,
)
from blocks.storage import ArtifactStore
from blocks.storage_errors import StoreAway
from deployments import server_supervisor
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


def test_no_other_module_counts_tries() -> None:
    """What decides is time: a part that counts again by itself multiplies with the others."""
    root = Path(__file__).resolve().parents[2]
    found = {}
    for file in [*root.glob("blocks/**/*.py"), *root.glob("tasks/*.py"), *root.glob("flows/*.py")]:
        if hits := re.findall(r"^_?(?:\w+_)?TRIES = \d+|max_attempts|MAX_RETRIES", file.read_text(), re.M):
            found[file.relative_to(root).as_posix()] = sorted(set(hits))
    found.pop("blocks/offline/numbers.py")  # searches for a number
    # botocore is told to try once; a block that several save at once is no fault.
    assert found == {"blocks/s3_root.py": ["max_attempts"], "blocks/result_storage.py": ["_TRIES = 4"]}


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
    return vigil.outwait(
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
    with counting(clock):
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
    assert not outage.hopeless(Patience(0)), "nobody waited yet"
    outage.give_up(Patience(5), 100.0)
    assert not outage.hopeless(Patience(5)), "there is none"
    outage.note(100.0)
    outage.note(104.0)
    outage.give_up(Patience(5), 105.0)
    assert outage.hopeless(Patience(5)) and not outage.hopeless(Patience(6))
    outage.end()
    assert not outage.hopeless(Patience(5))
