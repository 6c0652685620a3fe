"""`phaseline run`: one run in this process, against the kept Prefect server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from blocks.names import checked_run_id
from blocks.settings import Settings
from deployments.again import LABEL, continuing, words_of
from deployments.closing import closing
from deployments.definitions import compile_file, compile_named, open_catalog
from deployments.display import Out
from deployments.given import read_inputs
from deployments.local_server import ServerInfo, for_command, prefect_environment
from workflows.core.catalog import Catalog
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.inputs import is_unicode
from workflows.core.plan import Plan

if TYPE_CHECKING:
    from blocks.ledger import RunRow
    from flows.outcome import RunOutcome
    from flows.run import Launch

TENANT = "default"


def execute(args: argparse.Namespace, out: Out) -> int:
    """Runs a workflow, or continues the run of --run-id. Exit codes as in the contract."""
    catalog = open_catalog(args.catalog)
    if args.latest == "online":
        from deployments.latest import resolve_online

        resolve_online(catalog, os.environ, out)
    plan, routed = _plan(args, catalog)
    run_id = _new_run_id(plan) if args.run_id is None else checked_run_id(args.run_id)
    given = {**routed, **read_inputs(plan, args.input, args.inputs)}
    environ = dict(os.environ)
    settings = Settings.read(
        {**environ, "PHASELINE_HOME": str(args.home)}, catalog=str(catalog.root), storage=args.storage
    )
    settings.prepare()
    before = _before(settings, args.run_id)
    offline = _offline(args, plan, environ, before, out)
    _require_inputs(plan, given, continued=args.run_id is not None)
    start = Start(plan, catalog, given, settings, environ, run_id, offline, tuple(words_of(args)))

    def meanwhile(info: ServerInfo) -> None:
        out.note("starting the local Prefect server (some seconds; it stays for later commands)")
        _import_flows(info, settings, environ)

    with for_command(settings.home, environ, meanwhile=meanwhile) as server:
        _import_flows(server, settings, environ)
        return _run(start, server, out)


def _plan(args: argparse.Namespace, catalog: Catalog) -> tuple[Plan, dict[str, Any]]:
    if args.text is None:
        return compile_named(catalog, args.workflow), {}
    if not is_unicode(args.text):
        raise UsageError("the text is no UTF-8", "write it in UTF-8")
    from deployments.commands.route import no_rule, route
    from workflows.core.routes import routed

    choice = route(catalog, args.text)
    if choice.rule is None:
        raise no_rule(catalog)
    found = routed(catalog, choice.rule, args.text)
    return compile_file(catalog, found.file), dict(found.inputs)


def _new_run_id(plan: Plan) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in plan.workflow).strip(
        "-_"
    )
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{name[:60] or 'run'}-{stamp}-{secrets.token_hex(2)}"


def _before(settings: Settings, run_id: str | None) -> RunRow | None:
    """The row of the run that is continued; None for a new one."""
    if run_id is None:
        return None
    from blocks.ledger import Ledger

    with Ledger.open(settings.database) as ledger:
        return ledger.reader.get_run(TENANT, run_id)


def _offline(
    args: argparse.Namespace, plan: Plan, environ: Mapping[str, str], before: RunRow | None, out: Out
) -> bool:
    """Whether the offline model answers. Without a key it does, which is said, never silent.

    A run that goes on stays what it was; asked to be offline after all, it is refused where it starts.
    """
    if args.offline or environ.get("PHASELINE_MODEL") == "offline":
        return True
    if before is not None and before.offline:
        return True
    if environ.get("ANTHROPIC_API_KEY", "").strip() or not any(_asks_model(s) for s in plan.steps):
        return False
    connections = {a.model.connection for s in plan.steps for a in s.agents if a.model.connection}
    if any(environ.get(c, "").strip() for c in connections):
        return False
    if before is not None:
        raise UsageError(
            f"the run {before.run_id} began with a real model, and there is no key", "set ANTHROPIC_API_KEY"
        )
    out.note("no ANTHROPIC_API_KEY: the offline model answers, at no cost; it is not a real model", "yellow")
    return True


def _asks_model(step: Any) -> bool:
    return bool(step.agents) or (
        step.workflow is not None and any(_asks_model(s) for s in step.workflow.steps)
    )


def _require_inputs(plan: Plan, given: Mapping[str, Any], *, continued: bool) -> None:
    """A missing input is told before anything starts, unless an earlier start of the run may have it."""
    missing = [i for i in plan.inputs if i.required and i.name not in given]
    if missing and not continued:
        ways = " ".join(f"-i {i.name}=" + ("@FILE" if i.type == "file" else "VALUE") for i in missing)
        raise UsageError(f"missing input: {', '.join(i.name for i in missing)}", f"add {ways}")


_ready: list[bool] = []


def _import_flows(server: ServerInfo | None, settings: Settings, environ: dict[str, str]) -> None:
    """Points Prefect at the server, then imports it (2 s, spent while a new server loads)."""
    if _ready:
        return
    if server is not None:
        os.environ.update(prefect_environment(server, settings.home, environ, quiet=True))
        # A local server answers at once or is gone: 14 s of trying, not a minute.
        os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "3")
    if "PREFECT_LOGGING_LEVEL" not in environ:
        # Failures are shown once, by the progress and the closing panel; the API still gets every line.
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_DEBUG_LEVEL", "CRITICAL")
        logging.raiseExceptions = False  # or a log line that cannot be sent is told on standard error
    import flows.compiled

    _ready.append(bool(flows.compiled))


@dataclass(frozen=True)
class Start:
    """Everything that is known before a run begins."""

    plan: Plan
    catalog: Catalog
    given: Mapping[str, Any]
    settings: Settings
    environ: Mapping[str, str]
    run_id: str
    offline: bool
    words: tuple[str, ...]

    @property
    def again(self) -> str:
        """The command that continues it."""
        return continuing(self.words, self.run_id)


def _run(start: Start, server: ServerInfo | None, out: Out) -> int:
    """Runs it, prints how it ended, gives the exit code."""
    from deployments.server_end import drain, ended, give_up_sending, server_fault

    outcomes: list[RunOutcome] = []
    try:
        try:
            _walk(start, out, outcomes)
        except Exception as error:
            fault = server_fault(error)
            if fault is None:
                raise
            if not ended(server, start.settings.home):
                raise fault from None
            if not outcomes:
                raise _lost(start, out) from None
    finally:
        gone = ended(server, start.settings.home)
        (give_up_sending if gone else drain)()
    if gone:
        out.note(
            "the local Prefect server ended meanwhile: its UI does not show the end of this run", "yellow"
        )
    _print(outcomes[-1], start, None if gone else server, out)
    return outcomes[-1].exit_code


def _lost(start: Start, out: Out) -> PhaselineError:
    """The error of a run that has no end, since the local server is gone; its document is printed."""
    lost = PhaselineError("the local Prefect server ended", f"continue with: {start.again}")
    out.document(
        {
            "run_id": start.run_id,
            "status": "failed",
            "workflow": start.plan.workflow,
            "offline": start.offline,
            "error": {"message": lost.message, "cure": lost.cure},
        }
    )
    return lost


def _walk(start: Start, out: Out, outcomes: list[RunOutcome]) -> None:
    """Runs the plan as a Prefect flow. How it ended is appended to `outcomes`."""
    from prefect.exceptions import TerminationSignal

    from deployments.progress import Progress
    from flows.compiled import price_table
    from flows.run import Launch

    with Progress(out, start.plan) as progress:
        launch = Launch(
            settings=start.settings,
            environ=start.environ,
            run_id=start.run_id,
            offline=start.offline,
            prices=price_table(start.catalog),
            labels={LABEL: list(start.words)},
            on_event=progress.on_event,
            on_outcome=outcomes.append,
        )
        try:
            asyncio.run(_started(start.plan, start.given, launch))
        except (asyncio.CancelledError, KeyboardInterrupt, TerminationSignal):
            if not outcomes:
                raise PhaselineError(
                    "cancelled before the run started", f"start it with: {start.again}"
                ) from None


def _print(outcome: RunOutcome, start: Start, server: ServerInfo | None, out: Out) -> None:
    document = outcome.to_document()
    if server is not None:
        document["ui_url"] = _ui(server, outcome)
    out.document(document)
    lasting = server if start.environ.get("PHASELINE_SERVER") != "command" else None
    ui, login = (_ui(lasting, outcome), lasting.auth) if lasting else (None, None)
    closing(out, document, ui, login, start.again)


def _ui(server: ServerInfo, outcome: RunOutcome) -> str:
    # Without /v2 Prefect shows its old UI, which gives a browser without a login no place to log in.
    return (
        f"{server.ui_url.rstrip('/')}/v2/runs/flow-run/{outcome.flow_run_id}"
        if outcome.flow_run_id
        else server.ui_url
    )


async def _started(plan: Plan, given: Mapping[str, Any], launch: Launch) -> None:
    from deployments.stored_inputs import stored_inputs
    from flows.compiled import LAUNCH, build_flow

    with _interruptible() as cancel:
        launch = replace(launch, cancel=cancel)
        parameters = await stored_inputs(given, launch)
        token = LAUNCH.set(launch)
        try:
            # The inputs are checked already; Prefect would not take a ref for every type, nor none for
            # what an earlier start of the run was given.
            named = build_flow(plan).with_options(flow_run_name=launch.run_id, validate_parameters=False)
            missing = {i.name: None for i in plan.inputs if i.required}
            known = {**missing, **parameters, "run_id": launch.run_id, "offline": launch.offline}
            state: Any = await named(**known, return_state=True)  # type: ignore[misc]
        finally:
            LAUNCH.reset(token)
        if not state.is_completed():
            value = await state.aresult(raise_on_failure=False)
            if isinstance(value, BaseException):
                raise value


_PAUSE = 1.0
"""Seconds in which further signals are taken for the same one."""


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """SIGINT and SIGTERM cancel the run: what runs is ended, `finally` steps still run.

    Several at once are one; a later one cancels what still runs then. Gives what they do.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    heard = [-_PAUSE]

    def cancel() -> None:
        if loop.time() - heard[0] >= _PAUSE:
            heard[0] = loop.time()
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, cancel)
    try:
        yield cancel
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            # Once it is cancelled the command only says how it ended.
            signal.signal(number, signal.SIG_IGN if heard[0] > 0 else before[number])
