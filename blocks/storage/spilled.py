"""Documents that are too large for a row of the ledger: their body is stored, the row keeps a ref to it.

Of how many entries a run consists is known only at its end; a row that could not hold them would be found out
after all the work, and again by every process that continues the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from blocks.storage.errors import StorageError
from workflows.core.refs import Ref

if TYPE_CHECKING:
    from blocks.storage.artifacts import ArtifactStore

SPILLED = "$spilled"
"""The one key of what a row keeps instead of a document; its value is a ref. No output has such a name."""
INLINE_BYTES = 48 * 1024
"""Up to which a document stays in its row."""

Document = Mapping[str, Any]


def spilled_ref(document: Document | None) -> Ref | None:
    """Where the body of a document lies; None for one that is all there."""
    if not document or document.keys() != {SPILLED}:
        return None
    return Ref.model_validate(document[SPILLED])


async def spill(
    document: dict[str, Any], store: ArtifactStore, *, kind: str, tenant: str, run_id: str, step: str = ""
) -> dict[str, Any]:
    """The document as a row holds it: itself, or a ref to its body where it is large. Raises StorageError.

    The document holds no secrets: what it is made of was scrubbed where it came in.
    """
    body = json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    if len(body) <= INLINE_BYTES:
        return document
    ref = await store.put(
        body,
        tenant=tenant,
        media_type="application/json",
        kind=kind,
        summary=f"{len(document):,} entries",
        run_id=run_id,
        step=step,
    )
    return {SPILLED: ref.model_dump(mode="json")}


async def whole(document: Document, store: ArtifactStore) -> dict[str, Any]:
    """The document itself; its body is proved by the digest that the row keeps. Raises StorageError."""
    ref = spilled_ref(document)
    if ref is None:
        return dict(document)
    found = json.loads(await store.get(ref))
    if not isinstance(found, dict):
        raise StorageError(f"the body of {ref.kind} is no object", "restore the storage of that run")
    return found
