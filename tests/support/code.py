"""Handlers of a folder as they are run, and what somebody may lay beside them."""

from __future__ import annotations

import importlib.util
import os
import py_compile
from pathlib import Path

from tasks.handlers.pinned_code import Code, copy_pinned
from workflows.core.refs import digest_bytes


def code_of(file: Path) -> Code:
    """A handler's file with the Python files beside it."""
    pinned = [(path.name, digest_bytes(path.read_bytes())) for path in sorted(file.parent.glob("*.py"))]

    def copy(target: Path) -> Path:
        copy_pinned(file.parent, pinned, target)
        return target / file.name

    return Code("the-skill", copy)


def plant_bytecode(file: Path, text: str, *, forged: bool = False) -> Path:
    """Compiled `text` where Python looks for the bytecode of a file, and takes it for the file's.

    forged: with the file's own time and size in it, as Python checks them; else marked as not to be checked.
    """
    planted = Path(importlib.util.cache_from_source(str(file)))
    evil = file.with_name("evil.txt")
    size = file.stat().st_size
    evil.write_text(text + "\n" + "#" * (size - len(text) - 1) if forged else text)
    if forged:
        assert evil.stat().st_size == size, "the file must be longer than what is planted"
        os.utime(evil, (file.stat().st_atime, file.stat().st_mtime))
    kind = "TIMESTAMP" if forged else "UNCHECKED_HASH"
    mode = py_compile.PycInvalidationMode[kind]
    py_compile.compile(str(evil), str(planted), doraise=True, invalidation_mode=mode)
    evil.unlink()
    return planted
