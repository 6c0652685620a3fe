"""Opening the catalog and compiling a workflow, as the commands do it."""

from __future__ import annotations

from pathlib import Path

from blocks.paths import here
from blocks.plan_secrets import masked_plan
from workflows.core.catalog import Catalog, WorkflowFile
from workflows.core.compiler import compile_workflow
from workflows.core.errors import InvalidDefinition, Mistake
from workflows.core.plan import Plan


def open_catalog(folder: Path) -> Catalog:
    """The catalog of a folder. Raises UsageError when there is none; mistakes stay in its findings."""
    return Catalog.load(folder)


def compile_named(catalog: Catalog, name: str) -> Plan:
    """The plan of a workflow given by name or path. Raises UsageError or InvalidDefinition."""
    path = here(Path(name))
    found = path.suffix in (".yaml", ".yml") and path.is_file()
    return compile_file(catalog, catalog.find_workflow(str(path) if found else name))


def compile_file(catalog: Catalog, file: WorkflowFile) -> Plan:
    """The plan of a workflow, without known secrets. Raises InvalidDefinition.

    An agent whose file is broken looks unknown to the compiler; so the mistakes of the files that
    workflows refer to are reported with the workflow's own.
    """
    try:
        return masked_plan(compile_workflow(file, catalog))
    except InvalidDefinition as fault:
        raise InvalidDefinition(_once([*referred_mistakes(catalog), *fault.mistakes])) from None


def referred_mistakes(catalog: Catalog) -> list[Mistake]:
    """The mistakes of files that workflows refer to: agents, skills, registries, the table of models."""
    return [m for m in catalog.findings.errors if "/" in m.file or m.file == "models.yaml"]


def _once(mistakes: list[Mistake]) -> list[Mistake]:
    # Without the value, which may be a list: it is the one at this place.
    found = {(m.file, m.line, m.column, m.path, m.message, m.cure): m for m in reversed(mistakes)}
    return list(reversed(found.values()))
