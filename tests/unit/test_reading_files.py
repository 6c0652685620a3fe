"""What stands in the place of a file is looked at before it is read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from workflows.core.read.files import FileTooLarge, NoRegularFile, read_file, read_text


def test_what_is_no_regular_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        for path, said in (
            ("pipe", "a pipe"),
            ("socket", "a socket"),
            (".", "a folder"),
            ("/dev/zero", "a device"),
        ):
            with pytest.raises(NoRegularFile, match=said):
                read_file(Path(path))


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileTooLarge, match="larger than 256 MiB"):
        read_file(sparse)
    exact = tmp_path / "exact"
    exact.write_bytes(b"x" * 2048)
    assert read_file(exact, 2048) == b"x" * 2048
    with pytest.raises(FileTooLarge, match="larger than 1 KiB"):
        read_file(exact, 1024)


def test_a_file_that_says_it_is_empty_is_read(tmp_path: Path) -> None:
    assert read_file(Path("/proc/self/status")).startswith(b"Name:")
    (tmp_path / "empty").touch()
    assert read_file(tmp_path / "empty") == b""


def test_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert read_text(tmp_path / "text") == "a\nb\nc"
