"""What a file calls with arguments: handlers, as a step or as what takes one back, and other workflows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.core.catalog.skills import CatalogSkill
from workflows.core.compile.bindings import Binder
from workflows.core.expressions.templates import lone_expression
from workflows.core.models.workflow import Step, Undo
from workflows.core.permissions.ruling import Denied
from workflows.core.permissions.skills import may_use_skill
from workflows.core.plans.plan import HandlerPlan, Plan, SkillPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


@dataclass(frozen=True)
class Calls:
    """Finds handlers in the catalog and holds the arguments to their signatures.

    `check_name` records a document's name that is not known at a place.
    """

    binder: Binder
    findings: Findings
    check_name: Callable[[str, Key], object]

    def handler(
        self, place: Key, written: Step | Undo, owners: tuple[str, ...] = ()
    ) -> tuple[SkillPlan, HandlerPlan] | None:
        """The handler that `skill`, `handler` and `args` at a place name; None with the mistakes recorded.

        `owners` are ids of agents whose private skills may be used.
        """
        skill = self._find_skill((*place, "skill"), written.skill or "", owners)
        found = self._find_handler(place, skill, written.handler) if skill else None
        if skill is None or found is None:
            return None
        self._check_arguments(place, found, written.args)
        return self.binder.skill(skill), found

    def _report(self, place: Key, message: str, cure: str, *, of_key: bool = False) -> None:
        self.findings.error(self.binder.source, place, message, cure, of_key=of_key)

    def _find_skill(self, place: Key, skill_id: str, owners: tuple[str, ...]) -> CatalogSkill | None:
        catalog = self.binder.catalog
        skill = catalog.skills.get(skill_id)
        if skill is None:
            self._report(
                place, f"unknown skill '{skill_id}'", self.binder.findings.near(skill_id, catalog.skills)
            )
            return None
        agents = [a for name in owners if (a := catalog.find_agent(name)) is not None]
        if isinstance(ruling := may_use_skill(skill, agents), Denied):
            self._report(
                place,
                f"{ruling.reason} and cannot run without that agent",
                f"write `agent:` with that agent and `skills: [{skill.id}]`",
            )
        return skill

    def _find_handler(self, place: Key, skill: CatalogSkill, name: str | None) -> HandlerPlan | None:
        by_name = {h.handler: h for h in skill.handlers}
        if name is None and len(by_name) == 1:
            return next(iter(by_name.values()))
        found = by_name.get(name or "")
        if found is None:
            wrong = f"'{skill.id}' has no handler '{name}'" if name else "which handler?"
            at = (*place, "handler" if name else "skill")
            self._report(at, wrong, self.binder.findings.near(name or "", by_name) or "add a handler")
        return found

    def _check_arguments(self, place: Key, handler: HandlerPlan, args: Mapping[str, Any]) -> None:
        known = handler.input_schema["properties"]
        for name, value in args.items():
            at = (*place, "args", name)
            if name not in known:
                wrong = f"'{handler.handler}' takes no argument '{name}'"
                self._report(at, wrong, self.binder.findings.near(name, known), of_key=True)
            elif name in handler.documents:
                for given in document_names(value):
                    self.check_name(given, at)
        for name in handler.input_schema.get("required", ()):
            if name not in args:
                wrong = f"the argument '{name}' of '{handler.handler}' is missing"
                self._report(place, wrong, "add it under `args:`")


def check_inputs(
    source: Source,
    at: Key,
    args: Mapping[str, Any],
    called: Plan,
    findings: Findings,
    secrets: Collection[str] = (),
) -> None:
    """Records arguments that a called workflow has no input for, inputs it needs that are not given, and
    `secrets` that are handed on to an input that takes none.
    """
    known = {i.name: i for i in called.inputs}
    for given, value in args.items():
        if given not in known:
            wrong = f"'{called.workflow}' has no input '{given}'"
            findings.error(source, (*at, "args", given), wrong, findings.near(given, known), of_key=True)
        elif known[given].type != "secret" and isinstance(value, str) and lone_expression(value) in secrets:
            wrong = f"'{lone_expression(value)}' is a secret, and '{given}' of '{called.workflow}' is none"
            cure = f"declare it there as one: {given}: {{type: secret}}"
            findings.error(source, (*at, "args", given), wrong, cure)
    for needed in known.values():
        if needed.required and needed.name not in args:
            wrong = f"the input '{needed.name}' of '{called.workflow}' is missing"
            findings.error(source, at, wrong, "add it under `args:`")


def document_names(value: Any) -> list[str]:
    """The names in a document argument: one, or a list of them."""
    return [str(v) for v in value] if isinstance(value, (list, tuple)) else [str(value)]


def documents(step: Step, handler: HandlerPlan | None) -> list[str]:
    """The names a step's handler gets as documents."""
    parameters = handler.documents if handler else ()
    return [name for p in parameters if p in step.args for name in document_names(step.args[p])]
