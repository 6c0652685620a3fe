"""workflows say what, blocks where, tasks how, flows in which order, deployments when: imports point one way.

Every import is looked at, also one inside a function, under `TYPE_CHECKING`, relative, or made by
`importlib.import_module("...")`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("workflows", "blocks", "tasks", "flows", "deployments")

# What each layer may import of ours, by prefix.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "workflows.core": ("workflows.core",),
    "blocks": ("workflows.core", "blocks"),
    "tasks": ("workflows.core", "blocks", "tasks"),
    "flows": ("workflows.core", "blocks", "tasks", "flows"),
    "deployments": ("workflows.core", "blocks", "flows", "deployments"),
}
CORE_PACKAGES = {"pydantic", "pydantic_core", "yaml", "jinja2", "regex"}
# The core is pure: the same files and values give the same answer anywhere, without opening anything.
NOT_IN_CORE = {
    *("socket", "ssl", "http", "urllib.request", "asyncio", "threading", "multiprocessing", "subprocess"),
    *("concurrent", "selectors", "time", "random", "secrets", "uuid", "tempfile", "signal"),
}


@dataclass(frozen=True)
class Import:
    """One import: where it stands and what it names."""

    file: str
    line: int
    layer: str
    name: str
    for_types: bool = False
    """Whether it stands under `TYPE_CHECKING`."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.layer} imports {self.name}"


def layer_of(module: str) -> str:
    """The layer a module belongs to: `workflows.core`, `content` below workflows, or its package."""
    if module == "workflows.core" or module.startswith("workflows.core."):
        return "workflows.core"
    return "content" if module.split(".")[0] == "workflows" else module.split(".")[0]


def imports_of(root: Path) -> Iterator[Import]:
    """Every import of the five packages below `root`."""
    for package in OURS:
        for file in sorted((root / package).rglob("*.py")):
            module = ".".join(file.relative_to(root).with_suffix("").parts)
            tree = ast.parse(file.read_text(encoding="utf-8"))
            typing = {inner for node in ast.walk(tree) if is_for_types(node) for inner in ast.walk(node)}
            for node in ast.walk(tree):
                for name in names_of(node, module, file.stem == "__init__"):
                    shown = str(file.relative_to(root))
                    yield Import(
                        shown, getattr(node, "lineno", 0), layer_of(module), name, for_types=node in typing
                    )


def is_for_types(node: ast.AST) -> bool:
    """Whether a node is `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def names_of(node: ast.AST, module: str, is_package: bool) -> list[str]:
    """The full names a node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = module.split(".")[: -node.level]
            base = ".".join([*parts, base]) if base else ".".join(parts)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        value = node.args[0].value
        if called in ("import_module", "__import__") and isinstance(value, str):
            return [value]
    return []


def within(name: str, prefixes: tuple[str, ...] | set[str]) -> bool:
    """Whether a name is one of the prefixes or lies below one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def wrong_direction(found: Import) -> bool:
    """An import of ours against the order of the layers. Content is data: it imports none of our packages."""
    if found.name.split(".")[0] not in OURS:
        return False
    if found.name == "workflows" and found.layer != "content":
        return False
    return not within(found.name, MAY_IMPORT.get(found.layer, ()))


def not_for_core(found: Import) -> bool:
    """What would make checking a file slow or unsure."""
    if found.layer != "workflows.core":
        return False
    top = found.name.split(".")[0]
    known = top in sys.stdlib_module_names or top in CORE_PACKAGES or top in OURS
    return not known or within(found.name, NOT_IN_CORE)


def test_imports_point_one_way() -> None:
    wrong = [str(found) for found in imports_of(ROOT) if wrong_direction(found)]
    assert wrong == []


def test_the_core_is_pure() -> None:
    wrong = [str(found) for found in imports_of(ROOT) if not_for_core(found)]
    assert wrong == []


def test_no_modules_import_each_other() -> None:
    """Nor in a larger circle, also not inside of functions: CycleError names it."""
    modules: dict[str, set[str]] = {}
    for file in (file for package in OURS for file in (ROOT / package).rglob("*.py")):
        modules[module_of(str(file.relative_to(ROOT)))] = set()
    for found in imports_of(ROOT):
        module, name = module_of(found.file), found.name
        while name and name not in modules:
            name = name.rpartition(".")[0]
        if name and name != module and not found.for_types:
            modules[module].add(name)
    TopologicalSorter(modules).prepare()


def module_of(file: str) -> str:
    """The module that a file is."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def test_every_package_is_looked_at() -> None:
    seen = {found.file.split("/")[0] for found in imports_of(ROOT)}
    assert {"workflows", "tasks"} <= seen
    assert {found.layer for found in imports_of(ROOT)} <= {*MAY_IMPORT, "content"}


@pytest.mark.parametrize(
    ("file", "source", "wrong"),
    [
        ("workflows/core/x.py", "import prefect", True),
        ("workflows/core/x.py", "def f():\n    from anthropic import Anthropic", True),
        ("workflows/core/x.py", "from blocks.models import Model", True),
        ("workflows/core/x.py", "from ...blocks import models", True),
        ("workflows/core/x.py", "import time", True),
        ("workflows/core/x.py", "from urllib.request import urlopen", True),
        ("workflows/core/x.py", "from importlib import import_module\nimport_module('prefect')", True),
        ("workflows/core/x.py", "from . import errors\nimport yaml, regex, pydantic, jinja2, ast", False),
        ("workflows/core/deep/x.py", "from ..errors import PhaselineError", False),
        ("workflows/skills/s/handlers/x.py", "from tasks.handlers.process import run_handler", True),
        ("workflows/skills/s/handlers/x.py", "import workflows.core.errors", True),
        ("workflows/skills/s/handlers/x.py", "import time, _near", False),
        ("blocks/x.py", "def f():\n    import tasks.handlers.process", True),
        ("blocks/x.py", "import flows", True),
        ("blocks/x.py", "import prefect, blocks.models, workflows.core.plans.plan", False),
        ("tasks/x.py", "from flows import run", True),
        (
            "tasks/x.py",
            "from tasks.handlers import process\nimport blocks.storage.artifacts, anthropic",
            False,
        ),
        ("flows/x.py", "__import__('deployments.cli')", True),
        ("flows/x.py", "from tasks.handlers.process import run_handler\nimport blocks.ledger", False),
        ("deployments/x.py", "if True:\n    from tasks.handlers.process import run_handler", True),
        (
            "deployments/x.py",
            "import flows.workflow, blocks.storage.artifacts, deployments.cli, workflows.core",
            False,
        ),
        ("tasks/x.py", "from workflows.core.errors import PhaselineError\nfrom workflows import core", False),
    ],
)
def test_the_walk_sees_what_it_should(tmp_path: Path, file: str, source: str, wrong: bool) -> None:
    place = tmp_path / file
    place.parent.mkdir(parents=True)
    place.write_text(source, encoding="utf-8")
    found = list(imports_of(tmp_path))
    assert found
    assert any(wrong_direction(i) or not_for_core(i) for i in found) is wrong
