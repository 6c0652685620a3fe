"""What can go wrong by a person's doing, each with its cure."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class PhaselineError(Exception):
    """An error a person can mend: shown as message and cure, never as a traceback.

    `exit_code` is what the command ends with: 1 failed, 2 invalid definition or usage,
    3 waiting for a person, 4 stopped by a budget or provider quota.
    """

    exit_code = 1
    final = False
    """Whether trying the same again cannot help, so that a step with this error is not retried."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.message}\n  cure: {self.cure}" if self.cure else self.message


class UsageError(PhaselineError):
    """The command line, an input or an environment variable is wrong."""

    exit_code = 2
    final = True


def join_faults(faults: Sequence[UsageError]) -> UsageError:
    """One error that tells several, each with its own cure below it; a lone one as it is."""
    if len(faults) == 1:
        return faults[0]
    told = [f.message + (f"\n    cure: {f.cure}" if f.cure else "") for f in faults]
    return UsageError("\n".join([f"{len(faults)} inputs cannot be used", *(f"  {t}" for t in told)]))


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a written file. `line` and `column` count from 1; 0 means unknown."""

    file: str
    line: int
    column: int
    path: str
    value: Any
    message: str
    cure: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        at = f" {self.path}:" if self.path else ""
        return f"{where}:{at} {self.message}" + (f"\n    cure: {self.cure}" if self.cure else "")

    def to_json(self) -> dict[str, Any]:
        """The shape of one entry of `check --json`."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "value": self.value,
            "message": self.message,
            "cure": self.cure,
        }


class InvalidDefinition(PhaselineError):
    """One or more written files are wrong; carries every mistake found, in file order."""

    exit_code = 2
    final = True

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        count = len(self.mistakes)
        super().__init__(
            "\n".join(str(m) for m in self.mistakes) or "invalid definition",
            f"mend the {count} mistakes above, then run the command again" if count > 1 else "",
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest known word, else the known words (at most 12)."""
    words = sorted({str(k) for k in known})
    near = difflib.get_close_matches(word, _like(word, words), n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    if not words:
        return ""
    shown = ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")
    return f"known: {shown}"


def _like(word: str, words: list[str]) -> list[str]:
    """The words worth a comparison, which costs the product of lengths: of many those that begin alike."""
    if len(word) > _LONGEST:
        return []
    if len(words) <= _COMPARED:
        return words
    near = [known for known in words if known[:2] == word[:2] and abs(len(known) - len(word)) < 4]
    place = max(0, bisect.bisect(near, word) - _COMPARED // 2)
    return near[place : place + _COMPARED]


_LONGEST = 120
_COMPARED = 60


def shown_path(path: Path, root: Path | None = None) -> str:
    """A file's name as a person reads it: relative to `root` when below it."""
    if root is not None:
        try:
            return str(path.relative_to(root))
        except ValueError:
            pass
    return str(path)
