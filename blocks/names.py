"""Names that become parts of paths and keys, checked once before they do."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from workflows.core.errors import UsageError
from workflows.core.refs import RUN_ID

DEFAULT_TENANT = "default"
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_OUTPUT = re.compile(r"\w[\w .()+-]{0,99}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\?]")


def checked_tenant(tenant: str) -> str:
    """The tenant itself; UsageError when it could not be a folder's name."""
    if not TENANT.fullmatch(tenant):
        raise UsageError(
            f"not a tenant: {tenant!r}", "use letters, digits, '.', '_' and '-', 63 characters at most"
        )
    return tenant


def checked_run_id(run_id: str) -> str:
    """The run id itself; UsageError when it does not match `RUN_ID` as a whole."""
    if not RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"not a run id: {run_id!r}",
            "begin with a letter or digit; then letters, digits, '.', '_' and '-', 128 characters at most",
        )
    return run_id


def checked_output(name: str) -> str:
    """The name of a published output itself, in any script; UsageError when it is no plain file name."""
    if not _OUTPUT.fullmatch(name):
        raise UsageError(
            f"not an output name: {name!r}",
            "begin with a letter or digit, then use letters, digits, spaces and '._()+-', "
            "100 characters at most",
        )
    return name


def checked_key(key: str) -> str:
    """A relative key with slashes, itself; ValueError when it is absolute, climbs, or is unfit for a file."""
    parts = key.split("/")
    if _UNSAFE.search(key) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"not a storage key: {key!r}")
    if any(len(part.encode()) > 255 for part in parts) or len(key.encode()) > 900:
        raise ValueError(f"a storage key is too long: {key[:80]!r}...")
    return str(PurePosixPath(key))
