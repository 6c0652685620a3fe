"""`phaseline run`: one run in this process, against the kept Prefect server."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from blocks.settings import Settings
from deployments.definitions import compile_file, compile_named, open_catalog
from deployments.display import Out
from deployments.given import GivenFile, read_inputs
from deployments.local_server import ServerInfo, for_command, prefect_environment
from workflows.core.catalog import Catalog
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.plan import Plan
from workflows.core.refs import RUN_ID

if TYPE_CHECKING:
    from flows.outcome import RunOutcome

Event = Callable[[str, dict[str, Any]], None]


def execute(args: argparse.Namespace, out: Out) -> int:
    """Runs a workflow, or continues the run of --run-id. Exit codes as in the contract."""
    catalog = open_catalog(args.catalog)
    if args.latest == "online":
        from deployments.latest import resolve_online

        resolve_online(catalog, os.environ, out)
    plan, routed = _plan(args, catalog)
    given = {**routed, **read_inputs(plan, args.input, args.inputs)}
    environ = dict(os.environ)
    settings = Settings.read(
        {**environ, "PHASELINE_HOME": str(args.home)}, catalog=str(catalog.root), storage=args.storage
    )
    settings.prepare()
    run_id = args.run_id or _new_run_id(plan)
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(f"not a run id: '{run_id}'", "use letters, digits, '.', '_' and '-'")
    offline = _offline(args, plan, environ, out)
    _require_inputs(plan, given, continued=bool(args.run_id))

    def meanwhile(info: ServerInfo) -> None:
        out.note("starting the local Prefect server (some seconds; it stays for later commands)")
        _import_flows(info, settings, environ)

    with for_command(settings.home, environ, meanwhile=meanwhile) as server:
        _import_flows(server, settings, environ)
        try:
            outcome = _run(plan, catalog, given, settings, environ, run_id, offline, server, out)
        finally:
            _drain()
    return outcome.exit_code


def _plan(args: argparse.Namespace, catalog: Catalog) -> tuple[Plan, dict[str, Any]]:
    if args.text is None:
        return compile_named(catalog, args.workflow), {}
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


def _offline(args: argparse.Namespace, plan: Plan, environ: Mapping[str, str], out: Out) -> bool:
    """Without a key the offline model answers; that is said, never silent."""
    if args.offline or environ.get("PHASELINE_MODEL") == "offline":
        return True
    if environ.get("ANTHROPIC_API_KEY", "").strip() or not any(_asks_model(s) for s in plan.steps):
        return False
    connections = {a.model.connection for s in plan.steps for a in s.agents if a.model.connection}
    if any(environ.get(c, "").strip() for c in connections):
        return False
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
    if "PREFECT_LOGGING_LEVEL" not in environ:
        # Failures are shown once, by the progress and the closing panel; the API still gets every line.
        os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"
    import flows.compiled

    _ready.append(bool(flows.compiled))


def _drain() -> None:
    """Sends what Prefect still holds back (logs, task runs), before the server may end with this command."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=10)
    APILogWorker.drain_all(timeout=10)


def _run(
    plan: Plan,
    catalog: Catalog,
    given: Mapping[str, Any],
    settings: Settings,
    environ: Mapping[str, str],
    run_id: str,
    offline: bool,
    server: ServerInfo | None,
    out: Out,
) -> RunOutcome:
    from deployments.progress import Progress, closing
    from flows.compiled import price_table
    from flows.run import Launch

    outcomes: list[RunOutcome] = []
    with Progress(out, plan) as progress:
        launch = Launch(
            settings=settings,
            environ=environ,
            run_id=run_id,
            offline=offline,
            prices=price_table(catalog),
            on_event=progress.on_event,
            on_outcome=outcomes.append,
        )
        try:
            asyncio.run(_started(plan, given, launch))
        except (asyncio.CancelledError, KeyboardInterrupt):
            if not outcomes:
                raise PhaselineError(
                    "cancelled before the run started", f"start it again with --run-id {run_id}"
                ) from None
        except Exception as error:
            fault = _server_fault(error)
            if fault is None:
                raise
            raise fault from None
    outcome = outcomes[-1]
    document = outcome.to_document()
    if server is not None:
        document["ui_url"] = _ui(server, outcome)
    out.document(document)
    lasting = server if environ.get("PHASELINE_SERVER") != "command" else None
    closing(out, document, _ui(lasting, outcome) if lasting else "", lasting.auth if lasting else "")
    return outcome


def _server_fault(error: Exception) -> PhaselineError | None:
    """What to tell when Prefect's server cannot be used; None for any other error."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, httpx.HTTPError):
        cause = cause.__cause__
    if cause is None:
        return None
    refused = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in (401, 403)
    shown = (str(cause) or type(cause).__name__).splitlines()[0]
    why = "refused our login" if refused else f"cannot be used: {shown}"
    return PhaselineError(
        f"the Prefect server at {PREFECT_API_URL.value()} {why}",
        "check PREFECT_API_URL and PREFECT_API_AUTH_STRING, or unset both to use a local server",
    )


def _ui(server: ServerInfo, outcome: RunOutcome) -> str:
    # Without /v2 Prefect shows its old UI, which gives a browser without a login no place to log in.
    return (
        f"{server.ui_url.rstrip('/')}/v2/runs/flow-run/{outcome.flow_run_id}"
        if outcome.flow_run_id
        else server.ui_url
    )


async def _started(plan: Plan, given: Mapping[str, Any], launch: Any) -> None:
    from flows.compiled import LAUNCH, build_flow

    with _terminable():
        parameters = await _stored(given, launch)
        token = LAUNCH.set(launch)
        try:
            named = build_flow(plan).with_options(flow_run_name=launch.run_id)
            state = await named(**parameters, run_id=launch.run_id, offline=launch.offline, return_state=True)
        finally:
            LAUNCH.reset(token)
        if not state.is_completed():
            value = await state.aresult(raise_on_failure=False)
            if isinstance(value, BaseException):
                raise value


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM cancels the run as Ctrl-C does: what runs is ended, `finally` steps still run."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _stored(given: Mapping[str, Any], launch: Any) -> dict[str, Any]:
    """Files that were given become artifacts: what travels through Prefect is their ref."""
    from blocks.storage import ArtifactStore

    out = {}
    with ArtifactStore.open(launch.settings.storage, environ=launch.environ) as store:
        for name, value in given.items():
            if not isinstance(value, GivenFile):
                out[name] = value
                continue
            out[name] = await store.put(
                value.body,
                tenant=launch.tenant,
                media_type=value.media_type,
                kind="input",
                summary=f"{name} ({value.path.name})",
                run_id=launch.run_id,
            )
    return out
