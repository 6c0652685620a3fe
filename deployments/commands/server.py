"""`phaseline up`, `down` and `env`: the local Prefect server."""

from __future__ import annotations

import argparse
import os
import shlex

from deployments.server import kept_server as local_server
from deployments.terminal.display import Out


def execute(args: argparse.Namespace, out: Out) -> int:
    """Does what the command's name says."""
    return {"up": _up, "down": _down, "env": _env}[args.command](args, out)


def _up(args: argparse.Namespace, out: Out) -> int:
    _bring_up_to_date(args)
    if local_server.status(args.home) is None:
        out.note("starting the local Prefect server ...", "dim")
    info, how = local_server.ensure(args.home, keep=True)
    out.document({"api_url": info.api_url, "ui_url": info.ui_url, "pid": info.pid})
    out.line("it was running already; it is now kept" if how == "warm" else "running", "green")
    out.line(f"  UI    {info.ui_url}")
    out.line(f"  login {info.auth}   (the UI asks for it once)", reveal=True)
    out.line('  the prefect command: eval "$(phaseline env)"; end it: phaseline down')
    if os.environ.get("PREFECT_API_URL"):
        out.note("PREFECT_API_URL is set: commands use that server, not this one", "yellow")
    return 0


def _bring_up_to_date(args: argparse.Namespace) -> None:
    """The ledger's tables. On SQLite every command does this; on PostgreSQL only who operates it should."""
    from blocks.ledger import Ledger
    from blocks.settings import Settings

    settings = Settings.read({**os.environ, "PHASELINE_HOME": str(args.home)}, catalog=str(args.catalog))
    if "://" in settings.database:
        Ledger.open(settings.database, migrate=True).close()


def _down(args: argparse.Namespace, out: Out) -> int:
    stopped = local_server.down(args.home)
    out.document({"stopped": stopped})
    out.line("the local Prefect server has ended" if stopped else "no local Prefect server was running")
    return 0


def _env(args: argparse.Namespace, out: Out) -> int:
    """The server commands use: the one PREFECT_API_URL names, else the local one, started if need be."""
    if os.environ.get("PREFECT_API_URL"):
        names = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY")
        variables = {name: os.environ[name] for name in names if name in os.environ}
    else:
        info, _ = local_server.ensure(args.home)
        variables = local_server.prefect_environment(info, args.home)
    out.document({"environment": variables}, reveal=True)
    for name, value in variables.items():
        out.line(f"export {name}={shlex.quote(value)}", reveal=True)
    return 0
