"""The one thread of a process that writes to the ledger. What is asked for at the same time shares a commit.

An operation is a function of a connection that may run more than once (its transaction is rolled back in
between) and does nothing outside of it. Its caller goes on only after the commit. An operation refuses
by *returning* an exception, before it has written anything: raising one would roll back its neighbours.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from blocks.current_time import use_clock
from blocks.ledger.database.engine import Database, Turns, explanation, make_engine
from blocks.ledger.database.faults import away, is_lost, passing
from blocks.ledger.tables.clock import Clock
from blocks.ledger.tables.errors import InDoubt, LedgerAway, LedgerBusy, LedgerError
from blocks.patience import LEDGER, Vigil

T = TypeVar("T")
Operation = Callable[[Connection], T]

_BATCH = 256
_CLOSING_S = 2.0  # within which a command that ends gets its turn for what is queued, or leaves it


@dataclass(slots=True)
class _QueuedWrite:
    operation: Operation[Any]
    order: str
    done: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None

    def settle(self, value: Any) -> None:
        if self.done.done():
            return
        if isinstance(value, BaseException):
            self.done.set_exception(value)
        else:
            self.done.set_result(value)


class Writer:
    """Starts its thread with the first operation. Works only in the process that made it."""

    def __init__(self, database: Database, vigil: Vigil, clock: Clock | None = None) -> None:
        self._database = database
        self._vigil = vigil
        self._clock = clock
        self._engine = make_engine(database, write=True)
        self._turns = Turns(database)
        self._queue: queue.SimpleQueue[_QueuedWrite | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._closed = False
        self._closing_since: float | None = None
        self._pid = os.getpid()

    async def write(self, operation: Operation[T], order: str) -> T:
        """What the operation returned, once it is committed. Cancelling the caller does not undo it.

        `order` names the row it shares with other processes: a batch locks such rows in one order
        everywhere, which is what keeps PostgreSQL free of deadlocks.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._enqueue(_QueuedWrite(operation, order, future, loop))
        return await future

    def write_blocking(self, operation: Operation[T], order: str) -> T:
        """The same, blocking the calling thread."""
        future: Future[T] = Future()
        self._enqueue(_QueuedWrite(operation, order, future, None))
        return future.result()

    def close(self) -> None:
        """Write what is queued, then end, also where another keeps the lock. Harmless when repeated."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._closing_since = time.monotonic()
            self._vigil.over.set()  # what is queued is tried once more, and not waited for
            thread = self._thread
            if thread is not None and self._pid == os.getpid():
                self._queue.put(None)
        if thread is not None and self._pid == os.getpid():
            thread.join()
        self._engine.dispose()
        self._turns.close()

    def _enqueue(self, item: _QueuedWrite) -> None:
        with self._guard:
            if self._closed or self._pid != os.getpid():
                raise closed_here()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
                self._thread.start()
            self._queue.put(item)

    def _run(self) -> None:
        with nullcontext() if self._clock is None else use_clock(self._clock):
            self._write_batches()

    def _write_batches(self) -> None:
        while (item := self._queue.get()) is not None:
            batch, ending = self._gather_batch(item)
            self._settle_batch(batch, self._commit_batch(batch))
            if ending:
                return

    def _gather_batch(self, first: _QueuedWrite) -> tuple[list[_QueuedWrite], bool]:
        batch = [first]
        while len(batch) < _BATCH:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, True
            batch.append(item)
        if not self._database.sqlite:
            batch.sort(key=lambda item: item.order)
        return batch, False

    def _commit_batch(self, batch: list[_QueuedWrite]) -> list[Any]:
        """One value or exception per item. A batch that fails is run again item by item."""
        try:
            return self._with_patience(batch)
        except (InDoubt, LedgerAway, LedgerBusy) as error:
            return [error] * len(batch)
        except BaseException as error:  # noqa: BLE001 - it is the asking caller's, and reaches it
            if len(batch) == 1:
                return [self._explain_error(error)]
            return [value for item in batch for value in self._commit_batch([item])]

    def _with_patience(self, batch: list[_QueuedWrite]) -> list[Any]:
        # A batch of several on PostgreSQL that met others is not repeated whole: it would deadlock again.
        alone = self._database.sqlite or len(batch) == 1

        def waited_out(error: Exception) -> str | None:
            if isinstance(error, LedgerBusy):
                # A run waits for a process that was stopped, too; a command says at once who it is.
                return error.message if self._vigil.at_work else None
            met = isinstance(error, DBAPIError) and not is_lost(error)
            return None if met and not alone else passing(error)

        return self._vigil.outwait_blocking(
            LEDGER, lambda: self._transact_batch(batch), waited_out, self._away_error
        )

    def _away_error(self, error: Exception, waited: float, wake_after: float) -> LedgerAway:
        return away(error, self._database, waited, wake_after)

    def _transact_batch(self, batch: list[_QueuedWrite]) -> list[Any]:
        with self._turns.hold(self._left_alone), self._engine.connect() as connection:
            with connection.begin() as transaction:
                if self._clock is not None:
                    self._clock.keep(connection)
                values = [item.operation(connection) for item in batch]
                try:
                    transaction.commit()
                except DBAPIError as error:
                    if error.connection_invalidated:
                        raise self._doubt_error() from error
                    raise
            return values

    def _left_alone(self) -> bool:
        """Whether the command ends, and has waited for its last writes long enough."""
        since = self._closing_since
        return since is not None and time.monotonic() - since > _CLOSING_S

    def _doubt_error(self) -> InDoubt:
        return InDoubt(
            f"the connection to the ledger {self._database.shown} was lost during a commit",
            "run the same command again: it finds out what was written",
        )

    def _explain_error(self, error: BaseException) -> BaseException:
        return explanation(error, self._database) if isinstance(error, DBAPIError | OSError) else error

    def _settle_batch(self, batch: list[_QueuedWrite], values: list[Any]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[_QueuedWrite, Any]]] = defaultdict(list)
        for item, value in zip(batch, values, strict=True):
            by_loop[item.loop].append((item, value))
        for loop, settled in by_loop.items():
            if loop is None:
                _settle_all(settled)
            elif not loop.is_closed():
                try:
                    loop.call_soon_threadsafe(_settle_all, settled)
                except RuntimeError:
                    continue  # the loop closed just now: it is committed, and nobody waits any more


def _settle_all(settled: list[tuple[_QueuedWrite, Any]]) -> None:
    for item, value in settled:
        item.settle(value)


def closed_here() -> LedgerError:
    """The refusal after `close`, and in a forked child, whose connections are its parent's."""
    return LedgerError("the ledger is closed here", "open it again; a forked process opens its own ledger")
