"""The turn loop over the real SDK and the stand-in: tools, repairs, limits, caching, the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from blocks.models import Answer, ProviderAway
from blocks.patience import Patience
from blocks.providers.anthropic_api import AnthropicConnection
from tasks.conversation.turns import Conversation, converse
from tasks.effects.calls import Unsure
from tasks.failures import (
    AnswerTooLong,
    ContextExceeded,
    OutputRejected,
    Refused,
    StepFailed,
    TurnsExhausted,
)
from tasks.limits.requests import ask
from tasks.tools import Tool, ToolError, ToolResult, ToolSet, among_equal
from tests.support.messages_api import MessagesApi
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import ModelPlan, OutputPlan
from workflows.core.usage import Usage

MODEL = ModelPlan(family="claude-opus", id="claude-opus-5-5", effort="medium", max_tokens=500)
MARKDOWN = OutputPlan(name="report")
ITEM = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 5}},
    "required": ["n"],
    "additionalProperties": False,
}
DATA = OutputPlan(name="data", type="json", schema=ITEM, repair=2)
NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi() as running:
        yield running


def talk(api: MessagesApi, output: OutputPlan = MARKDOWN, **more: Any) -> Conversation:
    """One conversation, with a connection of its own and hasty retries."""

    async def hasty(connection: Any, request: Any, on_event: Any) -> Answer:
        return await ask(connection, request, Patience(2.0), on_event)

    async def run() -> Conversation:
        connection = AnthropicConnection("k", api.base_url)
        given = {
            "model": MODEL,
            "system": "You are careful.",
            "messages": [{"role": "user", "content": "Do the work."}],
            "ask": hasty,
            **more,
        }
        try:
            return await converse(connection, output=output, **given)
        finally:
            await connection.close()

    return asyncio.run(run())


def tool(name: str, run: Callable[[dict[str, Any]], Awaitable[ToolResult]]) -> Tool:
    return Tool(name, f"does {name}", NUMBER, run, "none")


async def double(arguments: dict[str, Any]) -> ToolResult:
    return ToolResult(str(arguments["n"] * 2))


def calls(*names: str) -> dict[str, Any]:
    return {"tools": [{"name": name, "input": {"n": n}} for n, name in enumerate(names)]}


def results(api: MessagesApi, request: int = -1) -> list[dict[str, Any]]:
    """The tool results in the last message of a recorded request."""
    last = api.asked[request]["body"]["messages"][-1]["content"]
    return [block for block in last if block["type"] == "tool_result"]


def test_one_turn(api: MessagesApi) -> None:
    events: list[str] = []
    done = talk(api, on_event=lambda name, data: events.append(name))
    assert done.text.startswith("# Do the work.")
    assert (done.turns, done.repairs, done.stop_reason, done.offline) == (1, 0, "end_turn", False)
    assert done.usage.output_tokens > 0
    assert done.messages[-1]["role"] == "assistant"
    assert events[0] == "turn.started"
    assert events[-1] == "turn.answered"
    sent = api.asked[0]["body"]
    assert sent["thinking"] == {"type": "adaptive"}
    assert sent["output_config"] == {"effort": "medium"}
    assert "temperature" not in sent


def test_three_tools_run_at_the_same_time(api: MessagesApi) -> None:
    counted = {"input_tokens": 10, "output_tokens": 2, "cache_creation_input_tokens": 3}
    api.queue({**calls("a", "b", "c"), "usage": counted}, {"text": "done", "usage": counted})
    waiting: list[asyncio.Event] = []

    async def meet(arguments: dict[str, Any]) -> ToolResult:
        """Ends only when all three calls have begun."""
        if not waiting:
            waiting.append(asyncio.Event())
        waiting.append(waiting[0])
        if len(waiting) == 4:
            waiting[0].set()
        await asyncio.wait_for(waiting[0].wait(), 30)
        return ToolResult(f"got {arguments['n']}")

    done = talk(api, tools=ToolSet(tuple(tool(name, meet) for name in "abc")))
    assert (done.text, done.turns) == ("done\n", 2)
    assert [block["content"] for block in results(api)] == ["got 0", "got 1", "got 2"]
    cached = done.usage.cache_read_input_tokens
    assert done.usage == Usage(20, 4, cached, 6)


def test_tool_failures_go_back_as_controlled_text(api: MessagesApi) -> None:
    async def fails(arguments: dict[str, Any]) -> ToolResult:
        raise ToolError("the table has no such column")

    async def breaks(arguments: dict[str, Any]) -> ToolResult:
        raise RuntimeError("secret path /etc/x")

    async def silent(arguments: dict[str, Any]) -> ToolResult:
        return ToolResult("", is_error=True)

    api.queue({"tools": [
        {"name": "fails", "input": {"n": 1}},
        {"name": "breaks", "input": {"n": 1}},
        {"name": "silent", "input": {"n": 1}},
        {"name": "ghost", "input": {}},
        {"name": "fails", "input": {"n": "one"}},
    ]})  # fmt: skip
    tools = ToolSet((tool("fails", fails), tool("breaks", breaks), tool("silent", silent)))
    talk(api, tools=tools)
    blocks = results(api)
    assert all(block["is_error"] for block in blocks)
    texts = [block["content"] for block in blocks]
    assert texts[0] == "the table has no such column"
    assert texts[1] == "breaks failed unexpectedly (RuntimeError)."
    assert texts[2] == "failed without a message"
    assert texts[3] == "There is no tool named ghost. Available: fails, breaks, silent."
    assert texts[4].startswith("Wrong arguments: $.n: 'one' is not of type 'integer'")


def test_what_a_person_must_mend_ends_the_step_after_every_tool_ended(api: MessagesApi) -> None:
    ended: list[int] = []

    async def slow(arguments: dict[str, Any]) -> ToolResult:
        await asyncio.sleep(0.05)
        ended.append(arguments["n"])
        return ToolResult("ok")

    async def stops(arguments: dict[str, Any]) -> ToolResult:
        raise PhaselineError("the store is full", "make room")

    api.queue(calls("stops", "slow"))
    with pytest.raises(PhaselineError, match="the store is full"):
        talk(api, tools=ToolSet((tool("stops", stops), tool("slow", slow))))
    assert ended == [1]


def test_costs_are_told_as_they_arise_also_of_a_step_that_a_tool_ends(api: MessagesApi) -> None:
    async def stops(arguments: dict[str, Any]) -> ToolResult:
        raise PhaselineError("the store is full", "make room")

    spent: list[tuple[int, str]] = []
    tools = ToolSet((tool("stops", stops), tool("double", double)))
    counted = {"usage": {"output_tokens": 11}}
    api.queue({**calls("double"), **counted}, {**calls("stops"), **counted})
    with pytest.raises(PhaselineError):
        talk(api, tools=tools, on_spent=lambda usage, model: spent.append((usage.output_tokens, model)))
    assert spent == [(11, "claude-opus-5-5"), (11, "claude-opus-5-5")]


def test_turns_are_bounded_and_the_last_tools_are_not_run(api: MessagesApi) -> None:
    ran: list[dict[str, Any]] = []

    async def note(arguments: dict[str, Any]) -> ToolResult:
        ran.append(arguments)
        return ToolResult("again")

    api.rule("", calls("note"), times=None)
    with pytest.raises(TurnsExhausted, match="all its 3 turns; 1 tool calls were not run") as caught:
        talk(api, tools=ToolSet((tool("note", note),)), max_turns=3)
    assert (len(ran), api.count, caught.value.turns) == (2, 3, 3)
    assert "max_turns" in caught.value.cure
    assert caught.value.spent.output_tokens > 0


def test_a_refusal_names_its_category(api: MessagesApi) -> None:
    api.queue({"stop_reason": "refusal", "category": "cyber"})
    with pytest.raises(Refused, match="category cyber") as caught:
        talk(api)
    assert caught.value.category == "cyber"
    assert caught.value.spent.output_tokens > 0


def test_a_full_context_window_is_said(api: MessagesApi) -> None:
    api.queue({"stop_reason": "model_context_window_exceeded", "text": "x"})
    with pytest.raises(ContextExceeded, match="claude-opus-5-5"):
        talk(api)


def test_prose_cut_by_max_tokens_is_continued_once(api: MessagesApi) -> None:
    api.queue({"stop_reason": "max_tokens", "text": "# Long\n\nfirst ha"}, {"text": "lf, second half"})
    done = talk(api)
    assert (done.text, done.turns) == ("# Long\n\nfirst half, second half\n", 2)
    api.queue(*({"stop_reason": "max_tokens", "text": "more "} for _ in range(3)))
    with pytest.raises(AnswerTooLong, match=r"max_tokens \(500\)") as caught:
        talk(api)
    assert caught.value.last_answer == "more more "
    assert "options.max_tokens" in caught.value.cure
    assert api.count == 4


@pytest.mark.parametrize(
    ("reply", "output"),
    [
        ({"stop_reason": "max_tokens", "text": '{"n": '}, DATA),
        ({"stop_reason": "max_tokens", "text": ""}, MARKDOWN),
        ({"stop_reason": "max_tokens", "tools": [{"name": "a", "input": {"n": 1}}]}, MARKDOWN),
    ],
)
def test_what_cannot_be_continued_says_which_limit_to_raise(
    api: MessagesApi, reply: dict[str, Any], output: OutputPlan
) -> None:
    api.queue(reply)
    with pytest.raises(AnswerTooLong):
        talk(api, output, tools=ToolSet((tool("a", double),)))
    assert api.count == 1


def test_a_paused_turn_goes_on(api: MessagesApi) -> None:
    api.queue({"stop_reason": "pause_turn", "text": "so far, "}, {"text": "and on"})
    done = talk(api)
    assert (done.text, done.turns) == ("so far, and on\n", 2)


def test_a_wrong_answer_is_sent_back_with_its_errors_until_it_is_right(api: MessagesApi) -> None:
    api.queue({"json": {"n": 1}}, {"text": "sorry, what?"}, {"json": {"n": 7}})
    rejected: list[Any] = []
    done = talk(
        api, DATA, on_event=lambda name, data: rejected.append(data) if name == "output.rejected" else None
    )
    assert done.data == {"n": 7}
    assert (done.repairs, done.turns, len(rejected)) == (2, 3, 2)
    second, third = (record["body"]["messages"] for record in api.asked[1:])
    assert "$.n: 1 is less than the minimum of 5" in second[-1]["content"][0]["text"]
    assert second[1]["content"][0]["type"] == "thinking"
    assert "no readable JSON" in third[-1]["content"][0]["text"]
    assert api.asked[0]["body"]["output_config"]["format"]["schema"]["additionalProperties"] is False


def test_repairs_are_bounded_and_the_last_answer_is_kept(api: MessagesApi) -> None:
    api.rule("", {"json": {"n": 2}}, times=None)
    with pytest.raises(OutputRejected, match="after 2 repairs") as caught:
        talk(api, DATA)
    assert api.count == 3
    assert caught.value.last_answer == '{"n": 2}'
    assert caught.value.problems == ("$.n: 2 is less than the minimum of 5",)
    assert caught.value.turns == 3


def test_an_empty_answer_is_repaired_without_being_echoed(api: MessagesApi) -> None:
    api.queue({"text": ""}, {"text": "here"})
    assert talk(api).text == "here\n"
    assert [message["role"] for message in api.asked[1]["body"]["messages"]] == ["user"]


def test_rules_share_the_repair_counter(api: MessagesApi) -> None:
    api.queue({"text": "draft"}, {"text": "final"})
    done = talk(api, rules=[lambda text: [] if "final" in text else ["it must say final"]])
    assert (done.text, done.repairs) == ("final\n", 1)


def test_faults_on_the_way_do_not_reach_the_conversation(api: MessagesApi) -> None:
    api.queue({"fault": "rate_limit", "retry_after": 0}, calls("double"), {"fault": "cut"}, {"fault": "html"})
    api.queue({"fault": "end_early"}, {"text": "done"})
    done = talk(api, tools=ToolSet((tool("double", double),)))
    assert (done.text, done.turns, api.count) == ("done\n", 2, 6)


def test_tries_that_were_cut_off_are_counted_though_the_next_is_answered(api: MessagesApi) -> None:
    spent: list[Usage] = []
    api.queue({"text": "x" * 400, "fault": "cut", "after": 3}, {"text": "done"})
    done = talk(api, on_spent=lambda usage, model: spent.append(usage))
    assert done.text == "done\n" and len(spent) == 2
    assert spent[0].input_tokens > 0 and spent[1] == done.usage


def test_a_failed_request_carries_what_the_step_spent(api: MessagesApi) -> None:
    api.queue({**calls("double"), "usage": {"input_tokens": 100, "output_tokens": 10}})
    api.rule("", {"fault": "end_early", "usage": {"input_tokens": 7}}, times=None)
    with pytest.raises(ProviderAway) as caught:
        talk(api, tools=ToolSet((tool("double", double),)))
    assert caught.value.spent.input_tokens == 100 + 7 * (api.count - 1) > 100 + 7


def marks(body: dict[str, Any]) -> list[str]:
    found = ["tool" for block in body.get("tools", []) if block.get("cache_control")]
    found += ["system" for block in body.get("system", []) if block.get("cache_control")]
    for n, message in enumerate(body["messages"]):
        found += [f"message {n}" for block in message["content"] if block.get("cache_control")]
    return found


def test_the_stable_prefix_is_marked_and_read_from_the_cache(api: MessagesApi) -> None:
    long = [{"role": "user", "content": "material " * 2000}]
    api.queue(calls("double"), calls("double"), {"text": "done"})
    done = talk(api, tools=ToolSet((tool("double", double),)), messages=long)
    assert [marks(record["body"]) for record in api.asked] == [
        ["system", "message 0"],
        ["system", "message 0", "message 2"],
        ["system", "message 0", "message 4"],
    ]
    assert done.usage.cache_read_input_tokens > done.usage.cache_creation_input_tokens > 4000
    assert not any(block.get("cache_control") for message in done.messages for block in message["content"])


def test_one_turn_without_tools_writes_no_more_than_the_system_prompt_to_the_cache(api: MessagesApi) -> None:
    talk(api)
    talk(api, system="", tools=ToolSet((tool("double", double),)))
    assert [marks(record["body"]) for record in api.asked] == [["system"], ["tool", "message 0"]]


def test_older_models_get_only_what_they_take(api: MessagesApi) -> None:
    for id_ in ("claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-6"):
        talk(api, model=MODEL.model_copy(update={"id": id_}))
    shapes = [("thinking" in r["body"], "output_config" in r["body"]) for r in api.asked]
    assert shapes == [(False, False), (False, True), (True, True)]


class Notebook:
    """A journal in memory that verifies the digests."""

    def __init__(self) -> None:
        self.turns: dict[int, tuple[str, dict[str, Any]]] = {}
        self.tools: dict[tuple[int, int], ToolResult] = {}

    async def turn(self, index: int, request_digest: str, produce: Callable[[], Awaitable[Answer]]) -> Answer:
        if index not in self.turns:
            self.turns[index] = (request_digest, (await produce()).to_json())
        assert self.turns[index][0] == request_digest, "drift"
        return Answer.from_json(self.turns[index][1])

    async def tool(
        self,
        index: int,
        ordinal: int,
        name: str,
        arguments: dict[str, Any],
        produce: Callable[[], Awaitable[ToolResult]],
    ) -> ToolResult:
        if (index, ordinal) not in self.tools:
            self.tools[index, ordinal] = await produce()
        return self.tools[index, ordinal]

    async def notice(self, index: int, produce: Callable[[], Awaitable[str]]) -> str:
        return await produce()

    async def before(self, index: int) -> str:
        return ""

    async def set_aside(self, index: int) -> bool:
        return False


def test_a_journalled_step_continues_where_it_was_killed(api: MessagesApi) -> None:
    ran: list[int] = []

    async def once(arguments: dict[str, Any]) -> ToolResult:
        ran.append(arguments["n"])
        return ToolResult(f"result {len(ran)}")

    journal = Notebook()
    tools = ToolSet((tool("once", once),))
    api.queue(calls("once"), calls("once"), {"fault": "forbidden"}, {"text": "done"})
    with pytest.raises(PhaselineError):
        talk(api, tools=tools, journal=journal)
    done = talk(api, tools=tools, journal=journal)
    assert (done.text, done.turns) == ("done\n", 3)
    assert (api.count, len(ran)) == (4, 2)


def test_a_call_without_an_outcome_keeps_its_number_also_when_it_is_replayed(api: MessagesApi) -> None:
    numbers: list[int] = []

    async def pay(arguments: dict[str, Any]) -> ToolResult:
        numbers.append(among_equal())
        if len(numbers) == 1:
            raise Unsure("the bank did not answer. Calling it again is safe.")
        return ToolResult("paid")

    journal = Notebook()
    tools = ToolSet((tool("pay", pay),))
    api.queue(calls("pay"), {"fault": "forbidden"}, calls("pay"), calls("pay"), {"text": "done"})
    with pytest.raises(PhaselineError):
        talk(api, tools=tools, journal=journal)
    assert talk(api, tools=tools, journal=journal).turns == 4
    assert numbers == [0, 0, 1]


def test_the_same_loop_serves_the_offline_model() -> None:
    from blocks.offline import OfflineModel

    messages = [{"role": "user", "content": "Call `double`, then give the data.\nn: 9"}]
    done = asyncio.run(
        converse(
            OfflineModel(),
            model=MODEL,
            system="s",
            messages=messages,
            output=DATA,
            tools=ToolSet((tool("double", double),)),
        )
    )
    assert (done.data, done.offline, done.turns, done.usage) == ({"n": 9}, True, 2, Usage())


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "x"}]])
def test_a_conversation_begins_with_the_user(api: MessagesApi, messages: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="end with the user"):
        talk(api, messages=messages)
    assert api.count == 0


def test_tool_sets_are_checked() -> None:
    with pytest.raises(ValueError, match="two tools of one name: a"):
        ToolSet((tool("a", double), tool("a", double)))
    with pytest.raises(ValueError, match="name"):
        tool("no spaces", double)
    assert issubclass(TurnsExhausted, StepFailed)
