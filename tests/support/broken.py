"""Broken files and what is expected of them.

A broken file says itself what is wrong with it: `# ! message | cure` behind a line names a mistake of that
line, and a comment of its own, `#! 7: message | cure`, one of line 7. Both sides are parts of the real texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workflows.core.errors import Mistake

_HERE = re.compile(r"# ! (?P<message>[^|]*)\|(?P<cure>.*)$")
_ELSEWHERE = re.compile(r"^\s*#! (?:(?P<file>\S+):)?(?P<line>\d+): (?P<message>[^|]*)\|(?P<cure>.*)$")


@dataclass(frozen=True)
class Expected:
    """One mistake that must be reported."""

    line: int
    message: str
    cure: str
    file: str = ""

    def meets(self, mistake: Mistake) -> bool:
        """Whether a reported mistake is this one."""
        same_file = not self.file or mistake.file == self.file
        here = same_file and mistake.line == self.line
        return here and self.message in mistake.message and self.cure in mistake.cure


def expected(text: str, file: str = "") -> list[Expected]:
    """The mistakes a broken text announces."""
    out = []
    for number, line in enumerate(text.splitlines(), 1):
        if found := _ELSEWHERE.match(line):
            where = int(found["line"])
            name = found["file"] or file
        elif found := _HERE.search(line):
            where, name = number, file
        else:
            continue
        out.append(Expected(where, found["message"].strip(), found["cure"].strip(), name))
    return out


def compare(wanted: Iterable[Expected], got: Iterable[Mistake]) -> list[str]:
    """What differs, in lines for people; empty when every expectation is met once and no more is said."""
    left = list(got)
    out = []
    for one in wanted:
        match = next((m for m in left if one.meets(m)), None)
        if match is None:
            out.append(f"not reported: {one}")
        else:
            left.remove(match)
    return [*out, *(f"reported besides: {m}" for m in left)]


def broken_files(folder: Path) -> list[Path]:
    """The broken files of a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file())


def expected_of_catalog(root: Path) -> list[Expected]:
    """The mistakes that all files of a broken catalog announce; JSON files do so in expected.txt."""
    out = []
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".yaml", ".yml", ".md", ".txt")):
        out += expected(path.read_text("utf-8"), path.relative_to(root).as_posix())
    return out
