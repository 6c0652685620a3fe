"""From a workflow as written to its plan. Every mistake of the file is found in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workflows.core.catalog.contents import Catalog, WorkflowFile
from workflows.core.catalog.deciders import check_step_people
from workflows.core.catalog.prompts import default_instruction
from workflows.core.compile.available import check_available
from workflows.core.compile.bindings import Binder
from workflows.core.compile.budgets import (
    budget_plan,
    check_budget,
    check_step_budget,
    check_total_timeout,
    warn_unpriced,
)
from workflows.core.compile.calls import Calls, check_inputs, documents
from workflows.core.compile.definition import definition
from workflows.core.compile.edges import (
    MADE_UP,
    as_written,
    edges,
    find_cycle,
    order_steps,
    output_name,
    producers,
    shown_id,
    upstream,
)
from workflows.core.compile.effects import check_effect_key
from workflows.core.compile.inputs import compile_inputs
from workflows.core.compile.names import NameScope, step_names
from workflows.core.compile.people import check_condition, check_doer, check_end, guards
from workflows.core.compile.shapes import check_shape
from workflows.core.compile.shared import check_shared
from workflows.core.compile.undo import undo_plan
from workflows.core.doers.kind import Doer
from workflows.core.doers.registry import written_doers
from workflows.core.errors import InvalidDefinition
from workflows.core.models.workflow import Output, Step, Workflow
from workflows.core.models.written import plain
from workflows.core.plans.plan import (
    AgentPlan,
    AsWritten,
    ForEachPlan,
    HandlerPlan,
    OutputPlan,
    Plan,
    RepeatPlan,
    RetryPlan,
    SkillPlan,
    StepPlan,
)
from workflows.core.read.findings import Findings
from workflows.core.read.output_schemas import check_schema
from workflows.core.read.source import Key, Source
from workflows.core.tools.rules import deciders_plan

Placed = tuple[Key, Step]


def compile_workflow(file: WorkflowFile, catalog: Catalog) -> Plan:
    """The plan of a workflow. Raises InvalidDefinition with every mistake found."""
    plan, findings = examine(file, catalog)
    if findings.errors or plan is None:
        raise InvalidDefinition(findings.errors)
    return plan


def examine(
    file: WorkflowFile, catalog: Catalog, *, calling: tuple[str, ...] = ()
) -> tuple[Plan | None, Findings]:
    """The plan (None when it cannot be made) with mistakes and warnings. `calling` names outer workflows."""
    findings = Findings()
    compilation = _Compilation(file.source, file.workflow, catalog, findings, (*calling, file.name))
    plan = compilation.run()
    findings.errors.sort(key=lambda m: (m.file != file.source.file, m.file, m.line, m.column))
    return (None if findings.errors else plan), findings


@dataclass
class _Compilation:
    """One workflow on its way to a plan."""

    source: Source
    workflow: Workflow
    catalog: Catalog
    findings: Findings
    calling: tuple[str, ...]
    nested: dict[str, Plan] = field(default_factory=dict)
    """Plans of workflows already met: one that is called a hundred times is compiled once."""
    binder: Binder = field(init=False)
    agent_digests: dict[int, str] = field(default_factory=dict)
    approvals: dict[str, str] = field(default_factory=dict)
    """Ids of the steps that ask people, with the names of their answers."""
    silent: dict[int, AgentPlan] = field(default_factory=dict)
    """Agents without the tool that asks people, by the identity of the agent with it."""

    def __post_init__(self) -> None:
        self.binder = Binder(self.catalog, self.source, self.findings)

    def run(self) -> Plan | None:
        main: list[Placed] = [(("steps", i), s) for i, s in enumerate(self.workflow.steps)]
        last: list[Placed] = [(("finally", i), s) for i, s in enumerate(self.workflow.finally_)]
        main, last = self._rename_twins(main, last)
        everything: list[Placed] = [*main, *last]
        check_available(self.source, self.workflow, everything, self.findings)
        self._check_keys(main, last)
        made_by = producers(everything, self.workflow.inputs, self.source, self.findings)
        later = {s.id: s for _, s in last}
        after = edges(main, made_by, self.source, self.findings, known_only_later=later)
        after_last = edges(last, made_by, self.source, self.findings, known_only_later={})
        inputs = compile_inputs(self.source, self.workflow, self.catalog, everything, made_by, self.findings)
        cycle = find_cycle(after) or find_cycle(after_last)
        if cycle:
            self._report_cycle(cycle, everything)
        placed = {s.id: (at, s) for at, s in everything}
        order, order_last = (
            (list(after), list(after_last)) if cycle else (order_steps(after), order_steps(after_last))
        )
        everyone = frozenset(after)
        if cycle:  # nothing is known of the order, so nobody is blamed for it
            before = dict.fromkeys([*after, *after_last], everyone | frozenset(after_last))
        else:
            before = upstream(after, order)
            before |= {k: v | everyone for k, v in upstream(after_last, order_last).items()}
        known = NameScope(
            source=self.source,
            inputs=frozenset(i.name for i in inputs),
            made_by=made_by,
            upstream=frozenset(),
            secrets=frozenset(i.name for i in inputs if i.type == "secret"),
        )
        steps = tuple(self._plan_step(*placed[i], after[i], before, known) for i in order)
        finals = tuple(self._plan_step(*placed[i], after_last[i], before, known) for i in order_last)
        self._check_outputs(made_by)
        self._check_budget((*steps, *finals))
        if not cycle:
            timeouts = {i: placed[i][1].timeout or 0.0 for i in order}
            total = self.workflow.total_timeout
            check_total_timeout(self.source, total, timeouts, after, order, self.findings)
        return Plan(
            workflow=self.workflow.workflow,
            description=self.workflow.description,
            source=self.source.file,
            inputs=inputs,
            steps=tuple(s for s in steps if s is not None),
            finally_=tuple(s for s in finals if s is not None),
            outputs=self.workflow.outputs or tuple(output_name(s) for _, s in main),
            total_timeout=self.workflow.total_timeout,
            max_concurrent=self.workflow.max_concurrent,
            budget=budget_plan(self.workflow.budget),
        )

    def _check_keys(self, main: list[Placed], last: list[Placed]) -> None:
        """Keys that do not go together, in every step."""
        for at, step in (*main, *last):
            check_shape(self.source, at, step, self.findings)
            check_doer(self.source, at, step, self.catalog, self.findings, last=at[0] == "finally")
            check_step_budget(self.source, at, step, self.workflow.budget, self.findings)
            if step.approval is not None:
                self.approvals[step.id] = output_name(step)
        for at, step in (*main, *last):
            check_condition(self.source, at, step, self.approvals, self.findings)

    def _check_budget(self, steps: tuple[StepPlan | None, ...]) -> None:
        """The ceiling of the run, where it can have no effect."""
        check_budget(self.source, ("budget",), self.workflow.budget, self.findings)
        made = [step for step in steps if step is not None]
        if self.workflow.budget is not None and self.workflow.budget.usd is not None:
            priced = frozenset(self.catalog.models.models)
            warn_unpriced(self.source, ("budget", "usd"), made, priced, self.findings)

    def _rename_twins(self, *lists: list[Placed]) -> list[list[Placed]]:
        """The steps, a second one of the same id under a made-up id, so that it is checked as well."""
        first: dict[str, Key] = {}
        out: list[list[Placed]] = []
        for steps in lists:
            out.append([])
            for at, step in steps:
                if step.id in first:
                    line = self.source.position((*first[step.id], "id"))[0]
                    self.findings.error(
                        self.source,
                        (*at, "id"),
                        f"the step id '{step.id}' is already used in line {line}",
                        "give the step another id",
                    )
                    step = step.model_copy(update={"id": f"{step.id}{MADE_UP}{len(first)}.{len(out[-1])}"})
                first.setdefault(step.id, at)
                out[-1].append((at, step))
        return out

    def _report_cycle(self, cycle: list[str], steps: list[Placed]) -> None:
        at = next(a for a, s in steps if s.id == cycle[0])
        self.findings.error(
            self.source,
            at,
            "steps wait for each other: " + " -> ".join(map(shown_id, reversed(cycle))),
            "take one of these edges out (depends_on, or an input one of them makes)",
        )

    def _check_outputs(self, made_by: Mapping[str, str]) -> None:
        for index, name in enumerate(self.workflow.outputs):
            if name not in made_by:
                self.findings.error(
                    self.source,
                    ("outputs", index),
                    f"no step makes '{name}'",
                    self.findings.near(name, as_written(made_by)),
                )

    def _plan_step(
        self,
        at: Key,
        step: Step,
        depends_on: tuple[str, ...],
        before: Mapping[str, frozenset[str]],
        known: NameScope,
    ) -> StepPlan | None:
        if len(step.doers) != 1:
            return None
        doer = next(iter(written_doers(step)), None)
        output = self._plan_output(at, step, doer)
        scope = replace(known, upstream=before.get(step.id, frozenset()), own_output=output.name)
        prompt = step.prompt or ""
        if not prompt and doer is not None and doer.asks_model:
            prompt = default_instruction(step.name or step.id, step.description, output.name, output.type)
        reads = step_names(step, at, scope, self.findings)
        if doer is None:
            return None  # told where keys are checked that are not available yet
        fields = doer.plan(_StepPlanner(self, at, step, scope))
        reads = tuple(dict.fromkeys((*reads, *documents(step, fields.get("handler")))))
        plan = StepPlan(
            kind=doer.kind,
            prompt=prompt,
            reads=reads,
            depends_on=depends_on,
            output=output,
            undo=undo_plan(self.binder, at, step, scope, reads, self.findings),
            guards=guards(step, depends_on, self.approvals),
            **_own_fields(step),
            **fields,
        )
        self._check_step(at, step, plan)
        return plan.model_copy(update={"definition": definition(plan, self.agent_digests)})

    def _check_step(self, at: Key, step: Step, plan: StepPlan) -> None:
        check_shared(self.source, at, plan, self.findings)
        check_effect_key(self.source, at, step, plan, self.findings)
        check_step_people(self.source, at, step, plan, self.catalog.agents, self.findings)
        if at[0] == "finally":
            check_end(self.source, at, plan, self.findings)

    def silence_agent(self, agent: AgentPlan) -> AgentPlan:
        """The agent without the tool that asks people."""
        if not agent.ask_person:
            return agent
        return self.silent.setdefault(id(agent), agent.model_copy(update={"ask_person": False}))

    def plan_nested(self, name: str, at: Key, step: Step, scope: NameScope) -> Plan | None:
        """The plan of a workflow that is one step of this one; None with what is wrong recorded."""
        place = (*at, "workflow")
        file = self.catalog.workflows.get(name)
        if file is None:
            self.findings.error(
                self.source,
                place,
                f"unknown workflow '{name}'",
                self.findings.near(name, self.catalog.workflows),
            )
            return None
        if name in self.calling:
            self.findings.error(
                self.source,
                place,
                "workflows call each other: " + " -> ".join((*self.calling, name)),
                "take one of the calls out",
            )
            return None
        plan, found = self.nested.get(name), Findings()
        if plan is None:
            nested = _Compilation(
                file.source, file.workflow, self.catalog, found, (*self.calling, name), self.nested
            )
            plan = nested.run()
        if plan is None or found.errors:
            self.findings.error(
                self.source,
                place,
                f"the workflow '{name}' is wrong itself ({found.errors[0].message})",
                f"run `phaseline check {name}`",
            )
            return None
        self.nested[name] = plan
        check_inputs(self.source, at, step.args, plan, self.findings, scope.secrets)
        return plan

    def _plan_output(self, at: Key, step: Step, doer: Doer | None) -> OutputPlan:
        written = step.output
        if written.schema_ is not None:
            check_schema(self.source, (*at, "output", "schema"), written.schema_, self.findings)
        return OutputPlan(
            name=output_name(step),
            type=written.type or _default_type(doer, written),
            schema_=plain(written.schema_),
            repair=written.repair,
        )


@dataclass(frozen=True)
class _StepPlanner:
    """What the doer of one step plans its work with."""

    compilation: _Compilation
    at: Key
    step: Step
    scope: NameScope

    @property
    def source(self) -> Source:
        return self.compilation.source

    @property
    def findings(self) -> Findings:
        return self.compilation.findings

    def bind_agent(self, agent_id: str, place: Key, panel: tuple[str, ...] = ()) -> AgentPlan | None:
        agent = self.compilation.binder.agent(agent_id, place, self.step, self.at, panel=panel)
        # A step of `finally` may not wait, so that nobody is asked by it.
        silent = agent is not None and self.at[0] == "finally"
        return self.compilation.silence_agent(agent) if agent and silent else agent

    def bind_merger(self, agent_id: str, place: Key) -> AgentPlan | None:
        bare = self.step.model_copy(update={"skills": ()})
        agent = self.compilation.binder.agent(agent_id, place, bare, self.at)
        return self.compilation.silence_agent(agent) if agent else None

    def find_handler(self) -> tuple[SkillPlan, HandlerPlan] | None:
        def check_name(name: str, place: Key) -> object:
            return self.scope.check(name, place, self.findings)

        return Calls(self.compilation.binder, self.findings, check_name).handler(self.at, self.step)

    def compile_workflow(self, name: str) -> Plan | None:
        return self.compilation.plan_nested(name, self.at, self.step, self.scope)


def _default_type(doer: Doer | None, output: Output) -> Any:
    if output.schema_ is not None or doer is None:
        return "json" if output.schema_ is not None else "markdown"
    return doer.output_type


def _condition(step: Step) -> str | None:
    if step.when is None or step.when is True:
        return None
    return "false" if step.when is False else str(step.when)


def _own_fields(step: Step) -> dict[str, Any]:
    """What a plan takes from the written step alone."""
    items = None if step.for_each is None else plain(step.for_each)
    return {
        **{name: getattr(step, name) for name in AsWritten.model_fields},
        "name": step.name or step.id,
        "args": plain(step.args),
        "when": _condition(step),
        "for_each": None if items is None else ForEachPlan(items=items, max_concurrent=step.max_concurrent),
        "repeat": RepeatPlan(until=step.repeat.until, max=step.repeat.max) if step.repeat else None,
        "retries": RetryPlan(**step.retries.model_dump()),
        "budget": budget_plan(step.budget),
        "people": deciders_plan(step.people),
    }
