"""What the process around the services does for them: it hears what is said, and owns its signals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from workflows.core.plans.plan import Plan

Kind = Literal[
    "cancel_asked",
    "cancelled",
    "clock",
    "due",
    "event",
    "flow_run",
    "input",
    "interrupted",
    "key",
    "latest",
    "ledger_held",
    "not_woken",
    "offline",
    "outputs",
    "server_gone",
    "server_starting",
    "woken",
]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a service says beside its result: never what a program has to read to go on."""

    kind: Kind
    text: str
    cure: str = ""
    details: tuple[str, ...] = ()


Notify = Callable[[Notice], None]
OnEvent = Callable[[str, dict[str, Any]], None]
Interrupting = Callable[..., AbstractContextManager[Callable[[], None]]]
"""See `Host.interrupting`."""


@dataclass(frozen=True)
class RunEnd:
    """How a run ended, or for what it waits."""

    document: Mapping[str, Any]
    exit_code: int
    ui_url: str | None = None
    """Its page, where Prefect's server outlives this process."""
    login: str | None = field(default=None, repr=False)
    """The string which the page asks for."""
    places: tuple[str, ...] = ()
    """The options of commands that say where the run's things are."""


class Host(ABC):
    """What a front (the command line, a gateway) hands in beside its request."""

    @abstractmethod
    def notify(self, notice: Notice) -> None:
        """Hears a notice, from any thread."""

    @abstractmethod
    def export(self, variables: Mapping[str, str]) -> None:
        """Sets environment variables of this process, with which Prefect is pointed at its server before it
        is imported. A process that was started with them need not do anything."""

    def on_event(self, name: str, data: dict[str, Any]) -> None:
        """Hears an event of a run that has not begun, such as what is waited for; from any thread."""
        del name, data

    def watch(self, plan: Plan) -> AbstractContextManager[OnEvent]:
        """A listener for the events of one run, for as long as it is at work here."""
        return nullcontext(self.on_event)

    def on_end(self, end: RunEnd) -> None:
        """Hears how a run ended as soon as that is known: before Prefect's server is told."""
        del end

    def interrupting(
        self, cancel: Callable[[], None], *, last_steps: bool
    ) -> AbstractContextManager[Callable[[], None]]:
        """Lets whatever may break the work off call `cancel` in the running event loop; gives what to call.

        `last_steps`: whether what is cancelled may take its own time to end.
        """
        return nullcontext(cancel)
