"""What takes a completed step back when its run is abandoned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.core.compile.bindings import Binder
from workflows.core.compile.calls import Calls
from workflows.core.compile.names import NameScope, templates
from workflows.core.expressions.templates import ExpressionError, Template
from workflows.core.models.workflow import Step
from workflows.core.models.written import plain
from workflows.core.plans.plan import UndoPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key

OUTPUT = "output"
"""What the step's own output is called where the step is taken back."""


def undo_plan(
    binder: Binder, at: Key, step: Step, scope: NameScope, reads: Collection[str], findings: Findings
) -> UndoPlan | None:
    """The call that takes a step back; None when there is none, or with the mistakes recorded."""
    written, place = step.undo, (*at, "undo")
    if written is None or written.process is not None or written.mcp is not None:
        return None  # the last two are answered with "not available yet"
    if step.approval is not None or step.await_event is not None:
        return None  # told where the keys beside a wait are checked
    if written.skill is None:
        findings.error(scope.source, place, "nothing is named that takes the step back", "add `skill:`")
        return None
    if step.cache == "always":
        message = "`undo` beside `cache: always` could take back the work of another run"
        findings.error(scope.source, place, message, "drop one of the two", of_key=True)
    names = _Names(scope, frozenset(reads), findings)
    names.check_templates((*place, "args"), written.args)
    owners = tuple(name for name in (step.agent, *(step.agents or ())) if name)
    found = Calls(binder, findings, names.check).handler(place, written, owners)
    return UndoPlan(skill=found[0], handler=found[1], args=plain(written.args)) if found else None


@dataclass(frozen=True)
class _Names:
    """What is known when a step is taken back: its output, and what it read to make it."""

    scope: NameScope
    reads: frozenset[str]
    findings: Findings

    def check_templates(self, place: Key, args: Mapping[str, Any]) -> None:
        """Records names in the texts of arguments that are not known."""
        for at, text in templates(place, args):
            try:
                parsed = Template.parse(text)
            except ExpressionError as fault:
                self.findings.error(self.scope.source, at, fault.message, fault.cure, within=fault.position)
                continue
            for name in sorted(parsed.names):
                self.check(name, at, parsed)
                if name in self.scope.secrets:
                    self.scope.check_secret(name, at, self.findings, parsed, place)

    def check(self, name: str, place: Key, read_by: Template | None = None) -> None:
        """Records a name that is not known, where `read_by` reads it."""
        scope, local = self.scope, frozenset((OUTPUT, self.scope.own_output, *self.reads))
        if name in local:
            return
        made = scope.made_by.get(name)
        if name in scope.inputs or made in scope.upstream or name == "steps":
            message = f"'{name}' is not known when the step is taken back: the step does not read it"
            cure = f"add it to `inputs`, or use {OUTPUT}" if name != "steps" else f"use {OUTPUT}"
            within = read_by.locate(name) if read_by is not None else None
            self.findings.error(scope.source, place, message, cure, within=within)
        else:
            scope.check(name, place, self.findings, local, read_by=read_by)
