"""Reading files that others may have put there: what is no regular file, or too large, is never begun.

Opening a pipe waits for its other end for ever, `/dev/zero` has no end, and a sparse file of a terabyte takes
a few bytes on the disk. So kind and size are looked at on the opened file, before a byte is read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MOST_BYTES = 256 * 1024 * 1024
"""For bodies that nothing else limits."""
_CHUNK = 1024 * 1024


class NoRegularFile(OSError):
    """A folder, pipe, socket or device stands where a file is expected."""


class FileTooLarge(OSError):
    """A file holds more than its reader takes."""


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file of at most `most` bytes. Raises OSError; `strerror` says what is wrong."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as fault:
        if fault.errno == errno.ENXIO:
            raise NoRegularFile(errno.EINVAL, "it is a socket, no file", str(path)) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise NoRegularFile(errno.EINVAL, f"it is {_kind(status.st_mode)}, no file", str(path))
        chunks, held, wanted = [], 0, status.st_size + 1
        # A file of /proc says 0 and holds more; one that grows meanwhile holds more than it said.
        while status.st_size <= most and held <= most and (chunk := os.read(fd, wanted)):
            chunks.append(chunk)
            held, wanted = held + len(chunk), _CHUNK
    finally:
        os.close(fd)
    if max(held, status.st_size) > most:
        raise FileTooLarge(errno.EFBIG, f"it is larger than {_size(most)}", str(path))
    return b"".join(chunks)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The same as text: UTF-8, with or without a byte order mark. Raises OSError, UnicodeDecodeError."""
    return read_file(path, most).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def _kind(mode: int) -> str:
    for fits, name in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket")):
        if fits(mode):
            return name
    return "a device"


def _size(most: int) -> str:
    return f"{most // 2**20} MiB" if most >= 2**20 else f"{most // 2**10} KiB"
