"""Reads of the ledger for callers without an event loop."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TypeVar

import blocks.ledger.tables.rows as rows
from blocks.current_time import use_clock
from blocks.ledger.database.engine import Database, explain_faults, make_engine
from blocks.ledger.database.faults import away, passing
from blocks.ledger.database.writer import Operation, closed_here
from blocks.ledger.tables.clock import Clock
from blocks.ledger.tables.errors import LedgerAway
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import ArtifactRecord, RunRow, StepRecord
from blocks.names import checked_run_id
from blocks.patience import LEDGER, Vigil

T = TypeVar("T")


class LedgerReader:
    """Reads without an event loop, as the command line does. Safe to use from several threads."""

    def __init__(self, database: Database, vigil: Vigil | None = None, clock: Clock | None = None) -> None:
        self._database = database
        self._vigil = vigil or Vigil.of_command()
        self._clock = clock
        self._engine = make_engine(database, write=False)
        self._pid = os.getpid()

    def get_run(self, tenant: str, run_id: str) -> RunRow | None:
        """A run as it stands, None when there is none."""
        return self.read(lambda c: rows.read_run(c, tenant, checked_run_id(run_id), Owner.current()))

    def list_runs(self, tenant: str, limit: int = 50) -> list[RunRow]:
        """The newest runs first."""
        return self.read(lambda c: rows.read_runs(c, tenant, limit, Owner.current()))

    def get_step(self, tenant: str, run_id: str, step_path: str) -> StepRecord | None:
        """What is recorded of one step, None when nothing is."""
        found = self.read(lambda c: rows.read_steps(c, tenant, run_id, step_path))
        return found[0] if found else None

    def steps(self, tenant: str, run_id: str, content_key: str | None = None) -> list[StepRecord]:
        """The steps of a run in the order they started; those of a content key, if one is named."""
        return self.read(lambda c: rows.read_steps(c, tenant, run_id, content_key=content_key))

    def artifacts(self, tenant: str, run_id: str) -> list[ArtifactRecord]:
        """The artifacts of a run in the order they were recorded."""
        return self.read(lambda c: rows.read_artifacts(c, tenant, run_id))

    def read(self, query: Operation[T]) -> T:
        """What a query returns; its transaction must be short, as it holds back the clean-up of SQLite."""
        if self._pid != os.getpid():
            raise closed_here()
        return self._vigil.outwait_blocking(LEDGER, lambda: self._read_once(query), passing, self._away_error)

    def _read_once(self, query: Operation[T]) -> T:
        clock = nullcontext() if self._clock is None else use_clock(self._clock)
        with clock, explain_faults(self._database), self._engine.connect() as connection, connection.begin():
            return query(connection)

    def _away_error(self, error: Exception, waited: float, wake_after: float) -> LedgerAway:
        return away(error, self._database, waited, wake_after)

    def close(self) -> None:
        """Give back connections."""
        self._engine.dispose()
