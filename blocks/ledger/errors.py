"""How the ledger refuses and fails."""

from __future__ import annotations

from workflows.core.errors import PhaselineError, UsageError


class LedgerError(PhaselineError):
    """The ledger cannot be opened, read or written."""


class LedgerBusy(LedgerError):
    """Another process keeps the lock of the ledger for too long; nothing was written."""


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


class RunMismatch(UsageError):
    """The run id belongs to another workflow."""
