"""What planning, checking and drawing need of one kind of doer. The work itself is in `tasks.doers`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from workflows.core.catalog.contents import Catalog
from workflows.core.models.workflow import Step
from workflows.core.plans.plan import AgentPlan, HandlerPlan, Plan, SkillPlan, StepKind, StepPlan
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


class Planner(Protocol):
    """What the compiler gives to whoever plans the work of one step. Mistakes are recorded in `findings`."""

    @property
    def at(self) -> Key:
        """Where the step is written."""

    @property
    def step(self) -> Step: ...

    @property
    def source(self) -> Source: ...

    @property
    def findings(self) -> Findings: ...

    def bind_agent(self, agent_id: str, place: Key, panel: tuple[str, ...] = ()) -> AgentPlan | None:
        """The agent as it does this step, beside those of its panel; None for none."""

    def bind_merger(self, agent_id: str, place: Key) -> AgentPlan | None:
        """The agent as it merges what others wrote: without the step's skills, and without people."""

    def find_handler(self) -> tuple[SkillPlan, HandlerPlan] | None:
        """What `skill`, `handler` and `args` of the step name."""

    def compile_workflow(self, name: str) -> Plan | None:
        """The plan of another workflow, held to the step's `args`."""


@dataclass(frozen=True, slots=True)
class Looks:
    """How a step is drawn: fill and line of its card, and its shape where it is not a box."""

    colours: tuple[str, str]
    mermaid: tuple[str, str] = ("[", "]")
    """What stands around its label."""
    dot: str = ""
    outline: Literal["box", "cut", "point"] = "box"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doer:
    """One kind of doer. `kind` is what plans call it, `key` what people write.

    plan: the fields of the plan that are this kind's own.
    describe: who does the step, for a table; `brief` for a narrow one; `lines` for its card.
    """

    kind: StepKind
    key: str
    looks: Looks
    plan: Callable[[Planner], dict[str, Any]]
    describe: Callable[[StepPlan], str]
    brief: Callable[[StepPlan], str]
    lines: Callable[[StepPlan], tuple[str, ...]]
    takes: frozenset[str] = frozenset()
    """Those of `args`, `prompt`, `skills`, `merge`, `handler`, `effect_key`, `people` that it reads."""
    asks_model: bool = False
    works_alone: bool = False
    """Whether no model can take part in what it does."""
    waits: bool = False
    """Whether it does no work, but waits for people or an outside system."""
    output_type: Literal["markdown", "json"] = "json"
    """What it gives where its contract does not say."""
    check: Callable[[Source, Key, Step, Catalog, Findings], None] | None = None
    """Records what is wrong below its key, at a place."""
    templates: Callable[[Step], Iterable[tuple[str, str]]] = lambda step: ()
    """Texts below its key, by the name they have there, that are templates."""
    members: Callable[[StepPlan], tuple[str, ...]] = lambda step: ()
    """Who is drawn within its card."""
