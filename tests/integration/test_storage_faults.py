"""What people see when storage cannot be used: soon, with a cure, and without secrets."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blocks.patience import Patience, Vigil
from blocks.storage.artifacts import ArtifactStore, StorageError
from blocks.storage.errors import StoreAway
from blocks.storage.root import FolderRoot, _fault
from tests.support.prefect_server import finished, run_python
from tests.support.s3 import S3Server, s3_server
from workflows.core.errors import UsageError
from workflows.core.refs import Ref

SECRET = "very-secret-indeed"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environ(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "some-key-id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "some-token",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def probe_fails(store: ArtifactStore) -> StorageError:
    with store, pytest.raises(StorageError) as caught:
        asyncio.run(store.probe())
    for hidden in (SECRET, "some-key-id", "some-token"):
        assert hidden not in f"{caught.value} {store!r} {store.files!r} {store.describe()}"
    assert caught.value.cure
    return caught.value


def test_a_missing_bucket(s3: S3Server) -> None:
    store = ArtifactStore.open("s3://no-such-bucket/p", environ=environ(s3.endpoint))
    assert "there is no bucket 'no-such-bucket'" in probe_fails(store).message


def test_a_bucket_that_goes_away_fails_every_use_loudly(s3: S3Server) -> None:
    ref = Ref(uri="", sha256="0" * 64, size=0, media_type="text/plain", kind="k")
    with ArtifactStore.open("s3://gone-bucket", environ=s3.environ) as store:
        for use in (
            lambda: store.put(b"x", tenant="a", media_type="text/plain", kind="k"),
            lambda: store.get(ref),
            lambda: store.check(ref),
            lambda: store.write_manifest("a", "r", {}),
            lambda: store.read_manifest("a", "r"),
        ):
            with pytest.raises(StorageError, match="no bucket"):
                asyncio.run(use())
        assert "no bucket" in str(asyncio.run(store.publish({"n": ref}, run_id="r"))["n"])


def test_an_address_where_nothing_listens(closed_port: int) -> None:
    store = ArtifactStore.open("s3://bucket/p", environ=environ(f"http://127.0.0.1:{closed_port}"))
    error = probe_fails(store)
    assert "AWS_ENDPOINT_URL" in error.cure


def test_an_address_that_never_answers(silent_port: int) -> None:
    store = ArtifactStore.open("s3://bucket/p", environ=environ(f"http://127.0.0.1:{silent_port}"))
    error = probe_fails(store)
    assert "AWS_ENDPOINT_URL" in error.cure


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        ("s3://key:" + SECRET + "@bucket/p", {}),
        ("s3://", {}),
        ("s3:///p", {}),
        ("s3://a/p", {}),
        ("s3://bucket/a/../../b", {}),
        ("gs://bucket/p", {}),
        ("https://u:" + SECRET + "@host/p", {}),
        ("", {}),
        ("s3://bucket", {"AWS_ENDPOINT_URL": f"http://user:{SECRET}@127.0.0.1:1"}),
    ],
)
def test_an_address_that_is_none(uri: str, variables: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        ArtifactStore.open(uri, environ=variables)
    assert caught.value.cure and SECRET not in str(caught.value)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = ArtifactStore.open(str(tmp_path / "file" / "store"), environ={})
    assert "cannot write" in probe_fails(store).message


def test_a_full_disk_is_named_and_leaves_no_half_body(tmp_path: Path) -> None:
    # A limit on the size of files stands in for a disk that takes no more.
    program = """if 1:
        import asyncio, resource, sys
        from blocks.storage.artifacts import ArtifactStore, StorageError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        store = ArtifactStore.open(sys.argv[1], environ={})
        try:
            asyncio.run(store.put(b"x" * 5000, tenant="a", media_type="text/plain", kind="k"))
        except StorageError as error:
            print(error)
    """
    shown = finished(run_python(program, str(tmp_path)))
    assert "cannot write" in shown and "cure:" in shown
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_nobody_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    store = ArtifactStore.open(str(tmp_path / "store"), environ={})
    assert "PHASELINE_STORAGE" in probe_fails(store).cure


# ---------------------------------------------------------------- what somebody else put there


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    root = FolderRoot(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for key in ("pipe", "folder"):
        with pytest.raises(StorageError, match="cannot read"):
            root.read(key)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link that is another user's")
def test_nothing_is_written_through_another_users_link(tmp_path: Path) -> None:
    root, elsewhere = FolderRoot(tmp_path / "storage"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    root.write("default/runs/r/run.json", b"{}", durable=True)
    link = tmp_path / "storage" / "default" / "runs" / "r" / "outputs"
    link.symlink_to(elsewhere)
    root.write("default/runs/r/outputs/own.md", b"fine")
    assert [p.name for p in elsewhere.iterdir()] == ["own.md"], "one's own link is one's own business"
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(StorageError, match="a link that another user made"):
        root.write("default/runs/r/outputs/theirs.md", b"caught")
    assert [p.name for p in elsewhere.iterdir()] == ["own.md"]


# ---------------------------------------------------------------- faults that pass


class Refusing(BaseHTTPRequestHandler):
    """Answers the first requests with an error of S3, then gives a body."""

    status, code, left, count = 503, "SlowDown", 3, 0

    def do_GET(self) -> None:
        kind = type(self)
        kind.count += 1
        kind.left -= 1
        error = f"<Error><Code>{kind.code}</Code><Message>Not now.</Message></Error>".encode()
        status, body = (kind.status, error) if kind.left >= 0 else (200, b"here")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def refusing(status: int, code: str, times: float) -> type[Refusing]:
    return type("Refusing", (Refusing,), {"status": status, "code": code, "left": times})


def read_from(handler: type[Refusing], patience: float) -> bytes:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = environ(f"http://127.0.0.1:{server.server_port}")
        try:
            with ArtifactStore.open("s3://bucket", environ=where, vigil=Vigil(Patience(patience))) as store:
                return store.files.read("key")
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (503, "ServiceUnavailable"), (500, "InternalError"), (502, "")]
)
def test_a_bucket_that_is_overrun_is_asked_again(status: int, code: str) -> None:
    handler = refusing(status, code, 3)
    assert read_from(handler, 60) == b"here"
    assert handler.count == 4, "nobody below repeats by itself"


def test_one_that_stays_overrun_stops_the_run() -> None:
    with pytest.raises(StoreAway, match=r"waited \d") as caught:
        read_from(refusing(503, "SlowDown", float("inf")), 1)
    assert caught.value.exit_code == 4 and caught.value.final


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket"), (400, "InvalidRequest")]
)
def test_what_does_not_pass_is_told_at_once(status: int, code: str) -> None:
    handler = refusing(status, code, float("inf"))
    with pytest.raises(StorageError) as caught:
        read_from(handler, 600)
    assert handler.count == 1 and not isinstance(caught.value, StoreAway)


def test_a_folder_on_a_network_that_is_busy_passes_and_a_full_one_does_not(tmp_path: Path) -> None:
    for number, passes in (
        (errno.ESTALE, True),
        (errno.EBUSY, True),
        (errno.ENOSPC, False),
        (errno.EACCES, False),
    ):
        fault = _fault(OSError(number, os.strerror(number)), "write", tmp_path)
        assert fault.passing is passes
