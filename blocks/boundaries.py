"""The places between two durable writes, so that what may happen between them can be tried out.

`reached` is called right after something became durable, or right before something leaves this machine. It
does nothing unless this process armed itself: no environment variable and no file can, since what is armed
may end the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

OnReached = Callable[[str, str, str], None]
"""Called with the boundary's name, the path of the unit it belongs to ("" for the run itself), and what it
is about: an effect's key (`key:state` where it is settled), `attempt:turn` of a turn or a tool call, a wait's
id, the kind of an artifact, the name of an output, the state of an end."""

BOUNDARIES: Mapping[str, str] = MappingProxyType(
    {
        "run.announced": "the run's row names the inputs it was given, and does not hold them",
        "run.given": "the inputs are in the row of an announced run; nothing else was asked for",
        "run.begun": "the run has its row, and this process holds it",
        "run.bound": "the inputs are in the run's row",
        "run.described": "the manifest with the definition is stored",
        "step.running": "the step's row says that it runs",
        "input.kept": "a value that varies by nature is in the journal",
        "turn.sending": "the reservation is held, the request is about to leave",
        "turn.received": "the answer is here, the reservation is not settled",
        "turn.answered": "the answer is here and settled, not in the journal",
        "turn.kept": "the answer is in the journal, not acted on",
        "tool.answered": "a tool's result is here, not in the journal",
        "tool.kept": "a tool's result is in the journal",
        "effect.intended": "the effect is written ahead, not sent",
        "effect.sending": "the sending is counted, the call is about to be made",
        "effect.performed": "the call was made and answered, its outcome is not recorded",
        "effect.settled": "the outcome is recorded",
        "artifact.stored": "a body is stored, nothing points at it",
        "step.stored": "the step's result is stored, its row is not written",
        "step.completed": "the step's row says that it is completed",
        "step.ended": "the step's row says how it ended without a result",
        "wait.opened": "the question is open, the step has not stopped for it",
        "wait.answered": "the answer is recorded, the run has not gone on",
        "outputs.published": "an output is published, the run's row does not say that it ended",
        "run.finished": "the run's row says how it ended, nobody was told",
    }
)
"""Every boundary by name, with what is durable there and what is not."""

_armed: list[OnReached] = []


def reach_boundary(name: str, path: str = "", subject: str = "") -> None:
    """This process stands at a boundary."""
    for callback in _armed:
        callback(name, path, subject)


def arm(callback: OnReached) -> None:
    """Have every boundary told from here on, in this process and those forked from it."""
    _armed[:] = [callback]
