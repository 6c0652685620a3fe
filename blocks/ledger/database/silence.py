"""Connections to PostgreSQL that do not wait for ever for a server that says nothing.

A server process that was stopped, or whose storage hangs, heeds no timeout of its own; and TCP is content,
since its kernel answers. Imported only where the ledger is on PostgreSQL.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

from psycopg import Connection, OperationalError

SILENT_S = 30.0
"""Seconds without a word after which a connection is given up: more than any timeout of the server's own."""


class BoundedConnection(Connection[Any]):
    """One whose server may be silent for `silent_s` seconds at most."""

    silent_s = SILENT_S

    def wait(self, gen: Any, *args: Any, **more: Any) -> Any:
        """What psycopg waits with for every answer. Raises OperationalError, with the connection closed."""
        return super().wait(self._wait_bounded(gen), *args, **more)

    def _wait_bounded(self, gen: Any) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.silent_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    deadline = time.monotonic() + self.silent_s
                elif time.monotonic() > deadline:
                    # Closed, or what was asked for would be answered to the next question.
                    self.pgconn.finish()
                    raise OperationalError(f"connection given up: silent for {self.silent_s:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as ended:
            return ended.value
