"""The turn loop: one agent step as a conversation over the Messages API.

Each turn is one request. The loop never changes what was already said, because the thinking blocks of
newer models are bound to the messages before them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from blocks.models import Answer, ModelConnection, ModelError, Request, RequestRefused
from blocks.process.cut_off import SETTLE_SECONDS, outlive
from tasks.conversation.echo import (
    drop_blank_text,
    echo_answer,
    is_open,
    is_sealed,
    make_repeatable,
    result_block,
    retell_calls,
    sayable,
)
from tasks.conversation.prompt_shape import build_request, with_blocks
from tasks.failures import (
    AnswerTooLong,
    ContextExceeded,
    OutputRejected,
    Poisoned,
    Refused,
    StepFailed,
    TurnsExhausted,
    ending,
)
from tasks.limits import requests
from tasks.limits.requests import OnEvent, ignore_event
from tasks.outputs.contract import Accepted, Contract, Rejected, Rule
from tasks.tools import EqualCalls, ToolResult, ToolSet
from workflows.core.plans.plan import ModelPlan, OutputPlan
from workflows.core.refs import digest
from workflows.core.usage import Usage

Ask = Callable[[ModelConnection, Request, OnEvent], Awaitable[Answer]]
"""How a request gets its answer: `tasks.limits.requests.ask` with a policy and a gate bound to it."""

OnSpent = Callable[[Usage, str], None]
"""Called with what one request cost and the model's id, the moment it is known."""

_MAX_CONTINUATIONS = 1
_CONTINUE = "Your answer was cut off by its length limit. Continue exactly where it stopped; repeat nothing."
_GO_ON = "Continue exactly where you stopped; repeat nothing."
_LAST_TURN = (
    "This is your last turn: calls of tools are not made any more. "
    "Give your best complete answer now, with what you have."
)


class Journal(Protocol):
    """Keeps what a step has already paid for: each returns what was kept, or produces and keeps it.

    `request_digest` is verified by the journal, not searched. `ordinal` counts the calls of one turn.
    `input` is for what varies by nature; `note_unanswered` notes the cost of requests that were not answered.
    """

    async def turn(
        self, index: int, request_digest: str, produce: Callable[[], Awaitable[Answer]]
    ) -> Answer: ...

    async def tool(
        self,
        index: int,
        ordinal: int,
        name: str,
        arguments: dict[str, Any],
        produce: Callable[[], Awaitable[ToolResult]],
    ) -> ToolResult: ...

    async def input(self, index: int, name: str, produce: Callable[[], Awaitable[Any]]) -> Any: ...

    async def notice(self, index: int, produce: Callable[[], Awaitable[str]]) -> str: ...

    async def note_unanswered(self, index: int, usage: Usage, model: str) -> None: ...

    async def before(self, index: int) -> str:
        """What the agent has to know before that turn of what it does not remember; "" for nothing."""

    async def set_aside(self, index: int) -> bool:
        """Leaves the answer of that turn, so that it is asked anew; False when it must stay."""


Notice = Callable[[], Awaitable[str]]
"""What the agent should know before its next turn (that its budget is nearly spent); "" for nothing."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a step's conversation came to.

    `data` is None for markdown and text; `text` is the whole output as it is stored. `usage` sums every
    answer, `repairs` counts rejected answers, `messages` is the transcript without cache marks.
    """

    text: str
    data: Any
    usage: Usage
    turns: int
    repairs: int
    stop_reason: str
    model: str
    offline: bool
    messages: list[dict[str, Any]]


async def ask_plainly(connection: ModelConnection, request: Request, on_event: OnEvent) -> Answer:
    """`requests.ask` with the default policy and no gate."""
    return await requests.ask(connection, request, on_event=on_event)


