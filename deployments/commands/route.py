"""`phaseline route`: where a free text would go, and why."""

from __future__ import annotations

import argparse

from deployments.definitions import open_catalog
from deployments.display import Out
from workflows.core.catalog import Catalog
from workflows.core.errors import InvalidDefinition, UsageError
from workflows.core.routes import rules, slow, unusable
from workflows.core.routing import Choice, choose, explain


def execute(args: argparse.Namespace, out: Out) -> int:
    """Prints the rule that wins; exit code 2 and the rules tried when none does."""
    catalog = open_catalog(args.catalog)
    choice = route(catalog, args.text)
    lines = explain(choice).split("\n")
    for line in lines if args.explain else lines[:1]:
        out.line(line)
    if choice.rule is not None:
        out.document(choice.to_json())
        return 0
    fault = no_rule(catalog)
    out.document({**choice.to_json(), "error": {"message": fault.message, "cure": fault.cure}})
    out.error(fault)
    return fault.exit_code


def route(catalog: Catalog, text: str) -> Choice:
    """The choice for a text.

    Raises InvalidDefinition when the routing rules cannot be read, or the pattern of a rule that comes before
    the winner cannot be used, or takes too long: the text may be meant for it.
    """
    broken = [m for m in catalog.findings.errors if "routing-rules" in m.file]
    if broken:
        raise InvalidDefinition(broken)
    choice = choose(rules(catalog), text)
    # Another machine, or the same one with less to do, might have found it: no other workflow is run instead.
    if wrong := [*unusable(catalog, choice), *slow(catalog, choice)]:
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
