"""The ledger: the SQL database of everything about runs that must be atomic."""

from blocks.ledger.errors import (
    Fenced,
    InDoubt,
    LedgerError,
    NewerLedger,
    RunHeld,
    RunMismatch,
)
from blocks.ledger.ledger import LEASE_SECONDS, Ledger
from blocks.ledger.process_identity import Owner
from blocks.ledger.reader import LedgerReader
from blocks.ledger.records import (
    DEFAULT_TENANT,
    ArtifactRecord,
    EndState,
    Lease,
    RunRow,
    RunStart,
    RunState,
    StepRecord,
    StepState,
)

__all__ = [
    "DEFAULT_TENANT",
    "LEASE_SECONDS",
    "ArtifactRecord",
    "EndState",
    "Fenced",
    "InDoubt",
    "Lease",
    "Ledger",
    "LedgerError",
    "LedgerReader",
    "NewerLedger",
    "Owner",
    "RunHeld",
    "RunMismatch",
    "RunRow",
    "RunStart",
    "RunState",
    "StepRecord",
    "StepState",
]
