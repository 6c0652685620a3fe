"""Runs of a deployment: suspended without a process, and taken up again by this or another flow run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_async
from prefect.states import Cancelled, Failed, Pending, Running
from sqlalchemy import select

from blocks import boundaries
from blocks.ledger import Ledger, WaitRow
from blocks.ledger.tables.schema import credential as known
from flows.compiled import catalog_flow
from flows.wakes import GONE, WAKE_TAG, end_held, schedule_wake, wake_flow_run
from flows.workflow import run_workflow
from tests.support.flows import FLOW_MARKS, Bench, agent, steps
from tests.support.ledgers import make_older
from tests.support.messages_api import MessagesApi

pytestmark = FLOW_MARKS

FORM = "{type: object, properties: {why: {type: string}}, required: [why]}"
ASK = "  - {id: agreed, approval: {ask: Go?, form: " + FORM + "}}\n"


class Deployed(Bench):
    """A bench whose workflow `w` is deployed; this process works for it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, *written: str, by: Any = None) -> None:
        super().__init__(folder, w=steps(*(written or (ASK,))))
        settings = self.settings
        patch.setenv("PHASELINE_HOME", str(settings.home))
        patch.setenv("PHASELINE_STORAGE", self.storage)
        patch.setenv("PHASELINE_CATALOG", str(self.catalog))
        patch.setenv("MY_TOKEN", "correct-horse")
        self.generic = by is run_workflow
        self.flow = by or catalog_flow("w")
        self.deployment: uuid.UUID | None = None
        self.offline = True

    async def create(
        self, client: PrefectClient, run_id: str = "r", workflow: str = "w", **more: Any
    ) -> FlowRun:
        """A flow run of the deployment, which is made when it is needed first."""
        if self.deployment is None:
            known = await client.create_flow(self.flow)
            self.deployment = await client.create_deployment(known, f"d-{uuid.uuid4().hex[:8]}")
        parameters = {"workflow": workflow} if self.generic else {}
        parameters |= {"run_id": run_id, "offline": self.offline}
        return await client.create_flow_run_from_deployment(self.deployment, parameters=parameters, **more)

    async def work(self, client: PrefectClient, flow_run_id: uuid.UUID) -> State[Any]:
        """What a worker does with a flow run, and how Prefect shows it then."""
        await client.set_flow_run_state(flow_run_id, Pending(), force=True)  # or its time is waited for
        run = await client.read_flow_run(flow_run_id)
        with contextlib.suppress(Pause):
            await run_flow_async(
                self.flow, flow_run=run, parameters=dict(run.parameters), return_type="state"
            )
        return await state_of(client, flow_run_id)

    def do(self, what: Callable[[PrefectClient], Any]) -> Any:
        """Runs a coroutine function with a client, and collects what Prefect leaves behind."""

        async def main() -> Any:
            async with get_client() as client:
                return await what(client)

        try:
            return asyncio.run(main())
        finally:
            gc.collect()

    def answer(self) -> WaitRow:
        """Approves the only open question."""
        with Ledger.open(self.settings.database) as ledger:
            (wait,) = ledger.waits.list_open("default")
            return ledger.waits.vote("default", wait.wait_id, "ann", "approve", {"why": "so"})


async def state_of(client: PrefectClient, flow_run_id: uuid.UUID) -> State[Any]:
    run = await client.read_flow_run(flow_run_id)
    assert run.state is not None
    return run.state


async def waking(client: PrefectClient, run_id: str = "r") -> list[FlowRun]:
    """The flow runs that wake a run."""
    named = FlowRunFilter(
        name=FlowRunFilterName(any_=[f"{run_id} wakes"]), tags=FlowRunFilterTags(all_=[WAKE_TAG])
    )
    return await client.read_flow_runs(flow_run_filter=named)


@contextlib.contextmanager
def armed(callback: boundaries.OnReached) -> Iterator[None]:
    """Boundaries are told within, and not after."""
    boundaries.arm(callback)
    try:
        yield
    finally:
        boundaries.arm(lambda name, path, subject: None)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    return Deployed(tmp_path, monkeypatch)


