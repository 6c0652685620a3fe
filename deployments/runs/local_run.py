"""One run in this process, against the kept Prefect server: from what is known before it to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blocks.patience import Patience, PrefectAway
from blocks.process.ending import NUMBERS, SAME_S, on_signals
from blocks.settings import Settings
from deployments.runs.announcement import announce_run
from deployments.runs.start import Start
from deployments.server.kept_server import LOAD_SECONDS, ServerInfo, for_command, prefect_environment
from deployments.terminal.closing import closing
from deployments.terminal.display import Out
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from flows.launch import Launch
    from flows.outcome import RunOutcome


def run_here(start: Start, out: Out) -> int:
    """Runs it against the kept server, started when there is none; gives the exit code."""

    patience = Patience.read(start.environ, start.catalog.patience)

    wait = max(LOAD_SECONDS, patience.seconds)  # with many commands at once its start takes long

    def meanwhile(info: ServerInfo) -> None:
        out.note("starting the local Prefect server (some seconds; it stays for later commands)")
        _import_flows(info, start.settings, start.environ, patience)

    with (
        announce_run(start, lambda name, data: _tell_fault(out, name, data)) as begun,
        for_command(start.settings.home, start.environ, wait=wait, meanwhile=meanwhile) as server,
    ):
        _import_flows(server, start.settings, start.environ, patience)
        return _run(begun, server, out)


def _tell_fault(out: Out, name: str, data: Mapping[str, Any]) -> None:
    from deployments.terminal.progress import fault_line

    out.note(fault_line(name, data), "yellow")


PREFECTS_MINUTE = 60.0
"""Seconds for which Prefect's client asks again; who has less patience has it ask once more only."""
_ready: list[bool] = []


def _import_flows(
    server: ServerInfo | None, settings: Settings, environ: Mapping[str, str], patience: Patience
) -> None:
    """Points Prefect at the server, then imports it (2 s, spent while a new server loads)."""
    if _ready:
        return
    if server is not None:
        os.environ.update(prefect_environment(server, settings.home, environ, quiet=True))
    # Prefect's client asks again for a minute by itself, also where its server was overrun.
    os.environ.setdefault("PREFECT_CLIENT_RETRY_EXTRA_CODES", "500,503,504")
    if patience.seconds < PREFECTS_MINUTE:
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")
    if "PREFECT_LOGGING_LEVEL" not in environ:
        # Failures are shown once, by the progress and the closing panel; the API still gets every line.
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL", "CRITICAL")
        logging.raiseExceptions = False  # or a log line that cannot be sent is told on standard error
    import flows.compiled

    _ready.append(bool(flows.compiled))


def _run(start: Start, server: ServerInfo | None, out: Out) -> int:
    """Runs it, prints how it ended, gives the exit code."""
    from deployments.server.unavailable import finish_sending, is_server_gone, server_fault

    ending, shown, away = _Ending(start, server, out), False, False
    try:
        try:
            shown = _walk(ending)
        except PhaselineError as fault:
            away = isinstance(fault, PrefectAway)
            told = server_fault(fault, server) if away else fault
            raise _of_run(told or fault, start) from None
        except Exception as error:
            refused = server_fault(error, server)
            if refused is None:
                raise
            away = True
            if not ending.outcomes:
                raise _of_run(refused, start) from None
        ending.show()
    finally:
        gone = not shown and (
            is_server_gone(server, start.settings.home) if ending.gone is None else ending.gone
        )
        finish_sending(0.0 if gone or away else ending.left)
    if gone:
        out.note(
            "the local Prefect server ended meanwhile: its UI does not show the end of this run", "yellow"
        )
    elif not shown:
        out.note("Prefect's server cannot be used: it does not show the end of this run", "yellow")
    return ending.outcomes[-1].exit_code


@dataclass
class _Ending:
    """How a run ended: printed as soon as that is known, before Prefect's server is told."""

    start: Start
    server: ServerInfo | None
    out: Out
    outcomes: list[RunOutcome] = field(default_factory=list)
    gone: bool | None = None
    """Whether the local server was gone by then; None before."""
    _since: float | None = None

    @property
    def left(self) -> float:
        """Seconds for which Prefect's server may still be told."""
        from flows.steps.orchestration import TELLING

        passed = 0.0 if self._since is None else time.monotonic() - self._since
        return max(0.0, TELLING - passed)

    def show(self) -> None:
        """Prints it, once, where it is known."""
        from deployments.server.unavailable import is_server_gone

        if self._since is not None or not self.outcomes:
            return
        self._since = time.monotonic()
        self.gone = is_server_gone(self.server, self.start.settings.home)
        _print(self.outcomes[-1], self.start, None if self.gone else self.server, self.out)
        self.out.flush()


def _of_run(fault: PhaselineError, start: Start) -> PhaselineError:
    """The error with what a script needs to go on: which run it was."""
    fault.run_id, fault.workflow = start.run_id, start.plan.workflow  # type: ignore[attr-defined]
    return fault


