"""What `resume` starts: parks that a person lifts, and budgets that are raised by the words that are told."""

from __future__ import annotations

import asyncio
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.ledger import Ledger, Owner, RunStart, RunUngiven, WaitStart
from blocks.ledger.tables.records import UNGIVEN
from deployments.commands.resume import request_of
from deployments.runs.budget_raises import raise_budgets, raised_limits
from deployments.runs.caller import Caller
from deployments.runs.continuation import let_go_on
from deployments.runs.start import Start
from deployments.services.resume import NotResumed, prepare_resume
from deployments.terminal.arguments import read
from deployments.terminal.display import Out
from deployments.terminal.front import TerminalHost, print_going_on
from tests.support.flows import FLOW_MARKS, Bench, agent, steps
from workflows.core.cures import anew_command
from workflows.core.errors import UsageError

pytestmark = FLOW_MARKS


def caller_at(home: Path) -> Caller:
    """Who named no place."""
    return Caller("default", "ann", home / "catalog", home, {})


def resumed(bench: Bench, *words: str) -> Start:
    places = ["--catalog", str(bench.catalog), "--home", str(bench.home)]
    with Ledger.open(bench.settings.database) as ledger:
        request = request_of(read([*places, "resume", "r", *words]))
        start = prepare_resume(request, ledger, TerminalHost(Out(json_mode=True)))
    assert isinstance(start, Start)
    return start


def ended(bench: Bench, state: str, wake_at: int | None) -> None:
    async def end() -> None:
        with Ledger.open(bench.settings.database) as ledger:
            lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
            await ledger.finish_run(lease, state, wake_at=wake_at)  # type: ignore[arg-type]

    asyncio.run(end())


def test_only_a_person_lifts_a_park_and_only_for_a_run_that_it_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")))
    bench.run(offline=True)
    for state, wake_at, lifted in (("stopped", 1, True), ("stopped", None, False), ("failed", None, False)):
        ended(bench, state, wake_at)
        start = resumed(bench)
        assert (start.lift_parks, start.expect) == (lifted, bench.row().seen), (state, wake_at)
        assert not resumed(bench, "--use", "stored", "--woken").lift_parks


def test_a_cancelled_run_goes_on_for_a_person_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")))
    bench.run(offline=True)
    ended(bench, "cancelled", None)
    places = ["--catalog", str(bench.catalog), "--home", str(bench.home)]
    with Ledger.open(bench.settings.database) as ledger:
        woken = request_of(read([*places, "resume", "r", "--use", "stored", "--woken"]))
        end = prepare_resume(woken, ledger, TerminalHost(Out(json_mode=True)))
    assert isinstance(end, NotResumed)
    assert (end.why, end.exit_code, end.document["status"]) == ("cancelled", 0, "cancelled")
    assert resumed(bench).expect == bench.row().seen
    assert "it was cancelled" in capsys.readouterr().err


def test_an_answer_to_undoing_goes_on_with_undoing(tmp_path: Path) -> None:
    async def ask(ledger: Ledger) -> None:
        await ledger.finish_run(await ledger.begin_run(RunStart(run_id="r", workflow="w")), "completed")
        lease = await ledger.begin_run(RunStart(run_id="r", workflow="w", take_back=True))
        asked = WaitStart(run_id="r", step_path="a/undo", wait_key="k", kind="unknown", ask="?")
        await ledger.waits.open(lease, asked)
        await ledger.finish_run(lease, "cancelled", keep_waits=True)

    with Ledger.open(tmp_path / "ledger.db") as ledger:
        asyncio.run(ask(ledger))
        after = let_go_on(ledger, "r", caller_at(tmp_path), TerminalHost(Out(json_mode=True)))
    assert (after.taken_back, after.due, after.command) == (True, False, "phaseline cancel r --undo")


def test_an_answer_to_a_run_that_failed_elsewhere_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = {"message": "nobody answered in time", "cure": f"be asked again: {anew_command('r', 'b')}"}

    async def ask(ledger: Ledger) -> None:
        lease = await ledger.begin_run(RunStart(run_id="r", workflow="w"))
        await ledger.waits.open(
            lease, WaitStart(run_id="r", step_path="a", wait_key="k", kind="approval", ask="?")
        )
        await ledger.finish_run(lease, "failed", error=error, keep_waits=True)

    with Ledger.open(tmp_path / "ledger.db") as ledger:
        asyncio.run(ask(ledger))
        after = let_go_on(ledger, "r", caller_at(tmp_path), TerminalHost(Out(json_mode=False)))
    assert (after.failed, after.due, after.command) == (True, False, "phaseline resume r --from b")
    assert after.to_document()["failed"] is True
    print_going_on(after, Out(json_mode=False))
    assert "has failed elsewhere" in capsys.readouterr().out