async def converse(
    connection: ModelConnection,
    *,
    model: ModelPlan,
    system: str,
    messages: Sequence[dict[str, Any]],
    output: OutputPlan,
    tools: ToolSet | None = None,
    max_turns: int = 30,
    ask: Ask = ask_plainly,
    on_event: OnEvent = ignore_event,
    journal: Journal | None = None,
    rules: Sequence[Rule] = (),
    on_spent: OnSpent | None = None,
    notice: Notice | None = None,
) -> Conversation:
    """Talk until the output keeps its contract.

    `messages` ends with the user's; the contract's note is added to it. Raises a `StepFailed` of
    tasks.failures or a `ModelError`, which carry the whole cost in `spent`, or the PhaselineError that a
    tool ended the step with. `on_spent` learns every cost as it arises, also when the step is cancelled or
    a tool ends it; a turn that the journal had is not paid again, and counts in the sum alone.

    Events, beside those of tasks.limits.requests: `turn.started`, `turn.answered`, `tool.started`,
    `tool.finished`, `output.rejected`, `answer.continued`.
    """
    if not messages or messages[-1].get("role") != "user":
        raise ValueError("the messages of a conversation end with the user's")
    if max_turns < 1:
        raise ValueError("a conversation has at least one turn")
    contract = Contract(output, rules)
    loop = _Loop(
        connection,
        model,
        sayable(system),
        tools or ToolSet(),
        contract,
        output.repair,
        max_turns,
        ask,
        on_event,
        journal,
        on_spent or _ignore_cost,
        notice,
        history=with_blocks(drop_blank_text(messages), [{"type": "text", "text": contract.note}]),
    )
    try:
        return await loop.run()
    except ModelError as error:
        await loop.lose(error.spent)
        error.spent = loop.usage + error.spent
        raise
    except StepFailed as error:
        error.spent, error.turns, error.last_answer = loop.usage, loop.turns, loop.last_text
        raise


@dataclass(frozen=True)
class _Place:
    """Where a conversation stands before a turn."""

    history: list[dict[str, Any]]
    begun: str
    continuations: int
    repaired: int
    called: EqualCalls
    ids: frozenset[str]


