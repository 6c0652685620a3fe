"""`phaseline prove`: kill a workflow at every place between two writes, and see that nothing differs."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

from blocks.boundaries import BOUNDARIES
from blocks.paths import expand_home, full_path
from blocks.process.ending import ignore_signals
from blocks.secrecy import secrets
from deployments.catalogs.opening import compile_named, open_catalog
from deployments.prover.apart import run_apart
from deployments.prover.child import Subject, preload, remove_folder
from deployments.prover.reach import refuse_far_reaching
from deployments.server import kept_server as local_server
from deployments.services.inputs import type_inputs
from deployments.terminal.display import Out
from deployments.terminal.input_arguments import open_value, read_written
from workflows.core.catalog.contents import Catalog
from workflows.core.errors import UsageError, did_you_mean
from workflows.core.plans.plan import Plan

_IDLE = "120"
"""Seconds after which a server whose prover was killed ends by itself."""
_WIDTH = 2
_SERVER = "server"
"""Home of the cases' Prefect server, below the folder of all cases."""


def execute(args: argparse.Namespace, out: Out) -> int:
    """Proves the workflow. 0 when nothing differs, 1 when something does."""
    if not hasattr(os, "fork"):
        raise UsageError("`phaseline prove` needs a system that can fork", "run it on Linux or macOS")
    catalog = open_catalog(args.catalog)
    plan = compile_named(catalog, args.workflow)
    written = read_written(args.input, args.inputs)
    given = type_inputs(plan, written, environ=os.environ, whole=True, open_value=open_value)
    answers = _answers(args.answers, plan)
    _check_pattern(args.only)
    if not args.allow_effects:
        refuse_far_reaching(plan)
    report = _writable(args.report)

    root = _folder_name(args.keep)

    def work() -> int:
        with _clear_afterwards(root, args.keep):
            root.mkdir(mode=0o700, parents=True, exist_ok=args.keep is not None)
            with _server(root / _SERVER, out):
                return _prove(args, _subject(args, catalog, plan, given, answers), root, report, out)

    with _clear_afterwards(root, args.keep):  # here too: who proves may be killed
        return run_apart(work, out)


def _prove(args: argparse.Namespace, subject: Subject, root: Path, report: Path | None, out: Out) -> int:
    from deployments.prover.report import document, markdown, print_proof
    from deployments.prover.sweep import Sweep, Wanted

    progress = _Progress(out)
    wanted = Wanted(args.only, args.limit, args.all, args.keep is not None)
    width = min(_WIDTH, os.cpu_count() or 1)
    sweep = Sweep(subject, root, wanted, progress.on_chosen, progress.on_verdict, width)
    proof = sweep.prove()
    if not proof.verdicts:
        raise UsageError(
            f"'{subject.plan.workflow}' does not reach {args.only}",
            "see what it reaches: run it without --only",
        )
    if report is not None:
        told = markdown(proof, subject.plan.workflow, _words(args))
        report.write_text(secrets.current_secrets().text(told), "utf-8")
    print_proof(proof, out)
    out.document(document(proof, subject.plan.workflow))
    if report is not None:
        out.note(f"report: {report}")
    return 0 if proof.ok else 1


def _subject(
    args: argparse.Namespace,
    catalog: Catalog,
    plan: Plan,
    given: Mapping[str, Any],
    answers: Mapping[str, Any],
) -> Subject:
    from flows.compiled import price_table

    return Subject(
        plan=plan,
        given=given,
        catalog=catalog.root,
        environ=dict(os.environ),
        prices=price_table(catalog),
        answers=answers,
        allow_effects=args.allow_effects,
    )


