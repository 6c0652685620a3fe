"""What is known of a run before it begins: what, where, by which words, and how it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocks.patience import Patience
from blocks.run_request import RunRequest
from blocks.settings import Settings
from deployments.runs.next_commands import continuing
from workflows.core.catalog.contents import Catalog
from workflows.core.plans.plan import Plan

if TYPE_CHECKING:
    from blocks.ledger import RunRow, RunState
    from flows.launch import Announced, Launch


@dataclass(frozen=True)
class Start:
    """Everything that is known before a run begins."""

    plan: Plan
    catalog: Catalog
    given: Mapping[str, Any]
    settings: Settings
    environ: Mapping[str, str]
    run_id: str
    offline: bool
    request: RunRequest
    tenant: str
    redo: tuple[str, ...] = ()
    """Ids of steps that are to be done again."""
    repeat_effects: bool = False
    expect: tuple[RunState, int] | None = None
    """The run as it was seen before; it is not started when it changed since."""
    lift_parks: bool = False
    """Whether a person says that the provider's quota is there again."""
    announced: Announced | None = None
    """The row of a new run, once it is written."""

    def to_launch(self, **listeners: Any) -> Launch:
        """How it is launched, and who listens."""
        from blocks.ledger.runs.interrupted import AUTO
        from flows.launch import Launch

        labels = self.request.to_labels(self.settings.catalog)
        if self.catalog.resume == "auto":
            labels[AUTO] = True
        return Launch(
            settings=self.settings,
            environ=self.environ,
            run_id=self.run_id,
            tenant=self.tenant,
            offline=self.offline,
            limits=self.catalog.models.limits,
            patience=Patience.read(self.environ, self.catalog.patience),
            labels=labels,
            redo=self.redo,
            repeat_effects=self.repeat_effects,
            lift_parks=self.lift_parks,
            expect=self.expect,
            announced=self.announced,
            **listeners,
        )

    @property
    def again(self) -> str:
        """The command that continues it."""
        return continuing(self.request, self.run_id)


def is_parked(row: RunRow) -> bool:
    """Whether a provider's quota stopped the run: who continues it then says that it can go on.

    A spent budget stops a run too, without a time at which it goes on by itself.
    """
    return row.state == "stopped" and row.wake_at is not None
