"""How the parts of the ledger read and write: one writer, a few reading threads, one place that repeats."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from blocks.ledger.database.engine import Database
from blocks.ledger.database.reader import LedgerReader
from blocks.ledger.database.writer import Operation, Writer
from blocks.ledger.tables.clock import Clock
from blocks.ledger.tables.errors import InDoubt
from blocks.ledger.tables.records import Lease
from blocks.patience import LEDGER, Patience, Vigil
from blocks.process.cut_off import using

T = TypeVar("T")

_READERS = 4


class Access:
    """Shared by the parts of one ledger. See writer.py for what an operation must be like."""

    def __init__(self, database: Database, vigil: Vigil | None = None, clock: Clock | None = None) -> None:
        # That the ledger is closed, or was away for too long, is no concern of the run's other parts.
        self._vigil = (vigil or Vigil.of_command()).apart()
        self.reader = LedgerReader(database, self._vigil.reading(), clock)
        self._writer = Writer(database, self._vigil, clock)
        self._readers: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()

    @property
    def patience(self) -> Patience:
        """How long faults that pass are waited out."""
        return self._vigil.patience

    async def under(self, lease: Lease, operation: Operation[T]) -> T:
        """Write what belongs to the lease's run alone. The operation checks the lease itself."""
        return await self.write(operation, run_order(lease.tenant, lease.run_id))

    async def write(self, operation: Operation[T], order: str) -> T:
        """Write; again, as long as there is patience, while it is unknown whether it was committed.

        `order` names the one row that the operation shares with other processes.
        """

        async def work() -> T:
            with using("ledger"):
                return await self._writer.write(operation, order)

        return await self._vigil.outwait(LEDGER, work, _in_doubt, lambda doubt, *_: doubt)

    def write_blocking(self, operation: Operation[T], order: str) -> T:
        """The same for callers without an event loop."""

        def work() -> T:
            return self._writer.write_blocking(operation, order)

        return self._vigil.outwait_blocking(LEDGER, work, _in_doubt, lambda doubt, *_: doubt)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """What a short query returns."""
        return await self.call(lambda: self.reader.read(query))

    async def call(self, query: Callable[[], T]) -> T:
        """What a call of the reader returns."""
        # Its own few threads: the loop's default ones may all be held by long handlers.
        with self._guard:
            if self._readers is None:
                self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="ledger-reader")
            future = self._readers.submit(query)
        with using("ledger"):
            return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Write what is queued and give everything back. Harmless when repeated."""
        self._writer.close()
        with self._guard:
            readers, self._readers = self._readers, None
        if readers is not None:
            readers.shutdown()
        self.reader.close()


def run_order(tenant: str, run_id: str) -> str:
    """The order of an operation on the rows of one run."""
    return f"run/{tenant}/{run_id}"


def _in_doubt(error: Exception) -> str | None:
    return error.message if isinstance(error, InDoubt) else None
