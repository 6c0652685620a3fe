"""Which faults of a database pass by themselves.

PostgreSQL says by its code (SQLSTATE) what went wrong, but while a connection is opened there is only text.
"""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError, OperationalError

from blocks.ledger.database.engine import Database, explanation, without_names
from blocks.ledger.tables.errors import LedgerAway, LedgerError

_AWAY = ("08", "53300", "57P01", "57P02", "57P03", "57P05")
"""No connection, too many of them, shut down, crashed, starting up, idle for too long."""
_IN_THE_WAY = ("40001", "40P01", "55P03", "57014")
"""Serialization failure, deadlock, a lock that is not available, a statement that takes too long."""
_BUSY, _LOCKED = 5, 6  # of SQLite
_REFUSED = re.compile(
    r"authentication|password|pg_hba|not permitted|permission denied|does not exist|certificate"
    r"|SSL was required|no encryption|^connection is bad: invalid",
    re.IGNORECASE,
)
"""Words about a connection that is refused for good."""


def passing(error: Exception | None) -> str | None:
    """The database's own words for a fault that may be over a little later; None for any other."""
    if isinstance(error, LedgerError) and not isinstance(error, LedgerAway):
        return error.message if passing(_cause(error)) else None
    if not isinstance(error, DBAPIError) or not (is_lost(error) or is_contended(error)):
        return None
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__


def is_lost(error: DBAPIError) -> bool:
    """No connection, and not during a commit: nothing was written. A refused login does not pass."""
    if error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError) or not hasattr(error.orig, "sqlstate"):
        return False
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return str(code).startswith(_AWAY)
    return _REFUSED.search(without_names(str(error.orig))) is None


def is_contended(error: DBAPIError) -> bool:
    """Another transaction is in the way, or the database has no time."""
    if not isinstance(error, OperationalError):
        return False
    of_sqlite = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (_BUSY, _LOCKED)
    return of_sqlite or getattr(error.orig, "sqlstate", None) in _IN_THE_WAY


def away(error: Exception, database: Database, waited: float, wake_after: float) -> LedgerAway:
    """What is raised once patience is over."""
    told = error if isinstance(error, LedgerError) else explanation(error, database)
    return LedgerAway(told.message, told.cure, waited, wake_after)


def _cause(error: BaseException) -> Exception | None:
    return error.__cause__ if isinstance(error.__cause__, Exception) else None
