"""What travels through Prefect in place of large inputs: the refs of artifacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks.secrecy import secrets
from workflows.core.refs import Ref

if TYPE_CHECKING:
    from flows.launch import Launch

SMALL = 64 * 1024
"""Bytes a value may have; Prefect takes 512 KiB for all of a run's inputs."""

MOST_TOGETHER = 256 * 1024


@dataclass(frozen=True)
class GivenFile:
    """A file read by a front; it is stored as an artifact before the run starts.

    `note` says what was assumed of it; empty when nothing was.
    """

    path: Path
    body: bytes
    media_type: str
    note: str = ""


async def stored_inputs(given: Mapping[str, Any], launch: Launch) -> dict[str, Any]:
    """The inputs with files and large values stored as artifacts, each replaced by its ref."""
    from blocks.storage.artifacts import ArtifactStore

    out: dict[str, Any] = {}
    together = 0
    given = secrets.current_secrets().values_of(given)
    with ArtifactStore.open(launch.settings.storage, environ=launch.environ) as store:
        for name, value in given.items():
            if isinstance(value, Ref):
                out[name] = value  # stored already
                continue
            body, media_type, summary = _body(name, value)
            small = len(body) <= SMALL and together + len(body) <= MOST_TOGETHER
            if small and not isinstance(value, GivenFile):
                together += len(body)
                out[name] = value
                continue
            out[name] = await store.put(
                body,
                tenant=launch.tenant,
                media_type=media_type,
                kind="input",
                summary=summary,
                run_id=launch.run_id,
            )
    return out


def _body(name: str, value: Any) -> tuple[bytes, str, str]:
    """Bytes, media type and summary of an input."""
    if isinstance(value, GivenFile):
        return value.body, value.media_type, f"{name} ({value.path.name})"
    if isinstance(value, str):
        return value.encode(), "text/plain", name
    return json.dumps(value, ensure_ascii=False).encode(), "application/json", name
