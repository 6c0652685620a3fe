"""`phaseline run`: what to run, under which id, with which inputs."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blocks.names import checked_run_id
from blocks.paths import full_path, here
from blocks.run_request import RunRequest
from blocks.settings import Settings
from deployments.catalogs.opening import open_catalog, plan_of
from deployments.runs.earlier_inputs import require_inputs
from deployments.runs.local_run import run_here
from deployments.runs.model_keys import say_keys
from deployments.runs.start import Start, is_parked
from deployments.terminal.display import Out
from deployments.terminal.input_arguments import GivenFile, read_inputs
from deployments.terminal.next_commands import giving_again
from workflows.core.catalog.connectors import DEFAULT_KEY
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import UsageError
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from blocks.ledger import RunRow

TENANT = "default"


def execute(args: argparse.Namespace, out: Out) -> int:
    """Runs a workflow, or continues the run of --run-id. Exit codes as in the contract."""
    catalog, environ = open_catalog(args.catalog), dict(os.environ)
    settings = Settings.read(
        {**environ, "PHASELINE_HOME": str(args.home)}, catalog=str(catalog.root), storage=args.storage
    )
    before = None if args.run_id is None else _before(settings, args, out)
    if before is not None and not (args.storage or environ.get("PHASELINE_STORAGE")):
        settings = replace(settings, storage=before.storage)
    _resolve_latest(args.latest, catalog, before, out)
    plan, routed = plan_of(catalog, args.workflow, args.text)
    run_id = _new_run_id(plan) if args.run_id is None else args.run_id
    given = read_inputs(plan, args.input, args.inputs, routed=routed, whole=args.run_id is None)
    for note in (v.note for v in given.values() if isinstance(v, GivenFile) and v.note):
        out.note(note, "yellow")
    if args.run_id is None:
        _before(settings, args, out)
    if before is not None and before.holder is None:
        from flows.launch import refuse_ungiven

        refuse_ungiven(before, given, giving_again(before))
    recorded = before.inputs if before is not None else None
    require_inputs(plan, given, recorded, run_id, settings=settings, environ=environ)
    offline = answers_offline(args.offline, plan, environ, before, out)
    if not offline:
        say_keys(plan, catalog, environ, out)
    start = Start(plan, catalog, given, settings, environ, run_id, offline, _request(args))
    if before is not None and before.holder is None:
        start = replace(start, expect=before.seen, lift_parks=is_parked(before))
    return run_here(start, out)


def _resolve_latest(wanted: str, catalog: Catalog, before: RunRow | None, out: Out) -> None:
    """What `latest` means to this run: asked of the provider, or as it began, or as models.yaml says."""
    from deployments.runs.latest_models import pin_latest, resolve_online

    if wanted == "online":
        resolve_online(catalog, os.environ, out)
    elif before is not None:
        pin_latest(catalog, before.models)


def _request(args: argparse.Namespace) -> RunRequest:
    """What this command asks for, independent of the working folder."""
    named = args.storage or ""
    return RunRequest(
        workflow="" if args.text is not None else _workflow(args.workflow),
        text=args.text,
        **args.named,
        storage=named if not named or "://" in named else str(full_path(named, "--storage")),
        latest=args.latest,
        offline=args.offline,
    )


def _workflow(named: str) -> str:
    """A name as it is; a path made absolute."""
    path = here(Path(named))
    return str(path.absolute()) if path.suffix in (".yaml", ".yml") and path.is_file() else named


def _new_run_id(plan: Plan) -> str:
    name = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in plan.workflow).strip(
        "-_"
    )
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{name[:60] or 'run'}-{stamp}-{secrets.token_hex(2)}"


def _before(settings: Settings, args: argparse.Namespace, out: Out) -> RunRow | None:
    """The row of the run that is continued; None for a new one. What is due in the ledger is done."""
    from blocks.ledger import Ledger
    from deployments.runs.sweep import sweep

    if args.run_id is not None:
        checked_run_id(args.run_id)
    settings.prepare()
    with Ledger.open(settings.database) as ledger:
        sweep(ledger, out, args.home, args.places, but=args.run_id or "")
        row = ledger.reader.get_run(TENANT, args.run_id) if args.run_id is not None else None
        if row is None and args.run_id is not None:
            _refuse_secret(args.run_id)
        return row


def _refuse_secret(run_id: str) -> None:
    """Folders and rows are named after a new run, and no name is masked. An ordinary word is none."""
    from blocks.secrecy.secrets import current_secrets

    if current_secrets().value({run_id: None}, ours=True) != {run_id: None}:
        raise UsageError(f"the run id {run_id} tells a secret", "name the run otherwise in --run-id")


def answers_offline(
    asked: bool, plan: Plan, environ: Mapping[str, str], before: RunRow | None, out: Out
) -> bool:
    """Whether the offline model answers. Without a key it does, which is said, never silent.

    A run that goes on stays what it was; asked to be offline after all, it is refused where it starts.
    """
    if asked or environ.get("PHASELINE_MODEL") == "offline":
        return True
    if before is not None and before.offline:
        return True
    asked_for = {a.model.connection or DEFAULT_KEY for a in agents_of(plan)}
    if not asked_for or any(environ.get(name, "").strip() for name in (DEFAULT_KEY, *asked_for)):
        return False
    if before is not None:
        raise UsageError(
            f"the run {before.run_id} began with a real model, and there is no key", "set ANTHROPIC_API_KEY"
        )
    out.note("no ANTHROPIC_API_KEY: the offline model answers, at no cost; it is not a real model", "yellow")
    return True
