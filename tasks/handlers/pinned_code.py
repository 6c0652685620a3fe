"""The code a handler runs from: a private copy of pinned files, made for one call and removed with it.

Checked where it lies, a file may be another one when it is run, and Python takes a `__pycache__` beside it
for its code without looking at it. So what runs is a copy in a folder of ours: only files whose bytes, as
they were copied, have the pinned digest, and no bytecode.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from workflows.core.catalog.skills import MAX_TRACKED

MOST_DATA = 64 * 2**20
"""Bytes that may lie beside a hook: they are copied for each of its calls."""
MOST_FILES = 10_000
"""The same as files."""
_PIECE = 2**20
_CODE = (*SOURCE_SUFFIXES, *BYTECODE_SUFFIXES, *EXTENSION_SUFFIXES)
"""How the names of files end that Python would import."""


class CodeChanged(Exception):
    """A file is not the pinned one; its path is the only argument."""


class TooMuchData(Exception):
    """More lies beside code than is copied for a call; its only argument says what."""


class CopyStopped(Exception):
    """The call that a copy was for is over."""


_over: ContextVar[threading.Event | None] = ContextVar("over", default=None)


@contextlib.contextmanager
def stopped_by(over: threading.Event) -> Iterator[None]:
    """Within it, what copies in this thread raises CopyStopped once that is set."""
    before = _over.set(over)
    try:
        yield
    finally:
        _over.reset(before)


@dataclass(frozen=True, slots=True)
class Code:
    """What a handler runs from."""

    shown: str
    """The folder as its author knows it: named in messages instead of the copy."""
    copy: Callable[[Path], Path]
    """Writes the files into an empty folder and gives the one to run. Raises what says that they changed."""


def copy_pinned(source: Path, files: Iterable[tuple[str, str]], target: Path) -> None:
    """Copy files of a folder, each a relative path with its sha256, into another one. Raises CodeChanged."""
    for path, sha256 in files:
        digest = hashlib.sha256()
        try:
            with _open_file(source / path) as body, _create_file(target, path) as made:
                # What is larger than any tracked file is not the pinned one, and need not be read for that.
                for piece in _pieces(body, MAX_TRACKED):
                    digest.update(piece)
                    made.write(piece)
        except TooMuchData:
            raise CodeChanged(path) from None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError, NotAFile):
            raise CodeChanged(path) from None
        if digest.hexdigest() != sha256:
            raise CodeChanged(path)


def write_code(bodies: Mapping[str, bytes], target: Path) -> None:
    """Write files by their relative paths."""
    for path, body in bodies.items():
        with _create_file(target, path) as made:
            made.write(body)


def copy_data(source: Path, target: Path) -> None:
    """Copy what lies beside code and is none, as it is: no hidden files, no links, nothing Python imports.

    Raises TooMuchData.
    """
    left, files = MOST_DATA, 0
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in names:
            path = Path(folder, name)
            if name.startswith(".") or name.endswith(_CODE) or path.is_symlink():
                continue
            try:
                with (
                    _open_file(path) as body,
                    _create_file(target, path.relative_to(source).as_posix()) as made,
                ):
                    files += 1
                    if files > MOST_FILES:
                        raise TooMuchData(f"more than {MOST_FILES:,} files")
                    for piece in _pieces(body, left):
                        left -= len(piece)
                        made.write(piece)
            except (OSError, NotAFile):
                continue  # it is gone, or not for us: whoever opens it will say so


class NotAFile(Exception):
    """A pipe, a device or a folder stands where a file should."""


def _pieces(body: BinaryIO, most: int) -> Iterator[bytes]:
    """The bytes of a file, also of one that grows meanwhile. Raises TooMuchData, CopyStopped."""
    over, held = _over.get(), os.fstat(body.fileno()).st_size
    while held <= most and (piece := body.read(_PIECE)):
        if over is not None and over.is_set():
            raise CopyStopped
        most -= len(piece)
        held = max(held - len(piece), 0)
        if most < 0:
            break
        yield piece
    if held > most:
        raise TooMuchData(f"more than {MOST_DATA // 2**20} MiB")


def _open_file(path: Path) -> BinaryIO:
    # Without waiting: a pipe in its place would never be opened.
    body = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(body.fileno()).st_mode):
        body.close()
        raise NotAFile
    return body


def _create_file(target: Path, path: str) -> BinaryIO:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise CodeChanged(path)
    file = target / relative
    file.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400), "wb")
