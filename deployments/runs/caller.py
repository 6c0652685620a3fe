"""Who asks a service for something, and where their things are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from blocks.settings import Settings


@dataclass(frozen=True)
class Caller:
    """For whom a service works. Every request has one; nothing about it is read from this process."""

    tenant: str
    """Whose runs these are; no other's are found."""
    asker: str
    """Who asks, by name: a vote is theirs."""
    catalog: Path
    home: Path
    environ: Mapping[str, str] = field(repr=False)
    """Values of environment variables: keys, addresses, PHASELINE_*."""
    account: str = ""
    """How it is known that they are the asker: a user's number, the id of a token."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Of `catalog` and `home` what was named, in full: the rest is as the environment says."""

    @property
    def places(self) -> tuple[str, ...]:
        """The options of any command that say where the caller's things are."""
        return tuple(word for option, path in self.named.items() for word in (f"--{option}", path))

    def settings(self, *, catalog: str = "", storage: str | None = None) -> Settings:
        """Where this installation keeps its things. Raises UsageError."""
        environ = {**self.environ, "PHASELINE_HOME": str(self.home)}
        return Settings.read(environ, catalog=catalog or str(self.catalog), storage=storage)
