"""Which storage an installation uses, and what is no address of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.settings import Settings
from blocks.storage.root import local_path, open_root
from workflows.core.errors import UsageError


def storage(written: str | None, **environ: str) -> str:
    return Settings.read({"PHASELINE_HOME": "/home/x", **environ}, storage=written).storage


@pytest.mark.parametrize(
    ("written", "cure"),
    [
        ("s3:/bucket", "; a folder of that name is ./s3:/bucket"),
        ("S3:/bucket", "s3://bucket/prefix"),
        ("file:/x", "name a folder"),
        ("gs://bucket/x", "name a folder, or s3://bucket/prefix"),
        ("https://me:hunter2@host/x", "name a folder"),
    ],
)
def test_what_is_no_address(written: str, cure: str) -> None:
    for ask in (lambda: storage(written), lambda: storage(None, PHASELINE_STORAGE=written)):
        with pytest.raises(UsageError, match="not a storage address") as caught:
            ask()
        assert cure in caught.value.cure
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("written", ["", "  "])
def test_an_empty_option_is_not_the_default(written: str) -> None:
    with pytest.raises(UsageError, match="--storage is empty"):
        storage(written)


def test_folders_and_addresses() -> None:
    assert storage(None) == storage(None, PHASELINE_STORAGE="") == "/home/x/storage"
    assert storage("s3://bucket/x", PHASELINE_STORAGE="/y") == "s3://bucket/x"
    assert storage("file:///x") == "file:///x"
    assert storage("./s3:/x") == str(Path.cwd() / "s3:/x")
    assert storage(None, PHASELINE_STORAGE="a:b") == str(Path.cwd() / "a:b")


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("file:///a%20b/%E9%94%AE", "/a b/键"),
        ("FILE:///x", "/x"),
        ("/a%20b", "/a%20b"),  # a path as it is
        ("a:b", "a:b"),
        ("s3://bucket/x", None),
        ("", ""),
    ],
)
def test_the_path_of_an_address(address: str, path: str | None) -> None:
    assert local_path(address) == path


@pytest.mark.parametrize("written", ["/a b", "file:///a%20b", " file:///a%20b\n"])
def test_a_folder_is_opened_by_its_path_or_its_address(written: str) -> None:
    assert open_root(written, {}).uri == "file:///a%20b"


@pytest.mark.parametrize("written", ["", " ", "gs://bucket/x"])
def test_what_is_no_address_is_not_opened(written: str) -> None:
    with pytest.raises(UsageError, match="not a storage address"):
        open_root(written, {})
