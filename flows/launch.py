"""How a run is started, and whether it may be, by what the ledger and the storage say of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blocks.ledger import Lease, Ledger, RunRow, RunStart, RunState
from blocks.ledger.runs.runs import ungiven_run
from blocks.ledger.tables.records import UNGIVEN
from blocks.models import ModelConnection
from blocks.patience import Patience, Vigil
from blocks.settings import Settings
from blocks.storage.artifacts import ArtifactStore
from tasks.context import OnEvent
from workflows.core.errors import PhaselineError, UsageError
from workflows.core.models.skill import ProviderLimits
from workflows.core.plans.agents import agents_of
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from flows.outcome import RunOutcome  # it imports Prefect, and a start is described before that


class LostRun(PhaselineError):
    """Another process took the run over."""


class NothingToWake(PhaselineError):
    """The run that was to be woken was cancelled meanwhile, or is not known."""


@dataclass
class Announced:
    """A new run whose row is written. `taken`: the run itself has begun, and keeps the lease."""

    lease: Lease
    taken: bool = False


@dataclass(frozen=True)
class Launch:
    """How a run is started: by whom, where, and who listens.

    `connections` are model connections to use in place of those that the environment asks for, by the
    name of their key's variable (`ANTHROPIC_API_KEY` is the default agent's); the run closes them.
    """

    settings: Settings
    environ: Mapping[str, str]
    run_id: str
    offline: bool = False
    tenant: str = "default"
    flow_run_id: str = ""
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    connections: Mapping[str, ModelConnection] = field(default_factory=dict)
    limits: Mapping[str, ProviderLimits] = field(default_factory=dict)
    """What the catalog says of each credential, by the variable of its key."""
    patience: Patience = field(default_factory=Patience)
    """How long what is out of order is waited for."""
    hurry: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set once the run is cancelled: nothing is waited for any more."""
    allow_effects: bool = False
    """Whether an offline run may act beyond this machine."""
    use_stored: bool = False
    """Whether a run that goes on keeps the definition it began with, whatever the catalog says now."""
    redo: tuple[str, ...] = ()
    """Ids of steps whose results are taken back before the run goes on."""
    lift_parks: bool = False
    """Whether a person says that the provider's quota is there again, before the time it was parked for."""
    expect: tuple[RunState, int] | None = None
    """State and version of the run that goes on, as they were seen; it is refused when it changed since."""
    woken: bool = False
    """Whether nobody asked for it just now: what was cancelled meanwhile stays so."""
    repeat_effects: bool = False
    """Whether steps that are done again act again, instead of getting the recorded outcomes."""
    announced: Announced | None = None
    """The row that was written for the run before Prefect was asked for anything."""
    on_event: OnEvent = lambda name, data: None
    on_outcome: Callable[[RunOutcome], None] = lambda outcome: None
    on_fault: Callable[[PhaselineError], None] = lambda fault: None
    """Called with what kept the run from starting, or broke it off, when it runs as a Prefect flow."""
    cancel: Callable[[], object] | None = None
    """What SIGTERM does while the flow runs; default: cancel its task."""
    running: Callable[[], AbstractContextManager[None]] = nullcontext
    """Around the run itself; before and after it is only told to Prefect."""

    @property
    def vigil(self) -> Vigil:
        """Waits faults out for the run, in its event loop."""
        return Vigil(self.patience, self.on_event, self.hurry)


async def read_expected_state(ledger: Ledger, launch: Launch) -> tuple[RunState, int] | None:
    """What the run must be like for this start. Raises NothingToWake for one that nobody may wake.

    A flow run that goes on with what it began itself is woken too: a worker took it up again.
    """
    row = await ledger.get_run(launch.tenant, launch.run_id)
    if row is None and launch.woken:
        raise NothingToWake(
            f"this ledger knows no run {launch.run_id} that could be woken",
            "use the ledger it ran with (PHASELINE_DATABASE_URL)",
        )
    own = row is not None and row.flow_run_id == launch.flow_run_id != ""
    if row is None or not (launch.woken or own):
        return launch.expect
    if row.state == "cancelled":
        raise NothingToWake(
            f"the run {launch.run_id} was cancelled meanwhile",
            f"continue it all the same with: phaseline resume {launch.run_id}",
        )
    return row.seen


def woken_with(launch: Launch, previous: RunRow | None) -> bool:
    """Whether the run goes on without anybody having asked for it: what failed then stays as it is.

    A flow run that goes on with its own run does so after a wait or a crash; one that had ended was begun
    again by a person.
    """
    if previous is None:
        return False
    if previous.flow_run_id == launch.flow_run_id != "":
        return previous.state not in ("failed", "stopped")
    return launch.woken


async def refuse_other_storage(row: RunRow | None, store: ArtifactStore, launch: Launch) -> None:
    """A run is continued where its bodies are, or where they were moved to; elsewhere all would be redone.

    Raises UsageError where they are not.
    """
    if row is None or row.storage in ("", store.root):
        return
    if await store.read_manifest(launch.tenant, launch.run_id) is None:
        raise UsageError(
            f"the run {launch.run_id} keeps its bodies in {row.storage}, not in {store.root}",
            f"add --storage {row.storage} (PHASELINE_STORAGE), or choose another --run-id",
        )


def refuse_ungiven(row: RunRow | None, given: Collection[str], command: str = "") -> None:
    """Raises RunUngiven for a run whose inputs are lost, where they are not `given` again, all of them."""
    if row is not None and not set(row.ungiven) <= set(given):
        raise ungiven_run(row, command)


def chosen_inputs(plan: Plan, given: Mapping[str, Any]) -> list[str]:
    """The inputs that are given and are not the default: a deployed flow is given every default, too."""
    defaults = {i.name: i.default for i in plan.inputs}
    return sorted(name for name, value in given.items() if value != defaults.get(name))


def run_start(plan: Plan, launch: Launch, store: ArtifactStore, given: Mapping[str, Any]) -> RunStart:
    """What the ledger is told of a run that begins, or goes on.

    Which inputs it was given is in the same commit as the row. They follow once their bodies are stored; who
    finds the row without them must not take the defaults for them.
    """
    ungiven = chosen_inputs(plan, given)
    return RunStart(
        run_id=launch.run_id,
        workflow=plan.workflow,
        tenant=launch.tenant,
        offline=launch.offline,
        storage=store.root,
        plan_digest=plan.definition,
        models={a.id: a.model.id for a in agents_of(plan)},
        flow_run_id=launch.flow_run_id,
        labels={**launch.labels, **({UNGIVEN: ungiven} if ungiven else {})},
        expect=launch.expect,
    )
