"""What a process keeps of the bodies it stored or read last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blocks.storage.artifacts import ArtifactMissing, ArtifactStore
from blocks.storage.recent_bodies import ENTRY, LARGEST, RecentBodies
from workflows.core.refs import Ref


def test_the_oldest_is_given_up_first() -> None:
    recent = RecentBodies(2 * (ENTRY + 40))
    recent.add("a", b"x" * 40)
    recent.add("b", b"x" * 40)
    assert recent.get("a") is not None  # read just now: b is older
    recent.add("c", b"x" * 40)
    assert recent.get("b") is None
    assert recent.get("a") == recent.get("c") == b"x" * 40


def test_one_body_counts_once() -> None:
    recent = RecentBodies(2 * (ENTRY + 50))
    for _ in range(5):
        recent.add("a", b"x" * 40)
    recent.add("b", b"x" * 40)
    assert recent.get("a") is not None
    recent.drop("a")
    recent.drop("a")
    recent.add("c", b"x" * 60)
    assert recent.get("b") is not None and recent.get("c") is not None


def test_large_bodies_are_not_kept() -> None:
    recent = RecentBodies(10 * LARGEST)
    recent.add("a", b"x" * (LARGEST + 1))
    assert recent.get("a") is None


def test_none_are_kept_without_room() -> None:
    recent = RecentBodies(0)
    recent.add("a", b"")
    assert recent.get("a") is None


def _put(store: ArtifactStore, body: bytes, tenant: str = "default") -> Ref:
    return asyncio.run(store.put(body, tenant=tenant, media_type="text/plain", kind="output"))


def _blob(folder: Path, ref: Ref) -> Path:
    return folder / ref.tenant / "blobs" / ref.sha256[:2] / ref.sha256


def test_a_body_is_read_without_the_storage_but_looked_at_there(tmp_path: Path) -> None:
    with ArtifactStore.open(str(tmp_path), environ={}, recent=1000) as store:
        ref = _put(store, b"text")
        _blob(tmp_path, ref).unlink()
        assert asyncio.run(store.get(ref)) == b"text"
        assert asyncio.run(store.check(ref)) is not None
        with pytest.raises(ArtifactMissing):  # now it is known to be gone
            asyncio.run(store.get(ref))


def test_what_is_kept_is_of_one_tenant(tmp_path: Path) -> None:
    with ArtifactStore.open(str(tmp_path), environ={}, recent=1000) as store:
        ref = _put(store, b"text", tenant="ours")
        with pytest.raises(ArtifactMissing):
            asyncio.run(store.get(ref.model_copy(update={"tenant": "theirs"})))
