"""What can go wrong between a body and the place it is kept in."""

from __future__ import annotations

from blocks.patience import PatienceOver
from workflows.core.errors import PhaselineError

MOST_BODY = 2**30
"""Bytes that are read of a body whose size is not known."""


class StorageError(PhaselineError):
    """The storage cannot be reached, written or read. `passing`: whether it may be a little later."""

    def __init__(self, message: str = "", cure: str = "", *, passing: bool = False) -> None:
        super().__init__(message, cure)
        self.passing = passing


class StoreAway(PatienceOver, StorageError):
    """The storage was out of order for longer than it is waited for."""

    def __init__(
        self, message: str = "", cure: str = "", waited: float = 0.0, wake_after: float = 0.0
    ) -> None:
        PatienceOver.__init__(self, message, cure, waited, wake_after)
        self.passing = False


class BodyTooLarge(StorageError):
    """Under a key lies more than its reader takes; nothing of it was read."""


def too_large(place: str, most: int) -> BodyTooLarge:
    """What is said of a body that is larger than expected."""
    return BodyTooLarge(
        f"{place} holds more than the {most:,} bytes that are read", "see who may write to the storage"
    )


class ArtifactMissing(StorageError):
    """No body is stored under a ref's tenant and digest."""


class ArtifactCorrupt(StorageError):
    """The stored body is not the one its ref was made for."""
