"""What people see when storage cannot be used: soon, with a cure, and without secrets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.storage import ArtifactStore, StorageError
from blocks.storage_root import FolderRoot
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
        from blocks.storage import ArtifactStore, StorageError
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
