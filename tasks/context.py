"""What every step of a run shares: stores, connections, the event listener. Set once per flow run."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from blocks.boundaries import reach_boundary
from blocks.ledger import EffectRow
from blocks.models import ModelConnection
from blocks.patience import Outage, Patience
from blocks.providers.connections import connect
from blocks.secrecy.secrets import count_learned
from blocks.storage.artifacts import ArtifactStore
from tasks.budget import Budgets, TimeLeft
from tasks.durable import Durable
from tasks.limits.governor import Governor
from tasks.limits.requests import Gate
from tasks.results import StepResult, StepUsage
from tasks.secrets import Secrets, known_secrets, scrub_body, scrub_text
from workflows.core.catalog.connectors import DEFAULT_KEY
from workflows.core.errors import PhaselineError
from workflows.core.models.skill import ProviderLimits
from workflows.core.plans.plan import AgentPlan
from workflows.core.refs import Ref
from workflows.core.step_paths import ByPath, all_within
from workflows.core.usage import Usage, cost

OnEvent = Callable[[str, dict[str, Any]], None]

INLINE_BYTES = 64 * 1024
"""A larger value is an artifact."""


class Service(Protocol):
    """Something a run opens and has to give back."""

    async def close(self) -> None: ...


@dataclass
class Items:
    """The items of a list that a step is done for, by their paths."""

    now: frozenset[str]
    former: list[EffectRow] | None = None
    """What was done for items that it no longer has; None until somebody asks."""


def item_of(path: str, step: str) -> str:
    """The path of the item of a `step` that a path lies in; "" when it lies in none."""
    below = f"{step}/"
    return below + path[len(below) :].split("/")[0] if path.startswith(below) else ""


@dataclass
class RunContext:
    """One run's services. Tasks find it through `current()`; nothing of it is ever persisted."""

    run_id: str
    catalog_root: Path
    store: ArtifactStore
    environ: Mapping[str, str]
    offline: bool
    tenant: str = "default"
    on_event: OnEvent = lambda name, data: None
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    finished: ByPath[StepResult] = field(default_factory=ByPath)
    """Results the ledger holds, by unit path: returned instead of working again."""
    made: dict[str, StepResult] = field(default_factory=dict)
    """Results of this process that the ledger does not have yet, by unit path: one may be cut off before."""
    limits: Mapping[str, ProviderLimits] = field(default_factory=dict)
    """What the catalog says of each credential, by the variable of its key."""
    patience: Patience = field(default_factory=Patience)
    """How long faults that pass are waited out, where a step does not say otherwise."""
    patiences: dict[str, float] = field(default_factory=dict)
    """Seconds of patience that units at work have of their own, by path."""
    outages: dict[str, Outage] = field(default_factory=dict)
    """How each credential's provider is met, by the credential."""
    waited_for: dict[str, str] = field(default_factory=dict)
    """What the unit at a path waits out at this moment, or did when it was cut off, in words."""
    waiting_since: dict[str, float] = field(default_factory=dict)
    """Since when it does, by path, on the monotonic clock."""
    allow_effects: bool = False
    """Whether an offline run may act beyond this machine."""
    restored: bool = False
    """Whether the storage alone knew the run when it was begun on this ledger: what Prefect stored of it then
    counts. Everywhere else the ledger says what is finished."""
    services: list[Service] = field(default_factory=list)
    """What was opened on demand; closed at the end of the run, the last one first."""
    governors: dict[str, Governor] = field(default_factory=dict)
    budgets: Budgets | None = None
    durable: Durable | None = None
    """None outside of a run: then nothing is journalled, and nothing can wait or act once."""
    attempts: dict[str, int] = field(default_factory=dict)
    """Attempts begun over the whole life of the run, by unit path."""
    tries: dict[str, int] = field(default_factory=dict)
    """Attempts that failed since a unit was last given its retries, by path; counted over kills."""
    failed_before: dict[str, tuple[str, dict[str, Any] | None, int]] = field(default_factory=dict)
    """What failed before this process and stays so, by path: content key, error and attempts of its row."""
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The error with which a unit's conversation came to its end for good, by path: the next one begins
    where the same answers lead to the same end."""
    shared_bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What journals of this run keep of a body that many have in common, by its digest."""
    keys: dict[str, str] = field(default_factory=dict)
    """Content keys of the units at work, by path."""
    generations: dict[str, int] = field(default_factory=dict)
    """How often a unit's result was dropped, by path."""
    repetitions: dict[str, str] = field(default_factory=dict)
    """Names the repetition of a unit's effects that a person asked for last, by path."""
    lists: dict[str, Items] = field(default_factory=dict)
    """What the steps at work are done for each of, by the step's path."""
    failed_calls: Counter[str] = field(default_factory=Counter)
    """Tool calls that failed in this process, by unit path: their agents were told and went on."""
    spent: ByPath[StepUsage] = field(default_factory=ByPath)
    """What was paid, by unit path: now, and before by units that did not finish; failed attempts included."""
    connections: dict[str, ModelConnection] = field(default_factory=dict)
    standing: Callable[[str], AbstractContextManager[None]] = lambda path: nullcontext()
    """Around what the unit at a path only waits for: that is no active time of it."""
    bounded: Callable[[str, float | None], AbstractContextManager[None]] = lambda path, seconds: nullcontext()
    """Around an attempt of the unit at a path, which has so many seconds of active time."""
    time_left: Callable[[str], TimeLeft | None] = lambda path: None
    """What the unit at a path has left of the budget of time that ends first; None where there is none."""
    departed: Callable[[str], None] = lambda path: None
    """Called in the loop when the unit at a path sends a request: its preparation is over."""
    held_up: dict[str, PhaselineError] = field(default_factory=dict)
    """What keeps a unit from going on without having failed, by path: a wait, a spent budget."""
    held: list[Any] = field(default_factory=list)
    """What must not be given back before the run ends."""
    _secrets: tuple[tuple[tuple[str, ...], int], Secrets] | None = None

    def connection(self, agent: AgentPlan) -> ModelConnection:
        """The model connection an agent asks for; one per credential."""
        variable = self._key_variable(agent)
        if variable not in self.connections:
            self.connections[variable] = connect(self.environ, self.offline, key_variable=variable)
        return self.connections[variable]

    def _key_variable(self, agent: AgentPlan) -> str:
        variable = agent.model.connection or DEFAULT_KEY
        # A connector that names nothing falls back to the default key; the command says so.
        return variable if self.environ.get(variable, "").strip() else DEFAULT_KEY

    def governor(self, agent: AgentPlan) -> Gate | None:
        """What keeps the requests of an agent's credential within the provider's limits; None without one."""
        credential = getattr(self.connection(agent), "credential", "")
        if not credential or self.durable is None:
            return None
        if credential not in self.governors:
            limits = self.limits.get(self._key_variable(agent))
            self.governors[credential] = Governor(
                self.durable.ledger, self.tenant, credential, limits, self.on_event, patience=self.patience
            )
        return self.governors[credential]

    def outage(self, connection: ModelConnection) -> Outage:
        """What is known in this run of the provider behind a connection being out of order."""
        return self.outages.setdefault(getattr(connection, "credential", ""), Outage())

    @contextmanager
    def waiting_out(self, path: str, listen: OnEvent) -> Iterator[OnEvent]:
        """A listener to one request of the unit at a path, by which is known what it waits for."""

        def note_waiting(name: str, data: dict[str, Any]) -> None:
            if name == "request.retry":
                self.wait_for(path, str(data["reason"]))
            elif name in ("request.progress", "request.answered"):
                self.waited_for.pop(path, None)  # it is back: what takes long now is the answer itself
            listen(name, data)

        try:
            yield note_waiting
        except asyncio.CancelledError:
            raise  # by the step's timeout, maybe: who cut it off has to know that it was waiting
        except BaseException:
            self.waited_for.pop(path, None)
            raise
        self.waited_for.pop(path, None)

    def wait_for(self, path: str, reason: str, waited: float = 0.0) -> None:
        """Takes note that the unit at a path waits for what is out of order, so many seconds already."""
        if path not in self.waited_for:
            self.waiting_since[path] = time.monotonic() - waited
        self.waited_for[path] = reason

    def patience_of(self, seconds: float | None) -> Patience:
        """The patience of a step that says so many seconds, or nothing."""
        return self.patience if seconds is None else Patience(seconds)

    def patience_at(self, path: str) -> Patience:
        """The patience of the unit that works at a path."""
        return self.patience_of(self.patiences.get(path))

    @property
    def reaches_out(self) -> bool:
        """Whether effects beyond this machine may be performed."""
        return self.allow_effects or not self.offline

    def work_through(self, step: str, items: Iterable[str]) -> None:
        """Takes note of the items, by their paths, that the step at a path is done for."""
        if self.durable is None or self.durable.lease.created:
            return  # there were none before
        self.lists[step] = Items(frozenset(items))

    def repeat(self, path: str) -> str:
        """The repetition that a unit's effects belong to: with it, recorded outcomes do not count."""
        return self.repetitions.get(path, "")

    def credentials(self) -> list[str]:
        """What stands in the ledger for the keys of the run's connections."""
        found = (getattr(connection, "credential", "") for connection in self.connections.values())
        return [credential for credential in found if credential]

    @property
    def secrets(self) -> Secrets:
        """The secret values this run knows: nothing it keeps or tells may hold one."""
        # Asked for with every event; only another connection, or another plan's servers, can add one.
        names = tuple(self.connections)
        if self._secrets is None or self._secrets[0] != (names, count_learned()):
            self._secrets = (names, count_learned()), known_secrets(self.environ, names)
        return self._secrets[1]

    def usd(self, usage: Usage, model: str) -> float | None:
        """What an answer cost by the catalog's prices; 0.0 offline, None when the model has no price."""
        return 0.0 if self.offline else cost(usage, self.prices.get(model))

    def price_usage(self, usage: Usage, model: str) -> StepUsage:
        """Tokens with what they cost."""
        return StepUsage(**usage.to_json(), usd=self.usd(usage, model))

    def pay(self, path: str, usage: Usage, model: str) -> None:
        """Counts what a request cost, also when the step fails afterwards."""
        self.spent[path] = self.spent.get(path, StepUsage()) + self.price_usage(usage, model)

    def usage_below(self, path: str) -> StepUsage:
        """What a step and its parts cost over the whole run: paid now or, where reused, recorded before."""
        return self._sum((*self.spent.below(path), *self.finished.below(path)))

    def failed_calls_below(self, path: str) -> int:
        """Tool calls that failed in a step and its parts, those of parts that are reused included."""
        paths = {*all_within(self.failed_calls, path), *self.finished.below(path)}
        kept = {p: self.finished[p].failed_tool_calls if p in self.finished else 0 for p in paths}
        return sum(max(kept[p], self.failed_calls[p]) for p in paths)

    def usage_in_all(self) -> StepUsage:
        """What the whole run cost so far."""
        return self._sum((*self.spent, *self.finished))

    def usage_of(self, path: str) -> StepUsage:
        """What one unit cost over the whole run, its failed attempts included."""
        return self._sum(p for p in (path,) if p in self.spent or p in self.finished)

    def _sum(self, paths: Iterable[str]) -> StepUsage:
        total = StepUsage()
        for path in dict.fromkeys(paths):
            total += self.spent[path] if path in self.spent else self.finished[path].usage
        return total

    async def keep(self, body: bytes, *, media_type: str, kind: str, summary: str, step: str) -> Ref:
        """Stores a body this run made, without secrets. A storage fault is raised, never only logged."""
        secrets = self.secrets
        ref = await self.store.put(
            scrub_body(body, media_type, secrets),
            tenant=self.tenant,
            media_type=media_type,
            kind=kind,
            summary=scrub_text(summary, secrets),
            run_id=self.run_id,
            step=step,
            offline=self.offline,
        )
        reach_boundary("artifact.stored", step, kind)
        return ref

    async def close(self) -> None:
        """Writes down what governors still know, and gives back everything that was opened."""
        for service in reversed(self.services):
            await asyncio.shield(service.close())
        for governor in self.governors.values():
            await asyncio.shield(governor.close())
        for connection in self.connections.values():
            await asyncio.shield(connection.close())


def count_failed_calls(listen: OnEvent, failed: Counter[str]) -> OnEvent:
    """The listener, with failed tool calls counted by the step they are of."""

    def count_failures(name: str, data: dict[str, Any]) -> None:
        if name == "tool.finished" and data.get("is_error"):
            failed[str(data.get("step", ""))] += 1
        listen(name, data)

    return count_failures


_CURRENT: ContextVar[RunContext] = ContextVar("phaseline_run")


def current() -> RunContext:
    """The run this task belongs to. LookupError outside of one."""
    return _CURRENT.get()


def enter(context: RunContext) -> Any:
    """Makes a run the current one; `leave` takes the token back."""
    return _CURRENT.set(context)


def leave(token: Any) -> None:
    """Ends what `enter` began."""
    _CURRENT.reset(token)