def test_what_is_filled_in_in_prefect_is_kept_without_secrets(bench: Deployed) -> None:
    async def main(client: PrefectClient) -> None:
        run = await bench.create(client)
        held = await bench.work(client, run.id)
        assert held.name == "Suspended"
        filled = {"approved": True, "data": {"why": "it is correct-horse"}}
        empty = await client.resume_flow_run(run.id)
        assert empty.status == SetStateStatus.REJECT, "nothing is approved without a decision"
        given = await client.resume_flow_run(run.id, run_input=filled)
        assert given.status == SetStateStatus.ACCEPT
        assert (await bench.work(client, run.id)).is_completed()

    bench.do(main)
    with Ledger.open(bench.settings.database) as ledger:
        (answered,) = ledger.waits.of_run_blocking("default", "r")
    assert answered.answer is not None and answered.decided_by[0]["voter"] == "prefect"
    assert answered.answer["data"] == {"why": "it is [secret MY_TOKEN]"}


@pytest.mark.parametrize("lost", [1, 2])
def test_an_outage_between_the_suspension_and_its_form_leaves_the_form(
    bench: Deployed, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """The first or the second part of the form is lost on its way, once; the second may have arrived."""
    sent, create = [], PrefectClient.create_flow_run_input

    async def losing(client: PrefectClient, flow_run_id: uuid.UUID, key: str, value: str) -> None:
        sent.append(key)
        if lost == 2 or len(sent) != 1:
            await create(client, flow_run_id=flow_run_id, key=key, value=value)
        if len(sent) == lost:
            raise httpx.ConnectError("the server restarts")

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client)
        monkeypatch.setattr(PrefectClient, "create_flow_run_input", losing)
        assert (await bench.work(client, run.id)).name == "Suspended"
        given = await client.resume_flow_run(run.id, run_input={"approved": True, "data": {"why": "x"}})
        assert given.status == SetStateStatus.ACCEPT
        assert (await bench.work(client, run.id)).is_completed()

    bench.do(main)


@pytest.mark.parametrize("generic", [False, True])
def test_an_answer_before_the_run_is_shown_as_suspended_lets_it_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generic: bool
) -> None:
    bench = Deployed(tmp_path, monkeypatch, by=run_workflow if generic else None)

    def between(name: str, path: str, subject: str) -> None:
        if (name, subject) == ("run.finished", "waiting"):
            bench.answer()

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client)
        with armed(between):
            shown = await bench.work(client, run.id)
        assert (shown.type.value, shown.name) == ("SCHEDULED", "Resuming")
        assert (await bench.work(client, run.id)).is_completed()

    bench.do(main)
    assert bench.row().state == "completed" and bench.row().deployed


@pytest.mark.parametrize("named", ["{folder}/foreign.yaml", "../foreign.yaml", "none", "{folder}/none.yaml"])
def test_a_worker_runs_workflows_of_its_catalog_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Who may start a flow run does not choose which file of the worker's machine is run."""
    bench = Deployed(tmp_path, monkeypatch, by=run_workflow)
    shutil.copy(bench.catalog / "w.yaml", tmp_path / "foreign.yaml")
    monkeypatch.chdir(tmp_path)

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client, workflow=named.format(folder=tmp_path))
        shown = await bench.work(client, run.id)
        assert shown.is_failed() and "no workflow" in str(shown.message) and "cure: " in str(shown.message)

    bench.do(main)
    assert not bench.home.exists()


def test_a_cancelled_run_does_not_go_on_by_its_own_flow_run(bench: Deployed) -> None:
    """Neither by the one that was resumed already, nor where a worker has it in its hands."""

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client)
        await bench.work(client, run.id)
        bench.answer()
        assert await wake_flow_run("r", str(run.id))
        assert (await state_of(client, run.id)).name == "Resuming"
        assert await wake_flow_run("r", str(run.id)), "it is on its way"
        with Ledger.open(bench.settings.database) as ledger:
            assert ledger.steering.request_cancel("default", "r") == "cancelled"
        shown = await bench.work(client, run.id)
        assert shown.is_cancelled() and "was cancelled meanwhile" in str(shown.message)
        other = await bench.create(client, "other")
        await end_held("other", str(other.id))
        assert (await state_of(client, other.id)).is_cancelled()

    bench.do(main)
    assert bench.row().state == "cancelled"