def _walk(ending: _Ending) -> bool:
    """Runs the plan as a Prefect flow, and shows its end; whether Prefect's server does."""
    from prefect.exceptions import TerminationSignal

    from deployments.terminal.progress import Progress
    from flows.compiled import price_table

    faults: list[PhaselineError] = []
    start, shown = ending.start, False
    with Progress(ending.out, start.plan) as progress:
        launch = start.to_launch(
            prices=price_table(start.catalog),
            on_event=progress.on_event,
            on_outcome=ending.outcomes.append,
            on_fault=faults.append,
        )

        async def on_ended() -> None:
            progress.close()
            await asyncio.to_thread(ending.show)

        try:
            shown = asyncio.run(run_flow(start.plan, start.given, launch, on_ended))
        except (asyncio.CancelledError, KeyboardInterrupt, TerminationSignal):
            if not ending.outcomes:
                raise PhaselineError(
                    "cancelled before the run started", f"start it with: {start.again}"
                ) from None
    if faults:
        raise faults[0]
    return shown


def _print(outcome: RunOutcome, start: Start, server: ServerInfo | None, out: Out) -> None:
    document = outcome.to_document()
    if server is not None:
        document["ui_url"] = _ui(server, outcome)
    out.document(document)
    lasting = server if start.environ.get("PHASELINE_SERVER") != "command" else None
    ui, login = (_ui(lasting, outcome), lasting.auth) if lasting else (None, None)
    closing(out, document, ui, login, start.request.places)


def _ui(server: ServerInfo, outcome: RunOutcome) -> str:
    # Without /v2 Prefect shows its old UI, which gives a browser without a login no place to log in.
    return (
        f"{server.ui_url.rstrip('/')}/v2/runs/flow-run/{outcome.flow_run_id}"
        if outcome.flow_run_id
        else server.ui_url
    )


async def run_flow(
    plan: Plan,
    given: Mapping[str, Any],
    launch: Launch,
    on_ended: Callable[[], Awaitable[None]] | None = None,
) -> bool:
    """Runs the plan as a Prefect flow, whose server is known by now; the launch is told how it ended.

    Then `on_ended` is called, and Prefect's server is told, too: False where it does not show the end.
    """
    from prefect.exceptions import Pause

    from deployments.runs.stored_inputs import stored_inputs
    from flows.compiled import LAUNCH, build_flow
    from flows.steps.orchestration import Body, await_flow_call, outwait, probe

    with _interruptible(launch.hurry, last_steps=bool(plan.finally_)) as cancel:
        heard = _Heard(launch.on_event)
        launch = replace(launch, cancel=cancel, on_event=heard.on_event)
        parameters = await stored_inputs(given, launch)
        body = Body()
        try:
            # The inputs are checked already; Prefect would not take a ref for every type, nor none for
            # what an earlier start of the run was given.
            named = build_flow(plan).with_options(flow_run_name=launch.run_id, validate_parameters=False)
            missing = {i.name: None for i in plan.inputs}
            known = {**missing, **parameters, "run_id": launch.run_id, "offline": launch.offline}

            async def flow_run() -> Any:
                nonlocal body
                body = Body()
                LAUNCH.set(replace(launch, running=body.running))  # for this attempt, a task of its own
                if launch.environ.get("PREFECT_API_URL"):  # one that the user named: nobody looked yet
                    await probe()
                call: Any = named(**known, return_state=True)
                return await await_flow_call(call, body, on_ended)

            state: Any = await outwait(
                launch.vigil, flow_run, begun=lambda: heard.begun, looking=lambda: not body.begun
            )
        except Pause:
            return True  # the run waits; its outcome was told
        if state is None and isinstance(body.fault, Exception):
            raise body.fault
        if state is not None and not state.is_completed():
            value = await state.aresult(raise_on_failure=False)
            if isinstance(value, BaseException):
                raise value
        return state is not None


@dataclass
class _Heard:
    """A listener that knows whether the run has begun: from then on its flow is not called again."""

    listen: Callable[[str, dict[str, Any]], None]
    begun: bool = False

    def on_event(self, name: str, data: dict[str, Any]) -> None:
        """Hands the event on."""
        self.begun = self.begun or name == "run.started"
        self.listen(name, data)


@contextlib.contextmanager
def _interruptible(hurry: threading.Event, *, last_steps: bool) -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM cancel the run: what runs is ended, `finally` steps still run.

    Several at once are one; a later one cancels what still runs then. `hurry` is set: nothing that is out of
    order is waited for any more. Gives what they do.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heard = [-SAME_S]

    def cancel() -> None:
        if loop.time() - heard[0] >= SAME_S:
            heard[0] = loop.time()
            hurry.set()
            task.cancel()

    try:
        with on_signals(cancel, last_steps=last_steps):
            yield cancel
    finally:
        for number in NUMBERS if heard[0] > 0 else ():
            signal.signal(number, _say_no_more)  # once it is cancelled the command only says how it ended


def _say_no_more(number: int, frame: object) -> None:
    """Not SIG_IGN, with which nobody would learn of the signal: what hangs now is ended hard."""
