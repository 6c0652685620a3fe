"""What can go wrong between a body and the place it is kept in."""

from __future__ import annotations

from workflows.core.errors import PhaselineError


class StorageError(PhaselineError):
    """The storage cannot be reached, written or read."""


class ArtifactMissing(StorageError):
    """No body is stored under a ref's tenant and digest."""


class ArtifactCorrupt(StorageError):
    """The stored body is not the one its ref was made for."""
