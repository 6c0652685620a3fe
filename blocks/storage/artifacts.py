"""The artifact store: bodies under (tenant, sha256), readable copies and a manifest per run.

Below the root:

    <tenant>/blobs/<first two hex digits>/<sha256>     each body once
    <tenant>/runs/<run_id>/outputs/<name>.<suffix>     copies for people
    <tenant>/runs/<run_id>/run.json                    the run's manifest
    _results/...                                       Prefect's results (results.py)

A tenant's name begins with a letter or digit, so that what begins with "_" is never a tenant's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from blocks.names import checked_output, checked_run_id, checked_tenant
from blocks.patience import Outage, Vigil
from blocks.process.cut_off import using
from blocks.secrecy import secrets
from blocks.secrecy.plans import masked_manifest
from blocks.storage.errors import MOST_BODY, ArtifactCorrupt, ArtifactMissing, BodyTooLarge, StorageError
from blocks.storage.patient_root import PatientRoot
from blocks.storage.recent_bodies import RecentBodies
from blocks.storage.root import Root, open_root
from workflows.core.refs import Ref, digest_bytes

__all__ = ["ArtifactCorrupt", "ArtifactMissing", "ArtifactStore", "StorageError", "suffix_of"]

T = TypeVar("T")

MANIFEST_VERSION = 1
"""`schema_version` of the manifests that this code writes, and the newest it reads."""

_THREADS = 8
_LARGE = 64 * 2**20
"""Bytes: larger bodies are published one at a time, since each is held in memory."""
_MOST_MANIFEST = 256 * 2**20
_SUMMARY = 400
_SUFFIXES = {
    "text/markdown": "md",
    "text/plain": "txt",
    "text/csv": "csv",
    "text/html": "html",
    "text/yaml": "yaml",
    "application/json": "json",
    "application/yaml": "yaml",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/pdf": "pdf",
}


def suffix_of(media_type: str) -> str:
    """The file name's suffix for a media type, without the dot; `bin` when nobody knows."""
    plain = media_type.partition(";")[0].strip().lower()
    if plain in _SUFFIXES:
        return _SUFFIXES[plain]
    if plain.endswith("+json"):
        return "json"
    return (mimetypes.guess_extension(plain) or ".bin")[1:]


