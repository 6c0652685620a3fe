"""Which files Python processes open in a folder, and what they import: told by the interpreter itself."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HOOK = '''"""Written by a test: loaded by every Python process that has this folder on its path."""

import json
import os
import sys

_FOLDERS = tuple(os.environ.get("WATCHED_FOLDERS", "").split(os.pathsep))
_OUTPUT = os.open(os.environ.get("WATCHED_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _tell(**what):
    os.write(_OUTPUT, (json.dumps({"argv": sys.argv, **what}) + "\\n").encode())


_SEEN = set()


def _look(event, args):
    if event == "import" and (first := args[0].partition(".")[0]) not in _SEEN:
        _SEEN.add(first)
        _tell(imported=[first])
    if event == "open" and isinstance(args[0], (str, bytes)):
        try:
            path = os.path.abspath(os.fsdecode(args[0]))
        except OSError:
            return
        if os.path.dirname(path) in _FOLDERS:
            _tell(opened=path)


sys.addaudithook(_look)
'''


@dataclass(frozen=True)
class Watch:
    """Watches what lies directly in some folders."""

    log: Path
    hook: Path

    @classmethod
    def make(cls, place: Path) -> Watch:
        """What it needs is kept in `place`."""
        hook = place / "hook"
        hook.mkdir(parents=True)
        (hook / "sitecustomize.py").write_text(_HOOK)
        return cls(place / "log", hook)

    def variables(self, *folders: Path, path: str = "") -> dict[str, str]:
        """What makes processes tell; `path` is the PYTHONPATH they have anyway."""
        return {
            "WATCHED_FOLDERS": os.pathsep.join(str(f) for f in folders),
            "WATCHED_LOG": str(self.log),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self.hook), path))),
        }

    def forget(self) -> None:
        """Begins anew."""
        self.log.unlink(missing_ok=True)

    def opened(self) -> set[str]:
        """Names of the files that were opened."""
        return {Path(entry["opened"]).name for entry in self._entries() if "opened" in entry}

    def imported(self) -> set[str]:
        """First parts of the modules that the processes have imported, forked ones too."""
        return {name for entry in self._entries() for name in entry.get("imported", ())}

    def _entries(self) -> list[dict[str, Any]]:
        lines = self.log.read_text("utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]
