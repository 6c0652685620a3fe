"""Every field of a step's plan is in its definition, or on a list with the reason why it is not."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from workflows.core.compile.definition import definition
from workflows.core.models.agent import McpServer
from workflows.core.plans.plan import (
    AgentPlan,
    ApprovalPlan,
    AwaitEventPlan,
    BudgetPlan,
    DecidersPlan,
    FilePlan,
    ForEachPlan,
    HandlerPlan,
    HookPlan,
    HttpPlan,
    InputPlan,
    MergePlan,
    ModelPlan,
    OutputPlan,
    Plan,
    RepeatPlan,
    RetryPlan,
    ServerPlan,
    SkillPlan,
    StepPlan,
    ToolRulePlan,
    UndoPlan,
    WorkPlan,
)

LIMIT = "a limit: what was paid for stays paid for when it is raised"
SHOWN = "only people see it"
DIGEST = "the digest of the skill's files speaks of it"
PINNED = "where pinned files lie; their digest speaks of what they say"
LATER = "what is done with an answer, not which one it is"
ORDER = "when or whether the step is done; the values that it reads are in its content key"
PEOPLE = "who answers, and until when, is not part of the question"
DETAIL = "a step's own row has its own definition"

EXCLUDED = {
    # Of a skill, be it an agent's or the step's.
    "*skill*.version": DIGEST,
    "agents.skills.name": DIGEST,
    "agents.skills.description": DIGEST,
    "skill.name": DIGEST,
    "skill.description": DIGEST,
    "*skill*.files": DIGEST,
    "*skill*.files.*": DIGEST,
    "*skill*.folder": PINNED,
    "*skill*.timeout": LIMIT,
    "*skill*.memory": LIMIT,
    "skill.handlers": DIGEST,
    "skill.handlers.*": DIGEST,
    "agents.skills.handlers.handler": "its name is the tool's",
    "agents.skills.handlers.file": PINNED,
    "agents.skills.handlers.documents": "its schema says which they are",
    "agents.skills.handlers.effect": DIGEST,
    "handler.name": "the step names the function",
    "handler.file": PINNED,
    "handler.description": SHOWN,
    "handler.input_schema": DIGEST,
    "handler.documents": DIGEST,
    "handler.effect": DIGEST,
    # Of an agent.
    "agents.id": SHOWN,
    "agents.name": SHOWN,
    "agents.folder": PINNED,
    "agents.model.provider": "models of another provider have other ids",
    "agents.model.family": "the id is what is asked",
    "agents.model.connection": "a new credential is no new definition",
    "agents.hooks.file": PINNED,
    "agents.max_turns": LIMIT,
    "agents.tokens_per_day": LIMIT,
    "agents.servers.server.timeout": LIMIT,
    "agents.tool_rules.people": PEOPLE,
    "agents.tool_rules.people.*": PEOPLE,
    "work.doer": SHOWN,
    "work.effect": "what it does outside is told apart by the ledger",
    # Of what is asked of people.
    "approval.assignees": PEOPLE,
    "approval.[dqeo]*": PEOPLE,
    "await_event.deadline": PEOPLE,
    "await_event.on_timeout": PEOPLE,
    "people": PEOPLE,
    "people.*": PEOPLE,
    # Of the step.
    "id": "a step that is named anew is another row",
    "name": SHOWN,
    "output.repair": LIMIT,
    "repeat.max": LIMIT,
    "reads": ORDER,
    "depends_on": ORDER,
    "requires": ORDER,
    "when": ORDER,
    "for_each": ORDER,
    "for_each.*": ORDER,
    "guards": ORDER,
    "timeout": LIMIT,
    "patience": LIMIT,
    "retries.*": LIMIT,
    "budget": LIMIT,
    "budget.*": LIMIT,
    "cache": LATER,
    "ttl": LATER,
    "on_failure": LATER,
    "undo": LATER,
    "undo.*": LATER,
    "effect_key": "what was done under another key was done all the same",
    "definition": "it is made of the others",
    # Of a workflow that is the step.
    "workflow.workflow": SHOWN,
    "workflow.description": SHOWN,
    "workflow.source": SHOWN,
    "workflow.total_timeout": LIMIT,
    "workflow.max_concurrent": LIMIT,
    "workflow.budget*": LIMIT,
    "workflow.inputs.description": SHOWN,
    "workflow.inputs.required": ORDER,
    "workflow.inputs.choices": ORDER,
    "workflow.inputs.declared": SHOWN,
    "workflow.steps.kind": DETAIL,
    "workflow.steps.name": DETAIL,
    "workflow.steps.args": DETAIL,
    "workflow.steps.prompt": DETAIL,
    "workflow.steps.requires": ORDER,
    "workflow.steps.retries*": LIMIT,
    "workflow.steps.cache": LATER,
    "workflow.steps.on_failure": LATER,
    "workflow.steps.output.[!n]*": DETAIL,
    "workflow.steps.for_each.max_concurrent": LIMIT,
}
"""By the path of a field: why a step is not done again when it changes."""

PEOPLE_ASKED = DecidersPlan(assignees=("ann",), quorum=2, deadline=9.0, escalate_to=("bob",))
HANDLER = HandlerPlan(
    name="s__work",
    handler="work",
    file="handlers/work.py",
    description="Works.",
    input_schema={"type": "object"},
    documents=("text",),
)
SKILL = SkillPlan(
    id="s",
    name="S",
    description="Does it.",
    folder="skills/s",
    version="1",
    digest="d",
    files=(FilePlan(path="SKILL.md", sha256="a", size=1),),
    handlers=(HANDLER,),
    timeout=5.0,
    memory=1,
)
AGENT = AgentPlan(
    id="a",
    name="Ann",
    folder="agents/a",
    model=ModelPlan(family="claude-opus", id="claude-opus-5-5", effort="low", connection="KEY"),
    system="You are Ann.",
    skills=(SKILL,),
    hooks=(HookPlan(event="create", file="hooks.py", function="create", sha256="h"),),
    tokens_per_day=7,
    built_in=("look_up",),
    servers=(
        ServerPlan(name="m", server=McpServer(command="serve", args=("x",), env={"A": "${A}"}, cwd=".")),
        ServerPlan(
            name="h",
            server=McpServer(
                type="http", url="http://localhost", headers={"B": "${B}"}, tools=("t",), timeout=3.0
            ),
        ),
    ),
    tool_rules=(
        ToolRulePlan(name="m.t", effect="once", effect_key=("k",), approval=True, people=PEOPLE_ASKED),
    ),
    http=HttpPlan(endpoints=("example.com",), methods=("GET",), acts=True),
)
STEP = StepPlan(id="i", name="I", kind="agent", output=OutputPlan(name="o", type="json", schema={"a": 1}))
INNER = STEP.model_copy(
    update={
        "when": "x",
        "for_each": ForEachPlan(items="rows"),
        "guards": ("ok",),
        "definition": "own",
    }
)
MOST = STEP.model_copy(
    update={
        "agents": (AGENT,),
        "prompt": "Do it.",
        "args": {"n": 1},
        "inputs": ("x",),
        "reads": ("x",),
        "depends_on": ("b",),
        "when": "x",
        "for_each": ForEachPlan(items="rows"),
        "repeat": RepeatPlan(until="done", max=3),
        "merge": MergePlan(agent=AGENT, prompt="Merge."),
        "timeout": 5.0,
        "patience": 5.0,
        "retries": RetryPlan(max=2),
        "ttl": 5.0,
        "budget": BudgetPlan(tokens=1, usd=1.0, time=1.0, turns=1),
        "undo": UndoPlan(skill=SKILL, handler=HANDLER, args={"n": 1}),
        "effect_key": ("k",),
        "people": PEOPLE_ASKED,
        "guards": ("ok",),
        "definition": "own",
        "skill": SKILL,
        "handler": HANDLER,
        "workflow": Plan(
            workflow="w",
            description="W",
            source="w.yaml",
            inputs=(InputPlan(name="x", description="X", default=1, default_file="x.md", choices=(1,)),),
            steps=(INNER,),
            finally_=(INNER,),
            outputs=("o",),
            total_timeout=5.0,
            budget=BudgetPlan(tokens=1, usd=1.0, time=1.0, turns=1),
        ),
    }
)
SAMPLES = (
    MOST,
    STEP.model_copy(
        update={
            "approval": ApprovalPlan(
                ask="Go on?", form={"a": 1}, assignees=("ann",), deadline=9.0, escalate_to=("bob",)
            )
        }
    ),
    STEP.model_copy(update={"await_event": AwaitEventPlan(type="paid", key="k", deadline=9.0)}),
    STEP.model_copy(update={"work": WorkPlan(doer="server.tool", facts={"a": 1})}),
)
"""Steps in which everything is said, so that it can be said otherwise. No workflow compiles to the first."""


def changed(value: Any, annotation: Any) -> Any:
    """Another value of a field; None where there is no other."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return () if value else None
    for kind in (annotation, *get_args(annotation)):
        if get_origin(kind) is Literal:
            return next((option for option in get_args(kind) if option != value), None)
    if isinstance(value, int | float | str):
        return value * 2 + type(value)(1)
    if isinstance(value, dict):
        return {**value, "more": "1"}
    return None