class _Progress:
    """A line per case on a terminal; elsewhere only for what differs."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._done = self._total = 0

    def on_chosen(self, choice: Any) -> None:
        """Says how many cases there are."""
        self._total = len(choice.visited)
        left = f", {len(choice.left)} left out" if choice.left else ""
        self._out.note(f"{self._total} boundaries to visit{left}")

    def on_verdict(self, verdict: Any) -> None:
        """One more case."""
        from deployments.prover.report import case_line

        self._done += 1
        if verdict.differences or self._out.stderr.isatty():
            style = "red" if verdict.differences else ""
            self._out.note(case_line(verdict, self._done, self._total), style)  # type: ignore[arg-type]


def _folder_name(keep: str | None) -> Path:
    """Where everything is kept. Raises UsageError.

    A passing one is made by who removes it: this process may be killed before there is anybody else.
    """
    if keep is None:
        return Path(tempfile.gettempdir(), f"phaseline-prove-{token_hex(8)}")
    root = full_path(keep, "--keep")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise UsageError(f"the folder {keep} is not empty", "name a new one in --keep")
    return root


@contextlib.contextmanager
def _clear_afterwards(root: Path, keep: str | None) -> Iterator[None]:
    """Afterwards server and folder are gone; of one that was named, the cases that differ stay."""
    try:
        yield
    finally:
        with ignore_signals():
            if (root / _SERVER).is_dir():
                local_server.down(root / _SERVER, grace=0)
            remove_folder(root / _SERVER if keep is not None else root)


@contextlib.contextmanager
def _server(home: Path, out: Out) -> Iterator[None]:
    """A Prefect server for the cases alone. Prefect is imported while it starts, and knows no other one."""
    environ = {**os.environ, "PHASELINE_SERVER_IDLE": _IDLE}
    out.note("starting a Prefect server of its own")

    def meanwhile(info: local_server.ServerInfo) -> None:
        _point_prefect(info, home)
        preload()

    with local_server.busy(home):
        local_server.ensure(home, lifetime="command", environ=environ, meanwhile=meanwhile)
        yield


def _point_prefect(info: local_server.ServerInfo, home: Path) -> None:
    for name in [n for n in os.environ if n.startswith("PREFECT_")]:
        del os.environ[name]  # what the user set is about the user's own server
    os.environ.update(local_server.prefect_environment(info, home, os.environ))
    os.environ.update(
        PREFECT_LOGGING_TO_API_ENABLED="false",
        PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL",
        PREFECT_CLIENT_MAX_RETRIES="3",
    )


def _check_pattern(only: str | None) -> None:
    """Raises UsageError for a pattern that no boundary can have, before anything runs."""
    name = (only or "*").partition("@")[0]
    if not any(fnmatch.fnmatchcase(known, name) for known in BOUNDARIES):
        raise UsageError(f"there is no boundary '{name}'", did_you_mean(name, list(BOUNDARIES)))


def _answers(name: str | None, plan: Plan) -> dict[str, Any]:
    """Answers by step id, as the user wrote them. Raises UsageError."""
    from workflows.core.read.documents import read_source
    from workflows.core.read.source import Unreadable

    if name is None:
        return {}
    try:
        found = read_source(expand_home(name, "--answers"), name).data
    except Unreadable as fault:
        raise UsageError(str(fault.mistakes[0]), "") from None
    steps = [s.id for s in plan.steps]
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise UsageError(f"{name} holds no answers", "write `step: {field: value}` lines")
    for step in found:
        if str(step).split("/")[0] not in steps:
            raise UsageError(
                f"{name}: '{plan.workflow}' has no step '{step}'", did_you_mean(str(step), steps)
            )
    return {str(step): answer for step, answer in found.items()}


def _writable(name: str | None) -> Path | None:
    """The report's file. Raises UsageError before anything runs when it cannot be written."""
    if name is None:
        return None
    file = full_path(name, "--report")
    there = file.exists()
    try:
        file.open("a").close()
        if not there:
            file.unlink()  # until there is something to report
    except OSError as fault:
        raise UsageError(f"--report {name}: {fault.strerror}", "name a file you may write") from None
    return file


def _words(args: argparse.Namespace) -> str:
    """The command again, without values: an input may be nobody else's business."""
    words = ["phaseline", "prove", args.workflow]
    for option in ("only", "limit"):
        if (value := getattr(args, option)) is not None:
            words += [f"--{option}", str(value)]
    words += ["--all"] if args.all else []
    return shlex.join(words)
