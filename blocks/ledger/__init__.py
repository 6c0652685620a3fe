"""The ledger: the SQL database of everything about runs that must be atomic."""

from blocks.ledger.budgets.ceilings import Amount, BudgetLedger, BudgetRefusal, BudgetRow, ReservationRow
from blocks.ledger.budgets.times import TimeBudgetLedger, TimeBudgetRow
from blocks.ledger.database.reader import LedgerReader
from blocks.ledger.ledger import LEASE_SECONDS, Ledger
from blocks.ledger.runs.credentials import CredentialLedger, CredentialRow, CredentialState
from blocks.ledger.runs.effects import (
    EffectClass,
    EffectIntent,
    EffectKind,
    EffectLedger,
    EffectRow,
    EffectState,
)
from blocks.ledger.runs.events import EventLedger, EventRow
from blocks.ledger.runs.journal import JournalLedger, TurnRecord
from blocks.ledger.tables.errors import (
    Fenced,
    InDoubt,
    LedgerError,
    NewerLedger,
    RunChanged,
    RunHeld,
    RunMismatch,
    RunTakenBack,
    RunUngiven,
)
from blocks.ledger.tables.process_identity import Owner
from blocks.ledger.tables.records import (
    ArtifactRecord,
    EndState,
    Lease,
    RunRow,
    RunStart,
    RunState,
    StepRecord,
    StepState,
)
from blocks.ledger.waits.forms import UnfitAnswer, UnfitForm
from blocks.ledger.waits.votes import (
    NotAsked,
    OtherProposal,
    UnknownWait,
    VotedAlready,
    WaitClosed,
    WaitOverdue,
)
from blocks.ledger.waits.waits import (
    Decision,
    UnfitWait,
    WaitKind,
    WaitLedger,
    WaitRow,
    WaitStart,
    WaitState,
)
from blocks.names import DEFAULT_TENANT

__all__ = [
    "DEFAULT_TENANT",
    "LEASE_SECONDS",
    "Amount",
    "ArtifactRecord",
    "BudgetLedger",
    "BudgetRefusal",
    "BudgetRow",
    "CredentialLedger",
    "CredentialRow",
    "CredentialState",
    "Decision",
    "EffectClass",
    "EffectIntent",
    "EffectKind",
    "EffectLedger",
    "EffectRow",
    "EffectState",
    "EndState",
    "EventLedger",
    "EventRow",
    "Fenced",
    "InDoubt",
    "JournalLedger",
    "Lease",
    "Ledger",
    "LedgerError",
    "LedgerReader",
    "NewerLedger",
    "NotAsked",
    "OtherProposal",
    "Owner",
    "ReservationRow",
    "RunChanged",
    "RunHeld",
    "RunMismatch",
    "RunRow",
    "RunStart",
    "RunState",
    "RunTakenBack",
    "RunUngiven",
    "StepRecord",
    "StepState",
    "TimeBudgetLedger",
    "TimeBudgetRow",
    "TurnRecord",
    "UnfitAnswer",
    "UnfitForm",
    "UnfitWait",
    "UnknownWait",
    "VotedAlready",
    "WaitClosed",
    "WaitKind",
    "WaitLedger",
    "WaitOverdue",
    "WaitRow",
    "WaitStart",
    "WaitState",
]
