"""What the storage knows of a run by itself: its manifest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any


def manifest_of(storage: str, environ: Mapping[str, str], run_id: str) -> dict[str, Any] | None:
    """The manifest of a run; None when the storage has no such run. Raises StorageError, UsageError."""
    from blocks.storage import ArtifactStore

    async def read() -> dict[str, Any] | None:
        with ArtifactStore.open(storage, environ=environ) as store:
            return await store.read_manifest("default", run_id)

    return asyncio.run(read())