def test_what_wakes_begins_nothing(bench: Deployed) -> None:
    """A run that this ledger does not know was lost: beginning it anew would pay for everything again."""

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client, tags=[WAKE_TAG])
        shown = await bench.work(client, run.id)
        assert shown.is_cancelled() and "knows no run r" in str(shown.message)

    bench.do(main)
    with Ledger.open(bench.settings.database) as ledger:
        assert ledger.reader.get_run("default", "r") is None


def test_a_run_continued_by_hand_is_no_workers_any_more(bench: Deployed) -> None:
    async def begin(client: PrefectClient) -> None:
        await bench.work(client, (await bench.create(client)).id)

    bench.do(begin)
    assert bench.row().deployed
    ran = bench.run(offline=True)
    assert ran.outcome.status == "waiting" and not bench.row().deployed

    async def main(client: PrefectClient) -> None:
        here = uuid.UUID(ran.outcome.flow_run_id)
        assert not await wake_flow_run("r", str(here))
        shown = await state_of(client, here)
        assert shown.name == "Paused" and shown.state_details.run_input_keyset is None
        await bench.work(client, (await bench.create(client)).id)

    bench.do(main)
    assert bench.row().deployed, "a worker has it again"


def test_a_run_that_a_quota_stopped_goes_on_by_a_schedule(tmp_path: Path, monkeypatch: Any) -> None:
    run_id = f"quota-{uuid.uuid4().hex[:8]}"
    bench = Deployed(tmp_path, monkeypatch, agent("a"), agent("b"), agent("c", after="a"))
    bench.offline = False
    replies = iter([{"fault": "spend_limit"}])

    def reset() -> None:
        with Ledger.open(bench.settings.database) as ledger:
            (credential,) = ledger.reader.read(
                lambda c: c.execute(select(known.c.credential)).scalars().all()
            )
            ledger.credentials.unpark("default", credential)

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client, run_id)
        assert (await bench.work(client, run.id)).name == "Stopped"
        row = bench.row(run_id)
        assert row.state == "stopped" and row.wake_at is not None
        (wakes,) = await waking(client, run_id)
        assert wakes.expected_start_time is not None
        assert abs(wakes.expected_start_time.timestamp() - row.wake_at / 1e6) <= 1
        states = {path: step.state for path, step in bench.rows(run_id).items()}
        assert "failed" not in states.values(), "a quota is nobody's failure"
        reset()  # as if that moment had come
        assert (await bench.work(client, wakes.id)).is_completed()

    with MessagesApi() as api:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-this-test")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
        api.answer_with(lambda body: next(replies, {"text": "Fine."}))
        bench.do(main)
    assert bench.row(run_id).state == "completed"


def test_a_moment_that_is_told_again_is_waited_for_again(tmp_path: Path, monkeypatch: Any) -> None:
    """Woken at that moment, the waker itself would be found under the key of the run and the time."""
    moments = iter([datetime.now(UTC) - timedelta(hours=1)] * 2)

    @flow(name=f"stops-{uuid.uuid4().hex[:8]}")
    async def stops(run_id: str, offline: bool) -> None:
        await schedule_wake(run_id, next(moments))

    bench = Deployed(tmp_path, monkeypatch, by=stops)
    run_id = f"stops-{uuid.uuid4().hex[:8]}"

    async def main(client: PrefectClient) -> None:
        begun = datetime.now(UTC)
        await bench.work(client, (await bench.create(client, run_id)).id)
        (first,) = await waking(client, run_id)
        assert first.expected_start_time is not None and first.expected_start_time > begun
        await bench.work(client, first.id)
        assert len(await waking(client, run_id)) == 2

    bench.do(main)


def test_a_run_whose_flow_run_has_ended_goes_on_by_another(tmp_path: Path, monkeypatch: Any) -> None:
    """One that was killed before it could schedule its waking, or failed for a moment; once at a time."""
    bench = Deployed(tmp_path, monkeypatch, '  - {id: done, approval: {ask: "?"}}\n')
    run_id = f"ended-{uuid.uuid4().hex[:8]}"

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client, run_id)

        async def is_now(state: State[Any]) -> None:
            await client.set_flow_run_state(run.id, state, force=True)

        await is_now(Running())
        assert not await wake_flow_run(run_id, str(run.id), datetime.now(UTC)), "it is still at it"
        await is_now(Cancelled())
        assert not await wake_flow_run(run_id, str(run.id)), "a person ended it"
        await is_now(Running())
        assert await wake_flow_run(run_id, str(run.id), datetime.now(UTC) - 2 * GONE)
        (first,) = await waking(client, run_id)
        assert first.parameters["run_id"] == run_id and WAKE_TAG in first.tags
        await is_now(Failed(name="Stopped"))
        assert await wake_flow_run(run_id, str(run.id))
        assert len(await waking(client, run_id)) == 1
        await client.set_flow_run_state(first.id, Failed(), force=True)
        assert await wake_flow_run(run_id, str(run.id))
        assert len(await waking(client, run_id)) == 2
        assert not await wake_flow_run(run_id, str(uuid.uuid4())), "it was deleted"

    bench.do(main)


