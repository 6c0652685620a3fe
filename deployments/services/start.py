"""Starting a run, or continuing the run of an id with what is asked for now."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blocks.names import checked_run_id
from blocks.paths import full_path, here
from blocks.run_request import RunRequest
from blocks.settings import Settings
from deployments.catalogs.opening import open_catalog, plan_of
from deployments.runs.caller import Caller
from deployments.runs.earlier_inputs import require_inputs
from deployments.runs.host import Host, Notice, RunEnd
from deployments.runs.local_run import run_here
from deployments.runs.model_keys import answers_offline, say_keys
from deployments.runs.next_commands import giving_again
from deployments.runs.start import Start, is_parked
from deployments.runs.stored_inputs import GivenFile
from deployments.services.inputs import OpenValue, take_as_written, type_inputs
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import UsageError
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from blocks.ledger import RunRow


@dataclass(frozen=True)
class StartRequest:
    """A workflow, or a text that is routed to one, with its inputs."""

    caller: Caller
    workflow: str = ""
    """A name in the catalog, or the path of a file."""
    text: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    open_value: OpenValue = take_as_written
    run_id: str | None = None
    """A run of that id is continued; None makes a new one."""
    storage: str | None = None
    """None: as the environment says, or where the run has been so far."""
    latest: Literal["table", "online"] = "table"
    offline: bool = False

    def to_run_request(self) -> RunRequest:
        """What the run's row keeps, independent of the working folder."""
        named = self.storage or ""
        return RunRequest(
            workflow="" if self.text is not None else _full_name(self.workflow),
            text=self.text,
            **self.caller.named,
            storage=named if not named or "://" in named else str(full_path(named, "--storage")),
            latest=self.latest,
            offline=self.offline,
        )


def start_run(request: StartRequest, host: Host) -> RunEnd:
    """Runs a workflow in this process until it ends or waits. Raises PhaselineError where it cannot begin."""
    caller, run_id = request.caller, request.run_id
    catalog, environ = open_catalog(caller.catalog), caller.environ
    settings = caller.settings(catalog=str(catalog.root), storage=request.storage)
    before = None if run_id is None else _sweep_before(settings, request, host)
    if before is not None and not (request.storage or environ.get("PHASELINE_STORAGE")):
        settings = replace(settings, storage=before.storage)
    _resolve_latest(request, catalog, before, host)
    plan, routed = plan_of(catalog, request.workflow, request.text)
    new_id = _new_run_id(plan) if run_id is None else run_id
    whole = run_id is None
    given = type_inputs(
        plan, request.inputs, environ=environ, routed=routed, whole=whole, open_value=request.open_value
    )
    for note in (v.note for v in given.values() if isinstance(v, GivenFile) and v.note):
        host.notify(Notice("input", note))
    if run_id is None:
        _sweep_before(settings, request, host)
    if before is not None and before.holder is None:
        from flows.launch import refuse_ungiven

        refuse_ungiven(before, given, giving_again(before))
    recorded = before.inputs if before is not None else None
    require_inputs(plan, given, recorded, new_id, tenant=caller.tenant, settings=settings, environ=environ)
    offline = answers_offline(request.offline, plan, environ, before, host.notify)
    if not offline:
        say_keys(plan, catalog, environ, host.notify)
    asked = request.to_run_request()
    start = Start(plan, catalog, given, settings, environ, new_id, offline, asked, caller.tenant)
    if before is not None and before.holder is None:
        start = replace(start, expect=before.seen, lift_parks=is_parked(before))
    return run_here(start, host)


def _resolve_latest(request: StartRequest, catalog: Catalog, before: RunRow | None, host: Host) -> None:
    """What `latest` means to this run: asked of the provider, or as it began, or as models.yaml says."""
    from deployments.runs.latest_models import pin_latest, resolve_online

    if request.latest == "online":
        resolve_online(catalog, request.caller.environ, host.notify)
    elif before is not None:
        pin_latest(catalog, before.models)


def _full_name(named: str) -> str:
    """A name as it is; a path made absolute."""
    path = here(Path(named))
    return str(path.absolute()) if path.suffix in (".yaml", ".yml") and path.is_file() else named


def _new_run_id(plan: Plan) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in plan.workflow).strip(
        "-_"
    )
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{name[:60] or 'run'}-{stamp}-{secrets.token_hex(2)}"


def _sweep_before(settings: Settings, request: StartRequest, host: Host) -> RunRow | None:
    """The row of the run that is continued; None for a new one. What is due in the ledger is done."""
    from blocks.ledger import Ledger
    from deployments.runs.sweep import sweep

    caller, run_id = request.caller, request.run_id
    if run_id is not None:
        checked_run_id(run_id)
    settings.prepare()
    with Ledger.open(settings.database) as ledger:
        sweep(ledger, caller, host.notify, but=run_id or "")
        row = ledger.reader.get_run(caller.tenant, run_id) if run_id is not None else None
        if row is None and run_id is not None:
            _refuse_secret(run_id)
        return row


def _refuse_secret(run_id: str) -> None:
    """Folders and rows are named after a new run, and no name is masked. An ordinary word is none."""
    from blocks.secrecy.secrets import current_secrets

    if current_secrets().value({run_id: None}, ours=True) != {run_id: None}:
        raise UsageError(f"the run id {run_id} tells a secret", "name the run otherwise in --run-id")