class ArtifactStore:
    """Bodies and what people read of them. Every fault is a StorageError with a cure, never only a log line.

    Safe to use from several threads and event loops at once.
    """

    def __init__(self, root: Root, recent: int = 0, outage: Outage | None = None) -> None:
        self._root = root
        self._outage = outage or Outage()
        self._recent = RecentBodies(recent)
        self._threads: ThreadPoolExecutor | None = None
        self._guard = threading.Lock()
        self._large = threading.Lock()
        self._pid = os.getpid()

    @classmethod
    def open(
        cls, uri: str, *, environ: Mapping[str, str], recent: int = 0, vigil: Vigil | None = None
    ) -> ArtifactStore:
        """The store at a folder or s3://bucket/prefix; touches nothing yet (see `probe`).

        For S3 the standard AWS variables of `environ` count, AWS_ENDPOINT_URL included. Up to `recent` bytes
        of bodies that were stored or read are kept in memory for `get`. `vigil` says how long faults that
        pass are waited out; StoreAway when that is over. UsageError when the address is none.
        """
        vigil = (vigil or Vigil.of_command()).apart()
        return cls(PatientRoot(open_root(uri, environ), vigil), recent, vigil.outage)

    def __repr__(self) -> str:
        return f"ArtifactStore({self.root!r})"

    @property
    def root(self) -> str:
        """The root's address, without credentials."""
        return self._root.uri

    @property
    def files(self) -> Root:
        """The root itself: plain bytes under keys."""
        return self._root

    @property
    def given_up(self) -> bool:
        """Whether it was waited for in vain, and has not answered since."""
        return self._outage.given_up is not None

    def describe(self) -> str:
        """The store in words for people, without credentials."""
        return self._root.describe()

    async def probe(self) -> None:
        """StorageError within some seconds when the store cannot be written and read."""
        await self._off_loop(self._root.probe)

    async def put(
        self,
        body: bytes,
        *,
        tenant: str,
        media_type: str,
        kind: str,
        summary: str = "",
        run_id: str = "",
        step: str = "",
        offline: bool = False,
    ) -> Ref:
        """Store a body, without known secrets, and point at it. A body the tenant already has is not written
        again.

        What is stored is checked, and a stored body that went bad is replaced. A summary over 400
        characters is cut. When this returns the body survives a power cut.
        """
        known = secrets.current_secrets()
        body = known.body(body, media_type)
        sha256 = digest_bytes(body)
        key = _blob_key(tenant, sha256)
        ref = Ref(
            uri=self._root.address(key),
            sha256=sha256,
            size=len(body),
            media_type=media_type,
            kind=kind,
            summary=_cut_summary(known.text(summary)),
            tenant=tenant,
            run_id=checked_run_id(run_id) if run_id else "",
            step=step,
            offline=offline,
        )
        await self._off_loop(partial(self._keep_body, key, body, media_type))
        self._recent.add(key, body)
        return ref

    async def get(self, ref: Ref) -> bytes:
        """The body, proved by its digest. ArtifactMissing or ArtifactCorrupt when there is no such body."""
        known = self._recent.get(_blob_key(ref.tenant, ref.sha256))
        return known if known is not None else await self._off_loop(partial(self._read_body, ref))

    async def check(self, ref: Ref) -> str | None:
        """None when the body is readable with a matching digest, else the reason in words.

        It is the stored one that is looked at. A store that cannot be reached is no reason to do work again:
        it raises StorageError.
        """
        try:
            await self._off_loop(partial(self._read_body, ref))
        except (ArtifactMissing, ArtifactCorrupt) as error:
            return error.message
        return None

    async def publish(
        self, refs: Mapping[str, Ref], *, run_id: str, on_published: Callable[[str], None] = lambda name: None
    ) -> dict[str, str | StorageError]:
        """Copies for people under the run's outputs: the path or s3:// address by the output's name, or why
        there is none. Where the store itself cannot be used, no more are tried; cut off, no more are begun.

        `on_published` is called with each name, in no certain order: every thread takes a share, since
        most are small, and to hand over each would take longer than to copy it.
        """
        publishing = _Publishing()

        async def share(names: Sequence[str]) -> None:
            await self._off_loop(partial(self._publish_outputs, names, refs, run_id, publishing))
            for name in names:
                if isinstance(publishing.ended.get(name), str):
                    on_published(name)

        names = list(refs)
        try:
            await asyncio.gather(*(share(names[n::_THREADS]) for n in range(min(_THREADS, len(names)))))
        finally:
            publishing.over.set()
        return {name: publishing.of(name) for name in names}

    def _publish_outputs(
        self, names: Sequence[str], refs: Mapping[str, Ref], run_id: str, publishing: _Publishing
    ) -> None:
        for name in names:
            if publishing.over.is_set():
                return
            target = _output_key(refs[name], run_id, name)
            try:
                self._copy_body(refs[name], target)
            except (ArtifactMissing, ArtifactCorrupt) as fault:  # of this output alone
                publishing.ended[name] = fault
            except StorageError as fault:
                publishing.fault = publishing.ended[name] = fault
                publishing.over.set()
            else:
                publishing.ended[name] = self._root.place(target)

    async def write_manifest(self, tenant: str, run_id: str, document: dict[str, Any]) -> None:
        """Replace the run's manifest, without known secrets. TypeError when the document is not JSON."""
        known, text = secrets.current_secrets(), _by_lines(document)
        if known.text(text) != text:
            text = _by_lines(masked_manifest(document, known))
        body = text.encode("utf-8", "replace")
        key = f"{_run_key(tenant, run_id)}/run.json"
        await self._off_loop(
            partial(self._root.write, key, body, media_type="application/json", durable=True)
        )

    async def read_manifest(self, tenant: str, run_id: str) -> dict[str, Any] | None:
        """The run's manifest, None when there is none."""
        return await self._off_loop(partial(self._read_manifest, f"{_run_key(tenant, run_id)}/run.json"))

    def close(self) -> None:
        """Give back threads and connections; the store may be used again."""
        with self._guard:
            threads, self._threads = self._threads, None
        if threads is not None and self._pid == os.getpid():
            threads.shutdown()
        self._root.close()

    def __enter__(self) -> ArtifactStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _off_loop(self, work: Callable[[], T]) -> T:
        # Its own few threads: the loop's default ones may all be held by long handlers.
        with self._guard:
            if self._threads is None or self._pid != os.getpid():  # threads do not follow into a fork
                self._pid = os.getpid()
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="artifacts")
            future = self._threads.submit(work)
        with using("store"):
            return await asyncio.wrap_future(future)

    def _keep_body(self, key: str, body: bytes, media_type: str) -> None:
        try:
            if self._root.read(key, len(body)) == body:
                return
        except (FileNotFoundError, BodyTooLarge):
            pass  # the first is the usual case: a new body
        self._root.write(key, body, media_type=media_type, durable=True)

    def _read_body(self, ref: Ref) -> bytes:
        key = _blob_key(ref.tenant, ref.sha256)
        self._recent.drop(key)
        try:
            body = self._root.read(key, min(ref.size, MOST_BODY))
        except FileNotFoundError:
            raise self._missing(ref) from None
        except BodyTooLarge:
            raise self._corrupt(ref) from None
        if digest_bytes(body) != ref.sha256:
            raise self._corrupt(ref)
        self._recent.add(key, body)
        return body

    def _corrupt(self, ref: Ref) -> ArtifactCorrupt:
        return ArtifactCorrupt(
            f"the body of {ref.kind} ({ref.sha256[:12]}) was changed in {self.describe()}",
            "run the same command again: the step that made it runs anew",
        )

    def _missing(self, ref: Ref) -> ArtifactMissing:
        return ArtifactMissing(
            f"the body of {ref.kind} ({ref.sha256[:12]}) is not in {self.describe()}",
            "name the storage of that run in --storage, or run the step again",
        )

    def _copy_body(self, ref: Ref, target: str) -> None:
        # Through the check of every read, not by the root's own means: who can write there could else put
        # what they like before people, as what the run has made.
        with self._large if ref.size > _LARGE else contextlib.nullcontext():
            body = self._recent.get(_blob_key(ref.tenant, ref.sha256))
            body = self._read_body(ref) if body is None else body
            self._root.write(target, body, media_type=ref.media_type)

    def _read_manifest(self, key: str) -> dict[str, Any] | None:
        try:
            document = json.loads(self._root.read(key, _MOST_MANIFEST))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise StorageError(
                f"{self._root.place(key)} is not JSON: {error}", "remove that file, or restore it"
            ) from error
        if not isinstance(document, dict):
            raise StorageError(f"{self._root.place(key)} is no manifest", "remove that file, or restore it")
        version = document.get("schema_version", MANIFEST_VERSION)
        if not isinstance(version, int) or version > MANIFEST_VERSION:
            raise StorageError(
                f"{self._root.place(key)} is of version {version}; this phaseline reads {MANIFEST_VERSION}",
                "update phaseline: a newer one wrote it",
            )
        return document


