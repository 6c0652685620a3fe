"""What became of the runs that were woken: a file of the home, so that what cannot go on is not tried again
by every command, and people are told why."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deployments.server.supervisor import replace_json
from workflows.core.read.files import read_file

FILE = "wake.json"
"""In the home; readable by its owner only. Attempts by the id of the run."""
PAUSE_S = 600.0
"""Seconds after which a run that could not go on is tried again by itself."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Why a run did not go on. Without a message: it was begun, and its end was not written down."""

    at: float
    """Seconds since 1970, by this machine's clock."""
    message: str = ""
    cure: str = ""

    @property
    def recent(self) -> bool:
        """Whether it is too early for another one. A clock that was set back does not block for ever."""
        return abs(time.time() - self.at) < PAUSE_S


def attempts(home: Path) -> dict[str, Attempt]:
    """The recent attempts that did not end well, by run. What cannot be read is none."""
    try:
        written = json.loads(read_file(home / FILE, 2**20))
        found = {str(run_id): _attempt(value) for run_id, value in written.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {run_id: attempt for run_id, attempt in found.items() if attempt.recent}


def _attempt(value: Mapping[str, Any]) -> Attempt:
    return Attempt(float(value["at"]), str(value["message"]), str(value["cure"]))


def note_begin(home: Path, run_ids: Iterable[str]) -> None:
    """Notes that these are woken now. Raises OSError."""
    _write(home, {**attempts(home), **{run_id: Attempt(time.time()) for run_id in run_ids}})


def not_begun(home: Path, run_ids: Iterable[str]) -> None:
    """Takes it back: nothing could be started. Raises OSError."""
    gone = set(run_ids)
    _write(home, {run_id: attempt for run_id, attempt in attempts(home).items() if run_id not in gone})


def note_end(home: Path, run_id: str, error: Mapping[str, str] | None) -> None:
    """Notes how it went: the error (message, cure) of a run that did not go on. Raises OSError."""
    known = attempts(home)
    known.pop(run_id, None)
    if error is not None:
        known[run_id] = Attempt(time.time(), error["message"], error["cure"])
    _write(home, known)


def _write(home: Path, known: Mapping[str, Attempt]) -> None:
    """In one step; of two processes that write at the same moment one is forgotten, and tried earlier."""
    replace_json(home / FILE, {run_id: asdict(attempt) for run_id, attempt in known.items()})
