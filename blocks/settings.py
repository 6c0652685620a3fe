"""Where things are, read from the environment once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blocks.home import make_home
from blocks.paths import full_path
from workflows.core.catalog.contents import DEFAULT_ROOT
from workflows.core.errors import UsageError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/(/?)", re.I)
_ADDRESSES = ("s3", "s3a", "file")


@dataclass(frozen=True)
class Settings:
    """Folders and addresses of one installation."""

    home: Path
    storage: str
    database: str
    catalog: Path

    @classmethod
    def read(
        cls, environ: Mapping[str, str], *, catalog: str | None = None, storage: str | None = None
    ) -> Settings:
        """PHASELINE_HOME, _STORAGE, _DATABASE_URL and _CATALOG, each with its default."""
        home = full_path(environ.get("PHASELINE_HOME") or "~/.phaseline", "PHASELINE_HOME")
        if storage is not None and not storage.strip():
            raise UsageError("--storage is empty", "name a folder or s3://bucket/prefix, or leave it out")
        named = _storage_address(storage or environ.get("PHASELINE_STORAGE") or str(home / "storage"))
        database = environ.get("PHASELINE_DATABASE_URL") or str(home / "ledger.db")
        if "://" not in database:
            database = str(full_path(database, "PHASELINE_DATABASE_URL"))
        root = catalog or environ.get("PHASELINE_CATALOG")
        return cls(
            home=home,
            storage=named,
            database=database,
            catalog=full_path(root, "the catalog (PHASELINE_CATALOG)") if root else DEFAULT_ROOT,
        )

    @property
    def shared(self) -> bool:
        """Whether other machines may use the ledger, too."""
        return is_shared(self.database)

    def prepare(self) -> None:
        """Makes the home folder, for its owner only. UsageError when it cannot be made, or not be trusted."""
        make_home(self.home)


def is_shared(database: str) -> bool:
    """Whether a ledger's path or address is one that other machines may use."""
    return "://" in database and not database.startswith("sqlite")


def _storage_address(written: str) -> str:
    """A folder's full path, or an address as it is. Raises UsageError for an address that is none."""
    scheme = _SCHEME.match(written.strip())
    if scheme is None:
        return str(full_path(written, "the storage (PHASELINE_STORAGE)"))
    if scheme[2] and scheme[1].lower() in _ADDRESSES:
        return written
    folder = "" if scheme[2] else f"; a folder of that name is ./{written.strip()}"
    raise UsageError(
        f"not a storage address: {scheme[0]}...",  # the rest may hold a password
        f"name a folder, or s3://bucket/prefix, in --storage or PHASELINE_STORAGE{folder}",
    )
