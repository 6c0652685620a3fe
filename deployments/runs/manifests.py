"""What the storage knows of a run by itself: its manifest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blocks.ledger import RunRow


def outputs_of(row: RunRow, storage: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """A run's outputs by name, as refs: from its row, or where they are many from its storage.

    Raises StorageError, UsageError.
    """
    from blocks.storage.spilled import spilled_ref, whole

    if spilled_ref(row.outputs) is None:
        return row.outputs
    from blocks.storage.artifacts import ArtifactStore

    async def read() -> dict[str, Any]:
        with ArtifactStore.open(row.storage or storage, environ=environ) as store:
            return await whole(row.outputs, store)

    return asyncio.run(read())


def manifest_of(storage: str, environ: Mapping[str, str], tenant: str, run_id: str) -> dict[str, Any] | None:
    """The manifest of a run; None when the storage has no such run. Raises StorageError, UsageError."""
    from blocks.storage.artifacts import ArtifactStore

    async def read() -> dict[str, Any] | None:
        with ArtifactStore.open(storage, environ=environ) as store:
            return await store.read_manifest(tenant, run_id)

    return asyncio.run(read())
