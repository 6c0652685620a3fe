"""Prefect flows out of plans: one object per workflow, named after it, with its own typed parameters.

`flows.compiled.<workflow name with underscores>` is the entrypoint of a deployment; the flow is built from
the catalog (PHASELINE_CATALOG, or the one shipped) when it is asked for, not when this module is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from prefect import Flow, flow
from prefect.states import Cancelled, Completed, Failed

from blocks.ledger.runs.interrupted import AUTO
from blocks.ledger.tables.records import DEPLOYED
from blocks.patience import Patience, PatienceOver
from blocks.process.ending import on_signals
from blocks.process.privacy import adopt_orphans, close_memory
from blocks.secrecy import secrets
from blocks.secrecy.plans import masked_plan
from blocks.settings import Settings
from blocks.storage.artifacts import ArtifactStore
from blocks.storage.results import ensure_block
from flows.holding import hold
from flows.launch import Launch, NothingToWake
from flows.log_secrets import mask_logs
from flows.outcome import RunOutcome
from flows.run import run_plan
from flows.steps.orchestration import outwait
from flows.wakes import is_woken, own_flow_run, schedule_wake
from tasks.secrets import without_secret
from workflows.core.catalog.contents import Catalog, python_name
from workflows.core.compile.compiler import compile_workflow
from workflows.core.compile.inputs import named_secrets
from workflows.core.errors import PhaselineError
from workflows.core.models.skill import ProviderLimits
from workflows.core.plans.plan import InputPlan, Plan
from workflows.core.refs import Ref
from workflows.core.tools.secret_names import variables_of_catalog

LAUNCH: ContextVar[Launch | None] = ContextVar("phaseline_launch", default=None)
"""Set by a caller in this process; a worker's run is launched from its environment."""

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "json": Any,
    "list": list[Any],
    "file": str | Ref,
    "secret": str,
}


@dataclass(frozen=True)
class Rates:
    """What the catalog says of its runs: prices by model id, limits by the variable of a key, patience, and
    whether they go on by themselves."""

    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    limits: Mapping[str, ProviderLimits] = field(default_factory=dict)
    patience: float | None = None
    """Seconds for which its runs wait faults out, where the environment does not say."""
    resume: bool = False
    """Whether a run whose process died goes on by itself."""

    @classmethod
    def of(cls, catalog: Catalog) -> Rates:
        """From models.yaml and agent.yml."""
        auto = catalog.resume == "auto"
        return cls(price_table(catalog), catalog.models.limits, catalog.patience, auto)


def build_flow(plan: Plan, rates: Rates | None = None) -> Flow[..., Any]:
    """The Prefect flow of a plan. Its parameters are the workflow's inputs, `run_id` and `offline`."""

    async def body(**parameters: Any) -> Any:
        return await _body(plan, rates or Rates(), parameters)

    mask_logs()
    name = python_name(plan.workflow)
    # A compiled function that looks written: Prefect takes name, schema and documentation from it.
    body.__name__ = body.__qualname__ = name
    about = plan.description or f"The workflow {plan.workflow}."
    body.__doc__ = _docstring(about, {**{i.name: _describe_input(i) for i in plan.inputs}, **_OWN_PARAMETERS})
    parameters = [_parameter(i) for i in plan.inputs] + _own_parameters()
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__annotations__ = {p.name: p.annotation for p in parameters}
    body.__module__ = __name__
    return flow(name=plan.workflow, description=about, persist_result=False)(body)


def _docstring(about: str, parameters: Mapping[str, str]) -> str:
    """Prefect reads the parameters' descriptions, shown in its form, from here and from nowhere else."""
    lines = [f"    {name}: {' '.join(text.split()) or name}" for name, text in parameters.items()]
    return "\n".join([" ".join(about.split()), "", "Args:", *lines])


def _describe_input(spec: InputPlan) -> str:
    default = f" (default: {spec.default_file} of the catalog)" if spec.default_file else ""
    return f"{spec.description}{default}"


def _parameter(spec: InputPlan) -> inspect.Parameter:
    kind = Literal[spec.choices] if spec.choices else _TYPES[spec.type]
    optional = not spec.required
    return inspect.Parameter(
        spec.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=kind | None if optional and spec.default is None else kind,
        default=spec.default if optional else inspect.Parameter.empty,
    )


_OWN_PARAMETERS = {
    "run_id": "Continues the run of that id; empty for a new one.",
    "offline": "Let the offline model answer, at no cost.",
}


def _own_parameters() -> list[inspect.Parameter]:
    key = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("run_id", key, annotation=str | None, default=None),
        inspect.Parameter("offline", key, annotation=bool, default=False),
    ]


async def _body(plan: Plan, rates: Rates, parameters: dict[str, Any]) -> Any:
    run_id, offline = parameters.pop("run_id", None), parameters.pop("offline", False)
    secrets.learn(named_secrets(plan.inputs, parameters))
    given = {n: secrets.current_secrets().value(v) for n, v in parameters.items() if v is not None}
    own = LAUNCH.get()
    launch = own or _from_environment(plan, run_id, offline, rates)
    outcomes: list[RunOutcome] = []

    def on_outcome(outcome: RunOutcome) -> None:
        outcomes.append(outcome)
        launch.on_outcome(outcome)

    known = replace(launch, flow_run_id=own_flow_run_id(), on_outcome=on_outcome)
    try:
        with _terminable(own.cancel) if own else contextlib.nullcontext(), known.running():
            outcome = await run_plan(plan, given, known, partial(_storage, known))
    except NothingToWake as fault:
        return Cancelled(message=str(fault))
    except PhaselineError as fault:
        # Raised, Prefect would pickle it to a place of its own.
        launch.on_fault(fault)
        away = fault if isinstance(fault, PatienceOver) else None
        if away is not None and own is None:
            wake_at = away.wake_at
            if await outwait(launch.vigil, lambda: schedule_wake(launch.run_id, wake_at)):
                away.goes_on(launch.run_id)
        told = secrets.current_secrets().text(f"run {launch.run_id}: {fault}")
        return Failed(message=told) if away is None else Failed(name="Stopped", message=told)
    except Exception as error:
        # Prefect keeps what a flow raises, and its traceback.
        if (clean := without_secret(error, secrets.current_secrets())) is not error:
            raise clean from None
        raise
    except asyncio.CancelledError:
        if not outcomes:
            raise
        outcome = outcomes[-1]  # everything is done that was left to do: Prefect shows it as cancelled
    await (_show_rest(outcome) if own else outwait(launch.vigil, lambda: _show_rest(outcome)))
    return final_state(outcome)


