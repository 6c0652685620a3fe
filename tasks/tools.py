"""What an agent may call: a tool's shape, the set a step offers, and how one call is run."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from blocks.schemas.checking import Unchecked, UnusableSchema, problems_of
from workflows.core.errors import PhaselineError
from workflows.core.refs import digest
from workflows.core.text.cut_text import cut

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LOG = logging.getLogger(__name__)

Effect = Literal["none", "idempotent", "once"]
"""none: reads only; idempotent: a second equal call changes nothing more; once: must not be repeated."""


_AMONG_EQUAL: ContextVar[int] = ContextVar("phaseline_among_equal", default=0)


def among_equal() -> int:
    """For a tool at work: which one this call is among the equal calls of its step, from 0.

    A call is known by what it asks for and this number, never by the attempt or the provider's id.
    """
    return _AMONG_EQUAL.get()


class ToolError(Exception):
    """A tool failed in a way the model may know: its text goes back as the result.

    `again` as in ToolResult.
    """

    again: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gave: text, or content blocks of the Messages API.

    `again`: the call has no outcome, or nobody wants it any more, so that the agent's next equal call is this
    one once more and not another.
    """

    content: str | list[dict[str, Any]]
    is_error: bool = False
    again: bool = False

    def to_json(self) -> dict[str, Any]:
        """What a journal keeps."""
        kept = {"content": self.content, "is_error": self.is_error}
        return {**kept, "again": True} if self.again else kept


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `run` gets arguments that satisfy `input_schema`.

    It raises ToolError for what the model should know. A PhaselineError (a wait for a person, a spent
    budget, a storage fault) ends the step; any other exception goes back without its details.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    run: Callable[[dict[str, Any]], Awaitable[ToolResult]]
    effect: Effect = "once"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a tool's name has 1 to 64 letters, digits, _ or -: {self.name!r}")


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools of one step, in the order they are shown to the model. Raises ValueError on equal names."""

    tools: tuple[Tool, ...] = field(default=())
    told: tuple[dict[str, Any], ...] | None = None
    """What the model was told of them when its conversation began; None: what they say now."""

    def __post_init__(self) -> None:
        names = [tool.name for tool in self.tools]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"two tools of one name: {', '.join(double)}")

    def __iter__(self) -> Iterator[Tool]:
        return iter(self.tools)

    def __bool__(self) -> bool:
        return bool(self.tools if self.told is None else self.told)

    def as_told(self, definitions: Sequence[dict[str, Any]]) -> ToolSet:
        """The set as the model knows it: whatever tools say now, and whichever came or went since."""
        return ToolSet(self.tools, tuple(definitions))

    def definitions(self) -> list[dict[str, Any]]:
        """The `tools` field of a request."""
        if self.told is not None:
            return list(self.told)
        return [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
            for tool in self.tools
        ]

    async def call(self, name: str, arguments: dict[str, Any], among_equal: int = 0) -> ToolResult:
        """Run one call. What the model did wrong comes back as an error result; for the rest see `Tool`.

        among_equal: which one it is among the equal calls of its step, from 0.
        """
        schemas = {shown["name"]: shown["input_schema"] for shown in self.definitions()}
        if name not in schemas:
            known = ", ".join(schemas) or "none"
            return ToolResult(f"There is no tool named {name}. Available: {known}.", is_error=True)
        tool = next((tool for tool in self.tools if tool.name == name), None)
        if tool is None:
            return ToolResult(f"The tool {name} is not there any more. Go on without it.", is_error=True)
        problems = await asyncio.to_thread(argument_problems, schemas[name], arguments)
        if problems:
            return ToolResult("Wrong arguments: " + "; ".join(problems), is_error=True)
        token = _AMONG_EQUAL.set(among_equal)
        try:
            return await _run_tool(tool, arguments)
        finally:
            _AMONG_EQUAL.reset(token)


async def _run_tool(tool: Tool, arguments: dict[str, Any]) -> ToolResult:
    try:
        return await tool.run(arguments)
    except PhaselineError:
        raise
    except ToolError as error:
        return ToolResult(str(error) or f"{tool.name} failed.", is_error=True, again=error.again)
    except Exception as error:  # noqa: BLE001 - a tool is foreign code
        # The model learns that it failed, not how our code looks; people find the trace in the log.
        _LOG.exception("tool %s failed", tool.name)
        return ToolResult(f"{tool.name} failed unexpectedly ({type(error).__name__}).", is_error=True)


class EqualCalls:
    """Numbers the equal calls (tool and arguments) of a conversation from 0, in the order they are made."""

    def __init__(self) -> None:
        self._made: Counter[str] = Counter()
        self._again: dict[str, set[int]] = {}
        """Numbers whose call may only be made again, by the digest of the call."""

    def copy(self) -> EqualCalls:
        """The same counts, which go their own way."""
        other = EqualCalls()
        other._made = Counter(self._made)
        other._again = {same: set(numbers) for same, numbers in self._again.items()}
        return other

    def number(self, calls: Sequence[Mapping[str, Any]]) -> list[int]:
        """The number of each call of one answer.

        While an earlier one may only be made again, an equal call is that one, however many there are.
        """
        numbers, here = [], Counter[str]()
        for same in map(_sameness, calls):
            again = sorted(self._again.get(same, ()))
            if again:
                numbers.append(again[min(here[same], len(again) - 1)])
            else:
                numbers.append(self._made[same])
                self._made[same] += 1
            here[same] += 1
        return numbers

    def learn(
        self, calls: Sequence[Mapping[str, Any]], numbers: Sequence[int], results: Sequence[ToolResult]
    ) -> None:
        """What became of the calls of one answer; what a journal gave again counts alike."""
        ended: dict[tuple[str, int], bool] = {}
        for call, number, result in zip(calls, numbers, results, strict=True):
            which = _sameness(call), number
            ended[which] = ended.get(which, True) and result.again
        for (same, number), again in ended.items():
            kept = self._again.setdefault(same, set())
            (kept.add if again else kept.discard)(number)


def _sameness(call: Mapping[str, Any]) -> str:
    return digest({"tool": call["name"], "arguments": call["input"]})


def argument_problems(schema: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    """What is wrong with a call's arguments, at most five sentences."""
    try:
        return [cut(problem, 300) for problem in problems_of(schema, arguments)[:5]]
    except UnusableSchema as fault:
        return [f"the tool's own schema cannot be used ({fault}), so that it cannot be called"]
    except Unchecked as fault:
        return [str(fault)]
