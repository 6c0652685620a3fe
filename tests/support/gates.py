"""Effect gates on a real ledger: one run that is begun, and continued by later processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, text

from blocks.ledger import EffectRow, Ledger, RunStart, WaitRow
from blocks.ledger.database.access import run_order
from blocks.patience import Patience
from blocks.storage.artifacts import ArtifactStore
from tasks.context import RunContext
from tasks.durable import Durable
from tasks.effects.gate import EffectGate
from tasks.effects.tools import gate_of

T = TypeVar("T")
RUN = "r-1"


@dataclass
class GateDesk:
    """Runs pieces of work as a process of the run would: it takes the run over, works, and lets go."""

    ledger: Ledger
    folder: Path
    environ: dict[str, str]

    def work(
        self,
        piece: Callable[[EffectGate, RunContext], Awaitable[T]],
        *,
        path: str = "s",
        generation: int = 0,
    ) -> T:
        """What `piece` gives, or its exception, with the run ended as waiting behind it.

        `generation` counts how often a person had the step done anew.
        """

        async def run() -> T:
            lease = await self.ledger.begin_run(RunStart(run_id=RUN, workflow="w"))
            store = ArtifactStore.open(str(self.folder / "storage"), environ={})
            durable = Durable(self.ledger, lease)
            context = RunContext(
                RUN,
                self.folder,
                store,
                self.environ,
                offline=False,
                durable=durable,
                patience=Patience(4.0),
                generations={path: generation},
            )
            gate = gate_of(context, path)
            assert gate is not None
            try:
                return await piece(gate, context)
            finally:
                await self.ledger.finish_run(lease, "waiting")
                store.close()

        return asyncio.run(run())

    def effects(self) -> list[EffectRow]:
        """What is recorded."""
        return asyncio.run(self.ledger.effects.of_run("default", RUN))

    @property
    def effect(self) -> EffectRow:
        """The only effect."""
        (row,) = self.effects()
        return row

    @property
    def wait(self) -> WaitRow:
        """The only open wait."""
        (row,) = self.ledger.waits.list_open("default")
        return row

    def answer(self, data: dict[str, Any] | None, decision: Any = "approve", note: str = "") -> None:
        """Decide the only open wait."""
        self.vote("kim", data, decision, note)

    def vote(
        self, voter: str, data: dict[str, Any] | None = None, decision: Any = "approve", note: str = ""
    ) -> WaitRow:
        """Somebody's answer to the only open wait."""
        waits = self.ledger.waits
        return waits.vote("default", self.wait.wait_id, voter, decision, data, note, local_admin=True)

    def pass_deadline(self) -> WaitRow:
        """See the function."""
        return pass_deadline(self.ledger)


def pass_deadline(ledger: Ledger) -> WaitRow:
    """The only open wait after its deadline, as the ledger then has it: nothing here waits."""
    row = make_overdue(ledger)
    (changed,) = ledger.waits.expire_due(row.tenant)
    assert changed.wait_id == row.wait_id
    return changed


def make_overdue(ledger: Ledger) -> WaitRow:
    """The only open wait, which is then as if it had been opened before its deadline's time."""
    (row,) = ledger.waits.list_open("default")
    assert row.deadline is not None
    back = row.deadline - row.created + 1_000_000
    moved = ", ".join(f"{name} = {name} - {back}" for name in ("created", "deadline"))

    def operation(connection: Connection) -> None:
        connection.execute(text(f"UPDATE wait SET {moved} WHERE wait_id = '{row.wait_id}'"))

    ledger.access.write_blocking(operation, run_order(row.tenant, row.run_id))
    return row
