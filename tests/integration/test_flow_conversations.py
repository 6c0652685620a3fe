"""One conversation over all tries, and the next one only where it cannot go on."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger, WaitRow
from blocks.models import RequestRefused, Retryable
from tests.support.callers import Call, Turn, bench_of, effects, model, pay, payments
from tests.support.flows import FLOW_MARKS, Bench, agent, steps

pytestmark = FLOW_MARKS

DOWN = Retryable("overloaded", "overloaded")
RETRIED = "retries: {max: 2, delay: 0.001}"
JSON = "output: {type: json, repair: 0}"
LOOK: Call = ("tool__give", {"value": 1})


def bench(folder: Path, *turns: Turn, more: tuple[str, ...] = (), effect: str = "once") -> Bench:
    made = bench_of(folder, *turns, effect=effect)
    (made.catalog / "skills/shared/tool/config.yaml").write_text(
        f"handlers:\n  - {{name: pay, effect: {effect}}}\n  - {{name: give, effect: none}}\n"
    )
    made.write("w", steps(agent("a", *more)))
    return made


def first_message(made: Bench, request: int = -1) -> str:
    content = model(made).requests[request]["messages"][0]["content"]
    return "\n".join(block["text"] for block in content)


def open_waits(made: Bench) -> list[WaitRow]:
    with Ledger.open(made.settings.database) as ledger:
        return ledger.waits.list_open("default")


def approve(made: Bench, decision: Any = "approve") -> None:
    (wait,) = open_waits(made)
    with Ledger.open(made.settings.database) as ledger:
        ledger.waits.vote("default", wait.wait_id, "kim", decision)


def asked_in_all(made: Bench) -> int:
    return len(model(made).requests)


def gone() -> Any:
    """Cancels the run while a request is under way."""

    async def stay() -> str:
        await asyncio.sleep(3600)
        return ""

    return stay


# --- what ends a try and not the conversation ---


def test_a_retry_after_an_overload_pays_no_turn_again(tmp_path: Path) -> None:
    made = bench(tmp_path, [LOOK], [pay(tmp_path)], *[DOWN] * 2, "Done.", more=(RETRIED,))
    ran = made.run()
    assert ran.outcome.status == "completed" and payments(made) == 1
    assert ran.step("a")["usage"]["input_tokens"] == 30 and asked_in_all(made) == 5


def test_a_step_with_a_timeout_gets_on_with_each_try(tmp_path: Path) -> None:
    async def slow() -> str:
        await asyncio.sleep(30)
        return ""

    made = bench(tmp_path, [LOOK], slow, [pay(tmp_path)], slow, "Done.", more=(RETRIED, "timeout: 4s"))
    ran = made.run()
    assert ran.outcome.status == "completed" and payments(made) == 1
    assert asked_in_all(made) == 5, "three answers, and two requests that were cut off"
    assert ran.step("a")["attempts"] == 3


def test_a_resume_after_failed_retries_goes_on_with_new_ones(tmp_path: Path) -> None:
    made = bench(tmp_path, [LOOK], *[ValueError("broken")] * 3, more=(RETRIED,))
    assert made.run().outcome.status == "failed"
    model(made).turns = [ValueError("broken"), ValueError("broken"), "Done."]
    ran = made.run()
    assert ran.outcome.status == "completed"
    assert asked_in_all(made) == 7 and ran.step("a")["usage"]["input_tokens"] == 20


def test_retries_are_counted_over_kills(tmp_path: Path) -> None:
    made = bench(tmp_path, [LOOK], ValueError("broken"), gone(), more=(RETRIED,))

    def third(name: str, data: dict[str, Any]) -> bool:
        return name == "step.started" and data["attempt"] == 2

    made.cancelled(third)
    assert made.rows()["a"].tries == 1
    model(made).turns = [ValueError("broken"), ValueError("broken"), "Not asked for."]
    assert made.run().outcome.status == "failed", "one retry was left, not two"
    assert model(made).turns == ["Not asked for."]
    assert made.rows()["a"].tries == 0, "whoever continues it gives it new ones"


@pytest.mark.parametrize(
    ("limit", "raised"),
    [("max_turns: 2", "max_turns: 9"), ("max_turns: 30", "max_turns: 40")],
    ids=["exhausted", "cut off"],
)
def test_a_raised_limit_pays_nothing_again(tmp_path: Path, limit: str, raised: str) -> None:
    made = bench(tmp_path, [LOOK], [pay(tmp_path)], ValueError("broken"))
    config = made.catalog / "agents/ann/config.yaml"
    written = config.read_text()
    config.write_text(f"{written}  {limit}\n")
    assert made.run().outcome.status == "failed"
    exhausted = limit == "max_turns: 2"
    assert payments(made) == (0 if exhausted else 1)
    if exhausted:
        assert "your last turn" in json.dumps(model(made).requests[1]["messages"][-1])
        assert made.run().outcome.status == "failed" and asked_in_all(made) == 2, "nothing is paid for it"
    config.write_text(f"{written}  {raised}\n")
    model(made).turns = ["Done."]
    ran = made.run()
    assert ran.outcome.status == "completed" and payments(made) == 1
    assert ran.step("a")["usage"]["input_tokens"] == 30


def test_more_repairs_go_on_where_they_ended(tmp_path: Path) -> None:
    made = bench(tmp_path, "no json", more=(JSON,))
    assert made.run().outcome.status == "failed"
    made.write("w", steps(agent("a", JSON.replace("0", "1"))))
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed"
    assert [m["role"] for m in model(made).requests[1]["messages"]] == ["user", "assistant", "user"]


def test_a_lost_output_is_made_again_from_what_is_paid(tmp_path: Path) -> None:
    made = bench(tmp_path, [LOOK], [pay(tmp_path)], "Done.")
    first = made.run()
    shutil.rmtree(tmp_path / "storage/default")
    ran = made.run()
    assert ran.outcome.status == "completed" and made.output(ran, "a") == "Done.\n"
    assert asked_in_all(made) == 3 and payments(made) == 1
    assert ran.outcome.usage == first.outcome.usage


# --- bodies that are gone ---


def long_bench(folder: Path) -> Bench:
    """A conversation of five answers of which the second and the last are kept in the storage."""
    rejected = ["no json", "x" * 100_000, "no json", "no json", "y" * 100_000]
    made = bench(folder, *rejected, gone(), more=("output: {type: json, repair: 9}",))
    made.cancelled(lambda name, data: name == "turn.started" and data["turn"] == 6)
    return made


def lose(made: Bench, start: str) -> None:
    """Takes the stored body away that holds so many of a sign."""
    found = [f for f in Path(made.storage).rglob("*") if f.is_file() and start * 1000 in f.read_text()]
    assert len(found) == 1
    found[0].unlink()


def test_a_lost_answer_alone_is_asked_anew(tmp_path: Path) -> None:
    made = long_bench(tmp_path)
    lose(made, "x")
    model(made).turns = ["x" * 100_000, "[1]"]
    ran = made.run()
    assert ran.outcome.status == "completed"
    assert asked_in_all(made) == 8, "the lost answer, and the one that was under way"
    assert made.run().outcome.status == "completed" and asked_in_all(made) == 8


def test_what_does_not_fit_to_a_new_answer_is_asked_anew_too(tmp_path: Path) -> None:
    made = long_bench(tmp_path)
    lose(made, "x")
    model(made).turns = ["something else", "no json", gone()]
    made.cancelled(lambda name, data: name == "turn.started" and data["turn"] == 4)
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed"
    messages = model(made).requests[-1]["messages"]
    assert [m["content"][0]["text"] for m in messages if m["role"] == "assistant"] == [
        "no json", "something else", "no json"
    ]  # fmt: skip


def test_what_was_done_after_a_lost_answer_is_told_and_not_done_in_other_words(tmp_path: Path) -> None:
    made = bench(tmp_path, "x" * 100_000, [pay(tmp_path)], gone(), more=("output: {type: json, repair: 9}",))
    made.cancelled(lambda name, data: name == "turn.started" and data["turn"] == 3)
    lose(made, "x")
    model(made).turns = [[pay(tmp_path, usd=8)]]
    assert made.run().outcome.status == "waiting"
    assert "<earlier_work>" in first_message(made) and '"usd":7' in first_message(made)
    approve(made, "reject")
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed" and payments(made) == 1


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_hides_nothing_that_was_done_since(tmp_path: Path, hours: int) -> None:
    made = bench(tmp_path, "x" * 100_000, [pay(tmp_path)], gone(), more=("output: {type: json, repair: 9}",))
    made.cancelled(lambda name, data: name == "turn.started" and data["turn"] == 3)
    with sqlite3.connect(made.settings.database) as ledger:
        ledger.execute("UPDATE effect SET intended = intended + ?", (hours * 3600 * 1_000_000,))
    ledger.close()
    lose(made, "x")
    model(made).turns = [[pay(tmp_path, usd=8)]]
    assert made.run().outcome.status == "waiting" and payments(made) == 1


def test_what_was_done_before_a_lost_answer_is_remembered_and_not_told(tmp_path: Path) -> None:
    turns: list[Turn] = [[pay(tmp_path)], "x" * 100_000, gone()]
    made = bench(tmp_path, *turns, more=("output: {type: json, repair: 9}",))
    made.cancelled(lambda name, data: name == "turn.started" and data["turn"] == 3)
    lose(made, "x")
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed"
    assert "<earlier_work>" not in json.dumps(model(made).requests[-1]["messages"])


# --- the next conversation ---


@pytest.mark.parametrize("how", ["rejected", "from", "definition"])
def test_the_next_conversation_knows_what_was_done_and_asks_before_it_does_more(
    tmp_path: Path, how: str
) -> None:
    made = bench(tmp_path, [pay(tmp_path)], "no json", more=(JSON,))
    assert made.run().outcome.status == "failed" and payments(made) == 1
    if how == "definition":
        made.write("w", steps(agent("a", JSON).replace("[a] go", "[a] go on")))
    model(made).turns = [[pay(tmp_path, usd=8)]]
    ran = made.run(redo=("a",) if how == "from" else ())
    assert ran.outcome.status == "waiting" and payments(made) == 1
    told = first_message(made)
    assert "<earlier_work>" in told and 'tool__pay {"book":' in told and "done; its result" in told
    assert told.index("<earlier_work>") < told.index("[a] go")
    (wait,) = open_waits(made)
    assert wait.kind == "action" and "It was called before in this step" in wait.ask
    assert wait.detail["arguments"]["usd"] == 8
    before = asked_in_all(made)
    assert made.run().outcome.status == "waiting" and asked_in_all(made) == before, (
        "nothing is asked meanwhile"
    )
    approve(made)
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed" and payments(made) == 2
    assert asked_in_all(made) == 4


def test_an_equal_call_of_the_next_conversation_is_the_recorded_one(tmp_path: Path) -> None:
    made = bench(tmp_path, [pay(tmp_path)], "no json", more=(JSON,))
    made.run()
    model(made).turns = [[pay(tmp_path)], "[1]"]
    assert made.run().outcome.status == "completed"
    assert payments(made) == 1 and len(effects(made)) == 1


def test_a_second_equal_call_of_the_next_conversation_is_another_one(tmp_path: Path) -> None:
    made = bench(tmp_path, [pay(tmp_path)], "no json", more=(JSON,))
    made.run()
    model(made).turns = [[pay(tmp_path)], [pay(tmp_path)]]
    assert made.run().outcome.status == "waiting" and payments(made) == 1
    approve(made, "reject")
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed" and payments(made) == 1


def test_repeated_effects_need_no_question(tmp_path: Path) -> None:
    made = bench(tmp_path, [pay(tmp_path)], "Done.")
    made.run()
    model(made).turns = [[pay(tmp_path, usd=8)], "Done."]
    assert made.run(redo=("a",), repeat_effects=True).outcome.status == "completed"
    assert payments(made) == 2 and "<earlier_work>" not in first_message(made)


def test_an_idempotent_call_in_other_words_needs_no_question(tmp_path: Path) -> None:
    made = bench(tmp_path, [pay(tmp_path)], "no json", more=(JSON,), effect="idempotent")
    made.run()
    model(made).turns = [[pay(tmp_path, usd=8)], "[1]"]
    assert made.run().outcome.status == "completed"
    assert "<earlier_work>" in first_message(made), "it is told all the same"


def test_each_item_has_its_own_conversations(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.write("w", steps(agent("a", "for_each: [1, 2]", "max_concurrent: 1", JSON)))
    model(made).turns = [[pay(tmp_path)], "[1]", [pay(tmp_path, usd=9)], "[2]"]
    assert made.run().outcome.status == "completed" and payments(made) == 2
    model(made).turns = [[pay(tmp_path, usd=8)], "[2]"]
    ran = made.run(redo=("a",))
    assert ran.outcome.status == "waiting" and payments(made) == 2
    assert '"usd":7' in first_message(made, 4) and '"usd":9' not in first_message(made, 4)
    assert '"usd":9' in first_message(made, 5) and '"usd":7' not in first_message(made, 5)


@pytest.mark.parametrize("each", ["agent", "workflow"])
def test_an_item_in_other_words_knows_what_was_done_for_the_former_one(tmp_path: Path, each: str) -> None:
    made = bench(tmp_path)
    work = agent("a", "for_each: l", "max_concurrent: 1", JSON, after="l")
    if each == "workflow":
        made.write("inner", steps(agent("i", JSON)))
        work = "  - {id: a, workflow: inner, for_each: l, max_concurrent: 1, depends_on: [l]}\n"
    made.write("w", steps(agent("l", JSON), work))
    model(made).turns = ['["Pay 7 USD", "Nothing"]', [pay(tmp_path)], "[1]", "[2]"]
    assert made.run().outcome.status == "completed" and payments(made) == 1
    list_anew: list[Turn] = ['["Pay 7 USD.", "Nothing"]', [pay(tmp_path)]]
    items_anew: list[Turn] = [[pay(tmp_path)], "[2]"]
    for redo, turns in ((("l",), list_anew), (("a",), items_anew)):
        model(made).turns = turns
        assert made.run(redo=redo).outcome.status == "waiting" and payments(made) == 1, (
            "it was paid once more"
        )
        told = first_message(made)
        assert "<earlier_work>" in told and '"usd":7' in told
        approve(made, "reject")
        model(made).turns = ["[1]"]
        assert made.run().outcome.status == "completed" and payments(made) == 1


def test_the_next_conversation_begins_also_over_a_kill(tmp_path: Path) -> None:
    made = bench(tmp_path, [pay(tmp_path)], "no json", more=(JSON,))
    made.run()
    model(made).turns = [gone()]
    made.cancelled(lambda name, data: name == "step.started")
    model(made).turns = ["[1]"]
    assert made.run().outcome.status == "completed" and payments(made) == 1
    assert first_message(made).count("<earlier_work>") == 1


def test_a_skill_step_with_other_arguments_asks_before_it_acts_once_more(tmp_path: Path) -> None:
    def written(usd: int) -> str:
        args = json.dumps({"book": str(tmp_path / "book"), "usd": usd})
        return steps(f"  - id: s\n    skill: shared/tool\n    handler: pay\n    args: {args}\n"
                     "    output: {type: json}\n")  # fmt: skip

    made = bench(tmp_path)
    made.write("w", written(7))
    assert made.run().outcome.status == "completed"
    made.write("w", written(8))
    assert made.run().outcome.status == "waiting" and payments(made) == 1
    approve(made)
    assert made.run().outcome.status == "completed" and payments(made) == 2
    assert made.run().outcome.status == "completed" and payments(made) == 2


# --- what the provider refuses ---


def test_an_answer_that_poisons_the_conversation_is_left_and_asked_anew(tmp_path: Path) -> None:
    refused = RequestRefused("messages.1: refused")
    made = bench(tmp_path, [LOOK], "no json", refused, "[1]", more=(JSON.replace("0", "2"),))
    ran = made.run()
    assert ran.outcome.status == "completed" and [d["turn"] for d in ran.told("turn.set_aside")] == [2]
    last = model(made).requests[-1]["messages"]
    assert "no json" not in json.dumps(last), "what is left is not said again"
    assert made.run().outcome.status == "completed" and asked_in_all(made) == 4


def test_two_answers_may_be_to_blame(tmp_path: Path) -> None:
    """After the first step back the next refusal ended the conversation at once."""
    refused = RequestRefused("messages.1: refused")
    made = bench(tmp_path, [LOOK], "no json", "no more", refused, refused, "[1]",
                 more=(JSON.replace("0", "9"),))  # fmt: skip
    ran = made.run()
    assert ran.outcome.status == "completed" and [d["turn"] for d in ran.told("turn.set_aside")] == [3, 2]


def test_a_lost_answer_is_none_that_was_refused(tmp_path: Path) -> None:
    made = long_bench(tmp_path)
    for sign in "xy":
        lose(made, sign)
    refused = RequestRefused("messages.1: refused")
    model(made).turns = ["x" * 90_000, "y" * 90_000, refused, "[1]"]
    assert made.run().outcome.status == "completed"


def test_a_conversation_that_stays_poisoned_ends_and_the_next_one_begins(tmp_path: Path) -> None:
    refused = RequestRefused("messages.1: refused")
    made = bench(tmp_path, [pay(tmp_path)], refused, [pay(tmp_path, usd=8)], more=(JSON,))
    assert made.run().outcome.status == "waiting", "what was set aside had paid"
    approve(made, "reject")
    model(made).turns = [refused]
    ran = made.run()
    assert ran.outcome.status == "failed" and "another conversation" in ran.step("a")["error"]["cure"]
    model(made).turns = [refused, "[1]"]
    assert made.run().outcome.status == "completed" and payments(made) == 1
    (message,) = model(made).requests[-1]["messages"]
    assert "<earlier_work>" in json.dumps(message), "it is refused once more, and then left for good"


def test_a_blank_answer_is_a_rejected_output(tmp_path: Path) -> None:
    made = bench(tmp_path, " \n", "Done.")
    assert made.run().outcome.status == "completed"
    (message,) = model(made).requests[-1]["messages"]
    assert message["content"][-1]["text"].startswith("Your last answer had no text")
