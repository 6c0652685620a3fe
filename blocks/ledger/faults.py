"""Which faults of a database pass by themselves."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError

from blocks.ledger.engine import Database, explanation
from blocks.ledger.errors import LedgerAway, LedgerError

_TRANSIENT = ("40P01", "40001", "55P03")  # deadlock, serialization failure, lock not available
_REFUSED = ("password", "authentication", "pg_hba", "role ", 'database "', "certificate", "ssl")


def passing(error: Exception | None) -> str | None:
    """The database's own words for a fault that may be over a little later; None for any other."""
    if isinstance(error, LedgerError) and not isinstance(error, LedgerAway):
        return error.message if passing(_cause(error)) else None
    if not isinstance(error, DBAPIError) or not (is_lost(error) or is_contended(error)):
        return None
    return str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__


def is_lost(error: DBAPIError) -> bool:
    """No connection, and not during a commit: nothing was written. A refused login does not pass."""
    told = str(error.orig).lower()
    if error.connection_invalidated:
        return True
    away = isinstance(error, OperationalError) and "connection" in told
    return away and not any(word in told for word in _REFUSED)


def is_contended(error: DBAPIError) -> bool:
    """Another transaction is in the way."""
    if not isinstance(error, OperationalError):
        return False
    told = str(error.orig)
    return getattr(error.orig, "sqlstate", None) in _TRANSIENT or "locked" in told or "busy" in told


def away(error: Exception, database: Database, waited: float, wake_after: float) -> LedgerAway:
    """What is raised once patience is over."""
    told = error if isinstance(error, LedgerError) else explanation(error, database)
    return LedgerAway(told.message, told.cure, waited, wake_after)


def _cause(error: BaseException) -> Exception | None:
    return error.__cause__ if isinstance(error.__cause__, Exception) else None
