"""The artifact store's contract, on a folder and on a real S3 server."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from blocks.storage.artifacts import (
    MANIFEST_VERSION,
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactStore,
    StorageError,
)
from blocks.storage.root import FolderRoot
from tests.support.prefect_server import finished, run_python, wait_until
from tests.support.s3 import S3Server, s3_server
from workflows.core.errors import UsageError
from workflows.core.refs import Ref, digest_bytes


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """An address nobody used before, and the environment it is reached with."""
    if request.param == "folder":
        return str(tmp_path / "store with space"), {}
    server: S3Server = request.getfixturevalue("s3")
    return f"s3://{server.make_bucket()}/some/prefix", server.environ


@pytest.fixture
def store(place: tuple[str, dict[str, str]]) -> Iterator[ArtifactStore]:
    with ArtifactStore.open(place[0], environ=place[1]) as opened:
        yield opened


def put(store: ArtifactStore, body: bytes, **given: Any) -> Ref:
    fields = {"tenant": "default", "media_type": "text/markdown", "kind": "product_spec", **given}
    return asyncio.run(store.put(body, **fields))


def get(store: ArtifactStore, ref: Ref) -> bytes:
    return asyncio.run(store.get(ref))


def published(store: ArtifactStore, ref: Ref, name: str) -> str:
    place = asyncio.run(store.publish({name: ref}, run_id="r-1"))[name]
    assert isinstance(place, str)
    return place


def replace_body(store: ArtifactStore, ref: Ref, body: bytes) -> None:
    """What a failing disk or a careless person does."""
    key = f"{ref.tenant}/blobs/{ref.sha256[:2]}/{ref.sha256}"
    store.files.write(key, body)


def test_a_body_comes_back_by_its_ref(store: ArtifactStore) -> None:
    body = "# 需求\n".encode() + bytes(range(256))
    ref = put(store, body, run_id="r-1", step="step-1", summary="s", offline=True)
    assert get(store, ref) == body
    assert ref.uri.startswith(store.root) and ref.sha256 == digest_bytes(body) and ref.size == len(body)
    assert (ref.run_id, ref.step, ref.offline, ref.kind) == ("r-1", "step-1", True, "product_spec")
    assert asyncio.run(store.check(ref)) is None


def test_an_empty_body_is_a_body(store: ArtifactStore) -> None:
    assert get(store, put(store, b"")) == b""


def test_a_long_summary_is_cut(store: ArtifactStore) -> None:
    ref = put(store, b"x", summary="长" * 5000)
    assert len(ref.summary) == 400 and ref.summary.endswith("…")


def test_the_same_body_twice_is_one_body(store: ArtifactStore) -> None:
    first, second = put(store, b"same", kind="a"), put(store, b"same", kind="b")
    assert first.uri == second.uri and get(store, second) == b"same"


def test_tenants_share_no_bodies(store: ArtifactStore) -> None:
    ref = put(store, b"secret of a", tenant="a")
    stranger = ref.model_copy(update={"tenant": "b"})
    with pytest.raises(ArtifactMissing):
        get(store, stranger)


def test_many_at_once_also_of_the_same_body(store: ArtifactStore) -> None:
    async def all_at_once() -> list[Ref]:
        bodies = [b"shared"] * 8 + [b"own %d" % n for n in range(16)]
        fields = {"tenant": "default", "media_type": "text/plain", "kind": "k"}
        return await asyncio.gather(*(store.put(body, **fields) for body in bodies))

    refs = asyncio.run(all_at_once())
    assert [get(store, ref) for ref in refs[7:10]] == [b"shared", b"own 0", b"own 1"]


def test_a_missing_body_is_said_to_be_missing(store: ArtifactStore) -> None:
    ref = put(store, b"x").model_copy(update={"sha256": "0" * 64})
    with pytest.raises(ArtifactMissing) as caught:
        get(store, ref)
    assert caught.value.cure
    assert "is not in" in (asyncio.run(store.check(ref)) or "")


@pytest.mark.parametrize("bad", [b"", b"wrong", b"other body"])
def test_a_changed_body_is_found_out_and_healed_by_the_next_put(store: ArtifactStore, bad: bytes) -> None:
    ref = put(store, b"right body")
    replace_body(store, ref, bad)
    with pytest.raises(ArtifactCorrupt):
        get(store, ref)
    assert "changed" in (asyncio.run(store.check(ref)) or "")
    put(store, b"right body")
    assert get(store, ref) == b"right body"


def test_a_moved_store_still_has_its_bodies(store: ArtifactStore, tmp_path: Path) -> None:
    ref = put(store, b"body").model_copy(update={"uri": "file:///somewhere/else"})
    assert get(store, ref) == b"body"


def test_a_moved_folder_still_works(tmp_path: Path) -> None:
    ref = put(ArtifactStore.open(str(tmp_path / "old"), environ={}), b"body")
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert get(ArtifactStore.open((tmp_path / "new").as_uri(), environ={}), ref) == b"body"


def test_an_output_is_published_for_people(store: ArtifactStore) -> None:
    ref = put(store, b"# spec")
    shown = published(store, ref, "product_spec")
    assert shown.endswith("default/runs/r-1/outputs/product_spec.md")
    assert store.files.read("default/runs/r-1/outputs/product_spec.md") == b"# spec"
    newer = put(store, b"# better")
    assert published(store, newer, "product_spec") == shown
    assert store.files.read("default/runs/r-1/outputs/product_spec.md") == b"# better"


def test_output_names_may_be_in_any_script(store: ArtifactStore) -> None:
    ref = put(store, b"{}", media_type="application/json")
    shown = published(store, ref, "产品 文档 (v2)")
    assert shown.endswith("/产品 文档 (v2).json")


def test_publishing_a_missing_body_fails(store: ArtifactStore) -> None:
    ref = put(store, b"x").model_copy(update={"sha256": "0" * 64})
    there = put(store, b"y")
    ended = asyncio.run(store.publish({"spec": ref, "plan": there}, run_id="r-1"))
    assert isinstance(ended["spec"], ArtifactMissing)
    assert str(ended["plan"]).endswith("/plan.md")


def test_a_forged_body_is_not_published(store: ArtifactStore) -> None:
    forged, there = put(store, b"# spec"), put(store, b"y")
    store.files.write(f"default/blobs/{forged.sha256[:2]}/{forged.sha256}", b"# forged")
    ended = asyncio.run(store.publish({"spec": forged, "plan": there}, run_id="r-1"))
    assert isinstance(ended["spec"], ArtifactCorrupt)
    assert str(ended["plan"]).endswith("/plan.md")
    with pytest.raises(FileNotFoundError):
        store.files.read("default/runs/r-1/outputs/spec.md")


def test_a_pipe_in_the_place_of_a_body_holds_up_nothing(tmp_path: Path) -> None:
    store = ArtifactStore.open(str(tmp_path), environ={})
    ref = put(store, b"# spec")
    blob = tmp_path / "default" / "blobs" / ref.sha256[:2] / ref.sha256
    blob.unlink()
    os.mkfifo(blob)
    ended = asyncio.run(store.publish({"spec": ref}, run_id="r-1"))["spec"]
    assert isinstance(ended, StorageError) and "it is a pipe, no file" in ended.message


def test_many_outputs_are_published_together(store: ArtifactStore) -> None:
    refs, told = {f"part_{n}": put(store, f"part {n}".encode()) for n in range(30)}, []
    ended = asyncio.run(store.publish(refs, run_id="r-1", on_published=told.append))
    assert list(ended) == list(refs) and sorted(told) == sorted(refs)
    for n in range(30):
        assert store.files.read(f"default/runs/r-1/outputs/part_{n}.md") == f"part {n}".encode()


def test_publishing_that_is_cut_off_begins_no_more(tmp_path: Path) -> None:
    """A run that was taken over must not put its own outputs over the holder's."""

    class Slow(FolderRoot):
        copied = 0

        def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
            if "/outputs/" in key:
                under_way.set()
                assert go_on.wait(60)
                self.copied += 1
            super().write(key, body, media_type=media_type, durable=durable)

    under_way, go_on, root = threading.Event(), threading.Event(), Slow(tmp_path)

    async def cut_off(store: ArtifactStore) -> None:
        ref = await store.put(b"x", tenant="default", media_type="text/plain", kind="k")
        publishing = asyncio.create_task(store.publish({f"o{n}": ref for n in range(100)}, run_id="r"))
        assert await asyncio.to_thread(under_way.wait, 60)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)

    with ArtifactStore(root) as store:
        asyncio.run(cut_off(store))
        go_on.set()
    assert root.copied <= 8, "what every thread was at"