@dataclass
class _Loop:
    """The state of one conversation."""

    connection: ModelConnection
    model: ModelPlan
    system: str
    tools: ToolSet
    contract: Contract
    repairs: int
    max_turns: int
    ask: Ask
    on_event: OnEvent
    journal: Journal | None
    on_spent: OnSpent
    notice: Notice | None
    history: list[dict[str, Any]]
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    last_text: str = ""
    begun: str = ""  # text of this answer that earlier turns already gave
    continuations: int = 0
    repaired: int = 0
    called: EqualCalls = field(default_factory=EqualCalls)
    """The calls made so far, replayed ones included."""
    ids: set[str] = field(default_factory=set)
    """The calls' own names so far."""
    places: list[_Place] = field(default_factory=list)
    """Before each of the last turns: the one that is made, and two that may be gone back to."""

    async def run(self) -> Conversation:
        """Turn after turn, until an answer is accepted or something is final."""
        while True:
            self._remember()
            try:
                answer = await self._turn()
            except RequestRefused as refused:
                await self._go_back(refused)
                continue
            self._refuse_final_stops(answer)
            if await self._goes_on(answer):
                continue
            try:
                # In a thread: a long answer takes its time, and the step's timeout must fire meanwhile.
                accepted = await asyncio.to_thread(self.contract.accept, self.last_text)
            except Rejected as rejected:
                told = {"repair": self.repaired + 1, "problems": rejected.problems}
                self.on_event("output.rejected", told)
                if self.repaired >= self.repairs or self.turns >= self.max_turns:
                    raise _rejected_for_good(rejected, self.repaired) from None
                self.repaired += 1
                self._append(answer, _text(_repair_text(rejected.problems, self.last_text)))
            else:
                return self._build_conversation(answer, accepted)

    def _remember(self) -> None:
        place = _Place(
            self.history,
            self.begun,
            self.continuations,
            self.repaired,
            self.called.copy(),
            frozenset(self.ids),
        )
        self.places = [*self.places[-2:], place]

    async def _go_back(self, refused: RequestRefused) -> None:
        """To the turn before, whose answer made this request what it is: it is left, and asked anew.

        Raises `refused` where no answer is to blame or nothing is recorded, Poisoned, ContextExceeded.
        """
        if self.turns == 1 or self.journal is None:
            raise refused
        if len(self.places) < 2 or not await self.journal.set_aside(self.turns - 1):
            await self.lose(refused.spent)
            raise _refusal_fault(refused, self.model) from None
        place = self.places[-2]
        self.history, self.begun, self.continuations = place.history, place.begun, place.continuations
        self.repaired, self.called, self.ids = place.repaired, place.called, set(place.ids)
        self.places, self.turns = self.places[:-2], self.turns - 2

    async def _turn(self) -> Answer:
        """One request and its answer, from the journal when it is already there."""
        self.turns += 1
        self.on_event("turn.started", {"turn": self.turns})
        if self.journal is not None:
            self._say(await self.journal.before(self.turns))
        await self._notify()
        request = build_request(self.model, self.system, self.tools, self.contract, self.history)

        async def produce() -> Answer:
            answer = await self.ask(self.connection, request, self.on_event)
            if answer.lost != Usage():
                await self.lose(answer.lost)
            self.on_spent(answer.usage, answer.model)
            return answer

        if self.journal is None:
            answer = await produce()
        else:
            answer = await self.journal.turn(self.turns, digest(request), produce)
        self.usage = self.usage + answer.usage
        answer = make_repeatable(answer, self.ids)
        self.last_text = self.begun + answer.text
        self._tell_turn(answer)
        return answer

    def _say(self, text: str) -> None:
        if text and self.history[-1]["role"] == "user":
            self.history = with_blocks(self.history, [{"type": "text", "text": text}])

    async def _notify(self) -> None:
        """Says what the agent should know, once a conversation is under way and it is the user's turn."""
        if self.turns == 1 or self.history[-1]["role"] != "user":
            return
        if self.notice is None and (self.turns < self.max_turns or not self.tools) and self.journal is None:
            return
        known = self._turn_notice
        self._say(await (known() if self.journal is None else self.journal.notice(self.turns, known)))

    async def _turn_notice(self) -> str:
        """What there is to say before this turn."""
        last = _LAST_TURN if self.tools and self.turns >= self.max_turns else ""
        return last or (await self.notice() if self.notice is not None else "")

    async def lose(self, spent: Usage) -> None:
        """Counts what a request cost that was not answered."""
        self.on_spent(spent, self.model.id)
        if self.journal is not None and spent != Usage():
            await self.journal.note_unanswered(self.turns, spent, self.model.id)

    def _refuse_final_stops(self, answer: Answer) -> None:
        if answer.stop_reason == "refusal":
            details = answer.message.get("stop_details") or {}
            raise Refused(category=str(details.get("category") or ""))
        if answer.stop_reason == "model_context_window_exceeded":
            raise ContextExceeded(
                f"the conversation no longer fits into the context window of {self.model.id}",
                "give the step fewer or shorter inputs, or choose a model with a larger window",
            )

    async def _goes_on(self, answer: Answer) -> bool:
        """Whether the conversation needs another turn before there is an output to judge."""
        if answer.stop_reason == "tool_use" and answer.tool_calls:
            self._need_another_turn(f"{len(answer.tool_calls)} tool calls were not run")
            results = await self._call_tools(answer.tool_calls)
            if is_sealed(answer):
                self.begun = ""
                message = echo_answer(answer, calls=True)
                self.history = [*self.history, message, {"role": "user", "content": results}]
            else:
                self._append(answer, *retell_calls(answer.tool_calls, results))
            return True
        if answer.stop_reason == "pause_turn":
            self._need_another_turn("the model had paused")
            self._pause(answer)
            return True
        if answer.stop_reason == "max_tokens":
            self._continue_long(answer)
            return True
        return False

    def _pause(self, answer: Answer) -> None:
        """The provider goes on by itself where it stopped in its own tool's call; else it is told to."""
        message = echo_answer(answer, paused=True)
        if is_open(message) and is_sealed(answer):
            self.begun = self.last_text
            self.history = [*self.history, message]
        else:
            self._append(answer, _text(_GO_ON), begun=self.last_text)

    def _need_another_turn(self, state: str) -> None:
        if self.turns >= self.max_turns:
            raise TurnsExhausted(
                f"the agent used all its {self.max_turns} turns; {state}",
                "raise the agent's max_turns (what is paid stays paid), or give the step less to do",
            )

    def _continue_long(self, answer: Answer) -> None:
        """One continuation for prose; data and tool calls cannot be continued in the middle."""
        hopeless = self.contract.structured or answer.tool_calls or not answer.text.strip()
        if hopeless or self.continuations >= _MAX_CONTINUATIONS:
            raise AnswerTooLong(
                f"the answer does not fit into max_tokens ({self.model.max_tokens})",
                f"raise options.max_tokens of the agent above {self.model.max_tokens}, or ask for less",
            )
        self._need_another_turn("its answer was cut off by max_tokens")
        self.continuations += 1
        self.on_event("answer.continued", {"turn": self.turns, "characters": len(self.last_text)})
        self._append(answer, _text(_CONTINUE), begun=self.last_text)

    def _append(self, answer: Answer, *said: dict[str, Any], begun: str = "") -> None:
        """Echo the answer and say something to it. What cannot be echoed (an empty answer) is left out."""
        self.begun = begun
        message = echo_answer(answer)
        if any(block["type"] == "text" for block in message["content"]):
            self.history = [*self.history, message, {"role": "user", "content": list(said)}]
        else:
            self.history = with_blocks(self.history, list(said))

    async def _call_tools(self, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """All calls of one answer at once; every one ends before an error of one ends the step."""
        numbers = self.called.number(calls)
        pending = [
            asyncio.ensure_future(self._call_tool(n, call, numbers[n])) for n, call in enumerate(calls)
        ]
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError:
            # Once: what they write down of their end must not be cut off again and again.
            for task in pending:
                task.cancel()
            await outlive(pending, 2 * SETTLE_SECONDS)
            raise
        faults = [fault for task in pending if (fault := _fault_of(task)) is not None]
        if faults:
            # What broke says more than a wait, which is there again the next time.
            raise min(faults, key=lambda fault: ending(fault) == "waiting")
        results = [task.result() for task in pending]
        self.called.learn(calls, numbers, results)
        return [result_block(call, result) for call, result in zip(calls, results, strict=True)]

    async def _call_tool(self, ordinal: int, call: dict[str, Any], among_equal: int) -> ToolResult:
        name, arguments, started = call["name"], call["input"], time.monotonic()
        about = {"turn": self.turns, "ordinal": ordinal, "tool": name}
        self.on_event("tool.started", about)

        async def produce() -> ToolResult:
            return await self.tools.call(name, arguments, among_equal)

        if self.journal is None:
            result = await produce()
        else:
            result = await self.journal.tool(self.turns, ordinal, name, arguments, produce)
        seconds = time.monotonic() - started
        self.on_event("tool.finished", {**about, "is_error": result.is_error, "seconds": seconds})
        return result

    def _tell_turn(self, answer: Answer) -> None:
        self.on_event(
            "turn.answered",
            {
                "turn": self.turns,
                "stop_reason": answer.stop_reason,
                "tools": [call["name"] for call in answer.tool_calls],
                "usage": answer.usage.to_json(),
            },
        )

    def _build_conversation(self, answer: Answer, accepted: Accepted) -> Conversation:
        return Conversation(
            text=accepted.text,
            data=accepted.data,
            usage=self.usage,
            turns=self.turns,
            repairs=self.repaired,
            stop_reason=answer.stop_reason,
            model=answer.model,
            offline=answer.offline,
            messages=[*self.history, echo_answer(answer)],
        )


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _ignore_cost(usage: Usage, model: str) -> None:
    """For callers that only want the sum."""


def _refusal_fault(refused: RequestRefused, model: ModelPlan) -> StepFailed:
    """How a conversation ends that the provider does not take any more."""
    if refused.too_long:
        return ContextExceeded(
            f"the conversation does not fit into a request to {model.id} any more: {refused.message}",
            "give the step fewer or shorter inputs, or choose a model with a larger window; "
            "continued, the step begins another conversation",
        )
    return Poisoned(
        f"the provider refuses what the conversation has become: {refused.message}",
        "continue the run: the step then begins another conversation, which is told what was done",
    )


def _repair_text(problems: Sequence[str], text: str) -> str:
    if not text.strip():
        return (
            "Your last answer had no text, so that there is nothing to take as the output.\n"
            "Give the whole answer, and nothing else."
        )
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        f"This answer does not keep the output contract:\n{listed}\n"
        "Give the whole corrected answer, and nothing else."
    )


def _rejected_for_good(rejected: Rejected, repaired: int) -> OutputRejected:
    tries = f" after {repaired} repair{'s' if repaired != 1 else ''}" if repaired else ""
    first = "; ".join(rejected.problems[:3])
    more = f" (and {len(rejected.problems) - 3} more)" if len(rejected.problems) > 3 else ""
    return OutputRejected(f"the output breaks its contract{tries}: {first}{more}", rejected.problems)


def _fault_of(task: asyncio.Task[Any]) -> BaseException | None:
    """What a task that is done ended with, if not with a result."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()
