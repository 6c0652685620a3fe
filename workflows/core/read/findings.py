"""What reading a catalog found: mistakes and warnings, gathered so that all are reported at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from workflows.core.errors import Mistake, did_you_mean, shown_path
from workflows.core.read.documents import read_source
from workflows.core.read.source import Key, Position, Source, Unreadable
from workflows.core.read.validation import M, read_model

_NONE_KNOWN = "nothing of that kind is declared: add it, or remove this"
_MOST_DETAILED = 200
_MANY = "mend the mistakes before it first, then check again"


@dataclass
class Findings:
    """Mistakes and warnings in the order they were found."""

    errors: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)

    def error(
        self,
        source: Source,
        path: Key,
        message: str,
        cure: str,
        *,
        of_key: bool = False,
        within: Position | None = None,
    ) -> None:
        """Records a mistake at a place of a source; `within` is a line and column of the text there."""
        mistake = source.mistake(path, message, cure or _NONE_KNOWN, of_key=of_key, within=within)
        self.errors.append(mistake)

    def warn(self, source: Source, path: Key, message: str, cure: str) -> None:
        """Records what was assumed where a file contradicts itself or says too little."""
        self.warnings.append(source.mistake(path, message, cure or _NONE_KNOWN))

    @property
    def detailed(self) -> bool:
        """Whether so few things are wrong yet that each is looked at closely, among all that is known."""
        return len(self.errors) + len(self.warnings) < _MOST_DETAILED

    def near(self, word: str, known: Iterable[str]) -> str:
        """The cure for a word that is not known: `did_you_mean`, for the first mistakes."""
        return did_you_mean(word, known) if self.detailed else _MANY

    def any_below(self, folder: str) -> bool:
        """Whether files below a folder are wrong, so that what they declare only seems to be missing."""
        return any(mistake.file.startswith(folder) for mistake in self.errors)

    def add(self, other: Findings) -> None:
        """Takes over what another reading found."""
        self.errors += other.errors
        self.warnings += other.warnings

    def read(self, root: Path, path: Path, model: type[M]) -> tuple[Source, M] | None:
        """Reads one written file; None (with the mistakes recorded) when it is wrong."""
        source = self.read_data(root, path)
        if source is None:
            return None
        value = self.check(source, model)
        return (source, value) if value is not None else None

    def check(self, source: Source, model: type[M]) -> M | None:
        """The model of a file's data; None (with the mistakes recorded) when it is wrong."""
        value, mistakes = read_model(model, source)
        self.errors += mistakes
        return value

    def read_data(self, root: Path, path: Path) -> Source | None:
        """Reads a file's data only."""
        name = shown_path(path, root)
        if not is_inside(root, path):
            self.errors.append(
                Mistake(
                    name,
                    0,
                    0,
                    "",
                    str(path.name),
                    "the file lies outside the catalog",
                    "copy it into the catalog",
                )
            )
            return None
        try:
            return read_source(path, name)
        except Unreadable as fault:
            self.errors += fault.mistakes
            return None


def is_inside(root: Path, path: Path) -> bool:
    """Whether a path, links followed, lies below the root."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a null byte, links in a circle
        return False


def find_files(root: Path, base: Path, names: Collection[str], findings: Findings) -> list[Path]:
    """The files of these names below a folder. A linked folder is read where it lies inside the catalog.

    Recorded are links that lead out of it or to nothing, and links inside linked folders, which could lead
    in circles. Below a folder that holds such a file, links belong to that file's folder and are left alone.
    """
    out: list[Path] = []
    waiting = [(base, False)]
    while waiting:
        folder, linked = waiting.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError as fault:
            reason = fault.strerror or "it cannot be opened"
            findings.error(Source(shown_path(folder, root), None), (), reason, "check its permissions")
            continue
        # A pipe of this name too: who reads it says what it is.
        found = [e for e in entries if e.name in names and (e.is_symlink() or not e.is_dir())]
        out += found
        for entry in entries:
            if entry.is_symlink():
                if not found and not entry.name.startswith(".") and _follow(root, entry, linked, findings):
                    waiting.append((entry, True))
            elif entry.is_dir():
                waiting.append((entry, linked))
    return sorted(out)


def _follow(root: Path, link: Path, linked: bool, findings: Findings) -> bool:
    """Whether to read a linked folder; why not is recorded."""
    source = Source(shown_path(link, root), None)
    if not is_inside(root, link):
        findings.error(source, (), "the folder lies outside the catalog", "copy it into the catalog")
    elif not link.exists():
        findings.error(source, (), "the link leads to nothing", "mend the link, or remove it")
    elif linked and link.is_dir():
        findings.error(source, (), "a link inside a linked folder is not followed", "copy the folder here")
    else:
        return link.is_dir() and not link.parent.resolve().is_relative_to(link.resolve())
    return False


def has_entry(path: Path) -> bool:
    """Whether anything has this name: a link to nothing, or a folder, is no file that nobody wrote."""
    return path.exists() or path.is_symlink()


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name no file can have is none."""
    try:
        return path.is_file()
    except OSError:
        return False
