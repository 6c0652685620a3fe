"""Opening the catalog and compiling a workflow, as the commands do it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.paths import here
from blocks.secrecy.plans import masked_plan
from workflows.core.catalog.contents import Catalog, WorkflowFile
from workflows.core.compile.compiler import compile_workflow
from workflows.core.compile.inputs import is_unicode
from workflows.core.errors import InvalidDefinition, Mistake, UsageError
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from workflows.core.routing.matching import RuleChoice


def open_catalog(folder: Path) -> Catalog:
    """The catalog of a folder. Raises UsageError when there is none; mistakes stay in its findings."""
    return Catalog.load(folder)


def compile_named(catalog: Catalog, name: str) -> Plan:
    """The plan of a workflow given by name or path. Raises UsageError or InvalidDefinition."""
    path = here(Path(name))
    found = path.suffix in (".yaml", ".yml") and path.is_file()
    return compile_file(catalog, catalog.find_workflow(str(path) if found else name))


def plan_of(catalog: Catalog, workflow: str, text: str | None) -> tuple[Plan, dict[str, Any]]:
    """The plan of a workflow, or of the one that takes a text, with the inputs which the text gives it.

    Raises UsageError, InvalidDefinition.
    """
    if text is None:
        return compile_named(catalog, workflow), {}
    if not is_unicode(text):
        raise UsageError("the text is no UTF-8", "write it in UTF-8")
    from workflows.core.routing.routes import resolve_rule

    choice = route(catalog, text)
    if choice.rule is None:
        raise no_rule(catalog)
    found = resolve_rule(catalog, choice.rule, text)
    return compile_file(catalog, found.file), dict(found.inputs)


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


def route(catalog: Catalog, text: str) -> RuleChoice:
    """The choice for a text.

    Raises InvalidDefinition when the routing rules cannot be read, or the pattern of a rule that comes before
    the winner cannot be used, or takes too long: the text may be meant for it.
    """
    from workflows.core.routing.matching import choose
    from workflows.core.routing.routes import rules, slow_rules, unusable_rules

    broken = [m for m in catalog.findings.errors if "routing-rules" in m.file]
    if broken:
        raise InvalidDefinition(broken)
    choice = choose(rules(catalog), text)
    # Another machine, or the same one with less to do, might have found it: no other workflow is run instead.
    if wrong := [*unusable_rules(catalog, choice), *slow_rules(catalog, choice)]:
        raise InvalidDefinition(wrong)
    return choice


def no_rule(catalog: Catalog) -> UsageError:
    """What is said when no rule takes a text."""
    if not catalog.rules:
        where = catalog.root / "orchestrator" / "routing-rules.yaml"
        return UsageError("the catalog has no routing rules", f"write {where}")
    return UsageError(
        "no routing rule matches this text",
        "say it in other words, add a rule (a pattern '.*' of the lowest priority takes everything), "
        "or name a workflow: phaseline run WORKFLOW",
    )
