"""What time it is for a database that machines share: its own server's, so that no host's clock decides."""

from __future__ import annotations

import time

from sqlalchemy import Connection, select

from blocks.current_time import passed_us, wall_us
from blocks.ledger.tables.rows import now

_LOOK_EVERY_S = 60.0


class ServerClock:
    """The server's clock, asked once a minute; between that this host counts on. Safe to use from threads.

    It is believed: whoever could set it could write the rows themselves.
    """

    ahead = None

    def __init__(self) -> None:
        self._offset: int | None = None
        """What the server has more than this host has counted, in microseconds; None before it is asked."""
        self._looked = 0.0

    def look(self, connection: Connection) -> None:
        """Ask the server."""
        self._offset = int(connection.execute(select(now(connection))).scalar_one()) - passed_us()
        self._looked = time.monotonic()

    def keep(self, connection: Connection, *, confirmed: bool = False) -> None:
        """Ask it again, once a minute: it may have been set."""
        if confirmed or time.monotonic() - self._looked > _LOOK_EVERY_S:
            self.look(connection)

    def long_ago(self) -> bool:
        """Nothing is written down of it."""
        return False

    def now(self) -> int:
        """Microseconds since 1970."""
        return wall_us() if self._offset is None else passed_us() + self._offset
