"""What a run left, freed from what differs between two runs by nature: its folder, and when people voted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from blocks.ledger import DEFAULT_TENANT, EffectRow, Ledger, WaitRow
from blocks.ledger.runs.effects import read_effects
from blocks.ledger.waits.documents import shown_time
from blocks.settings import Settings
from blocks.storage.artifacts import ArtifactStore
from blocks.storage.spilled import whole
from workflows.core.refs import Ref
from workflows.core.text.cut_text import cut

CASE = "{case}"
"""Stands for the folder of a case."""

SHOWN = 300
"""Characters of an output that are kept to show a difference."""


async def gather(settings: Settings, environ: Mapping[str, str], run_id: str, folder: Path) -> dict[str, Any]:
    """The run's state, outputs by name, effects and waits, JSON-able."""
    with Ledger.open(settings.database) as ledger:
        row = ledger.reader.get_run(DEFAULT_TENANT, run_id)
        if row is None:
            return {"state": "missing", "error": None, "outputs": {}, "effects": [], "waits": [], "steps": {}}
        waits = ledger.waits.of_run_blocking(DEFAULT_TENANT, run_id)
        effects = ledger.reader.read(lambda c: read_effects(c, DEFAULT_TENANT, run_id))
        steps = {s.step_path: s.state for s in ledger.reader.steps(DEFAULT_TENANT, run_id)}
    varying = varying_texts(folder, waits)
    with ArtifactStore.open(settings.storage, environ=environ) as store:
        outputs = {
            name: _digest_body(await store.get(Ref.model_validate(ref)), varying)
            for name, ref in (await whole(row.outputs, store)).items()
        }
    return {
        "state": row.state,
        "error": row.error,
        "outputs": outputs,
        "effects": [_effect(e, varying) for e in effects],
        "waits": [_wait(w) for w in waits],
        "steps": steps,
    }


def varying_texts(folder: Path, waits: Iterable[WaitRow]) -> dict[str, str]:
    """What stands in place of texts that two runs cannot have in common."""
    texts = {str(folder): CASE}
    for wait in waits:
        for vote in wait.decided_by:
            texts[str(vote.get("at"))] = "{at}"
            texts[str(shown_time(vote.get("at")))] = "{at}"
    return texts


def _plain(text: str, varying: Mapping[str, str]) -> str:
    for found, instead in varying.items():
        text = text.replace(found, instead)
    return text


def _digest_body(body: bytes, varying: Mapping[str, str]) -> dict[str, str]:
    text = _plain(body.decode("utf-8", "surrogateescape"), varying)
    raw = text.encode("utf-8", "surrogateescape")
    return {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "shown": cut(raw.decode("utf-8", "replace"), SHOWN),
    }


def label_of(step: str, tool: str, arguments: Any, varying: Mapping[str, str]) -> str:
    """What tells an effect of one case from another effect, and is the same in every case."""
    return _plain(json.dumps([step, tool, arguments], sort_keys=True, ensure_ascii=False), varying)


def _effect(row: EffectRow, varying: Mapping[str, str]) -> dict[str, Any]:
    return {
        "step": row.step_path,
        "tool": row.tool,
        "effect": row.effect,
        "key": row.effect_key,
        "idempotency_key": row.idempotency_key,
        "label": label_of(row.step_path, row.tool, row.arguments, varying),
        "state": row.state,
        "sent": row.sent,
        "wait_id": row.wait_id,
        "outcome": _content(row, varying),
    }


def _content(row: EffectRow, varying: Mapping[str, str]) -> str | None:
    """The outcome as a person would tell it."""
    content = (row.outcome or {}).get("content")
    return _plain(content, varying) if isinstance(content, str) else None


def _wait(row: WaitRow) -> dict[str, Any]:
    return {
        "step": row.step_path,
        "kind": row.kind,
        "state": row.state,
        "subject": row.subject,
        "votes": len(row.decided_by),
    }
