"""How the ledger refuses and fails."""

from __future__ import annotations

from blocks.patience import PatienceOver
from workflows.core.errors import PhaselineError, UsageError


class LedgerError(PhaselineError):
    """The ledger cannot be opened, read or written."""


class LedgerBusy(LedgerError):
    """Another process keeps the lock of the ledger for too long; nothing was written."""


class LedgerAway(PatienceOver, LedgerError):
    """The database was out of order for longer than it is waited for."""

    def losing(self, what: str) -> LedgerAway:
        """The same with what is lost by it."""
        self.message = f"{self.message}; {what}"
        self.args = (self.message,)
        return self


class NewerLedger(LedgerError):
    """The ledger was made by a newer phaseline."""


class InDoubt(LedgerError):
    """The connection was lost while a commit was under way: it may or may not have happened."""


class Fenced(PhaselineError):
    """This process no longer holds the run it writes to."""


class RunHeld(PhaselineError):
    """Another living process works on the run."""


class RunChanged(PhaselineError):
    """The run is no longer what the caller has seen of it: it was cancelled, or went on elsewhere."""


class RunTakenBack(UsageError):
    """The run's work was undone, so that nothing can be built on it."""


class RunUngiven(UsageError):
    """The run ended before the inputs it was given were written down: defaults would take their place."""


class RunMismatch(UsageError):
    """The run id belongs to another workflow."""
