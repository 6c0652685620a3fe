"""What goes into the ledger and comes out of it. Times are whole microseconds since 1970 in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from blocks.ledger.tables.process_identity import Owner
from blocks.names import DEFAULT_TENANT
from workflows.core.refs import Ref

RunState = Literal["running", "completed", "failed", "waiting", "stopped", "interrupted", "cancelled"]
EndState = Literal["completed", "failed", "waiting", "stopped", "interrupted", "cancelled"]
StepState = Literal[
    "running", "completed", "failed", "skipped", "waiting", "cancelled", "not_started", "dropped"
]
"""`dropped`: its result was taken back, so that it is done again."""

Document = dict[str, Any]
"""A JSON object."""

TAKEN_BACK = "taken_back"
"""Label of a run that is, or was, being taken back: nobody goes on with it."""
ANNOUNCED = "announced"
"""Label of a run that is written down and has not begun: it has no bodies anywhere yet."""
UNGIVEN = "ungiven"
"""Label of a run: the names of inputs that it was given, and that its row does not hold yet."""
DEPLOYED = "deployed"
"""Label of a run: the flow run by which a worker worked on it last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """What a new run begins with. For a run that exists already, only `workflow`, `storage`,
    `flow_run_id`, `expect` and `take_back` count: all else stays as it began."""

    run_id: str
    workflow: str
    tenant: str = DEFAULT_TENANT
    offline: bool = False
    storage: str = ""
    plan_digest: str = ""
    models: Document = field(default_factory=dict)
    inputs: Document = field(default_factory=dict)
    labels: Document = field(default_factory=dict)
    flow_run_id: str = ""
    parent_run_id: str = ""
    root_run_id: str = ""
    expect: tuple[RunState, int] | None = None
    """State and version that the existing run was last seen with; refused when it changed since."""
    take_back: bool = False
    """Whether the run is held to undo its work, which is written down for good with the lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run as it stands. `state` is "interrupted" for one that was running when its process ended."""

    run_id: str
    tenant: str
    workflow: str
    state: RunState
    offline: bool
    storage: str
    plan_digest: str
    models: Document
    inputs: Document
    labels: Document
    outputs: Document
    error: Document | None
    usage: Document
    active_us: int
    created: int
    updated: int
    ended: int | None
    heartbeat: int
    parent_run_id: str
    root_run_id: str
    flow_run_id: str
    version: int
    epoch: int
    holder: Owner | None
    """Who works on it now; None when nobody does."""
    wake_at: int | None = None
    """When a stopped run may go on by itself; None: only when somebody says so."""
    wake_reason: str = ""
    cancel_requested: int | None = None
    """When somebody asked its holder to end it."""
    last_host: str = ""
    """The machine of the process that works on it, or worked on it last; "" when that is not known."""

    @property
    def taken_back(self) -> bool:
        """Whether its work was undone, at least in part: only undoing goes on."""
        return bool(self.labels.get(TAKEN_BACK))

    @property
    def ungiven(self) -> tuple[str, ...]:
        """Inputs it was given whose values are lost where nobody works on it: without them it is another."""
        return tuple(map(str, self.labels.get(UNGIVEN, ())))

    @property
    def deployed(self) -> bool:
        """Whether its present flow run is a worker's: continued by hand, it is so no more."""
        return bool(self.flow_run_id) and self.labels.get(DEPLOYED) == self.flow_run_id

    @property
    def seen(self) -> tuple[RunState, int]:
        """What `RunStart.expect` compares: the run as this row shows it."""
        return self.state, self.version


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a run, until it is finished or taken over."""

    tenant: str
    run_id: str
    epoch: int
    token: str
    created: bool
    """Whether this began the run; False when it continues one."""
    previous: RunRow | None
    """The run as it stood before it was taken over; None for a new one."""

    def __repr__(self) -> str:
        return f"Lease({self.tenant}/{self.run_id}, epoch {self.epoch})"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a run. `result` is whatever the flow wants to find again, at most 64 KB as JSON."""

    step_path: str
    state: StepState
    content_key: str = ""
    attempts: int = 0
    agent: str = ""
    model: str = ""
    usage: Document = field(default_factory=dict)
    result: Document | None = None
    error: Document | None = None
    started: int | None = None
    ended: int | None = None
    reused_from: str = ""
    generation: int = 0
    """How often its result was dropped: what Prefect stored of earlier generations is not used."""
    repetition: str = ""
    """Names the last time a person asked that its effects be repeated; "" for never."""
    tries: int = 0
    """How many attempts failed since it was last given its retries: they are counted over kills."""
    epoch: int = 0
    """The lease epoch that wrote it; set by the ledger."""


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """A stored body of a run: `name` is what the step calls it, `ref` leads to the body."""

    name: str
    ref: Ref
    created: int