async def _show_rest(outcome: RunOutcome) -> None:
    """Shows a run that goes on later as what it waits for; on a worker, Prefect has it go on."""
    if outcome.status == "waiting":
        await hold(outcome.run_id, outcome.waits)
    if outcome.wake_at is not None:
        await schedule_wake(outcome.run_id, outcome.wake_at)


async def _storage(launch: Launch, store: ArtifactStore) -> Any:
    """Prefect's result storage, once its server can be asked for it."""
    return await outwait(launch.vigil, lambda: ensure_block(store))


@contextlib.contextmanager
def _terminable(cancel: Callable[[], object] | None) -> Iterator[None]:
    """SIGTERM cancels the run, so that what runs is ended and `finally` steps still run.

    While a flow runs, Prefect has its own handler, which breaks off the whole event loop. A worker's run
    keeps it, since there the signal is how the worker says what it wants.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    task = asyncio.current_task()
    assert task is not None
    with on_signals(cancel or task.cancel, numbers=(signal.SIGTERM,)):
        yield


def own_flow_run_id() -> str:
    """The id of the flow run that people see; empty outside of a flow."""
    run = own_flow_run()
    return str(run.id) if run else ""


def _from_environment(plan: Plan, run_id: str | None, offline: bool, rates: Rates) -> Launch:
    """The launch of a run that a worker was given. Closes the process that does it to what it starts."""
    close_memory()
    if "PREFECT__FLOW_RUN_ID" in os.environ:  # of a worker's process for this run alone
        adopt_orphans()
    return Launch(
        settings=Settings.read(os.environ),
        environ=dict(os.environ),
        # A retry of the same flow run continues the same run.
        run_id=run_id or run_id_of(plan.workflow),
        # What wakes by itself goes on with what it began with.
        use_stored=True,
        woken=is_woken(),
        labels=_labels(rates),
        offline=offline or os.environ.get("PHASELINE_MODEL") == "offline",
        prices=rates.prices,
        limits=rates.limits,
        patience=Patience.read(os.environ, rates.patience),
    )


def _labels(rates: Rates) -> dict[str, Any]:
    run = own_flow_run()
    deployed = {DEPLOYED: str(run.id)} if run is not None and run.deployment_id is not None else {}
    return {**deployed, AUTO: True} if rates.resume else deployed


def run_id_of(workflow: str) -> str:
    """A run id out of the workflow's name and the flow run's id."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", workflow).strip("-")
    return f"{name[:60] or 'run'}-{own_flow_run_id()[:8]}"


def final_state(outcome: RunOutcome) -> Any:
    """The flow run's state: its name and message for people, its data for a flow that calls this one."""
    document = outcome.in_short()
    if outcome.status == "completed":
        failed = (
            f" ({len(outcome.failed_steps)} steps failed and were continued)" if outcome.failed_steps else ""
        )
        return Completed(message=f"run {outcome.run_id} completed{failed}", data=document)
    error = (outcome.error or {}).get("message", outcome.status)
    if outcome.status == "cancelled":
        return Cancelled(message=f"run {outcome.run_id}: cancelled", data=document)
    if outcome.status == "waiting":
        return Cancelled(name="Waiting", message=f"run {outcome.run_id}: {error}", data=document)
    name = "Stopped" if outcome.status == "stopped" else "Failed"
    return Failed(name=name, message=f"run {outcome.run_id}: {error}", data=document)


def catalog_flow(name: str) -> Flow[..., Any]:
    """The flow of a workflow of the catalog, and of no other file. Raises UsageError or InvalidDefinition."""
    return build_flow(*catalog_plan(name))


def catalog_plan(name: str) -> tuple[Plan, Rates]:
    """The same before a flow is made of it."""
    catalog = _own_catalog()
    return masked_plan(compile_workflow(catalog.find_own_workflow(name), catalog)), Rates.of(catalog)


def _own_catalog() -> Catalog:
    """The catalog of this process. What any of its agents takes from the environment is secret from here on,
    as it is to every command: the names of one plan alone leave others open, and make other keys.
    """
    root = Settings.read(os.environ).catalog
    secrets.learn(variables_of_catalog(root))
    return Catalog.load(root)


def price_table(catalog: Catalog) -> dict[str, dict[str, float]]:
    """Prices by model id, USD per million tokens."""
    keys = ("input", "output", "cache_read", "cache_write")
    return {
        model: {k: v for k in keys if (v := getattr(price, k)) is not None}
        for model, price in catalog.models.models.items()
    }


def __getattr__(name: str) -> Any:
    """The flow of the workflow whose name, with underscores, is `name`."""
    if name.startswith("__"):
        raise AttributeError(name)
    catalog = _own_catalog()
    for workflow in catalog.workflows:
        if python_name(workflow) == name:
            return catalog_flow(workflow)
    raise AttributeError(f"the catalog has no workflow '{name}'")