def variants(value: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """The model with one field changed, for each field of it and of what is in it, with the field's path."""
    for name, field in type(value).model_fields.items():
        held, here = getattr(value, name), f"{path}.{name}" if path else name
        for inner_path, inner in inside(held, here):
            yield inner_path, value.model_copy(update={name: inner})
        if held is None:
            continue
        if isinstance(held, BaseModel):
            if not field.is_required() and field.default is None:
                yield here, value.model_copy(update={name: None})
        elif (other := changed(held, field.annotation)) is not None:
            yield here, value.model_copy(update={name: other})


def inside(held: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The same of a model in a field, or of each of several."""
    if isinstance(held, BaseModel):
        yield from variants(held, path)
    elif isinstance(held, tuple):
        for place, item in enumerate(held):
            for inner_path, inner in variants(item, path) if isinstance(item, BaseModel) else ():
                yield inner_path, (*held[:place], inner, *held[place + 1 :])


def has_reason(path: str) -> bool:
    """Whether the field at a path is excluded. A merging agent is one, and a last step is one."""
    return any(fnmatchcase(spelled(path), pattern) for pattern in EXCLUDED)


def spelled(path: str) -> str:
    """The path as EXCLUDED has it."""
    return path.replace("merge.agent.", "agents.").replace("workflow.finally_.", "workflow.steps.")


def ignored() -> set[str]:
    """The paths of the fields that no definition changes with."""
    heard: dict[str, bool] = {}
    for sample in SAMPLES:
        before = definition(sample)
        for path, other in variants(sample):
            heard[path] = heard.get(path, False) or definition(other) != before
    return {path for path, does in heard.items() if not does}


def test_a_field_is_in_the_definition_or_has_a_reason() -> None:
    found = ignored()
    assert {path for path in found if not has_reason(path)} == set(), (
        "a change of these does no step anew: put them in, or say why not"
    )


def test_no_reason_is_given_for_what_is_in_it() -> None:
    found, everything = ignored(), {path for sample in SAMPLES for path, _ in variants(sample)}
    for pattern in EXCLUDED:
        matched = {path for path in everything if fnmatchcase(spelled(path), pattern)}
        assert matched and matched <= found, (pattern, sorted(matched - found))


def test_every_field_is_tried() -> None:
    """A new field of a plan has to be in a sample."""
    tried = {path for sample in SAMPLES for path, _ in variants(sample)}
    for path, name in every_field(StepPlan):
        if name != "schema_version":
            one = f"{path}{name}"
            assert one in tried or any(other.startswith(f"{one}.") for other in tried), one


def every_field(model: type[BaseModel], path: str = "", seen: tuple[Any, ...] = ()) -> Iterator[Any]:
    """The fields of a model and of every model in it, each with the path that leads there."""
    for name, field in model.model_fields.items():
        yield path, name
        for inner in models_in(field.annotation):
            if inner not in seen:
                yield from every_field(inner, f"{path}{name}.", (*seen, model))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that a field can hold, one or several of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)