def test_a_flow_run_whose_worker_died_is_closed_and_followed_by_one(tmp_path: Path, monkeypatch: Any) -> None:
    """Running or only taken: Prefect would show it so for ever, and count its place at the worker."""
    bench = Deployed(tmp_path, monkeypatch, '  - {id: done, approval: {ask: "?"}}\n')
    run_id = f"lost-{uuid.uuid4().hex[:8]}"

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client, run_id)
        await client.set_flow_run_state(run.id, Running(), force=True)
        assert await wake_flow_run(run_id, str(run.id), lost=True) == "begun"
        assert (await state_of(client, run.id)).is_crashed()
        assert await wake_flow_run(run_id, str(run.id), lost=True) == "on its way"
        (first,) = await waking(client, run_id)
        await client.set_flow_run_state(first.id, Pending(), force=True)
        assert await wake_flow_run(run_id, str(run.id), lost=True) == "on its way"
        monkeypatch.setattr("flows.wakes.GONE", timedelta(0))  # as if it had been so for minutes
        assert await wake_flow_run(run_id, str(run.id), lost=True) == "begun"
        assert (await state_of(client, first.id)).is_crashed()
        assert len(await waking(client, run_id)) == 2

    bench.do(main)


def test_a_fault_before_anything_ran_leaves_a_due_run_due(bench: Deployed) -> None:
    """Here of the storage, where the definition is; it passes, and the run goes on."""
    manifest = Path(bench.storage) / "default" / "runs" / "r" / "run.json"

    async def main(client: PrefectClient) -> None:
        run = await bench.create(client)
        await bench.work(client, run.id)
        bench.answer()
        before = bench.row()
        kept = manifest.read_bytes()
        manifest.unlink()
        manifest.mkdir()
        assert await wake_flow_run("r", str(run.id))
        assert (await bench.work(client, run.id)).is_failed()
        after = bench.row()
        assert (after.state, after.ended, after.flow_run_id) == ("waiting", before.ended, str(run.id))
        with Ledger.open(bench.settings.database) as ledger:
            assert ledger.steering.due("default") == ["r"]
        manifest.rmdir()
        manifest.write_bytes(kept)
        assert await wake_flow_run("r", str(run.id))
        (again,) = [f for f in await waking(client) if f.deployment_id == bench.deployment]
        assert (await bench.work(client, again.id)).is_completed()

    bench.do(main)
    assert bench.row().state == "completed"


def test_a_worker_whose_clock_is_far_ahead_decides_nothing_by_it(tmp_path: Path, monkeypatch: Any) -> None:
    """Woken too early it waits again, for as long as the ledger still counts, and not at once."""
    asked = "  - {id: agreed, approval: {ask: Go?, deadline: 2d, on_timeout: approve}}\n"
    bench, run_id = Deployed(tmp_path, monkeypatch, asked), f"ahead-{uuid.uuid4().hex[:8]}"

    async def main(client: PrefectClient) -> None:
        await bench.work(client, (await bench.create(client, run_id)).id)
        (first,) = await waking(client, run_id)
        make_older(Path(bench.settings.database), 5)
        for _ in range(2):
            assert (await bench.work(client, first.id)).name == "Suspended"
        moments = [run.expected_start_time for run in await waking(client, run_id) if run.id != first.id]
        assert moments and all(
            at is not None and at > datetime.now(UTC) + timedelta(days=1) for at in moments
        )

    bench.do(main)
    with Ledger.open(bench.settings.database) as ledger:
        assert [wait.state for wait in ledger.waits.of_run_blocking("default", run_id)] == ["open"]
        ledger.confirm_clock()
        assert [wait.state for wait in ledger.waits.expire_due("default")] == ["answered"]
