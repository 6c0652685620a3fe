"""`phaseline check`: every mistake of the catalog, or of the named workflows, in one report."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from deployments.catalogs.opening import open_catalog, referred_mistakes
from deployments.terminal.display import Out, mistake_lines
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog, check_workflow
from workflows.core.errors import Mistake


@dataclass
class _Report:
    checked: str
    errors: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)

    def add(self, errors: list[Mistake], warnings: list[Mistake]) -> None:
        self.errors += [m for m in errors if m not in self.errors]
        self.warnings += [m for m in warnings if m not in self.warnings]


def execute(args: argparse.Namespace, out: Out) -> int:
    """Exit code 2 when there is a mistake, or with --strict a warning."""
    catalog = open_catalog(args.catalog)
    report = _check_named(catalog, args.workflows) if args.workflows else _check_whole(catalog)
    ok = not (report.errors or (args.strict and report.warnings))
    out.document(
        {
            "ok": ok,
            "errors": [m.to_json() for m in report.errors],
            "warnings": [m.to_json() for m in report.warnings],
        }
    )
    _print(report, ok, out)
    return 0 if ok else 2


def _check_whole(catalog: Catalog) -> _Report:
    found = check_catalog(catalog)
    counts = (
        (len(catalog.workflows), "workflow"),
        (len(catalog.agents), "agent"),
        (len(catalog.skills), "skill"),
        (len(catalog.robots), "robot"),
        (len(catalog.rules), "routing rule"),
    )
    report = _Report(", ".join(count_of(n, word) for n, word in counts))
    report.add(found.errors, found.warnings)
    return report


def _check_named(catalog: Catalog, names: list[str]) -> _Report:
    """Only the named workflows, and the broken files they could refer to."""
    report = _Report(", ".join(names))
    for name in names:
        found = check_workflow(catalog, name)
        if found.errors:
            report.add(referred_mistakes(catalog), [])
        report.add(found.errors, found.warnings)
    return report


def _print(report: _Report, ok: bool, out: Out) -> None:
    for mistakes, word in ((report.errors, "error"), (report.warnings, "warning")):
        for text, style in mistake_lines(mistakes, word):
            out.line(text, style)
    if report.errors or report.warnings:
        files = {m.file for m in (*report.errors, *report.warnings)}
        errors, warnings = count_of(len(report.errors), "error"), count_of(len(report.warnings), "warning")
        out.line()
        out.line(f"{errors}, {warnings} in {count_of(len(files), 'file')}", "bold")
    if ok:
        out.line(f"ok: {report.checked}", "green")
    elif not report.errors:
        out.line("--strict: warnings count as errors", "red")


def count_of(number: int, word: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")