def test_a_store_that_cannot_be_used_is_not_asked_for_every_output(tmp_path: Path) -> None:
    class Gone(FolderRoot):
        asked = 0

        def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
            if "/outputs/" not in key:
                return super().write(key, body, media_type=media_type, durable=durable)
            self.asked += 1
            raise StorageError("the disk is gone", "bring it back")

    root = Gone(tmp_path)
    with ArtifactStore(root) as store:
        ref = put(store, b"x")
        ended = asyncio.run(store.publish({f"o{n}": ref for n in range(100)}, run_id="r"))
    assert root.asked <= 8 and len(ended) == 100
    assert all(str(place) == "the disk is gone\n  cure: bring it back" for place in ended.values())


def test_editing_a_published_copy_does_not_touch_the_body(tmp_path: Path) -> None:
    store = ArtifactStore.open(str(tmp_path), environ={})
    ref = put(store, b"# spec")
    Path(published(store, ref, "spec")).write_text("edited")
    assert get(store, ref) == b"# spec"


def test_a_manifest_is_written_over_and_read(store: ArtifactStore) -> None:
    assert asyncio.run(store.read_manifest("default", "r-1")) is None
    for version in (1, 2):
        asyncio.run(store.write_manifest("default", "r-1", {"version": version, "名": "值"}))
    assert asyncio.run(store.read_manifest("default", "r-1")) == {"version": 2, "名": "值"}
    assert asyncio.run(store.read_manifest("other", "r-1")) is None


