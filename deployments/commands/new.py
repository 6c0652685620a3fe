"""`phaseline new`: something to start from, that passes `check`. Never overwrites."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Container
from pathlib import Path

from blocks.paths import expand_home
from deployments.catalogs.scaffold import (
    REGISTRY,
    Files,
    agent_files,
    catalog_files,
    robot_files,
    skill_files,
    with_registered,
    workflow_files,
)
from deployments.startup import provenance
from deployments.terminal.arguments import default_catalog
from deployments.terminal.display import Out
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.errors import UsageError
from workflows.core.read.files import read_file

_NAMES = {
    "workflow": (r"[A-Za-z0-9][A-Za-z0-9_-]*", "letters, digits, '-' and '_'"),
    "agent": (r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*)?", "lower-case letters, digits and '-', or ns/name"),
    "skill": (
        r"[a-z0-9]+(-[a-z0-9]+)*(/[a-z0-9]+(-[a-z0-9]+)*)?",
        "lower-case letters, digits and '-', or shared/name",
    ),
    "robot": (r"[A-Za-z0-9][A-Za-z0-9_-]*", "letters, digits, '-' and '_'"),
}
_LONGEST = 60


def execute(args: argparse.Namespace, out: Out) -> int:
    """Writes the files; raises UsageError when the name is none, or something stands there already."""
    if args.kind == "catalog":
        root = expand_home(args.name, "the folder")
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise UsageError(f"{root} exists and is not empty", "name a new folder")
        written = _write(root, catalog_files())
        next_words = f"phaseline {_catalog_option(root)}run hello --offline"
    else:
        root = args.catalog
        written = _write_into(root, args.kind, args.name, out)
        next_words = f"phaseline {_catalog_option(root)}check" + (
            f" {args.name}" if args.kind == "workflow" else ""
        )
    out.document({"kind": args.kind, "name": args.name, "files": [str(root / f) for f in written]})
    shown = written if len(written) <= 12 else [*written[:10], f"... {len(written) - 10} more"]
    for file in shown:
        out.line(f"  {root / file}" if not file.startswith("...") else f"  {file}")
    out.line(f"next: {next_words}", "green")
    return 0


def _catalog_option(root: Path) -> str:
    """The option that names this catalog, where a later command would not find it by itself."""
    return "" if root in (default_catalog(), DEFAULT_ROOT) else f"--catalog {shlex.quote(str(root))} "


def _write_into(root: Path, kind: str, name: str, out: Out) -> list[str]:
    pattern, rule = _NAMES[kind]
    if not re.fullmatch(pattern, name) or len(name) > _LONGEST:
        raise UsageError(
            f"the {kind} cannot be called '{name}'", f"use {rule}; at most {_LONGEST} characters"
        )
    catalog = Catalog.load(root)
    _refuse_read_only(root)
    _refuse_taken(catalog, kind, name)
    if kind == "workflow":
        return _write(root, workflow_files(catalog, name))
    if kind == "skill":
        return _write(root, skill_files(name))
    if kind == "robot":
        return _write(root, robot_files(name))
    written = _write(root, agent_files(catalog, name))
    return [*written, *_register(root, name, out)]


def _refuse_read_only(root: Path) -> None:
    shipped = root.resolve() == DEFAULT_ROOT.resolve() and provenance.is_installed()
    if shipped or not os.access(root, os.W_OK):
        what = "is the one installed with phaseline" if shipped else "may not be written"
        raise UsageError(
            f"the catalog {root} {what}",
            "make your own: phaseline new catalog DIR, then add --catalog DIR or set PHASELINE_CATALOG",
        )


def _refuse_taken(catalog: Catalog, kind: str, name: str) -> None:
    known: dict[str, Container[str]] = {
        "workflow": catalog.workflows,
        "agent": {**catalog.agents, **catalog.registered},
        "skill": catalog.skills,
        "robot": catalog.robots,
    }
    if name in known[kind]:
        raise UsageError(f"the {kind} '{name}' exists already", "choose another name")


def _write(root: Path, files: Files) -> list[str]:
    """Writes all files or none that exists; gives their paths below the root."""
    taken = [path for path in files if (root / path).exists() or (root / path).is_symlink()]
    if taken:
        raise UsageError(f"{root / taken[0]} exists already", "choose another name, or remove it first")
    try:
        for path, text in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
    except OSError as fault:
        raise UsageError(
            f"cannot write below {root}: {fault.strerror}", "name a folder you may write"
        ) from None
    return list(files)


def _register(root: Path, name: str, out: Out) -> list[str]:
    """Adds the agent to the registry, where there is one."""
    file = root / REGISTRY
    if not file.is_file():
        return []
    made = with_registered(read_file(file, 2**20).decode("utf-8", "replace"), name)
    if made is None:
        out.note(f"add it by hand to {file}:  - id: {name}", "yellow")
        return []
    file.write_bytes(made.encode())  # as text, line ends of other systems would be rewritten
    return [REGISTRY]
