"""What lies in the storage is no larger than what was put there: else it is not read at all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blocks.storage.artifacts import ArtifactCorrupt, ArtifactStore, StorageError
from blocks.storage.errors import BodyTooLarge
from workflows.core.refs import Ref, digest_bytes

TERABYTE = 2**40
GIVES_UP = 2**28
"""Bytes after which the endless server ends: who takes as many takes all."""


class Endless(BaseHTTPRequestHandler):
    """A bucket in whose place of every object lies a terabyte."""

    sent = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(TERABYTE))
        self.end_headers()
        part = b"x" * 2**20
        try:
            while Endless.sent < GIVES_UP:
                self.wfile.write(part)
                Endless.sent += len(part)
        except OSError:
            pass  # nobody reads any more

    def log_message(self, *_: object) -> None:
        return None


@pytest.fixture
def endless() -> Iterator[ArtifactStore]:
    Endless.sent = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with ArtifactStore.open("s3://bucket/prefix", environ=environ) as store:
            yield store
        server.shutdown()
        thread.join()


def ref_of(body: bytes) -> Ref:
    return Ref(
        uri="file:///x",
        sha256=digest_bytes(body),
        size=len(body),
        media_type="text/plain",
        kind="output",
        tenant="default",
    )


def test_an_object_that_is_too_large_is_not_read(endless: ArtifactStore) -> None:
    with pytest.raises(ArtifactCorrupt, match="was changed"):
        asyncio.run(endless.get(ref_of(b"body")))
    with pytest.raises(StorageError, match="more than the"):
        asyncio.run(endless.read_manifest("default", "r-1"))
    with pytest.raises(BodyTooLarge):
        endless.files.read("default/anything")
    # Some of it is on its way before its size is known here.
    assert Endless.sent < GIVES_UP


@pytest.mark.parametrize("size", [5, TERABYTE])
def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, size: int) -> None:
    with ArtifactStore.open(str(tmp_path), environ={}) as store:
        ref = asyncio.run(store.put(b"body", tenant="default", media_type="text/plain", kind="output"))
        (file,) = (path for path in tmp_path.rglob(ref.sha256) if path.is_file())
        file.chmod(0o600)
        with file.open("r+b") as opened:
            opened.truncate(size)
        with pytest.raises(ArtifactCorrupt, match="was changed"):
            asyncio.run(store.get(ref))
        again = asyncio.run(store.put(b"body", tenant="default", media_type="text/plain", kind="output"))
        assert asyncio.run(store.get(again)) == b"body", "it is replaced"


def test_a_manifest_that_is_too_large_is_told(tmp_path: Path) -> None:
    with ArtifactStore.open(str(tmp_path), environ={}) as store:
        asyncio.run(store.write_manifest("default", "r-1", {"run_id": "r-1"}))
        (file,) = tmp_path.rglob("run.json")
        with file.open("r+b") as opened:
            opened.truncate(TERABYTE)
        with pytest.raises(StorageError, match="more than the 268,435,456 bytes"):
            asyncio.run(store.read_manifest("default", "r-1"))
