"""One run in this process, against the kept Prefect server: from what is known before it to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blocks.ending import NUMBERS, SAME_S, on_signals
from blocks.patience import Patience, PrefectAway
from blocks.settings import Settings
from deployments.announcing import announced
from deployments.closing import closing
from deployments.display import Out
from deployments.local_server import LOAD_SECONDS, ServerInfo, for_command, prefect_environment
from deployments.start import Start
from workflows.core.errors import PhaselineError
from workflows.core.plan import Plan

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
        announced(start, lambda name, data: _tell_fault(out, name, data)) as begun,
        for_command(start.settings.home, start.environ, wait=wait, meanwhile=meanwhile) as server,
    ):
        _import_flows(server, start.settings, start.environ, patience)
        return _run(begun, server, out)


def _tell_fault(out: Out, name: str, data: Mapping[str, Any]) -> None:
    from deployments.progress import fault_line

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
    from deployments.server_end import drain, ended, give_up_sending, server_fault

    outcomes: list[RunOutcome] = []
    unshown = False
    try:
        try:
            _walk(start, out, outcomes)
        except PhaselineError as fault:
            told = server_fault(fault, server) if isinstance(fault, PrefectAway) else fault
            raise _of_run(told or fault, start) from None
        except Exception as error:
            refused = server_fault(error, server)
            if refused is None:
                raise
            if not outcomes:
                raise _of_run(refused, start) from None
            unshown = True  # the run has its end; Prefect's server alone does not know of it
    finally:
        gone = ended(server, start.settings.home)
        (give_up_sending if gone else drain)()
    if gone:
        out.note(
            "the local Prefect server ended meanwhile: its UI does not show the end of this run", "yellow"
        )
    elif unshown:
        out.note("Prefect's server cannot be used: it does not show the end of this run", "yellow")
    _print(outcomes[-1], start, None if gone else server, out)
    return outcomes[-1].exit_code


def _of_run(fault: PhaselineError, start: Start) -> PhaselineError:
    """The error with what a script needs to go on: which run it was."""
    fault.run_id, fault.workflow = start.run_id, start.plan.workflow  # type: ignore[attr-defined]
    return fault


def _walk(start: Start, out: Out, outcomes: list[RunOutcome]) -> None:
    """Runs the plan as a Prefect flow. How it ended is appended to `outcomes`."""
    from prefect.exceptions import TerminationSignal

    from deployments.progress import Progress
    from flows.compiled import price_table

    faults: list[PhaselineError] = []
    with Progress(out, start.plan) as progress:
        launch = start.to_launch(
            prices=price_table(start.catalog),
            on_event=progress.on_event,
            on_outcome=outcomes.append,
            on_fault=faults.append,
        )
        try:
            asyncio.run(run_flow(start.plan, start.given, launch))
        except (asyncio.CancelledError, KeyboardInterrupt, TerminationSignal):
            if not outcomes:
                raise PhaselineError(
                    "cancelled before the run started", f"start it with: {start.again}"
                ) from None
    if faults:
        raise faults[0]


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


async def run_flow(plan: Plan, given: Mapping[str, Any], launch: Launch) -> None:
    """Runs the plan as a Prefect flow, whose server is known by now; the launch is told how it ended."""
    from prefect.exceptions import Pause

    from deployments.stored_inputs import stored_inputs
    from flows.compiled import LAUNCH, build_flow
    from flows.orchestration import outwait, probe

    with _interruptible(launch.hurry, last_steps=bool(plan.finally_)) as cancel:
        heard = _Heard(launch.on_event)
        launch = replace(launch, cancel=cancel, on_event=heard.on_event)
        parameters = await stored_inputs(given, launch)
        token = LAUNCH.set(launch)
        try:
            # The inputs are checked already; Prefect would not take a ref for every type, nor none for
            # what an earlier start of the run was given.
            named = build_flow(plan).with_options(flow_run_name=launch.run_id, validate_parameters=False)
            missing = {i.name: None for i in plan.inputs}
            known = {**missing, **parameters, "run_id": launch.run_id, "offline": launch.offline}

            async def flow_run() -> Any:
                if launch.environ.get("PREFECT_API_URL"):  # one that the user named: nobody looked yet
                    await probe()
                return await named(**known, return_state=True)  # type: ignore[misc]

            state: Any = await outwait(launch, flow_run, begun=lambda: heard.begun)
        except Pause:
            return  # the run waits; its outcome was told
        finally:
            LAUNCH.reset(token)
        if not state.is_completed():
            value = await state.aresult(raise_on_failure=False)
            if isinstance(value, BaseException):
                raise value


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
