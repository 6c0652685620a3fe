"""What a run was asked for. Its row keeps that, so that whoever continues it asks for the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

LABEL = "request"
"""Label of a run in the ledger: its request as a document."""
VERSION = 1
WORDS = "started_with"
"""Label of runs before there were requests: the words of the command they were started with."""
CATALOG = "catalog"
"""Label of a run: the folder of its catalog, also where nobody named one."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A workflow, or a text that is routed to one, and where things are. Its inputs are the run's.

    Of places only what was named is in it, as absolute paths or URIs: the rest is as the environment says.
    """

    workflow: str = ""
    """A name in the catalog, or the absolute path of a file."""
    text: str | None = None
    catalog: str = ""
    home: str = ""
    storage: str = ""
    latest: str = "table"
    """What `latest` means: as models.yaml says ("table"), or as the provider lists it ("online")."""
    offline: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """The options of any command that say where the run's things are."""
        catalog = ("--catalog", self.catalog) if self.catalog else ()
        home = ("--home", self.home) if self.home else ()
        return (*catalog, *home)

    def to_labels(self, catalog: Path | str) -> dict[str, Any]:
        """What the ledger keeps. `catalog`: the folder that it comes to."""
        return {LABEL: {"version": VERSION, **asdict(self)}, CATALOG: str(catalog)}


def request_of(labels: Mapping[str, Any]) -> RunRequest | None:
    """The request in a run's labels; None where another program started it, such as a worker.

    None as well for what a newer release wrote in another shape: nothing is guessed.
    """
    written = labels.get(LABEL)
    if isinstance(written, Mapping):
        known = {field.name: written[field.name] for field in fields(RunRequest) if field.name in written}
        return RunRequest(**known) if written.get("version") == VERSION else None
    words = labels.get(WORDS)
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        return _from_words(words)
    return None


def catalog_of(labels: Mapping[str, Any]) -> str | None:
    """The folder of the catalog a run was started with; None when that is not known."""
    named = labels.get(CATALOG)
    return named if isinstance(named, str) and named else None


def _from_words(words: Sequence[str]) -> RunRequest | None:
    """The words that were kept: `phaseline [--catalog DIR] [--home DIR] run WORKFLOW [options]`."""
    found: dict[str, Any] = {}
    rest = _after_run(iter(words[1:]), found)
    for word in rest:
        if word == "--offline":
            found["offline"] = True
        elif word in ("--text", "--storage", "--latest"):
            found[word.removeprefix("--")] = next(rest, "")
        else:
            found["workflow"] = word
    return RunRequest(**found) if "workflow" in found or "text" in found else None


def _after_run(words: Iterator[str], found: dict[str, Any]) -> Iterator[str]:
    for word in words:
        if word == "run":
            break
        found[word.removeprefix("--")] = next(words, "")
    return words
