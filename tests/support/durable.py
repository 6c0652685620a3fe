"""A person with a catalog of steps that leave a mark in a file, for runs that wait, end and go on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.catalogs import make_catalog
from tests.support.command import Answer, User

MARK = '''"""Marks."""

from pathlib import Path


def mark(file: str, text: str, unless: str = "") -> dict[str, str]:
    """Append a line to a file.

    Args:
        file: The file.
        text: The line.
        unless: A file that makes it fail while it is there.
    """
    with Path(file).open("a") as marks:
        marks.write(f"{text}\\n")
    if unless and Path(unless).exists():
        raise ValueError(f"{unless} is in the way")
    return {"text": text}
'''
HOLD = '''"""Holds."""

import time
from pathlib import Path


def hold(file: str, text: str, until: str) -> dict[str, str]:
    """Append a line to a file, then wait for another one.

    Args:
        file: The file.
        text: The line.
        until: File to wait for.
    """
    with Path(file).open("a") as marks:
        marks.write(f"{text}\\n")
    while not Path(until).exists():
        time.sleep(0.02)
    return {"text": text}
'''
CONFIG = """\
handlers:
  - {name: count, effect: none}
  - {name: mark, effect: idempotent}
  - {name: hold, effect: none}
"""


@dataclass
class Desk:
    """Somebody with a catalog of their own; `marks` is what its steps wrote."""

    user: User
    catalog: Path

    @classmethod
    def make(cls, user: User) -> Desk:
        """An empty one in the user's folder: two agents, and the handlers `mark` and `hold`."""
        catalog = make_catalog(user.folder / "catalog")
        tool = catalog / "skills" / "shared" / "tool"
        (tool / "handlers" / "mark.py").write_text(MARK)
        (tool / "handlers" / "hold.py").write_text(HOLD)
        (tool / "config.yaml").write_text(CONFIG)
        return cls(user, catalog)

    def write(self, name: str, *steps: str, also: str = "") -> None:
        """Write or replace a workflow."""
        text = f"workflow: {name}\n{also}steps:\n" + "".join(steps)
        (self.catalog / f"{name}.yaml").write_text(text)

    def step(self, step_id: str, *more: str, text: str = "", unless: str = "", until: str = "") -> str:
        """A step that marks its id (or `text`), fails while `unless` is there, or holds `until` is there."""
        handler = "hold" if until else "mark"
        args = {"file": str(self.file), "text": text or step_id}
        args |= {"unless": str(self.path(unless))} if unless else {}
        args |= {"until": str(self.path(until))} if until else {}
        own = [f"id: {step_id}", "skill: shared/tool", f"handler: {handler}", f"args: {json.dumps(args)}"]
        return "  - " + "\n    ".join([*own, "output: {type: json}", *more]) + "\n"

    def path(self, name: str) -> Path:
        """A file of the user's folder."""
        return self.user.folder / name

    @property
    def file(self) -> Path:
        """Where steps leave their marks."""
        return self.path("marks")

    @property
    def marks(self) -> list[str]:
        """What steps wrote, in order."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    def run(self, name: str, *words: str) -> Answer:
        """`phaseline run`, offline, the run named after the workflow."""
        return self.user.phaseline(*self.words(name, *words))

    def words(self, name: str, *words: str) -> list[str]:
        """The words of `run`."""
        return ["--catalog", str(self.catalog), "run", name, "--offline", "--run-id", name, *words]

    def json(self, *words: str, code: int = 0) -> Any:
        """The document of a command that ends with that code."""
        answer = self.user.phaseline(*words, "--json")
        assert answer.code == code, answer
        return answer.document

    def wait_id(self, run_id: str, step: str = "") -> str:
        """The open wait of a run, of that step if one is named."""
        waits = self.json("inbox", "--run", run_id)["waits"]
        (found,) = [w["wait_id"] for w in waits if step in ("", w["step"])]
        return str(found)


def eventually(holds: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true thing that `holds` gives."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def statuses(document: Any) -> dict[str, str]:
    """Status by step id."""
    return {s["id"]: s["status"] for s in document["steps"]}
