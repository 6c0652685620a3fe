"""The command line as a front of the services: who calls, where notices go, and what a signal does."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import pwd
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blocks.names import DEFAULT_TENANT
from blocks.process.ending import NUMBERS, on_signals
from blocks.settings import is_shared
from deployments.runs.caller import Caller
from deployments.runs.host import Host, Kind, Notice, OnEvent, RunEnd
from deployments.terminal.closing import closing
from deployments.terminal.display import Out
from deployments.terminal.progress import Progress, fault_line
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from deployments.runs.continuation import GoingOn

_PLAIN: tuple[Kind, ...] = ("cancel_asked", "latest", "server_starting")
"""What is said of what goes as it should."""


def caller_of(args: argparse.Namespace) -> Caller:
    """Who runs this command: the one tenant of this machine, as the operating system's user."""
    user, number = _user(), str(os.getuid())
    caller = Caller(
        tenant=DEFAULT_TENANT,
        asker=user,
        account=number,
        catalog=args.catalog,
        home=args.home,
        environ=dict(os.environ),
        named=args.named,
    )
    # Where machines share the ledger, a number means somebody on one of them only.
    shared = is_shared(os.environ.get("PHASELINE_DATABASE_URL", ""))
    return replace(caller, account=f"{number}@{socket.gethostname()}") if shared else caller


class TerminalHost(Host):
    """Notices and progress on standard error; how a run ended on standard output."""

    def __init__(self, out: Out) -> None:
        self.out = out
        self._progress: Progress | None = None

    def notify(self, notice: Notice) -> None:
        """A line in yellow where something is not as it should be, with what to do below."""
        self.out.note(notice.text, "" if notice.kind in _PLAIN else "yellow")
        for line in notice.details:
            self.out.note(f"  {line}")
        if notice.cure:
            self.out.note(f"  cure: {notice.cure}")

    def export(self, variables: Mapping[str, str]) -> None:
        """Sets them: this process is the command's own.

        Failures are shown once, by the progress and the closing panel; the API still gets every line.
        """
        os.environ.update(variables)
        if "PREFECT_LOGGING_LEVEL" not in os.environ:
            os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
            os.environ.setdefault("PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL", "CRITICAL")

    def on_event(self, name: str, data: dict[str, Any]) -> None:
        """What is waited for before the run begins."""
        self.out.note(fault_line(name, data), "yellow")

    @contextlib.contextmanager
    def watch(self, plan: Plan) -> Iterator[OnEvent]:
        """Shows how the steps get on."""
        if "PREFECT_LOGGING_LEVEL" not in os.environ:
            logging.raiseExceptions = False  # or a log line that cannot be sent is told on standard error
        with Progress(self.out, plan) as self._progress:
            yield self._progress.on_event

    def on_end(self, end: RunEnd) -> None:
        """Prints the panel, or the document."""
        if self._progress is not None:
            self._progress.close()
        self.out.document(end.document)
        closing(self.out, end.document, end.ui_url, end.login, end.places)
        self.out.flush()

    def interrupting(
        self, cancel: Callable[[], None], *, last_steps: bool
    ) -> AbstractContextManager[Callable[[], None]]:
        """SIGINT and SIGTERM cancel."""
        return interrupted_by_signals(cancel, last_steps=last_steps)


@contextlib.contextmanager
def interrupted_by_signals(cancel: Callable[[], None], *, last_steps: bool) -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM call `cancel`; gives what they do.

    Once it was called they do nothing more: what was cancelled only says how it ended.
    """
    called = False

    def interrupt() -> None:
        nonlocal called
        called = True
        cancel()

    try:
        with on_signals(interrupt, last_steps=last_steps):
            yield interrupt
    finally:
        for number in NUMBERS if called else ():
            signal.signal(number, _say_no_more)


def print_going_on(after: GoingOn, out: Out) -> None:
    """What follows an answer."""
    if after.woken:
        out.line(f"the run {after.run_id} goes on, on its worker", "green")
    elif after.taken_back:
        out.line(f"the run {after.run_id} is taken back; go on with: {after.command}")
    elif after.failed:
        told = f"the run {after.run_id} has failed elsewhere, and does nothing with the answer yet"
        out.line(f"{told}; continue it with: {after.command}", "yellow")
    elif after.due:
        out.line(f"continue it with: {after.command}")
    else:
        out.line(f"the run {after.run_id} still waits for more, or is at work; later: {after.command}")


def _say_no_more(number: int, frame: object) -> None:
    """Not SIG_IGN, with which nobody would learn of the signal: what hangs now is ended hard."""


def _user() -> str:
    """The operating system's user, by name or, where the number has none (in containers), by number.

    What a variable says (LOGNAME, USER) would let anybody answer as somebody else.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
