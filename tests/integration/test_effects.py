"""The effect gate on real ledgers: what is recorded decides, in whatever process the run goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Fenced, Ledger, RunStart
from tasks.effects.gate import EffectGate, NotPerformed, Unsure
from tasks.effects.tools import guard_tool
from tasks.tools import Tool, ToolResult, ToolSet
from tasks.waiting import Waiting
from tests.support.effects import Receiver as Executor
from tests.support.effects import call
from tests.support.gates import RUN, GateDesk
from tests.support.ledgers import DATABASES, new_address
from tests.support.receiver import Received, Receiver
from workflows.core.errors import UsageError
from workflows.core.plans.plan import ToolRulePlan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=DATABASES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_address(request, request.param, tmp_path)


@pytest.fixture
def desk(address: str, tmp_path: Path) -> Iterator[GateDesk]:
    with Ledger.open(address, migrate=True) as ledger:
        yield GateDesk(ledger, tmp_path, {"PAY_TOKEN": "tok-0123456789"})


def perform(desk: GateDesk, send: Any, **more: Any) -> ToolResult:
    return desk.work(lambda gate, context: call(gate, send, **more))


def in_doubt(desk: GateDesk, send: Any = None, **more: Any) -> Waiting:
    with pytest.raises(Waiting) as caught:
        perform(desk, send or Executor([Unsure("the connection was lost")]), **more)
    return caught.value


def test_an_outcome_outlives_its_process(desk: GateDesk) -> None:
    send = Executor(["paid with tok-0123456789"])
    for _ in range(3):
        assert perform(desk, send) == ToolResult("paid with [secret PAY_TOKEN]")
    assert len(send.keys) == 1
    assert (desk.effect.state, desk.effect.sent, desk.effect.kind) == ("done", 1, "mcp")
    assert desk.effect.idempotency_key == send.keys[0]


def test_a_large_outcome_is_an_artifact(desk: GateDesk) -> None:
    result = perform(desk, Executor(["x" * 100_000]))
    assert "100000 bytes in all, kept as artifact" in str(result.content)
    assert perform(desk, Executor(["never"])) == result


def test_doubt_is_asked_about_once_and_every_answer_counts(desk: GateDesk) -> None:
    first = in_doubt(desk)
    assert in_doubt(desk, Executor(["never"])).wait_ids == first.wait_ids == (desk.wait.wait_id,)
    with pytest.raises(UsageError, match="outcome"):
        desk.answer({"outcome": "perhaps"})
    desk.answer({"outcome": "not_done"})
    second = in_doubt(desk)
    assert second.wait_ids != first.wait_ids
    desk.answer({"outcome": "done", "result": "receipt 7"})
    assert perform(desk, Executor(["never"])) == ToolResult("receipt 7")
    assert (desk.effect.state, desk.effect.sent) == ("done", 2)


def test_abandoned_by_a_person(desk: GateDesk) -> None:
    in_doubt(desk)
    desk.answer({"outcome": "abandon"}, note="the customer left")
    result = perform(desk, Executor(["never"]))
    assert result.is_error and "kim abandoned it. They said: the customer left" in str(result.content)
    assert perform(desk, Executor(["never"])) == result
    assert desk.effect.state == "abandoned"


def test_refused_then_sent_again(desk: GateDesk) -> None:
    send = Executor([NotPerformed("closed on Sundays"), "paid"])
    with pytest.raises(NotPerformed):
        perform(desk, send)
    assert desk.effect.state == "refused"
    assert perform(desk, send) == ToolResult("paid")
    assert len(set(send.keys)) == 1


def test_idempotent_calls_are_repeated_over_processes(desk: GateDesk) -> None:
    send = Executor([Unsure("x")])
    with pytest.raises(Unsure):
        perform(desk, send, effect="idempotent")
    sent = desk.effect.sent
    assert desk.effect.state == "unknown" and sent == len(send.keys) > 3
    send.ends += [Unsure("x")] * sent + ["paid"]
    assert perform(desk, send, effect="idempotent") == ToolResult("paid")
    assert len(send.keys) == sent + 2 and len(set(send.keys)) == 1


def test_a_refusal_in_another_process_does_not_settle_an_earlier_sending(desk: GateDesk) -> None:
    with pytest.raises(Unsure):
        perform(desk, Executor([Unsure("x")]), effect="idempotent")
    sent = desk.effect.sent
    for _ in range(2):
        with pytest.raises(Unsure, match="closed\nThis sending was refused, but an earlier sending"):
            perform(desk, Executor([NotPerformed("closed")]), effect="idempotent")
        assert desk.effect.state == "unknown"
    assert desk.effect.sent == sent + 2


@pytest.mark.parametrize("effect", ["none", "once"])
def test_a_question_that_people_cannot_be_asked_is_refused(desk: GateDesk, effect: str) -> None:
    async def step(gate: EffectGate, _: Any) -> None:
        async def send(key: str) -> ToolResult:
            await gate.ask(key, ask="Which?", form={"type": "array"}, detail={})
            return ToolResult("never")

        await call(gate, send, effect=effect)

    with pytest.raises(NotPerformed, match=r"bank\.pay asks for what people cannot fill in: .* is array"):
        desk.work(step)
    assert [row.state for row in desk.effects()] == (["refused"] if effect == "once" else [])
    assert desk.ledger.waits.list_open("default") == []


def test_a_question_keeps_an_earlier_doubt(desk: GateDesk) -> None:
    lost: list[str] = []

    async def step(gate: EffectGate, _: Any) -> None:
        async def send(key: str) -> ToolResult:
            if not lost:
                lost.append(key)
                raise Unsure("the connection was lost")
            await gate.ask(key, ask="Sure?", form={"properties": {"sure": {"type": "boolean"}}}, detail={})
            raise NotPerformed("too late")

        await call(gate, send, effect="idempotent")

    with pytest.raises(Waiting):
        desk.work(step)
    desk.answer({"sure": True})
    with pytest.raises(Unsure, match="an earlier sending"):
        desk.work(step)
    assert desk.effect.state == "unknown"


def test_declaring_a_doubtful_call_idempotent_goes_on_without_an_answer(desk: GateDesk) -> None:
    in_doubt(desk)
    assert perform(desk, Executor(["paid"]), effect="idempotent") == ToolResult("paid")


def test_cancelled_under_way(desk: GateDesk) -> None:
    async def cut_off(gate: EffectGate, _: Any) -> None:
        sent = asyncio.Event()

        async def send(_key: str) -> ToolResult:
            sent.set()
            return await asyncio.Future()

        task = asyncio.ensure_future(call(gate, send))
        under_way = asyncio.ensure_future(sent.wait())
        await asyncio.wait({task, under_way}, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    desk.work(cut_off)
    assert (desk.effect.state, desk.effect.wait_id) == ("unknown", "")
    waiting = in_doubt(desk, Executor(["never"]))
    assert waiting.wait_ids == (desk.effect.wait_id,) and "cancelled" in waiting.message


def test_an_approval_is_of_one_action(desk: GateDesk) -> None:
    never = Executor(["never"])
    in_doubt(desk, never, approval=True)
    assert desk.wait.kind == "action"
    assert desk.wait.detail["arguments"] == {"to": "ann", "amount": 5}
    desk.answer({})
    in_doubt(desk, never, approval=True, arguments={"to": "ann", "amount": 50})
    desk.answer(None, "reject", "too much")
    result = perform(desk, never, approval=True, arguments={"to": "ann", "amount": 50})
    assert (
        result.is_error and "kim did not approve" in str(result.content) and "too much" in str(result.content)
    )
    assert perform(desk, Executor(["paid"]), approval=True) == ToolResult("paid")
    assert never.keys == []


def test_who_lost_the_run_sends_nothing(desk: GateDesk) -> None:
    async def late() -> None:
        ledger, start = desk.ledger, RunStart(run_id=RUN, workflow="w")
        lease = await ledger.begin_run(start)
        await ledger.finish_run(lease, "waiting")
        await ledger.begin_run(start)
        gate = EffectGate(ledger.effects, ledger.waits, lease, tenant="default", run_id=RUN, step_path="s")
        await call(gate, Executor([AssertionError("it was sent")]))

    with pytest.raises(Fenced):
        asyncio.run(late())
    assert desk.effects() == []


def test_a_handler_goes_through_the_gate_by_its_declaration(desk: GateDesk) -> None:
    ran: list[dict[str, Any]] = []

    async def run(arguments: dict[str, Any]) -> ToolResult:
        ran.append(arguments)
        return ToolResult(f"ran {len(ran)}")

    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "why": {"type": "string"}}}
    once, reads = Tool("make", "Makes.", schema, run), Tool("look", "Looks.", schema, run, "none")

    async def step(gate: EffectGate, _: Any) -> list[Any]:
        rule = ToolRulePlan(name="make", effect_key=("n",))
        tools = ToolSet((guard_tool(once, gate, rule), guard_tool(reads, gate)))
        calls = [("make", {"n": 1, "why": "a"}, 0), ("make", {"n": 1, "why": "b"}, 0)]
        calls += [("make", {"n": 1, "why": "a"}, 1), ("look", {}, 0), ("look", {}, 0)]
        return [(await tools.call(*one)).content for one in calls]

    assert desk.work(step) == ["ran 1", "ran 1", "ran 2", "ran 3", "ran 4"]
    assert desk.work(step) == ["ran 1", "ran 1", "ran 2", "ran 5", "ran 6"]
    assert [row.kind for row in desk.effects()] == ["tool", "tool"]


# --- a process that is killed while it calls ---

PROGRAM = """
import asyncio, sys
from pathlib import Path
from blocks.ledger import Ledger
from tests.support.gates import GateDesk
from tasks.web.http_request import http_tool
from tasks.tools import ToolSet
from workflows.core.permissions.grants import Grants
from workflows.core.plans.plan import HttpPlan