def told(error: dict[str, str]) -> list[str]:
    """What the cure names after --raise-budget, with a total."""
    words = shlex.split(error["cure"])
    return [words[words.index("--raise-budget") + 1].replace("=N", "=9")]


@pytest.mark.parametrize("where", ["step", "item", "inner", "inner workflow", "agent"])
def test_the_words_of_a_spent_budget_raise_it(tmp_path: Path, where: str) -> None:
    own, turns = agent("a", "output: {type: json, repair: 3}", "budget: {turns: 1}"), "budget: {turns: 1}\n"
    plain = agent("a", "output: {type: json, repair: 3}")
    bench = Bench(tmp_path, w=steps("  - {id: x, workflow: inner}\n"))
    bench.write("inner", steps(own if where == "inner" else plain, also=turns * (where == "inner workflow")))
    if where == "step":
        bench.write("w", steps(own))
    elif where == "item":
        bench.write("w", steps("  - {id: x, workflow: inner, for_each: [1]}\n"))
        bench.write("inner", steps(own))
    elif where == "agent":
        config = bench.catalog / "agents" / "ann" / "config.yaml"
        config.write_text(config.read_text() + "  rate_limits: {tokens_per_day: 20}\n")
    bench.model.replies["a"] = ["no json", '{"b": 1}']
    ran = bench.run()
    assert ran.outcome.status == "stopped" and ran.outcome.error is not None, ran.outcome.error
    words = [w.replace("tokens=9", "tokens=900000") for w in told(ran.outcome.error)]
    with Ledger.open(bench.settings.database) as ledger:
        raise_budgets(ledger, bench.row(), bench.plan(), raised_limits(words))
    assert bench.run().outcome.status == "completed"


def test_a_plain_name_is_the_only_budget_it_can_be(tmp_path: Path) -> None:
    limited = [agent(i, "output: {type: json, repair: 3}", "budget: {turns: 1}") for i in ("a", "b")]
    bench = Bench(tmp_path, w=steps(limited[0]))
    bench.model.replies["a"] = bench.model.replies["b"] = ["no json"]
    bench.run()
    with Ledger.open(bench.settings.database) as ledger:
        raise_budgets(ledger, bench.row(), bench.plan(), raised_limits(["turns=5"]))
        assert ledger.budgets.of_run("default", "r")[0].limits["turns"] == 5
        with pytest.raises(UsageError, match="no budget of turns") as fault:
            raise_budgets(ledger, bench.row(), bench.plan(), raised_limits(["b.turns=5"]))
        assert re.search(r"--raise-budget a\.turns=N", fault.value.cure)
        with pytest.raises(UsageError, match="no limit of tokens"):
            raise_budgets(ledger, bench.row(), bench.plan(), raised_limits(["tokens=5"]))
        with pytest.raises(UsageError, match="no limit of tokens"):
            raise_budgets(ledger, bench.row(), bench.plan(), raised_limits(["turns=9,tokens=5"]))
        assert ledger.budgets.of_run("default", "r")[0].limits["turns"] == 5, (
            "of a wrong list nothing is raised"
        )


def test_a_run_that_lost_its_inputs_does_not_take_the_defaults(tmp_path: Path) -> None:
    inputs = 'inputs:\n  amount: {type: string, default: "5"}\n  note: {type: string, default: "-"}\n'
    bench = Bench(tmp_path, w=inputs + steps(agent("a")))
    bench.settings.prepare()

    async def cut_off() -> None:
        gone = replace(Owner.current(), pid=2**22 + 1)
        start = RunStart(run_id="r", workflow="w", offline=True, labels={UNGIVEN: ["amount"]})
        with Ledger.open(bench.settings.database) as ledger:
            await ledger.begin_run(start, gone)

    asyncio.run(cut_off())
    for given in ({}, {"note": "n"}):
        with pytest.raises(RunUngiven, match="defaults"):
            bench.run(offline=True, **given)
        assert (bench.row().state, bench.row().ungiven) == ("interrupted", ("amount",))
    assert bench.run(offline=True, amount="999").outcome.status == "completed"
    assert bench.row().ungiven == () and bench.row().inputs["amount"] == {"value": "999"}
