"""Where things are, read from the environment once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from blocks.paths import expanded
from workflows.core.catalog import DEFAULT_ROOT
from workflows.core.errors import UsageError


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
        home = expanded(environ.get("PHASELINE_HOME") or "~/.phaseline", "PHASELINE_HOME").absolute()
        named = storage or environ.get("PHASELINE_STORAGE") or str(home / "storage")
        if "://" not in named:
            named = str(expanded(named, "the storage (PHASELINE_STORAGE)").absolute())
        database = environ.get("PHASELINE_DATABASE_URL") or str(home / "ledger.db")
        if "://" not in database:
            database = str(expanded(database, "PHASELINE_DATABASE_URL").absolute())
        root = catalog or environ.get("PHASELINE_CATALOG")
        return cls(
            home=home,
            storage=named,
            database=database,
            catalog=expanded(root, "the catalog (PHASELINE_CATALOG)").absolute() if root else DEFAULT_ROOT,
        )

    def prepare(self) -> None:
        """Makes the home folder, readable by its owner only. UsageError when it cannot be written."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise UsageError(
                f"the folder {self.home} cannot be made: {fault.strerror}",
                "set PHASELINE_HOME to one you may write",
            ) from None