class _Publishing:
    """What became of outputs by name; shared by the threads that publish them."""

    def __init__(self) -> None:
        self.ended: dict[str, str | StorageError] = {}
        self.over = threading.Event()
        self.fault: StorageError | None = None

    def of(self, name: str) -> str | StorageError:
        """Where an output is, or why it is not there."""
        found = self.ended.get(name) or self.fault
        assert found is not None
        return found


def _by_lines(document: Mapping[str, Any]) -> str:
    """JSON with a line for each of its values. Indented deeper it would take Python's own encoder: a hundred
    times as long, which a plan of hundreds of steps feels."""
    texts = {name: json.dumps(value, ensure_ascii=False, allow_nan=False) for name, value in document.items()}
    lines = ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: {text}" for name, text in texts.items())
    return f"{{\n{lines}\n}}\n" if lines else "{}\n"


def _blob_key(tenant: str, sha256: str) -> str:
    return f"{checked_tenant(tenant)}/blobs/{sha256[:2]}/{sha256}"


def _run_key(tenant: str, run_id: str) -> str:
    return f"{checked_tenant(tenant)}/runs/{checked_run_id(run_id)}"


def _output_key(ref: Ref, run_id: str, name: str) -> str:
    return f"{_run_key(ref.tenant, run_id)}/outputs/{checked_output(name)}.{suffix_of(ref.media_type)}"


def _cut_summary(summary: str) -> str:
    return summary if len(summary) <= _SUMMARY else summary[: _SUMMARY - 1] + "…"
