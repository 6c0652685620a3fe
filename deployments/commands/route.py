"""`phaseline route`: where a free text would go, and why."""

from __future__ import annotations

import argparse

from deployments.catalogs.opening import no_rule, open_catalog, route
from deployments.terminal.display import Out
from workflows.core.routing.matching import explain


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
