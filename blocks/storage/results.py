"""Prefect's result storage on the artifact store's root, as a block.

The block holds the root's address only. A process that loads it connects with its own environment, so
no key is ever stored in Prefect's database or shown by its API. Prefect itself imports this module where
it meets the block's type for the first time, and in a worker before that takes its first run (entry point
`prefect.collections`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from typing import Any, ClassVar

from prefect.exceptions import ObjectAlreadyExists
from prefect.filesystems import WritableFileSystem
from prefect.utilities.asyncutils import sync_compatible
from pydantic import Field, PrivateAttr

from blocks.process.privacy import close_worker
from blocks.storage.artifacts import ArtifactStore
from blocks.storage.errors import BodyTooLarge, StorageError
from blocks.storage.patient_root import PatientRoot
from blocks.storage.result_records import ForeignResult, checked_record, is_empty
from blocks.storage.root import Root, open_root

close_worker()

_FOLDER = "_results"
_MOST_RECORD = 64 * 2**20
"""Bytes of a record; it holds refs, not bodies."""
_LOG = logging.getLogger(__name__)

_TRIES = 4  # type, schema and block may each come in between once


class ResultStorage(WritableFileSystem):
    """Results of Prefect tasks below the root of a phaseline artifact store."""

    _block_type_name: ClassVar[str | None] = "phaseline result storage"
    _block_type_slug: ClassVar[str | None] = "phaseline-result-storage"
    _description: ClassVar[str | None] = (
        "Task results in a folder or an S3 bucket. Connects with the environment of each process."
    )

    root: str = Field(description="file:///folder or s3://bucket/prefix, without credentials.")

    _files: Root | None = PrivateAttr(default=None)
    _refused: dict[str, str] = PrivateAttr(default_factory=dict)

    @sync_compatible
    async def read_path(self, path: str) -> bytes:
        """The record of a key, checked: Prefect deserializes whatever it is handed.

        FileNotFoundError when there is none; ValueError for an unfit key, and for a record that was not
        written here (ForeignResult), which Prefect then takes for none.
        """
        try:
            body = await asyncio.to_thread(self._root().read, f"{_FOLDER}/{path}", _MOST_RECORD)
            return self._check_record(path, body)
        except BodyTooLarge:
            self._refused[path] = "it is larger than any that is written here"
            raise ForeignResult(self._refused[path]) from None
        except ForeignResult as fault:
            self._refused[path] = str(fault)
            raise

    @sync_compatible
    async def write_path(self, path: str, content: bytes) -> None:
        """Put a record under a key in one step; without a sync to disk, since a lost result is made again.

        What would not be read again, such as an exception that Prefect wants to keep, is not written; nor is
        the nothing that a unit leaves which was held up. A root that is away is not waited for: what is
        stored here is in the ledger, too.
        """
        try:
            if is_empty(self._check_record(path, content)):
                return
        except ForeignResult:
            return
        root = self._root()
        bare = root.bare if isinstance(root, PatientRoot) else root
        try:
            await asyncio.to_thread(bare.write, f"{_FOLDER}/{path}", content)
        except StorageError as fault:
            _LOG.info("a result was not stored for Prefect: %s", fault.message)

    def _check_record(self, path: str, body: bytes) -> bytes:
        known = self._block_document_id
        return checked_record(body, path, None if known is None else str(known))

    def take_refusal(self, path: str) -> str:
        """Why the record of a key was refused since this was asked last; "" when it was not."""
        return self._refused.pop(path, "")

    def attach(self, files: Root) -> ResultStorage:
        """The block itself, using connections that are open already."""
        self._files = files
        return self

    def _root(self) -> Root:
        if self._files is None:
            self._files = open_root(self.root, os.environ)
        return self._files


def block_name(root: str) -> str:
    """The name under which a root's block is saved: the same for the same root."""
    return "root-" + hashlib.sha256(root.encode()).hexdigest()[:16]


async def ensure_block(store: ArtifactStore) -> ResultStorage:
    """The saved block of the store's root; saved on a server once, then only looked up."""
    name = block_name(store.root)
    block = await _load(name)
    if block is None:
        block = await _save(ResultStorage(root=store.root), name)
    return block.attach(store.files)


async def _load(name: str) -> ResultStorage | None:
    try:
        found: Any = await ResultStorage.aload(name)
    except ValueError:  # how Prefect says that there is none
        return None
    return found if isinstance(found, ResultStorage) else None


async def _save(block: ResultStorage, name: str) -> ResultStorage:
    for left in reversed(range(_TRIES)):
        try:
            await block.asave(name, overwrite=True)
        except (ObjectAlreadyExists, ValueError):
            # Another process saved it between our look and our write; or, on a new server, the block of
            # another root, and with it the type and the schema that both share.
            saved = await _load(name)
            if saved is not None:
                return saved
            if not left:
                raise
        else:
            return block
    raise AssertionError("the last try returns or raises")
