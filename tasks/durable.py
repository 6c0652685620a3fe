"""Where a run is written down."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.ledger import Lease, Ledger


@dataclass(frozen=True)
class Durable:
    """The ledger of a run, and the right to write to it."""

    ledger: Ledger
    lease: Lease
