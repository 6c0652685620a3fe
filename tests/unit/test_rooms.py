"""Rooms: the folders of each floor, and that imports between them lead one way only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_import_direction import OURS, ROOT, imports_of

MOST_NAMES = 19
"""Files and folders that a reader sees in one folder of code."""

ORDER = (
    # The core: what everybody reads, then from text to plan, then what is made of plans.
    "workflows.core",
    "workflows.core.text",
    "workflows.core.models",
    "workflows.core.read",
    "workflows.core.expressions",
    "workflows.core.plans",
    "workflows.core.tools.built_in",
    "workflows.core.tools",
    "workflows.core.permissions",
    "workflows.core.catalog",
    "workflows.core.doers",
    "workflows.core.compile",
    "workflows.core.routing",
    "workflows.core.check",
    "workflows.core.graph",
    "blocks",
    "blocks.secrecy",
    "blocks.process",
    "blocks.schemas",
    "blocks.storage",
    "blocks.ledger.tables",
    "blocks.ledger.database",
    "blocks.ledger.runs",
    "blocks.ledger.waits",
    "blocks.ledger.budgets",
    "blocks.ledger",
    "blocks.offline",
    "blocks.providers",
    "tasks.limits",
    "tasks",
    "tasks.outputs",
    "tasks.effects",
    "tasks.handlers",
    "tasks.servers",
    "tasks.web",
    "tasks.conversation",
    "tasks.doers",
    "flows.steps",
    "flows",
    "deployments.startup",
    "deployments.server",
    "deployments.catalogs",
    "deployments.runs",
    "deployments.services",
    "deployments.terminal",
    "deployments.prover",
    "deployments.commands",
    "deployments",
)
"""A room imports only rooms that stand before it. A package's own files are a room as well."""


def modules(root: Path) -> dict[str, Path]:
    """The modules of the five packages, but for content and migrations, which are data."""
    found = {}
    for package in OURS:
        for file in (root / package).rglob("*.py"):
            name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            content = name.startswith("workflows.") and not name.startswith("workflows.core")
            if not content and ".migrations" not in name:
                found[name] = file
    return found


def arrows(root: Path) -> Iterator[tuple[str, str, str]]:
    """Which module imports which, and where that stands."""
    known = modules(root)
    for found in imports_of(root):
        module = ".".join(Path(found.file).with_suffix("").parts).removesuffix(".__init__")
        if module not in known:
            continue
        target = found.name if found.name in known else found.name.rpartition(".")[0]
        if target in known and target != module:
            yield module, target, f"{found.file}:{found.line}"


def room_of(module: str, packages: set[str]) -> str:
    """The room of a module: its folder; a package's `__init__` is in its own."""
    return module if module in packages else module.rpartition(".")[0]


def packages_of(root: Path) -> set[str]:
    """The modules that are folders."""
    return {name for name, file in modules(root).items() if file.stem == "__init__"}


def test_every_room_has_its_place_in_the_order() -> None:
    packages = packages_of(ROOT)
    rooms = {room_of(name, packages) for name in modules(ROOT) if name != "workflows"}
    assert rooms == set(ORDER)


def test_a_room_imports_only_rooms_before_it() -> None:
    packages, place = packages_of(ROOT), {room: number for number, room in enumerate(ORDER)}
    wrong = []
    for module, target, where in arrows(ROOT):
        here, there = room_of(module, packages), room_of(target, packages)
        if place[there] > place[here]:
            wrong.append(f"{where}: {here} imports {there}")
    assert wrong == []


@pytest.mark.parametrize("room", ORDER)
def test_whoever_opens_a_room_sees_few_names(room: str) -> None:
    folder = ROOT / room.replace(".", "/")
    names = {path.name for path in folder.iterdir()} - {"__pycache__", "__init__.py"}
    assert len(names) <= MOST_NAMES, sorted(names)


PAGE = (ROOT / "docs" / "ARCHITECTURE.md").read_text("utf-8")


def test_the_page_shows_the_rooms_in_their_order() -> None:
    shown = re.findall(r"^\| `([a-z_/]+)` \|", PAGE, re.M)
    assert [room.replace("/", ".") for room in shown] == list(ORDER)


def test_the_files_that_the_page_names_are_there() -> None:
    named = set(
        re.findall(r"`?((?:workflows|blocks|tasks|flows|deployments|tests|docs)/[\w/]+\.(?:py|md))", PAGE)
    )
    assert len(named) > 30
    assert [file for file in sorted(named) if not (ROOT / file).is_file()] == []


SERVICES = ("deployments.runs", "deployments.services")
"""Rooms that any front stands on: they print nothing, and read nothing of their process."""


def test_services_know_nothing_of_a_command_line() -> None:
    wrong = []
    for name, file in modules(ROOT).items():
        if name.startswith(SERVICES):
            wrong += [f"{name}: {found}" for found in fronts_in(file.read_text("utf-8"))]
    assert wrong == []


def fronts_in(source: str) -> Iterator[str]:
    """What only a front does: words of a command, printing, this process's variables, streams and signals."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name in ("argparse", "signal"))
            case ast.ImportFrom(module="argparse" | "signal" as module):
                yield module
            case ast.ImportFrom(module="os", names=names):
                yield from (f"os.{alias.name}" for alias in names if alias.name in ("environ", "getenv"))
            case ast.ImportFrom(module="blocks.process.ending", names=names):
                yield from (alias.name for alias in names if alias.name == "on_signals")
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv" | "putenv" as attribute):
                yield f"os.{attribute}"
            case ast.Attribute(
                value=ast.Name(id="sys"), attr="stdin" | "stdout" | "stderr" | "argv" as attribute
            ):
                yield f"sys.{attribute}"
            case ast.Call(func=ast.Name(id="print" | "input" as function)):
                yield function


@pytest.mark.parametrize(
    "source",
    [
        "import argparse",
        "def f():\n    from argparse import Namespace",
        "import os\nos.environ['A']",
        "from os import environ",
        "os.getenv('A')",
        "import sys\nsys.stderr.write('')",
        "print('a')",
        "from blocks.process.ending import on_signals",
    ],
)
def test_what_only_a_front_does_is_seen(source: str) -> None:
    assert list(fronts_in(source))