@pytest.mark.parametrize("text", [b"{ half", b"[1]", b"\xff"])
def test_a_broken_manifest_is_an_error_with_a_cure(store: ArtifactStore, text: bytes) -> None:
    store.files.write("default/runs/r-1/run.json", text)
    with pytest.raises(StorageError) as caught:
        asyncio.run(store.read_manifest("default", "r-1"))
    assert "run.json" in caught.value.message and caught.value.cure


def test_a_manifest_of_a_newer_version_is_left_alone(store: ArtifactStore) -> None:
    asyncio.run(store.write_manifest("default", "r-1", {"schema_version": MANIFEST_VERSION + 1}))
    with pytest.raises(StorageError, match="is of version 2") as caught:
        asyncio.run(store.read_manifest("default", "r-1"))
    assert "update phaseline" in caught.value.cure


def test_a_manifest_that_is_not_json_is_refused(store: ArtifactStore) -> None:
    with pytest.raises(TypeError):
        asyncio.run(store.write_manifest("default", "r-1", {"a": object()}))


@pytest.mark.parametrize(
    "attempt",
    [
        lambda store, ref: store.put(b"", tenant="..", media_type="a/b", kind="k"),
        lambda store, ref: store.put(b"", tenant="a/b", media_type="a/b", kind="k"),
        lambda store, ref: store.put(b"", tenant="_tmp", media_type="a/b", kind="k"),
        lambda store, ref: store.put(b"", tenant="a", media_type="a/b", kind="k", run_id="../x"),
        lambda store, ref: store.get(ref.model_copy(update={"tenant": "../x"})),
        lambda store, ref: store.publish({"a": ref}, run_id=".."),
        lambda store, ref: store.publish({"../a": ref}, run_id="r"),
        lambda store, ref: store.publish({".a": ref}, run_id="r"),
        lambda store, ref: store.publish({"a\x00": ref}, run_id="r"),
        lambda store, ref: store.publish({"a" * 300: ref}, run_id="r"),
        lambda store, ref: store.write_manifest("default", "a/../../b", {}),
        lambda store, ref: store.read_manifest("default/..", "r"),
    ],
)
def test_names_cannot_leave_their_place(
    store: ArtifactStore, attempt: Callable[[ArtifactStore, Ref], Awaitable[object]]
) -> None:
    async def tried() -> None:
        await attempt(store, ref)

    ref = put(store, b"x")
    with pytest.raises(UsageError) as caught:
        asyncio.run(tried())
    assert caught.value.cure


def test_a_good_store_passes_the_probe(store: ArtifactStore) -> None:
    asyncio.run(store.probe())
    asyncio.run(store.probe())


def test_a_store_works_again_after_closing(store: ArtifactStore) -> None:
    ref = put(store, b"x")
    store.close()
    assert get(store, ref) == b"x"


def test_another_process_reads_what_was_put(store: ArtifactStore, place: tuple[str, dict[str, str]]) -> None:
    ref = put(store, b"from here")
    program = """if 1:
        import asyncio, os, sys
        from blocks.storage.artifacts import ArtifactStore
        from workflows.core.refs import Ref
        store = ArtifactStore.open(sys.argv[1], environ=os.environ)
        print(asyncio.run(store.get(Ref.model_validate_json(sys.argv[2]))).decode())
    """
    assert finished(run_python(program, place[0], ref.model_dump_json(), **place[1])).strip() == "from here"


def test_objects_carry_their_media_type(s3: S3Server) -> None:
    bucket = s3.make_bucket()
    with ArtifactStore.open(f"s3://{bucket}", environ=s3.environ) as store:
        published(store, put(store, b"# x"), "spec")
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        region_name="us-east-1",
    )
    head = client.head_object(Bucket=bucket, Key="default/runs/r-1/outputs/spec.md")
    client.close()
    assert head["ContentType"] == "text/markdown"


def test_a_kill_leaves_whole_bodies_only(tmp_path: Path) -> None:
    program = """if 1:
        import asyncio, itertools, sys
        from blocks.storage.artifacts import ArtifactStore
        store = ArtifactStore.open(sys.argv[1], environ={})
        async def write():
            for n in itertools.count():
                body = (b"%d " % n) * 400_000
                await store.put(body, tenant="default", media_type="text/plain", kind="k")
        asyncio.run(write())
    """
    process = run_python(program, str(tmp_path))
    try:
        wait_until(lambda: len(list(tmp_path.glob("default/blobs/*/*"))) >= 3)
    finally:
        process.kill()
        process.communicate()
    blobs = list(tmp_path.glob("default/blobs/*/*"))
    assert len(blobs) >= 3
    assert all(digest_bytes(blob.read_bytes()) == blob.name for blob in blobs)
