"""The root bytes are kept below: a folder here, a bucket in s3_root.py. Keys are relative, with slashes.

Roots are synchronous and safe to use from several threads. A missing key is FileNotFoundError, an unfit
one ValueError, every other fault a StorageError with a cure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from blocks.home import make_folder
from blocks.names import checked_key
from blocks.storage.errors import MOST_BODY, StorageError, too_large
from workflows.core.errors import UsageError
from workflows.core.read.files import FileTooLarge, read_file

_READ_ONLY = 0o444
_TEMPORARY = "_tmp"


class Root(Protocol):
    """Bytes under keys, written whole or not at all."""

    @property
    def uri(self) -> str:
        """The root as an address: file:///folder or s3://bucket/prefix, never with credentials."""

    def describe(self) -> str:
        """The root for people."""

    def address(self, key: str) -> str:
        """The full address of a key."""

    def place(self, key: str) -> str:
        """Where a person finds a key: a path, or an s3:// address."""

    def read(self, key: str, most: int = MOST_BODY) -> bytes:
        """The bytes of a key. Raises FileNotFoundError, and BodyTooLarge where there are more than `most`."""

    def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
        """Put `body` under a key in one step. `durable`: it also survives a power cut from then on."""

    def probe(self) -> None:
        """Write and read a few bytes, so that a wrong root is reported before any work."""

    def close(self) -> None:
        """Give back connections."""


def open_root(uri: str, environ: Mapping[str, str]) -> Root:
    """The root at a folder's path, a file:// address, or s3://bucket/prefix. Touches nothing yet."""
    text = uri.strip()
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("s3", "s3a"):
        from blocks.storage.s3_root import S3Root

        return S3Root.open(text, environ)
    folder = local_path(text)
    if folder is None or not text:
        raise UsageError(
            f"not a storage address: {scheme + '://...' if scheme else repr(text)}",
            "name a folder, or s3://bucket/prefix, in --storage or PHASELINE_STORAGE",
        )
    return FolderRoot(Path(folder))


def local_path(address: str) -> str | None:
    """The path that a file:// address names, or that the text is itself; None for any other address."""
    scheme, marked, _ = address.partition("://")
    if not marked:
        return address
    return unquote(urlsplit(address).path) if scheme.lower() == "file" else None


class FolderRoot:
    """A folder. Files appear by renaming, so a reader never sees half a body."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().absolute()

    @property
    def uri(self) -> str:
        return self._folder.as_uri()

    def describe(self) -> str:
        return f"folder {self._folder}"

    def address(self, key: str) -> str:
        return self._path(key).as_uri()

    def place(self, key: str) -> str:
        return str(self._path(key))

    def read(self, key: str, most: int = MOST_BODY) -> bytes:
        path = self._path(key)
        try:
            return read_file(path, most)
        except FileNotFoundError:
            raise
        except FileTooLarge:
            raise too_large(str(path), most) from None
        except OSError as error:
            raise _fault(error, "read", path) from error

    def write(self, key: str, body: bytes, *, media_type: str = "", durable: bool = False) -> None:
        # What must last is never changed in place, so nobody should be invited to.
        mode = _READ_ONLY if durable else 0o666
        self._replace(key, lambda file: _write_all(file, body), mode=mode, durable=durable)

    def probe(self) -> None:
        key = f"{_TEMPORARY}/probe-{uuid.uuid4().hex}"
        self.write(key, b"phaseline")
        try:
            whole = self.read(key) == b"phaseline"
            self._path(key).unlink()
        except OSError as error:
            raise _fault(error, "use", self._folder) from error
        if not whole:
            raise StorageError(f"{self.describe()} does not give back what is written", "check its disk")

    def close(self) -> None:
        return None

    def _refuse_foreign_links(self, key: str) -> None:
        """Raises StorageError where somebody else has put a link in a key's way below the root: what is
        written would land where they want it."""
        place = str(self._folder)
        for part in key.split("/")[:-1]:
            place = f"{place}/{part}"
            try:
                known = os.lstat(place)
            except FileNotFoundError:
                return
            if stat.S_ISLNK(known.st_mode) and known.st_uid not in (0, os.geteuid()):
                raise StorageError(
                    f"{place} is a link that another user made; nothing is written through it",
                    "remove the link, or name another folder in PHASELINE_STORAGE",
                )

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*checked_key(key).split("/"))

    def _replace(self, key: str, fill: Callable[[BinaryIO], None], *, mode: int, durable: bool) -> None:
        path = self._path(key)
        # One place for unfinished files: what a killed process leaves is easily told apart and removed.
        unfinished = f"{_TEMPORARY}/{uuid.uuid4().hex}"
        temporary = self._folder / unfinished
        try:
            make_folder(self._folder)
            # Whom the root is open to, what is in it is open to: one of ours to nobody, one that people share
            # to those they share it with.
            allowed = self._folder.stat().st_mode
            for place in (unfinished, key):
                self._refuse_foreign_links(place)
            for folder in (temporary.parent, path.parent):
                _make_below(self._folder, folder, allowed & 0o777)
            _create(temporary, fill, mode & allowed, durable)
            temporary.replace(path)
            if durable:
                _sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):  # the first fault is the one to report
                temporary.unlink(missing_ok=True)
            raise _fault(error, "write", path) from error


def _make_below(root: Path, folder: Path, mode: int) -> None:
    if folder == root or folder.is_dir():
        return
    _make_below(root, folder.parent, mode)
    folder.mkdir(mode, exist_ok=True)


def _create(path: Path, fill: Callable[[BinaryIO], None], mode: int, durable: bool) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        fill(file)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _write_all(file: BinaryIO, body: bytes) -> None:
    file.write(body)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_PASSING = (errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO)
"""What a folder on the network gives while its server restarts."""
_CURES = {
    errno.ENOSPC: "free some space on that disk, then run the command again",
    errno.EDQUOT: "free some space or raise the quota, then run the command again",
    errno.EACCES: "name a folder you may write in PHASELINE_STORAGE or --storage",
    errno.EPERM: "name a folder you may write in PHASELINE_STORAGE or --storage",
    errno.EROFS: "name a folder you may write in PHASELINE_STORAGE or --storage",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file stands where a folder is needed: name another folder in PHASELINE_STORAGE",
}


def _fault(error: OSError, action: str, path: Path) -> StorageError:
    cure = _CURES.get(error.errno or 0, "check the disk and that PHASELINE_STORAGE names the right folder")
    passing = error.errno in _PASSING
    return StorageError(f"cannot {action} {path}: {error.strerror or error}", cure, passing=passing)
