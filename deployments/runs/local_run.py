"""One run in this process, against the kept Prefect server: from what is known before it to its end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from blocks.patience import Patience, PrefectAway
from blocks.process.ending import SAME_S
from deployments.runs.announcement import announce_run
from deployments.runs.host import Host, Interrupting, Notice, OnEvent, RunEnd
from deployments.runs.start import Start
from deployments.server.kept_server import LOAD_SECONDS, ServerInfo, for_command, prefect_environment
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from flows.launch import Launch
    from flows.outcome import RunOutcome


def run_here(start: Start, host: Host) -> RunEnd:
    """Runs it against the kept server, started when there is none. Raises PhaselineError."""
    patience = Patience.read(start.environ, start.catalog.patience)
    wait = max(LOAD_SECONDS, patience.seconds)  # with many commands at once its start takes long

    def meanwhile(info: ServerInfo) -> None:
        text = "starting the local Prefect server (some seconds; it stays for later commands)"
        host.notify(Notice("server_starting", text))
        _import_flows(info, start, patience, host)

    with (
        announce_run(start, host.on_event) as begun,
        for_command(start.settings.home, start.environ, wait=wait, meanwhile=meanwhile) as server,
    ):
        _import_flows(server, start, patience, host)
        return _run(begun, server, host)


PREFECTS_MINUTE = 60.0
"""Seconds for which Prefect's client asks again; who has less patience has it ask once more only."""
_ready: list[bool] = []


def _import_flows(server: ServerInfo | None, start: Start, patience: Patience, host: Host) -> None:
    """Points Prefect at the server, then imports it (2 s, spent while a new server loads)."""
    if _ready:
        return
    # Prefect's client asks again for a minute by itself, also where its server was overrun.
    variables = {"PREFECT_CLIENT_RETRY_EXTRA_CODES": "500,503,504"}
    if patience.seconds < PREFECTS_MINUTE:
        variables["PREFECT_CLIENT_MAX_RETRIES"] = "1"
    variables = {name: value for name, value in variables.items() if name not in start.environ}
    if server is not None:
        variables |= prefect_environment(server, start.settings.home, start.environ)
    host.export(variables)
    import flows.compiled

    _ready.append(bool(flows.compiled))


def _run(start: Start, server: ServerInfo | None, host: Host) -> RunEnd:
    """Runs it; the host hears how it ended as soon as that is known."""
    from deployments.server.unavailable import finish_sending, is_server_gone, server_fault

    ending, shown, away = _Ending(start, server, host), False, False
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
        text = "the local Prefect server ended meanwhile: its UI does not show the end of this run"
        host.notify(Notice("server_gone", text))
    elif not shown:
        text = "Prefect's server cannot be used: it does not show the end of this run"
        host.notify(Notice("server_gone", text))
    assert ending.end is not None
    return ending.end


@dataclass
class _Ending:
    """How a run ended: told as soon as that is known, before Prefect's server is told."""

    start: Start
    server: ServerInfo | None
    host: Host
    outcomes: list[RunOutcome] = field(default_factory=list)
    gone: bool | None = None
    """Whether the local server was gone by then; None before."""
    end: RunEnd | None = None
    _since: float | None = None

    @property
    def left(self) -> float:
        """Seconds for which Prefect's server may still be told."""
        from flows.steps.orchestration import TELLING

        passed = 0.0 if self._since is None else time.monotonic() - self._since
        return max(0.0, TELLING - passed)

    def show(self) -> None:
        """Tells it, once, where it is known."""
        from deployments.server.unavailable import is_server_gone

        if self._since is not None or not self.outcomes:
            return
        self._since = time.monotonic()
        self.gone = is_server_gone(self.server, self.start.settings.home)
        self.end = _end_of(self.outcomes[-1], self.start, None if self.gone else self.server)
        self.host.on_end(self.end)


def _of_run(fault: PhaselineError, start: Start) -> PhaselineError:
    """The error with what a script needs to go on: which run it was."""
    fault.run_id, fault.workflow = start.run_id, start.plan.workflow  # type: ignore[attr-defined]
    return fault


def _walk(ending: _Ending) -> bool:
    """Runs the plan as a Prefect flow, and shows its end; whether Prefect's server does."""
    from prefect.exceptions import TerminationSignal

    from flows.compiled import price_table

    faults: list[PhaselineError] = []
    start, shown = ending.start, False
    with ending.host.watch(start.plan) as on_event:
        launch = start.to_launch(
            prices=price_table(start.catalog),
            on_event=on_event,
            on_outcome=ending.outcomes.append,
            on_fault=faults.append,
        )

        async def on_ended() -> None:
            await asyncio.to_thread(ending.show)

        try:
            shown = asyncio.run(run_flow(start.plan, start.given, launch, ending.host.interrupting, on_ended))
        except (asyncio.CancelledError, KeyboardInterrupt, TerminationSignal):
            if not ending.outcomes:
                raise PhaselineError(
                    "cancelled before the run started", f"start it with: {start.again}"
                ) from None
    if faults:
        raise faults[0]
    return shown


def _end_of(outcome: RunOutcome, start: Start, server: ServerInfo | None) -> RunEnd:
    document = outcome.to_document()
    if server is not None:
        document["ui_url"] = _ui(server, outcome)
    lasting = server if start.environ.get("PHASELINE_SERVER") != "command" else None
    ui, login = (_ui(lasting, outcome), lasting.auth) if lasting else (None, None)
    return RunEnd(document, outcome.exit_code, ui, login, start.request.places)


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
    interrupting: Interrupting,
    on_ended: Callable[[], Awaitable[None]] | None = None,
) -> bool:
    """Runs the plan as a Prefect flow, whose server is known by now; the launch is told how it ended.

    Then `on_ended` is called, and Prefect's server is told, too: False where it does not show the end.
    """
    from prefect.exceptions import Pause

    from deployments.runs.stored_inputs import stored_inputs
    from flows.compiled import LAUNCH, build_flow
    from flows.steps.orchestration import Body, await_flow_call, outwait, probe

    with interrupting(_canceller(launch.hurry), last_steps=bool(plan.finally_)) as cancel:
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

    listen: OnEvent
    begun: bool = False

    def on_event(self, name: str, data: dict[str, Any]) -> None:
        """Hands the event on."""
        self.begun = self.begun or name == "run.started"
        self.listen(name, data)


def _canceller(hurry: threading.Event) -> Callable[[], None]:
    """What cancels the run of this task: what runs is ended, `finally` steps still run.

    Several calls at once are one; a later one cancels what still runs then. `hurry` is set: nothing that is
    out of order is waited for any more.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    called = -SAME_S

    def cancel() -> None:
        nonlocal called
        if loop.time() - called >= SAME_S:
            called = loop.time()
            hurry.set()
            task.cancel()

    return cancel
