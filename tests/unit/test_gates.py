"""Several gates before one request: what one refuses, the others give back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from blocks.models import Answer, Request
from tasks.conversation.gates import Gates


@dataclass
class Watched:
    """Writes down what it is told; refuses with `refusal`."""

    name: str
    log: list[str]
    refusal: BaseException | None = field(default=None)

    async def before(self, request: Request) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.log.append(f"{self.name} open")

    async def after(self, answer: Answer) -> None:
        self.log.append(f"{self.name} after")

    async def failed(self, error: BaseException) -> None:
        self.log.append(f"{self.name} failed")

    async def unsent(self) -> None:
        self.log.append(f"{self.name} unsent")


@pytest.mark.parametrize("refusal", [ValueError("no"), asyncio.CancelledError()])
def test_a_refusal_is_told_to_those_that_were_open(refusal: BaseException) -> None:
    log: list[str] = []
    gates = Gates([Watched("a", log), Watched("b", log), Watched("c", log, refusal), Watched("d", log)])
    with pytest.raises(type(refusal)):
        asyncio.run(gates.before({}))
    assert log == ["a open", "b open", "b unsent", "a unsent"]


def test_gates_within_gates_give_back_too() -> None:
    log: list[str] = []
    gates = Gates([Gates([Watched("a", log), Watched("b", log)]), Watched("c", log, ValueError("no"))])
    with pytest.raises(ValueError, match="no"):
        asyncio.run(gates.before({}))
    assert log == ["a open", "b open", "b unsent", "a unsent"]


def test_it_is_told_when_a_request_is_about_to_leave_and_only_then() -> None:
    log: list[str] = []
    asyncio.run(Gates([Watched("a", log)], on_sending=lambda: log.append("sending")).before({}))
    assert log == ["a open", "sending"]
    with pytest.raises(ValueError, match="no"):
        refused = [Watched("a", log, ValueError("no"))]
        asyncio.run(Gates(refused, on_sending=lambda: log.append("sending")).before({}))
    assert log.count("sending") == 1
