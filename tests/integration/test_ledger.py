"""The ledger's contract, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from blocks.ledger import (
    Fenced,
    Lease,
    Ledger,
    LedgerError,
    Owner,
    RunHeld,
    RunMismatch,
    RunStart,
    StepRecord,
)
from blocks.ledger.database.engine import Database, make_engine
from blocks.ledger.runs import runs as operations
from tests.support.ledgers import DATABASES, new_address
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.refs import Ref

ELSEWHERE = Owner("another-host", "another-boot", 4242, "1")
START = RunStart(run_id="r-1", workflow="w")


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    with Ledger.open(address, migrate=True) as opened:
        yield opened


def begin(ledger: Ledger, start: RunStart = START, owner: Owner | None = None) -> Lease:
    return asyncio.run(ledger.begin_run(start, owner))


def record(ledger: Ledger, lease: Lease, step_path: str = "s", **fields: Any) -> None:
    step = StepRecord(step_path=step_path, **{"state": "completed", **fields})
    asyncio.run(ledger.record_step(lease, step))


def a_ref(number: int = 1, **fields: Any) -> Ref:
    given = {
        "uri": "file:///x",
        "sha256": f"{number:064x}",
        "size": number,
        "media_type": "text/markdown",
        "kind": "spec",
        "step": "s",
        **fields,
    }
    return Ref(**given)


# --- runs ---


def test_a_run_is_there_before_any_work(ledger: Ledger) -> None:
    start = RunStart(
        run_id="r-1",
        workflow="交付",
        offline=True,
        storage="file:///s",
        plan_digest="d",
        models={"claude-opus": "claude-opus-5-5"},
        inputs={"goal": "一个目标 \x00 \ud800"},
        labels={"team": "a"},
        parent_run_id="p",
        root_run_id="root",
        flow_run_id="f",
    )
    lease = begin(ledger, start)
    assert lease.created and lease.previous is None and lease.epoch == 1
    row = asyncio.run(ledger.get_run("default", "r-1"))
    assert row is not None and row.state == "running" and row.holder == Owner.current()
    asked = {"expect", "take_back"}  # how it is begun, not what it is
    for name in {field.name for field in dataclasses.fields(start)} - asked:
        assert getattr(row, name) == getattr(start, name)
    assert 0 < row.created <= row.heartbeat and row.ended is None


def test_a_run_is_its_own_root_when_it_has_no_parent(ledger: Ledger) -> None:
    begin(ledger)
    assert ledger.reader.get_run("default", "r-1").root_run_id == "r-1"  # type: ignore[union-attr]


def test_an_unknown_run_is_none(ledger: Ledger) -> None:
    assert asyncio.run(ledger.get_run("default", "never")) is None
    assert ledger.reader.steps("default", "never") == []
    assert ledger.reader.get_step("default", "never", "s") is None
    assert ledger.reader.artifacts("default", "never") == []


def test_a_held_run_is_refused_and_names_its_holder(ledger: Ledger) -> None:
    begin(ledger)
    with pytest.raises(RunHeld) as caught:
        begin(ledger)
    here = Owner.current()
    assert str(here.pid) in caught.value.message and here.host in caught.value.message
    assert caught.value.cure


def test_a_run_of_another_workflow_is_refused(ledger: Ledger) -> None:
    asyncio.run(ledger.finish_run(begin(ledger), "completed"))
    with pytest.raises(RunMismatch, match="belongs to the workflow w"):
        begin(ledger, RunStart(run_id="r-1", workflow="other"))


@pytest.mark.parametrize("run_id", ["", "../x", "a/b", "x" * 129, "run 1"])
def test_an_unfit_run_id_is_refused(ledger: Ledger, run_id: str) -> None:
    with pytest.raises(UsageError):
        begin(ledger, RunStart(run_id=run_id, workflow="w"))
    with pytest.raises(UsageError):
        ledger.reader.get_run("default", run_id)


@pytest.mark.parametrize("state", ["completed", "failed", "waiting", "stopped", "interrupted", "cancelled"])
def test_a_finished_run_is_free_and_may_be_continued(ledger: Ledger, state: Any) -> None:
    lease = begin(ledger, RunStart(run_id="r-1", workflow="w", storage="old", models={"a": "b"}))
    finish = ledger.finish_run(lease, state, outputs={"o": 1}, usage={"usd": 2}, error={"message": "m"})
    asyncio.run(finish)
    row = ledger.reader.get_run("default", "r-1")
    assert row is not None and row.state == state and row.holder is None and row.ended is not None
    assert (row.outputs, row.usage, row.error) == ({"o": 1}, {"usd": 2}, {"message": "m"})

    again = begin(ledger, RunStart(run_id="r-1", workflow="w", storage="new", flow_run_id="f2"))
    assert not again.created and again.epoch == 2
    assert again.previous is not None and again.previous.state == state
    row = ledger.reader.get_run("default", "r-1")
    assert row is not None and row.state == "running" and row.error is None and row.ended is None
    assert (row.storage, row.flow_run_id, row.models) == ("new", "f2", {"a": "b"})


def test_finishing_twice_the_same_way_is_finishing_once(ledger: Ledger) -> None:
    lease = begin(ledger)
    asyncio.run(ledger.finish_run(lease, "completed", outputs={"a": 1}))
    version = ledger.reader.get_run("default", "r-1").version  # type: ignore[union-attr]
    asyncio.run(ledger.finish_run(lease, "completed"))
    assert ledger.reader.get_run("default", "r-1").version == version  # type: ignore[union-attr]
    with pytest.raises(Fenced):
        asyncio.run(ledger.finish_run(lease, "failed"))


def test_a_run_can_be_changed_while_held(ledger: Ledger) -> None:
    lease = begin(ledger, RunStart(run_id="r-1", workflow="w", plan_digest="old", labels={"a": 1}))
    asyncio.run(ledger.change_run(lease, plan_digest="new", models={"m": "id"}))
    row = ledger.reader.get_run("default", "r-1")
    assert row is not None and row.version == 1
    assert (row.plan_digest, row.models, row.labels) == ("new", {"m": "id"}, {"a": 1})


def test_runs_are_listed_newest_first_per_tenant(ledger: Ledger) -> None:
    for number in range(5):
        begin(ledger, RunStart(run_id=f"r-{number}", workflow="w"))
    begin(ledger, RunStart(run_id="r-0", workflow="w", tenant="other"))
    assert [row.run_id for row in ledger.reader.list_runs("default", 3)] == ["r-4", "r-3", "r-2"]
    assert [row.tenant for row in ledger.reader.list_runs("other")] == ["other"]
    assert ledger.reader.list_runs("nobody") == []


# --- leases ---


def test_only_the_last_holder_can_write(ledger: Ledger, address: str) -> None:
    # The first lease is over at once, as one of a host that died long ago.
    with Ledger.open(address, lease_seconds=0) as hasty:
        old = begin(hasty, owner=ELSEWHERE)
    assert ledger.reader.get_run("default", "r-1").state == "interrupted"  # type: ignore[union-attr]
    new = begin(ledger)
    assert new.epoch == old.epoch + 1 and new.previous is not None and new.previous.state == "interrupted"
    for attempt in (
        ledger.record_step(old, StepRecord(step_path="s", state="completed")),
        ledger.record_artifact(old, a_ref()),
        ledger.renew(old),
        ledger.change_run(old, plan_digest="x"),
        ledger.finish_run(old, "completed"),
    ):
        with pytest.raises(Fenced) as caught:
            asyncio.run(attempt)
        assert caught.value.cure
    assert ledger.reader.steps("default", "r-1") == [] == ledger.reader.artifacts("default", "r-1")
    record(ledger, new)
    assert ledger.reader.get_run("default", "r-1").state == "running"  # type: ignore[union-attr]


def test_a_lease_that_is_over_still_counts_until_somebody_takes_the_run(address: str) -> None:
    with Ledger.open(address, migrate=True, lease_seconds=0) as ledger:
        lease = begin(ledger, owner=ELSEWHERE)
        record(ledger, lease)
        asyncio.run(ledger.finish_run(lease, "completed"))
        assert ledger.reader.get_run("default", "r-1").state == "completed"  # type: ignore[union-attr]


def test_another_hosts_run_is_waited_for_until_its_lease_is_over(ledger: Ledger) -> None:
    begin(ledger, owner=ELSEWHERE)
    with pytest.raises(RunHeld, match="process 4242 on another-host"):
        begin(ledger)
    assert ledger.reader.get_run("default", "r-1").state == "running"  # type: ignore[union-attr]


def test_a_dead_process_of_this_host_is_seen_at_once(ledger: Ledger) -> None:
    here = Owner.current()
    begin(ledger, owner=dataclasses.replace(here, started="0"))  # its number lives on in another process
    assert ledger.reader.list_runs("default")[0].state == "interrupted"
    assert begin(ledger).epoch == 2


def test_a_beginning_repeated_after_a_lost_connection_is_one_beginning(address: str, ledger: Ledger) -> None:
    begin(ledger)  # so that the repetition meets a run that exists
    asyncio.run(ledger.finish_run(begin_again(address, "token-1"), "completed"))
    first, second = begin_again(address, "token-2"), begin_again(address, "token-2")
    assert first.epoch == second.epoch
    assert isinstance(begin_again(address, "token-3"), RunHeld)


def begin_again(address: str, token: str) -> Any:
    engine = make_engine(Database.parse(address), write=True)
    try:
        with engine.begin() as connection:
            # The holder is long dead for the first call: a lease of the past.
            values = operations.new_run(START)
            if token == "token-1":
                connection.execute(text("UPDATE run SET lease_until = 1"))
            return operations.begin(connection, START, values, Owner.current(), token, 60_000_000)
    finally:
        engine.dispose()


def test_a_kept_lease_is_renewed(address: str) -> None:
    async def kept() -> int:
        async with Ledger.open(address, migrate=True, lease_seconds=0.3) as ledger:
            lease = await ledger.begin_run(START)
            beats: set[int] = set()
            async with ledger.keep_lease(lease, on_lost=lost.append):
                while len(beats) < 4:
                    row = await ledger.get_run("default", "r-1")
                    assert row is not None
                    beats.add(row.heartbeat)
                    await asyncio.sleep(0.02)
            return row.active_us

    lost: list[PhaselineError] = []
    assert asyncio.run(asyncio.wait_for(kept(), 60)) > 0
    assert lost == []


def test_a_lease_that_may_have_lapsed_is_confirmed(address: str) -> None:
    """As for a machine that was suspended: its lease lapsed, another took the run, and it wakes up."""

    async def confirmed() -> None:
        async with Ledger.open(address, migrate=True, lease_seconds=0.05) as ledger:
            lease = await ledger.begin_run(START)
            await ledger.confirm(lease)
            await asyncio.sleep(0.1)
            await ledger.confirm(lease)  # nobody came meanwhile
            await asyncio.sleep(0.1)
            elsewhere = Owner("another-host", "boot", 1, "1")
            await ledger.begin_run(START, owner=elsewhere)
            with pytest.raises(Fenced):
                await ledger.confirm(lease)

    asyncio.run(confirmed())


def test_losing_a_kept_lease_is_told_once(address: str) -> None:
    async def losing() -> list[PhaselineError]:
        async with Ledger.open(address, migrate=True, lease_seconds=0.1) as ledger:
            lease = await ledger.begin_run(START)
            told = asyncio.Event()
            lost: list[PhaselineError] = []
            async with ledger.keep_lease(lease, on_lost=lambda error: (lost.append(error), told.set())[0]):
                await ledger.finish_run(lease, "cancelled")
                await asyncio.wait_for(told.wait(), 60)
                await asyncio.sleep(0.2)
            return lost

    (error,) = asyncio.run(losing())
    assert isinstance(error, Fenced)


def test_active_time_leaves_out_the_time_nobody_worked(ledger: Ledger, address: str) -> None:
    lease = begin(ledger)
    engine = make_engine(Database.parse(address), write=True)
    with engine.begin() as connection:  # the last heartbeat was an hour ago: the machine slept
        connection.execute(text("UPDATE run SET heartbeat = heartbeat - 3600000000"))
    engine.dispose()
    asyncio.run(ledger.finish_run(lease, "completed"))
    assert ledger.reader.get_run("default", "r-1").active_us == 60_000_000  # type: ignore[union-attr]


# --- steps and artifacts ---


def test_a_step_comes_back_as_it_was_recorded(ledger: Ledger) -> None:
    lease = begin(ledger)
    step = StepRecord(
        step_path="step-1/2/项",
        state="completed",
        content_key="k",
        attempts=3,
        agent="agent-pm-002",
        model="claude-opus-5-5",
        usage={"input_tokens": 10, "usd": 0.25},
        result={"outputs": {"spec": {"sha256": "0" * 64}}, "text": "需求\x00\ud800"},
        error={"message": "none"},
        started=1,
        ended=2**53 + 1,
        reused_from="r-0",
    )
    asyncio.run(ledger.record_step(lease, step))
    found = ledger.reader.get_step("default", "r-1", "step-1/2/项")
    assert found == dataclasses.replace(step, epoch=1)


def test_a_later_record_of_a_step_replaces_the_earlier(ledger: Ledger) -> None:
    lease = begin(ledger)
    record(ledger, lease, state="running", started=5, attempts=1)
    record(ledger, lease, state="failed", started=5, ended=6, attempts=2, error={"m": 1})
    (step,) = asyncio.run(ledger.steps("default", "r-1"))
    assert (step.state, step.attempts, step.ended, step.error) == ("failed", 2, 6, {"m": 1})


def test_steps_come_in_the_order_they_started(ledger: Ledger) -> None:
    lease = begin(ledger)
    for path, started in (("b", 2), ("a", 2), ("c", 1)):
        record(ledger, lease, path, started=started)
    assert [step.step_path for step in ledger.reader.steps("default", "r-1")] == ["c", "a", "b"]


def test_a_step_and_its_artifacts_are_one_commit(ledger: Ledger) -> None:
    lease = begin(ledger)
    refs = [a_ref(1, kind="spec", summary="s\x00", offline=True), a_ref(2, kind="design")]
    step = StepRecord(step_path="s", state="completed")
    for _ in range(2):
        asyncio.run(ledger.record_step(lease, step, refs))
    artifacts = {item.name: item for item in ledger.reader.artifacts("default", "r-1")}
    assert {name: item.ref.size for name, item in artifacts.items()} == {"spec": 1, "design": 2}
    assert artifacts["spec"].ref == refs[0].model_copy(update={"summary": "s\ufffd", "run_id": "r-1"})


def test_an_input_is_an_artifact_of_no_step(ledger: Ledger) -> None:
    lease = begin(ledger)
    asyncio.run(ledger.record_artifact(lease, a_ref(step="", kind="input"), name="market_research"))
    (item,) = ledger.reader.artifacts("default", "r-1")
    assert (item.name, item.ref.kind, item.ref.step) == ("market_research", "input", "")


def test_tenants_see_only_their_own(ledger: Ledger) -> None:
    for tenant in ("a", "b"):
        lease = begin(ledger, RunStart(run_id="same", workflow=tenant, tenant=tenant))
        step = StepRecord(step_path="s", state="completed", agent=tenant)
        asyncio.run(ledger.record_step(lease, step, [a_ref(tenant=tenant, kind=tenant)]))
    for tenant in ("a", "b"):
        assert ledger.reader.get_run(tenant, "same").workflow == tenant  # type: ignore[union-attr]
        assert [step.agent for step in ledger.reader.steps(tenant, "same")] == [tenant]
        assert [item.name for item in ledger.reader.artifacts(tenant, "same")] == [tenant]


@pytest.mark.parametrize(
    "result", [{"x": "y" * 1_100_000}, {"x": float("nan")}, {"x": object()}, {"x": b"b"}]
)
def test_a_result_that_does_not_fit_is_refused_before_it_is_written(ledger: Ledger, result: Any) -> None:
    lease = begin(ledger)
    with pytest.raises(LedgerError, match="the result of step s") as caught:
        record(ledger, lease, result=result)
    assert caught.value.cure
    record(ledger, lease, result={"x": "y" * 60_000})


@pytest.mark.parametrize("path", ["x" * 1001, "a\x00", "a\n"])
def test_an_unfit_step_path_is_refused(ledger: Ledger, path: str) -> None:
    with pytest.raises(LedgerError, match="not a step path"):
        record(ledger, begin(ledger), path)


# --- many at once, and the end ---


def test_many_writers_of_one_process_lose_nothing(ledger: Ledger) -> None:
    async def all_at_once() -> None:
        leases = await asyncio.gather(
            *(ledger.begin_run(RunStart(run_id=f"r-{n}", workflow="w")) for n in range(5))
        )
        steps = [
            (lease, StepRecord(step_path=f"s-{n}", state="completed")) for lease in leases for n in range(60)
        ]
        await asyncio.gather(*(ledger.record_step(lease, step) for lease, step in steps))

    asyncio.run(all_at_once())
    assert [len(ledger.reader.steps("default", f"r-{n}")) for n in range(5)] == [60] * 5


def test_one_bad_write_does_not_take_its_neighbours_with_it(ledger: Ledger) -> None:
    async def mixed() -> list[Any]:
        lease = await ledger.begin_run(START)
        stranger = dataclasses.replace(lease, run_id="r-never")
        steps = [StepRecord(step_path=f"s-{n}", state="completed") for n in range(20)]
        # A time no column can hold fails in the database itself.
        steps[7] = dataclasses.replace(steps[7], ended=2**80)
        writes = [ledger.record_step(stranger if n == 3 else lease, step) for n, step in enumerate(steps)]
        return await asyncio.gather(*writes, return_exceptions=True)

    outcomes = asyncio.run(mixed())
    failed = {n: type(outcome) for n, outcome in enumerate(outcomes) if outcome is not None}
    assert set(failed) == {3, 7} and failed[3] is Fenced
    assert len(ledger.reader.steps("default", "r-1")) == 18


def test_what_was_asked_for_is_written_though_nobody_waits(ledger: Ledger) -> None:
    async def cancelled() -> None:
        lease = await ledger.begin_run(START)
        step = StepRecord(step_path="s", state="completed")
        waiting = asyncio.create_task(ledger.record_step(lease, step))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await ledger.record_step(lease, StepRecord(step_path="after", state="completed"))

    asyncio.run(cancelled())
    assert {step.step_path for step in ledger.reader.steps("default", "r-1")} == {"s", "after"}


def test_a_closed_ledger_says_so(address: str) -> None:
    ledger = Ledger.open(address, migrate=True)
    begin(ledger)
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        begin(ledger, RunStart(run_id="r-2", workflow="w"))


def test_a_ledger_survives_closing(address: str) -> None:
    with Ledger.open(address, migrate=True) as ledger:
        record(ledger, begin(ledger))
    with Ledger.open(address) as ledger:
        assert [step.state for step in ledger.reader.steps("default", "r-1")] == ["completed"]
