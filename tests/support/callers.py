"""A model that calls tools as it is told to, and a handler that pays, in runs of this process."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blocks.ledger import EffectRow, Ledger
from blocks.models import Answer, OnProgress, Request
from tests.support.flows import Bench, Script, agent, steps
from workflows.core.usage import Usage

PAY = '''"""Pays."""

import time
from pathlib import Path


class Refused(ValueError):
    """Nothing was paid."""

    nothing_done = True


def pay(book: str, usd: int, how: str = "", until: str = "") -> object:
    """Write a payment into a book.

    Args:
        book: File that every payment is added to.
        usd: How much.
        how: How it ends; `broken` is gone as soon as there are two payments.
        until: A file to wait for after the payment.
    """
    if how == "refuses":
        raise Refused("the bank is closed")
    with Path(book).open("a") as file:
        file.write(f"{usd}\\n")
    while until and not Path(until).exists():
        time.sleep(0.02)
    if how == "raises" or (how == "broken" and len(Path(book).read_text().split()) < 2):
        raise ValueError("the bank closed the line")
    if how == "prints":
        while True:
            print("x" * 2**20)
    return {1, 2} if how == "unreadable" else {"paid": usd}
'''
Call = tuple[str, dict[str, Any]]
Turn = str | list[Call] | BaseException | Callable[[], Awaitable[str]]


@dataclass
class Caller(Script):
    """A model that makes these turns one after the other: each a text, the calls of tools, or an error."""

    turns: list[Turn] = field(default_factory=list)

    async def send(self, request: Request, *, on_progress: OnProgress | None = None) -> Answer:
        """The next turn."""
        self.requests.append(request)
        turn = self.turns.pop(0)
        if isinstance(turn, BaseException):
            raise turn
        if callable(turn):
            turn = await turn()
        calls: list[Call] = [] if isinstance(turn, str) else turn
        content: list[dict[str, Any]] = [{"type": "text", "text": turn}] if isinstance(turn, str) else []
        for n, (name, given) in enumerate(calls):
            named = {"id": f"toolu_{len(self.requests)}_{n}", "name": name, "input": given}
            content.append({"type": "tool_use", **named})
        message = {
            "role": "assistant",
            "content": content,
            "stop_reason": "tool_use" if calls else "end_turn",
        }
        return Answer(message, Usage(input_tokens=10, output_tokens=5), str(request["model"]))

    @property
    def told(self) -> list[dict[str, Any]]:
        """The tool results that the last request carried."""
        last = self.requests[-1]["messages"][-1]["content"]
        return [block for block in last if block["type"] == "tool_result"]


def bench_of(folder: Path, *turns: Turn, effect: str = "once") -> Bench:
    """One agent step that may pay, and may ask people."""
    bench = Bench(folder, w=steps(agent("a")))
    tool = bench.catalog / "skills" / "shared" / "tool"
    (tool / "handlers" / "pay.py").write_text(PAY)
    (tool / "config.yaml").write_text(f"handlers:\n  - {{name: pay, effect: {effect}}}\n")
    (bench.catalog / "agents/ann/tools-config.json").write_text(json.dumps({"tools": {"ask_person": {}}}))
    bench.model = Caller(turns=list(turns))
    return bench


def model(bench: Bench) -> Caller:
    assert isinstance(bench.model, Caller)
    return bench.model


def pay(bench_folder: Path, **more: Any) -> Call:
    return "tool__pay", {"book": str(bench_folder / "book"), "usd": 7, **more}


def payments(bench: Bench) -> int:
    book = bench.folder / "book"
    return len(book.read_text().split()) if book.exists() else 0


def effects(bench: Bench) -> list[EffectRow]:
    from blocks.ledger.runs.effects import read_effects

    with Ledger.open(bench.settings.database) as ledger:
        return ledger.reader.read(lambda c: read_effects(c, "default", "r"))
