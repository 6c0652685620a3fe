"""Which names the expressions and templates of a step may read, and which they do read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from workflows.core.compile.edges import as_written, shown_id
from workflows.core.doers.registry import written_doers
from workflows.core.expressions.templates import Expression, ExpressionError, Template, lone_expression
from workflows.core.models.workflow import Step
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


@dataclass(frozen=True)
class NameScope:
    """What is known when a step starts."""

    source: Source
    inputs: frozenset[str]
    made_by: Mapping[str, str]
    upstream: frozenset[str]
    own_output: str = ""
    secrets: frozenset[str] = frozenset()
    """Those of the inputs that name a secret."""

    def check(
        self,
        name: str,
        place: Key,
        findings: Findings,
        local: frozenset[str] = frozenset(),
        *,
        read_by: Expression | Template | None = None,
    ) -> bool:
        """Whether a name may be read here; what may not is recorded, where `read_by` reads it."""
        if name in self.secrets and read_by is None and name not in local:
            self.refuse_secret(name, place, findings)  # as a document
        if name in local or name in self.inputs:
            return True
        maker = self.made_by.get(name)
        if maker is not None and maker in self.upstream:
            return True
        within = read_by.locate(name) if read_by is not None and findings.detailed else None
        if maker is not None:
            findings.error(
                self.source,
                place,
                f"'{name}' is made by {shown_id(maker)}, which does not come before this step",
                f"add '{shown_id(maker)}' to depends_on, or '{name}' to inputs",
                within=within,
            )
        else:
            made = (n for n, m in self.made_by.items() if m in self.upstream)
            findings.error(
                self.source,
                place,
                f"unknown name '{name}'",
                findings.near(name, as_written(chain(self.inputs, local, made))),
                within=within,
            )
        return False

    def check_secret(
        self, name: str, place: Key, findings: Findings, read_by: Expression | Template, args: Key
    ) -> None:
        """Whether a secret may be read here: by `when`, or by one of the arguments at `args` that is nothing
        else. Elsewhere its name alone would be read.
        """
        whole = len(place) == len(args) + 1 and place[:-1] == args
        if place[-1] != "when" and not (whole and lone_expression(read_by.source) == name):
            self.refuse_secret(name, place, findings, within=read_by.locate(name))

    def refuse_secret(
        self, name: str, place: Key, findings: Findings, *, within: tuple[int, int] | None = None
    ) -> None:
        """Records that a secret is read where it does not go."""
        message = f"'{name}' is a secret, which does not go here: its name would be read, not its value"
        cure = f'give it whole ("{{{{ {name} }}}}") to an argument of a handler, or to a secret input'
        findings.error(self.source, place, message, cure, within=within)

    def check_step(
        self, step_id: str, place: Key, findings: Findings, read_by: Expression | Template
    ) -> None:
        """Whether `steps.<id>` may be read here."""
        if step_id not in self.upstream:
            findings.error(
                self.source,
                place,
                f"the step '{step_id}' does not come before this one",
                findings.near(step_id, as_written(self.upstream)) or f"add '{step_id}' to depends_on",
                within=read_by.locate(step_id, after="steps") if findings.detailed else None,
            )


def step_names(step: Step, at: Key, scope: NameScope, findings: Findings) -> tuple[str, ...]:
    """Checks every expression and template of a step; gives the names that its result depends on.

    `when` decides whether a step runs, not what it makes, so its names are checked but not returned.
    A status read as `steps.x` is returned as `steps.x`.
    """
    local = frozenset(["steps", *_local(step)])
    reads: dict[str, None] = dict.fromkeys(step.inputs)
    if step.skill is None:  # a handler's `undo` may need what its step names
        for name in sorted(scope.secrets.intersection(step.inputs)):
            scope.refuse_secret(name, (*at, "inputs"), findings)
    for place, text, is_expression, counts in _sources(step, at):
        try:
            parsed = Expression.parse(text) if is_expression else Template.parse(text)
        except ExpressionError as fault:
            findings.error(scope.source, place, fault.message, fault.cure, within=fault.position)
            continue
        own = frozenset([scope.own_output]) if place[-1] == "until" else frozenset()
        for name in sorted(parsed.names):
            known = scope.check(name, place, findings, local | own, read_by=parsed)
            if name in scope.secrets - local:
                scope.check_secret(name, place, findings, parsed, (*at, "args"))
            if known and counts and name not in local | own:
                reads[name] = None
        for step_id in sorted(parsed.steps):
            scope.check_step(step_id, place, findings, parsed)
            if counts:
                reads[f"steps.{step_id}"] = None
    return tuple(reads)


def _local(step: Step) -> Iterator[str]:
    if step.for_each is not None:
        yield from ("item", "index")
    if step.repeat is not None:
        yield from ("previous", "iteration")


def _sources(step: Step, at: Key) -> Iterator[tuple[Key, str, bool, bool]]:
    """Place, text, whether it is an expression, whether the result depends on it."""
    if isinstance(step.when, str):
        yield (*at, "when"), step.when, True, False
    if isinstance(step.for_each, str):
        yield (*at, "for_each"), step.for_each, True, True
    if step.repeat is not None:
        yield (*at, "repeat", "until"), step.repeat.until, True, True
    if step.prompt:
        yield (*at, "prompt"), step.prompt, False, True
    if step.merge is not None and step.merge.prompt:
        yield (*at, "merge", "prompt"), step.merge.prompt, False, True
    for doer in written_doers(step):
        for name, text in doer.templates(step):
            yield (*at, doer.key, name), text, False, True
    for place, text in templates((*at, "args"), step.args):
        yield place, text, False, True


def templates(place: Key, value: Any) -> Iterator[tuple[Key, str]]:
    """Every text in a value that was written, with its place."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from templates((*place, key), inner)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from templates((*place, index), inner)
