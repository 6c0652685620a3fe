"""Several gates before one request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from blocks.boundaries import reach_boundary
from blocks.models import Answer, Request
from tasks.limits.requests import Gate


@dataclass(frozen=True)
class Gates:
    """Opens its gates in order; when one refuses, those that were open are told that nothing was sent.

    `path` is that of the unit whose requests pass.
    """

    gates: Sequence[Gate]
    path: str = ""
    confirm: Callable[[], Awaitable[None]] | None = None
    """Raises when the run is not ours any more: what stood long at a gate must not be sent then."""
    standing: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the time that a request stands at the gates."""
    on_sending: Callable[[], None] = lambda: None
    """Called when the request is about to leave."""

    async def before(self, request: Request) -> None:
        """Waits at each gate in turn, or raises what one refuses with."""
        opened: list[Gate] = []
        try:
            with self.standing():
                for gate in self.gates:
                    await gate.before(request)
                    opened.append(gate)
            if self.confirm is not None:
                await self.confirm()
        except BaseException:
            for gate in reversed(opened):
                await gate.unsent()
            raise
        reach_boundary("turn.sending", self.path)
        self.on_sending()

    async def after(self, answer: Answer) -> None:
        """Tells every gate what came back."""
        for gate in reversed(self.gates):
            await gate.after(answer)

    async def failed(self, error: BaseException) -> None:
        """Tells every gate that nothing came back."""
        for gate in reversed(self.gates):
            await gate.failed(error)

    async def unsent(self) -> None:
        """Tells every gate that nothing was sent."""
        for gate in reversed(self.gates):
            await gate.unsent()