address, folder, method, url = sys.argv[1:]

async def step(gate, context):
    tools = ToolSet((http_tool(Grants(http=HttpPlan(endpoints=("127.0.0.1",)))).through(gate),))
    return await tools.call("http_request", {"method": method, "url": url, "body": {"amount": 5}})

with Ledger.open(address) as ledger:
    print(GateDesk(ledger, Path(folder), {}).work(step).content)
"""


DELIVERY = """
import sys
from pathlib import Path
from blocks.ledger import Ledger
from tests.support.gates import GateDesk
from tasks.web.webhook import deliver

address, folder, url = sys.argv[1:]

async def step(gate, context):
    return await deliver(gate, url, {"order": 7}, secret="whsec_c2VjcmV0LW9mLXRoZS1ob29r")

with Ledger.open(address) as ledger:
    print(GateDesk(ledger, Path(folder), {}).work(step).content)
"""


def process(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_by(receiver: Receiver, program: str, *arguments: object) -> None:
    """A process that gets SIGKILL while its request is at the receiver."""
    victim = process(program, *arguments)
    killed: list[int] = []

    def kill(_: Received) -> None:
        if not killed:
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    receiver.on_request = kill
    victim.communicate(timeout=60)
    assert victim.returncode == -signal.SIGKILL


def test_a_webhook_of_a_killed_process_is_called_again_with_its_id(tmp_path: Path) -> None:
    address = str(tmp_path / "ledger.db")
    Ledger.open(address).close()
    with Receiver(["hang"]) as receiver:
        given = (address, tmp_path, f"{receiver.url}/hook")
        killed_by(receiver, DELIVERY, *given)
        for _ in range(2):  # the second finds the outcome
            later = process(DELIVERY, *given)
            out, errors = later.communicate(timeout=60)
            assert out.startswith("HTTP 200") and later.returncode == 0, errors
        ids = [received.headers["webhook-id"] for received in receiver.received]
        assert len(ids) == 2 and len(set(ids)) == 1
        assert receiver.received[0].body == receiver.received[1].body
    with Ledger.open(address) as ledger:
        effect = GateDesk(ledger, tmp_path, {}).effect
    assert (effect.kind, effect.state, effect.sent) == ("webhook", "done", 2)
    assert effect.idempotency_key == ids[0]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_process_killed_between_sending_and_outcome(tmp_path: Path, method: str) -> None:
    address = str(tmp_path / "ledger.db")
    Ledger.open(address).close()
    with Receiver(["hang"]) as receiver:
        given = (address, tmp_path, method, f"{receiver.url}/pay")
        killed_by(receiver, PROGRAM, *given)
        later = process(PROGRAM, *given)
        out, errors = later.communicate(timeout=60)
        with Ledger.open(address) as ledger:
            desk = GateDesk(ledger, tmp_path, {})
            if method == "PUT":
                assert out.startswith("HTTP 200") and later.returncode == 0, errors
                assert len(receiver.keys) == 2 and len(set(receiver.keys)) == 1
                assert (desk.effect.state, desk.effect.sent) == ("done", 2)
            else:
                assert "Waiting: waiting for an answer to w-" in errors
                assert len(receiver.keys) == 1 and desk.wait.kind == "unknown"
                assert desk.wait.detail["idempotency_key"] == receiver.keys[0]
