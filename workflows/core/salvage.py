"""What is left of a workflow whose keys are wrong, so that its other mistakes are reported in the same go.

Wrong keys are taken out and the rest is compiled. Nothing is ever run from it: it only yields mistakes, and
those that may merely follow from what was taken out are left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from workflows.core.errors import Mistake
from workflows.core.models.workflow import Workflow
from workflows.core.source import Key, Source
from workflows.core.validation import error_path

_ROUNDS = 4
_QUOTED = re.compile(r"'([^']*)'")


@dataclass(frozen=True)
class Salvaged:
    """The readable rest of a workflow: `steps` names those that lost something, `words` what they held."""

    source: Source
    workflow: Workflow
    steps: frozenset[str]
    words: frozenset[str]

    def independent(self, mistakes: Iterable[Mistake]) -> list[Mistake]:
        """The mistakes that do not follow from what was taken out."""
        return [m for m in mistakes if not self._follows(m)]

    def _follows(self, mistake: Mistake) -> bool:
        if mistake.file != self.source.file:
            return False
        place = re.match(r"(steps|finally)\[\d+\]", mistake.path)
        lost = place is not None and place[0] in self.steps
        return lost or not self.words.isdisjoint(_QUOTED.findall(mistake.message))


def salvage(source: Source) -> Salvaged | None:
    """The rest of a workflow file whose model was refused; None when too little is left."""
    if not isinstance(source.data, dict) or not isinstance(source.data.get("steps"), list):
        return None
    data = copy.deepcopy(source.data)
    steps: set[str] = set()
    words: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            workflow = Workflow.model_validate(data)
            return Salvaged(source, workflow, frozenset(steps), frozenset(words))
        except ValidationError as fault:
            for error in fault.errors(include_url=False):
                path = error_path(Workflow, Source(source.file, data), error["loc"])
                if not _mend(data, path, error["type"] == "missing", words):
                    return None
                if len(path) > 1:
                    steps.add(f"{path[0]}[{path[1]}]")
    return None


def _mend(data: dict[Any, Any], path: Key, missing: bool, words: set[str]) -> bool:
    """Takes a wrong value out; a step stays in its place under an id of its own.

    False when nothing would be left.
    """
    if not path or path == ("steps",) or path[0] == "workflow":
        return False
    steps = data.get(path[0])
    if path[0] not in ("steps", "finally") or len(path) == 1 or not isinstance(steps, list):
        words.update(_words(data.pop(path[0], None)))
        return True
    step = steps[int(path[1])]
    if len(path) == 2 or path[2] == "id" or missing:
        words.update(_words(step))
        steps[int(path[1])] = {"id": f"unreadable-{path[0]}-{path[1]}", "agent": "unreadable"}
    elif path[2] in step:
        words.update(_words(step.pop(path[2])))
    return True


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _words(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner)
    elif value is not None:
        yield str(value)
