"""Budgets: held before a request, settled after it, kept over a resume; a spent one stops the run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.ledger import CredentialState, Ledger
from deployments.services.run_details import Details
from deployments.terminal.display import Out
from deployments.terminal.run_details import print_details
from tests.support.flows import FLOW_MARKS, Bench, Script, agent, steps

pytestmark = FLOW_MARKS

CHAIN = steps(agent("a"), agent("b", after="a"), agent("c", after="b"))


def with_budget(text: str, **limits: float) -> str:
    written = ", ".join(f"{name}: {limit}" for name, limit in limits.items())
    return f"budget: {{{written}}}\n{text}"


def raise_limit(bench: Bench, resource: str, limit: int, budget: str = "run/r") -> None:
    with Ledger.open(bench.settings.database) as ledger:
        ledger.budgets.raise_limits("default", budget, {resource: limit})


def spent(bench: Bench, budget: str = "run/r") -> dict[str, tuple[int, int]]:
    with Ledger.open(bench.settings.database) as ledger:
        (row,) = [r for r in ledger.budgets.of_run("default", "r") if r.budget_id == budget]
    return {"turns": (row.spent.turns, row.reserved.turns), "tokens": (row.spent.tokens, row.reserved.tokens)}


class Known(Script):
    """A script whose requests count towards the limits of a credential."""

    credential = "c-1"


def test_what_the_provider_does_not_take_costs_no_budget(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=with_budget(CHAIN, turns=2, tokens=100_000))
    bench.model = Known()
    with Ledger.open(bench.settings.database, migrate=True) as ledger:

        def park(known: CredentialState, at: int) -> tuple[CredentialState, None]:
            return replace(known, parked_until=at + 3_600_000_000, park_reason="quota"), None

        asyncio.run(ledger.credentials.change("default", "c-1", park))
    ran = bench.run()
    assert ran.outcome.status == "stopped" and "quota" in ran.outcome.error["message"]
    assert spent(bench) == {"turns": (0, 0), "tokens": (0, 0)} and bench.model.asked == []


def test_what_a_budget_refuses_takes_no_place_at_the_provider(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=with_budget(CHAIN, tokens=10))
    bench.model = Known()
    assert bench.run().outcome.status == "stopped"
    with Ledger.open(bench.settings.database) as ledger:
        assert ledger.credentials.get("default", "c-1") is None


def test_a_spent_budget_stops_the_run_resumably(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=with_budget(CHAIN, turns=2))
    ran = bench.run()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
    assert ran.statuses == {"a": "completed", "b": "completed", "c": "not_started"}
    assert "2 turns of 2 turns spent" in ran.outcome.error["message"]
    assert "--raise-budget turns=N" in ran.outcome.error["cure"]
    assert bench.run().outcome.status == "stopped", "a resume does not reset what was spent"
    assert bench.model.asked == ["a", "b"]
    raise_limit(bench, "turns", 3)
    assert bench.run().outcome.status == "completed"
    assert bench.model.asked == ["a", "b", "c"]
    assert spent(bench)["turns"] == (3, 0)


def test_tokens_and_dollars(tmp_path: Path) -> None:
    for limits, kind in ({"tokens": 4000}, "tokens"), ({"usd": 3}, "usd"):
        bench = Bench(tmp_path / kind, w=with_budget(CHAIN, **limits))
        ran = bench.run()
        # The first request may cost more than the whole: it is an upper bound that is held.
        assert ran.outcome.status == "stopped", kind
        assert kind in ran.outcome.error["cure"]


def test_parallel_steps_share_a_budget(tmp_path: Path) -> None:
    """Each may cost half of it, and costs next to nothing: nobody is stopped for what is only held."""
    text = steps(*(agent(f"s{n}") for n in range(8)))
    bench = Bench(tmp_path, w=with_budget(text, tokens=20_000))
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert spent(bench)["tokens"] == (8 * 15, 0)


def test_parallel_steps_that_are_both_refused_stop_the_run(tmp_path: Path) -> None:
    text = steps(agent("a"), agent("b", after="a"), agent("c", after="a"))
    bench = Bench(tmp_path, w=with_budget(text, turns=1))
    for _ in range(2):
        ran = bench.run()
        assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
        assert ran.statuses == {"a": "completed", "b": "not_started", "c": "not_started"}
    assert spent(bench)["turns"] == (1, 0)


def test_a_step_has_its_own(tmp_path: Path) -> None:
    limited = agent("a", "budget: {turns: 1}", "output: {type: json, repair: 3}")
    bench = Bench(tmp_path, w=steps(limited, agent("b")))
    bench.model.replies["a"] = ["no json"]
    ran = bench.run()
    assert ran.outcome.status == "stopped"
    assert "the step a" in ran.outcome.error["message"]
    bench.model = Script({"a": ["[1]"]})
    raise_limit(bench, "turns", 5, "run/r/step/a")
    assert bench.run().outcome.status == "completed"
    assert bench.model.asked.count("a") == 1, "its first turn is in the journal"


def test_the_agent_is_told_to_come_to_an_end(tmp_path: Path) -> None:
    limited = agent("a", "output: {type: json, repair: 10}")
    bench = Bench(tmp_path, w=with_budget(steps(limited), turns=11))
    bench.model.replies["a"] = ["no"] * 10 + ["[1]"]
    assert bench.run().outcome.status == "completed"
    said = ["of the budget" in str(r["messages"][-1]) for r in bench.model.requests]
    # From the eleventh request on 90 % are spent: ten of eleven turns.
    assert said == [False] * 10 + [True]


def test_the_agent_is_told_before_its_upper_bound_no_longer_fits(tmp_path: Path) -> None:
    """What a request is held to cost is far more than what it costs: 90 % would never be spent."""
    limited = agent("a", "output: {type: json, repair: 10}")
    bench = Bench(tmp_path, w=with_budget(steps(limited), tokens=1))
    refused = bench.run().outcome.error["message"]
    bound = int(refused.rpartition("may cost ")[2].removesuffix(" tokens").replace(",", ""))
    raise_limit(bench, "tokens", bound + 1000)
    bench.model.replies["a"] = ["no"] * 20
    assert bench.run().outcome.status == "stopped"
    said = ["of the budget" in str(r["messages"][-1]) for r in bench.model.requests]
    assert said[0] is False and said[-1] is True


def test_a_step_has_a_budget_of_time(tmp_path: Path) -> None:
    async def slow() -> str:
        await asyncio.sleep(30)
        return "late"

    limited = agent("a", "budget: {time: 0.4}")
    bench = Bench(tmp_path, w=steps(limited, agent("b", after="a")))
    bench.model.replies["a"] = [slow]
    ran = bench.run()
    assert ran.outcome.status == "stopped" and ran.statuses["b"] == "not_started"
    assert "the step a is spent" in ran.outcome.error["message"]
    bench.write("w", steps(agent("a", "budget: {time: 1h}"), agent("b", after="a")))
    bench.model = Script()
    assert bench.run().outcome.status == "completed"


def test_time_is_a_budget_too(tmp_path: Path) -> None:
    async def slow() -> str:
        await asyncio.sleep(30)
        return "late"

    bench = Bench(tmp_path, w=with_budget(CHAIN, time=0.5))
    bench.model.replies["b"] = [slow]
    ran = bench.run()
    assert ran.outcome.status == "stopped"
    assert "of active time" in ran.outcome.error["message"]
    assert ran.statuses["a"] == "completed"


def test_a_spent_budget_of_the_run_stops_the_workflow_within_resumably(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, w=with_budget(steps(agent("a"), "  - {id: n, workflow: inner, depends_on: [a]}\n"), turns=2)
    )
    bench.write("inner", steps(agent("b"), agent("c", after="b")))
    ran = bench.run()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("stopped", 4)
    assert bench.model.asked == ["a", "b"] and spent(bench)["turns"] == (2, 0)
    raise_limit(bench, "turns", 3)
    assert bench.run().outcome.status == "completed"
    assert bench.model.asked == ["a", "b", "c"] and spent(bench)["turns"] == (3, 0)


def test_runs_share_what_an_agent_may_use_in_a_day(tmp_path: Path) -> None:
    bench = Bench(tmp_path, w=steps(agent("a")))
    config = bench.catalog / "agents" / "ann" / "config.yaml"
    config.write_text(config.read_text() + "  rate_limits: {tokens_per_day: 1}\n")
    refused = bench.run(run_id="first")
    assert (refused.outcome.status, refused.outcome.exit_code) == ("stopped", 4)
    bound = int(
        refused.outcome.error["message"].rpartition("may cost ")[2].removesuffix(" tokens").replace(",", "")
    )
    config.write_text(config.read_text().replace("per_day: 1}", f"per_day: {bound + 10}}}"))
    assert bench.run(run_id="second").outcome.status == "completed"
    third = bench.run(run_id="third")
    assert third.outcome.status == "stopped" and "the agent ann today" in third.outcome.error["message"]
    assert bench.model.asked == ["a"], "what the second run spent is not there for the third"


def test_a_model_without_a_price_is_told_as_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Bench(tmp_path, w=with_budget(steps(agent("a")), usd=5))
    bench.priced = False
    ran = bench.run()
    assert ran.outcome.status == "completed"
    assert ran.step("a")["usage"]["usd"] is None and ran.outcome.usage.usd is None
    with Ledger.open(bench.settings.database) as ledger:
        details = Details.read(ledger, bench.row(), list(bench.rows().values()), events=False)
    document = details.to_document(cost=True, events=False)
    assert document["budgets"][0]["unpriced_requests"] == 1
    assert [agent["usd"] for agent in document["cost"]["agents"]] == [None]
    capsys.readouterr()
    print_details(details, [], Out(), cost=True, events=False)
    assert "unpriced" in capsys.readouterr().out
