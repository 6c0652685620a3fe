"""What makes two calls one effect, and what the gate writes before and after each way a call can end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from blocks.ledger import EffectRow, Lease
from blocks.ledger.runs.effects import EffectState
from tasks.effects.calls import AlreadySo, EffectCall, shorten_value
from tasks.effects.gate import NotPerformed, Unsure
from tasks.effects.rows import IN_DOUBT, OUTCOME_BYTES, may_have_happened
from tasks.effects.waits import Undecided
from tasks.tools import ToolError, ToolResult
from tasks.waiting import Waiting
from tests.support.effects import MemoryEffects, Receiver, World, call
from workflows.core.errors import PhaselineError


def made(**more: Any) -> EffectCall:
    given: dict[str, Any] = {
        "tenant": "default",
        "run_id": "r",
        "step_path": "s",
        "kind": "mcp",
        "tool": "bank.pay",
        "arguments": {"to": "ann", "amount": 5},
        "effect": "once",
        "ordinal": 0,
    }
    return EffectCall(**{**given, **more})


DIFFERENT: list[dict[str, Any]] = [
    {"tenant": "other"},
    {"run_id": "q"},
    {"step_path": "s/1"},
    {"tool": "bank.refund"},
    {"arguments": {"to": "ann", "amount": 6}},
    {"arguments": {"to": "ann"}},
    {"ordinal": 1},
    {"repeat": "2"},
]


def test_keys_differ_with_what_a_call_is_and_with_nothing_else() -> None:
    keys = {made(**other).key for other in ({}, *DIFFERENT)}
    assert len(keys) == len(DIFFERENT) + 1
    assert len({made(**other).idempotency_key for other in ({}, *DIFFERENT)}) == len(keys)
    same = made(arguments={"amount": 5, "to": "ann"}, effect="idempotent", kind="http", approval=True)
    assert same.key == made().key
    assert len(same.idempotency_key) == 32 and int(same.idempotency_key, 16)


def test_named_fields_say_which_effect_it_is() -> None:
    first = made(key_fields=("to",))
    assert made(arguments={"to": "ann", "amount": 6}, key_fields=("to",)).key == first.key
    assert made(arguments={"to": "bob", "amount": 5}, key_fields=("to",)).key != first.key
    # None of the fields is there: better two effects than one too few.
    other = made(arguments={"amount": 1}, key_fields=("to",)).key
    assert other != made(arguments={"amount": 2}, key_fields=("to",)).key
    assert first.subject != made(arguments={"to": "ann", "amount": 6}, key_fields=("to",)).subject


def test_rows_show_a_short_form_of_arguments() -> None:
    shown = shorten_value(
        {"text": "x" * 1000, "many": list(range(50)), "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}}
    )
    assert shown["text"] == "x" * 400 + "... (1000 characters)"
    assert shown["many"][-1] == "... (50 in all)" and len(shown["many"]) == 21
    assert shown["deep"]["a"]["b"]["c"]["d"] == {"e": 1} or "..." in str(shown["deep"])


@pytest.fixture
def world() -> World:
    return World()


def test_an_outcome_is_recorded_once_and_given_again(world: World) -> None:
    send = Receiver(["paid"])
    assert world.call(send) == ToolResult("paid")
    assert world.effects.log == ["intend", "sending", "done"]
    assert world.call(send) == ToolResult("paid")
    assert len(send.keys) == 1
    row = world.effects.only
    assert (row.tool, row.effect, row.arguments) == ("bank.pay", "once", {"to": "ann", "amount": 5})
    assert row.idempotency_key == send.keys[0]


def test_equal_calls_are_counted_and_a_repetition_is_another_effect(world: World) -> None:
    send = Receiver(["paid"])
    for ordinal, repeat in ((0, ""), (1, ""), (0, "2"), (0, "2"), (1, "")):
        world.call(send, ordinal=ordinal, repeat=repeat)
    assert len(send.keys) == len(set(send.keys)) == 3


def test_a_tool_that_says_it_failed_is_an_outcome(world: World) -> None:
    for end in (ToolResult("no money", is_error=True), ToolError("no money")):
        world = World()
        send = Receiver([end])
        for _ in range(2):
            assert world.call(send) == ToolResult("no money", is_error=True)
        assert len(send.keys) == 1 and world.effects.only.state == "done"


def test_a_read_is_not_written_down(world: World) -> None:
    send = Receiver(["read"])
    assert world.call(send, effect="none") == ToolResult("read")
    assert world.effects.log == []
    with pytest.raises(Unsure):
        world.call(Receiver([Unsure("gone")]), effect="none")


def test_what_was_refused_may_be_sent_again_with_the_same_key(world: World) -> None:
    send = Receiver([NotPerformed("no such account"), "paid"])
    with pytest.raises(NotPerformed, match="no such account"):
        world.call(send)
    assert world.effects.only.state == "refused"
    assert world.effects.only.error == {"message": "no such account", "kind": "refused"}
    assert world.call(send) == ToolResult("paid")
    assert send.keys[0] == send.keys[1]


def test_an_idempotent_call_is_sent_again_with_the_same_key(world: World) -> None:
    send = Receiver([Unsure("timed out"), Unsure("timed out"), "paid"])
    assert world.call(send, effect="idempotent") == ToolResult("paid")
    assert len(set(send.keys)) == 1 and len(send.keys) == 3
    assert world.effects.log == ["intend", "sending", "sending", "sending", "done"]


def test_an_idempotent_call_without_an_outcome_is_unknown_and_may_be_made_again(world: World) -> None:
    send = Receiver([Unsure("timed out.")])
    with pytest.raises(Unsure, match=r"timed out\. It may have been performed; calling it again is safe"):
        world.call(send, effect="idempotent")
    row = world.effects.only
    assert (row.state, row.sent, row.wait_id) == ("unknown", len(send.keys), "") and row.sent > 3
    assert row.error is not None and "It may have been performed" in row.error["message"]
    assert world.call(Receiver(["paid"]), effect="idempotent") == ToolResult("paid")


def test_what_would_only_fail_again_is_not_sent_again_at_once(world: World) -> None:
    send = Receiver([Unsure("it raised.", passing=False), "paid"])
    with pytest.raises(Unsure, match=r"it raised\. It may have been performed; calling it again is safe"):
        world.call(send, effect="idempotent")
    assert (world.effects.only.state, len(send.keys)) == ("unknown", 1)
    assert world.call(send, effect="idempotent") == ToolResult("paid")


class Early(PhaselineError):
    """A fault before anything was sent."""

    before_sending = True


@pytest.mark.parametrize("fault", [NotPerformed("no such account."), Early("the file changed")])
def test_a_refusal_does_not_settle_an_earlier_sending(world: World, fault: Exception) -> None:
    for _ in range(2):  # the second finds a call that was given up
        send = Receiver([Unsure("lost"), fault, "never"])
        with pytest.raises(Unsure if isinstance(fault, NotPerformed) else Early) as caught:
            world.call(send, effect="idempotent")
        assert len(send.keys) == 2
        row = world.effects.only
        assert row.state == "unknown" and row.error is not None
        if isinstance(fault, NotPerformed):
            told = "no such account.\nThis sending was refused, but an earlier sending of this call had no"
            assert row.error["message"] == str(caught.value)
            assert str(caught.value).startswith(told) and caught.value.again  # type: ignore[attr-defined]
    assert world.call(Receiver(["paid"]), effect="idempotent") == ToolResult("paid")


def test_a_refusal_after_a_crash_does_not_settle_what_was_sent() -> None:
    world, _ = crashed("before outcome", "idempotent")
    with pytest.raises(Unsure, match="an earlier sending"):
        world.call(Receiver([NotPerformed("closed")]), effect="idempotent")
    assert (world.effects.only.state, world.effects.only.sent) == ("unknown", 2)


def test_a_crash_before_a_call_in_doubt_is_sent_again_keeps_the_doubt() -> None:
    dying = Dying()
    world = World(effects=dying)
    with pytest.raises(Unsure):
        world.call(Receiver([Unsure("lost")]), effect="idempotent")
    dying.at = "before sending"
    with pytest.raises(Crash):
        world.call(Receiver(["never"]), effect="idempotent")
    dying.at = ""
    assert world.effects.only.state == "not_done"
    with pytest.raises(Unsure, match="an earlier sending"):
        world.call(Receiver([NotPerformed("closed")]), effect="idempotent")
    assert world.effects.only.state == "unknown"


def test_what_is_so_already_was_done_by_the_earlier_sending(world: World) -> None:
    send = Receiver([Unsure("lost"), AlreadySo("not there.")])
    done = ToolResult("not there.\n[It counts as done: an earlier sending of this call had no answer.]")
    assert world.call(send, effect="idempotent") == done
    assert world.effects.only.state == "done"
    world = World()
    with pytest.raises(NotPerformed):
        world.call(Receiver([AlreadySo("not there.")]), effect="idempotent")
    assert world.effects.only.state == "refused"


def test_a_refusal_after_a_person_said_that_it_did_not_happen_is_one(world: World) -> None:
    in_doubt(world)
    world.waits.answer({"outcome": "not_done"})
    with pytest.raises(NotPerformed):
        world.call(Receiver([NotPerformed("closed")]))
    assert (world.effects.only.state, world.effects.only.sent) == ("refused", 2)


def in_doubt(world: World, send: Receiver | None = None, **more: Any) -> Waiting:
    with pytest.raises(Waiting) as caught:
        world.call(send or Receiver([Unsure("the connection was lost")]), **more)
    return caught.value


def test_a_call_in_doubt_becomes_a_question(world: World) -> None:
    waiting = in_doubt(world)
    (row,) = world.waits.rows.values()
    assert waiting.wait_ids == (row.wait_id,) and waiting.exit_code == 3 and waiting.final
    assert f"phaseline answer {row.wait_id}" in waiting.cure
    assert (row.kind, row.on_timeout, row.form["required"]) == ("unknown", "", ["outcome"])
    assert "the connection was lost" in row.ask and row.detail["arguments"] == {"to": "ann", "amount": 5}
    assert (world.effects.only.state, world.effects.only.wait_id) == ("unknown", row.wait_id)
    again = in_doubt(world, Receiver(["never"]))
    assert again.wait_ids == waiting.wait_ids


def test_a_person_says_that_it_was_done(world: World) -> None:
    in_doubt(world)
    world.waits.answer({"outcome": "done", "result": "receipt 7"})
    never = Receiver(["never"])
    assert world.call(never) == ToolResult("receipt 7")
    assert world.call(never) == ToolResult("receipt 7")
    assert never.keys == [] and world.effects.only.state == "done"


def test_a_person_says_that_it_was_not_done(world: World) -> None:
    lost = Receiver([Unsure("lost")])
    in_doubt(world, lost)
    world.waits.answer({"outcome": "not_done"})
    send = Receiver(["paid"])
    assert world.call(send) == ToolResult("paid")
    assert send.keys == lost.keys
    assert world.effects.log[-3:] == ["not_done", "sending", "done"]


def test_each_sending_in_doubt_is_a_question_of_its_own(world: World) -> None:
    first = in_doubt(world)
    world.waits.answer({"outcome": "not_done"})
    second = in_doubt(world)
    assert first.wait_ids != second.wait_ids and len(world.waits.rows) == 2


@pytest.mark.parametrize("rejected", [False, True])
def test_a_person_says_never_mind(world: World, rejected: bool) -> None:
    in_doubt(world)
    if rejected:
        world.waits.answer(state="rejected", note="too late")
    else:
        world.waits.answer({"outcome": "abandon"}, note="too late")
    for _ in range(2):
        result = world.call(Receiver(["never"]))
        assert result.is_error and "kim abandoned it. They said: too late" in str(result.content)
        assert result.again, "an equal call of the agent is this one again"
    assert world.effects.only.state == "abandoned"


def test_what_was_abandoned_is_asked_about_again_once_the_step_is_done_anew(world: World) -> None:
    lost = Receiver([Unsure("lost.")])
    first = in_doubt(world, lost)
    assert "was sent and lost. Answer" in first.message
    world.waits.answer({"outcome": "abandon"})
    never = Receiver(["never"])
    assert world.call(never).again
    second, again = (in_doubt(world, never, generation=1) for _ in range(2))
    assert first.wait_ids != second.wait_ids == again.wait_ids
    assert (world.effects.only.state, world.effects.only.wait_id) == ("unknown", second.wait_ids[0])
    world.waits.answer({"outcome": "not_done"})
    send = Receiver(["paid"])
    assert world.call(send, generation=1) == ToolResult("paid")
    assert send.keys == lost.keys
    assert world.call(never, generation=2) == ToolResult("paid")


def test_what_was_abandoned_and_is_declared_safe_is_made_once_the_step_is_done_anew(world: World) -> None:
    in_doubt(world)
    world.waits.answer({"outcome": "abandon"})
    assert world.call(Receiver(["never"]), effect="idempotent").again
    assert world.call(Receiver(["paid"]), effect="idempotent", generation=1) == ToolResult("paid")


def test_an_open_question_stays_when_the_step_is_done_anew(world: World) -> None:
    first = in_doubt(world)
    never = Receiver(["never"])
    assert in_doubt(world, never, generation=1).wait_ids == first.wait_ids
    world.waits.answer({"outcome": "done", "result": "receipt 7"})
    assert world.call(never, generation=1) == ToolResult("receipt 7")


def test_what_nobody_decided_is_asked_once_the_step_is_done_anew(world: World) -> None:
    first = in_doubt(world)
    world.waits.answer(state="expired")
    never = Receiver(["never"])
    with pytest.raises(Undecided, match="nobody answered") as caught:
        world.call(never)
    assert "phaseline resume r --from s" in caught.value.cure
    second = in_doubt(world, never, generation=1)
    assert second.wait_ids != first.wait_ids and world.effects.only.wait_id == second.wait_ids[0]


def test_a_process_that_ends_between_a_question_and_its_name_finds_it(world: World) -> None:
    lost = Receiver([Unsure("lost")])
    in_doubt(world, lost)
    row = world.effects.only
    world.effects.rows[row.effect_key] = replace(row, state="intended", wait_id="")
    world.waits.answer({"outcome": "done"})
    assert "performed" in str(world.call(Receiver(["never"])).content)
    assert len(world.waits.rows) == 1


@pytest.mark.parametrize("state", ["expired", "cancelled"])
def test_nobody_says(world: World, state: str) -> None:
    in_doubt(world)
    world.waits.answer(state=state)
    with pytest.raises(Undecided, match=r"nobody answered|withdrawn"):
        world.call(Receiver(["never"]))


class Crash(BaseException):
    """The process is gone: nothing after it runs."""


class Dying(MemoryEffects):
    """Loses the process before the write of that name."""

    at: str = ""

    async def count_send(self, lease: Lease, key: str) -> int:
        if self.at == "before sending":
            raise Crash
        return await super().count_send(lease, key)

    async def settle(self, lease: Lease, key: str, state: Any, **more: Any) -> None:
        if self.at == "before outcome":
            raise Crash
        await super().settle(lease, key, state, **more)


def crashed(at: str, effect: str) -> tuple[World, Receiver]:
    dying = Dying()
    dying.at = at
    world, send = World(effects=dying), Receiver(["paid"])
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(call(world.gate(), send, effect=effect))
        with pytest.raises(Crash):
            loop.run_until_complete(task)
        with pytest.raises(Crash):
            task.result()
    finally:
        loop.close()
    dying.at = ""
    return world, send


def test_a_crash_before_sending_is_no_doubt() -> None:
    world, send = crashed("before sending", "once")
    assert send.keys == []
    assert world.call(send) == ToolResult("paid") and len(send.keys) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_crash_before_the_outcome_asks_or_repeats() -> None:
    world, send = crashed("before outcome", "once")
    in_doubt(world, send)
    assert len(send.keys) == 1
    (row,) = world.waits.rows.values()
    assert "the process ended before its outcome was known" in row.ask
    world, send = crashed("before outcome", "idempotent")
    assert world.call(send, effect="idempotent") == ToolResult("paid")
    assert len(send.keys) == 2 and len(set(send.keys)) == 1


@pytest.mark.parametrize("effect", ["once", "idempotent"])
def test_a_cancelled_call_is_noted_before_the_cancellation_goes_on(world: World, effect: str) -> None:
    async def cancelled() -> None:
        async with asyncio.timeout(0.01):
            await call(world.gate(), Receiver([asyncio.Event()]), effect=effect)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert world.effects.only.state == "unknown"
    if effect == "once":
        assert "cancelled" in str(in_doubt(world, Receiver(["never"])))


def test_a_cancellation_while_the_outcome_is_written_does_not_lose_it(world: World) -> None:
    class Slow(MemoryEffects):
        async def settle(self, lease: Lease, key: str, state: Any, **more: Any) -> None:
            await asyncio.sleep(0.03)
            await super().settle(lease, key, state, **more)

    world.effects = Slow()

    async def cancelled() -> None:
        task = asyncio.create_task(call(world.gate(), Receiver(["paid"])))
        await asyncio.sleep(0.015)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
    assert (world.effects.only.state, world.effects.only.outcome) == (
        "done",
        {"content": "paid", "is_error": False},
    )


def test_foreign_errors_are_doubts_and_our_own_end_the_step(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    in_doubt(world, Receiver([OSError("socket detail")]))
    assert "socket detail" not in next(iter(world.waits.rows.values())).ask and "OSError" in caplog.text

    class Fault(PhaselineError):
        before_sending = False

    for fault, state in ((Fault("x"), "unknown"), (Early("x"), "refused")):
        world = World()
        with pytest.raises(PhaselineError):
            world.call(Receiver([fault]))
        assert world.effects.only.state == state


def test_equal_calls_at_once_are_one_effect_made_once(world: World) -> None:
    async def both() -> list[ToolResult]:
        gate, go = world.gate(), asyncio.Event()
        send = Receiver([go, "second"])
        calls = [asyncio.create_task(call(gate, send)) for _ in range(2)]
        await asyncio.sleep(0.01)
        go.set()
        results = await asyncio.gather(*calls)
        assert len(send.keys) == 1
        return results

    assert asyncio.run(both()) == [ToolResult("late"), ToolResult("late")]


# --- approvals ---


def asked(world: World, **more: Any) -> Waiting:
    return in_doubt(world, Receiver(["never"]), approval=True, **more)


def test_an_approved_call_is_made_and_a_changed_one_asked_again(world: World) -> None:
    waiting = asked(world)
    (row,) = world.waits.rows.values()
    assert (row.kind, row.detail["arguments"]) == ("action", {"to": "ann", "amount": 5})
    assert row.subject == made().subject and waiting.wait_ids == (row.wait_id,)
    assert world.effects.only.sent == 0
    world.waits.answer()
    asked(world, arguments={"to": "ann", "amount": 6})
    send = Receiver(["paid"])
    assert world.call(send, approval=True) == ToolResult("paid") and len(send.keys) == 1


def test_a_changed_argument_needs_approval_also_where_it_does_not_identify(world: World) -> None:
    asked(world, key_fields=("to",))
    world.waits.answer()
    asked(world, key_fields=("to",), arguments={"to": "ann", "amount": 6})
    assert len(world.effects.rows) == 1 and len(world.waits.rows) == 2


def test_a_rejected_call_is_not_made_and_the_agent_is_told(world: World) -> None:
    asked(world)
    world.waits.answer(state="rejected", note="over the limit")
    for _ in range(2):
        result = world.call(Receiver(["never"]), approval=True)
        assert result.is_error
        assert "kim did not approve this call of bank.pay. They said: over the limit" in str(result.content)
    assert world.effects.only.state == "refused"
    asked(world, generation=1)
    world.waits.answer()
    assert world.call(Receiver(["paid"]), approval=True, generation=1) == ToolResult("paid")
    assert world.call(Receiver(["never"]), approval=True, generation=2) == ToolResult("paid")


def test_reading_can_need_approval_too(world: World) -> None:
    asked(world, effect="none")
    world.waits.answer()
    assert world.call(Receiver(["read"]), effect="none", approval=True) == ToolResult("read")
    assert world.effects.rows == {}


def test_an_outcome_needs_no_second_approval(world: World) -> None:
    world.call(Receiver(["paid"]))
    assert world.call(Receiver(["never"]), approval=True) == ToolResult("paid")


# --- secrets, sizes, borders ---


def test_known_secrets_are_in_no_row_and_no_result(world: World) -> None:
    def scrub(value: Any) -> Any:
        from tasks.secrets import scrub_value

        return scrub_value(value, {"tok-12345678": "TOKEN"})

    arguments = {"key": "tok-12345678"}
    result = world.call(Receiver(["saw tok-12345678"]), arguments=arguments, scrub=scrub)
    assert result == ToolResult("saw [secret TOKEN]")
    row = world.effects.only
    assert "tok-12345678" not in str((row.arguments, row.outcome))
    world = World()
    in_doubt(world, Receiver([Unsure("lost tok-12345678")]), arguments=arguments, scrub=scrub)
    assert "tok-12345678" not in str((world.waits.rows, world.effects.rows))


@pytest.mark.parametrize("text", ["x" * 200_000, "\u0001" * 100_000, "\u4f60" * 60_000])
def test_a_large_result_is_recorded_by_its_beginning(world: World, text: str) -> None:
    from workflows.core.refs import canonical_json

    result = world.call(Receiver([text]))
    assert "[cut: " in str(result.content)
    assert len(canonical_json(world.effects.only.outcome).encode()) <= OUTCOME_BYTES + 200


def test_a_body_that_cannot_be_stored_does_not_lose_the_outcome(world: World) -> None:
    async def full(result: ToolResult) -> ToolResult:
        raise PhaselineError("the disk is full", "make room")

    with pytest.raises(PhaselineError, match="the disk is full"):
        world.call(Receiver(["x" * 200_000]), keep=full)
    assert world.effects.only.state == "done"
    assert str(world.call(Receiver(["never"])).content).startswith("xxx")


def test_an_offline_run_reaches_nothing_beyond_this_machine(world: World) -> None:
    for kind in ("mcp", "http", "webhook"):
        with pytest.raises(ToolError, match="nothing beyond this machine"):
            world.call(Receiver(["never"]), kind=kind, remote=False)
        with pytest.raises(ToolError, match="nothing beyond this machine"):
            world.call(Receiver(["never"]), kind=kind, effect="none", remote=False)
    assert world.call(Receiver(["here"]), kind="tool", remote=False) == ToolResult("here")
    assert world.call(Receiver(["read"]), effect="none", kind="tool", remote=False) == ToolResult("read")


def test_a_question_under_way_is_answered_and_gone_on_with(world: World) -> None:
    seen: list[Any] = []

    def executor(gate: Any) -> Any:
        async def send(key: str) -> ToolResult:
            before = await gate.find_decision(key)
            seen.append(before and before.answer["data"])
            if before is None:
                form = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
                await gate.ask(key, ask="Sure?", form=form, detail={"state": "abc"})
            return ToolResult("went on")

        return send

    async def step() -> ToolResult:
        gate = world.gate()
        return await call(gate, executor(gate))

    for _ in range(2):
        with pytest.raises(Waiting):
            asyncio.run(step())
    assert (world.effects.only.state, world.effects.only.sent) == ("not_done", 1)
    (row,) = world.waits.rows.values()
    assert (row.kind, row.ask, row.detail["state"]) == ("mcp", "Sure?", "abc")
    world.waits.answer({"sure": True})
    assert asyncio.run(step()) == ToolResult("went on")
    assert seen == [None, {"sure": True}] and world.effects.only.sent == 2


@pytest.mark.parametrize(
    ("state", "sent", "error", "doubt"),
    [
        ("intended", 0, None, False),
        ("intended", 1, None, True),
        ("unknown", 1, None, True),
        ("abandoned", 1, None, True),
        ("abandoned", 0, None, False),
        ("not_done", 1, None, False),
        ("not_done", 1, {IN_DOUBT: True}, True),
        ("refused", 1, None, False),
        ("done", 1, None, False),
    ],
)
def test_what_may_have_happened_is_told_when_a_run_is_taken_back(
    state: EffectState, sent: int, error: dict[str, Any] | None, doubt: bool
) -> None:
    """Also what a person did not want to know about any more."""
    row = EffectRow(
        step_path="pay",
        kind="tool",
        tool="pay",
        effect="once",
        effect_key="k",
        idempotency_key="i",
        arguments={},
        arguments_digest="d",
        state=state,
        outcome=None,
        error=error,
        wait_id="",
        sent=sent,
        epoch=1,
        intended=1,
        ended=None,
    )
    assert may_have_happened(row) is doubt
