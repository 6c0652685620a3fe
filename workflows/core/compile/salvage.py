"""What is left of a workflow whose keys are wrong, so that its other mistakes are reported in the same go.

Wrong values are taken out, each as deep as it stands, and the rest is compiled. Nothing is ever run from it:
it only yields mistakes. Those that may merely follow from what was taken out are left out: they name an id,
an output or an input that went with it, or speak of the key that is gone.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from workflows.core.compile.edges import MADE_UP, default_name
from workflows.core.errors import Mistake
from workflows.core.models.workflow import DOERS, Step, Workflow
from workflows.core.read.source import Key, Source, shown_key
from workflows.core.read.validation import error_path

_ROUNDS = 4
_QUOTED = re.compile(r"'([^']*)'")
_STEP = re.compile(r"(steps|finally)\[\d+\]")
_PARTS = ("steps", "finally")
_NO_ORDER = "does not come before this"
_FOLLOWS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(DOERS, ("has nobody to do it",)),
    "handler": ("which handler?",),
    "args": ("is missing",),
    "for_each": ("'item'", "'index'"),
    "repeat": ("'previous'", "'iteration'"),
}
"""What is said of a step without a key, beside what names the key itself."""


@dataclass(frozen=True)
class Salvaged:
    """The readable rest of a workflow, and what was taken out of it."""

    source: Source
    workflow: Workflow
    gone: _Gone

    def independent(self, mistakes: Iterable[Mistake]) -> list[Mistake]:
        """The mistakes that do not follow from what was taken out."""
        return [m for m in mistakes if m.file != self.source.file or not self.gone.explains(m)]


def salvage(source: Source) -> Salvaged | None:
    """The rest of a workflow file whose model was refused; None when too little is left."""
    if not isinstance(source.data, dict) or not isinstance(source.data.get("steps"), list):
        return None
    gone = _Gone(copy.deepcopy(source.data))
    for _ in range(_ROUNDS):
        try:
            workflow = Workflow.model_validate(gone.data)
        except ValidationError as fault:
            for error in fault.errors(include_url=False):
                path = error_path(Workflow, Source(source.file, gone.data), error["loc"])
                if not gone.take(path, error["type"]):
                    return None
        else:
            return Salvaged(source, gone.with_made_up_ids(workflow), gone)
    return None


@dataclass
class _Gone:
    """The data of a workflow, and what was taken out of it so far."""

    data: dict[Any, Any]
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Keys by the place of their step; a misspelt one as what it was meant to be."""
    places: set[str] = field(default_factory=set)
    """Places of which only a part is left: what is said of them may follow."""
    words: set[str] = field(default_factory=set)
    """Ids, output names and input names that nobody has any more."""

    def explains(self, mistake: Mistake) -> bool:
        """Whether a mistake may follow from what was taken out."""
        if not self.words.isdisjoint(_QUOTED.findall(mistake.message)):
            return True
        if any(mistake.path == p or mistake.path.startswith((f"{p}.", f"{p}[")) for p in self.places):
            return True
        order = any(keys & {"depends_on", "inputs"} for keys in self.keys.values())
        if order and _NO_ORDER in mistake.message:
            return True
        step = _STEP.match(mistake.path)
        keys = self.keys.get(step[0], set()) if step else set()
        return any(f"`{k}" in mistake.message or _follows_from(k, mistake.message) for k in keys)

    def take(self, path: Key, kind: str) -> bool:
        """Takes a wrong value out (`kind` is pydantic's); False when nothing would be left."""
        if path == ("steps",):  # too few are left, which those that are wrong themselves explain
            return kind == "too_short" and bool(self.data["steps"])
        if len(path) > 1 and path[0] in _PARTS and isinstance(self.data.get(path[0]), list):
            self._take_of_step(path[:2], path[2:], missing=kind == "missing")
        elif path == ("workflow",):
            self.data["workflow"] = "unreadable"
        elif path:
            self._remove(self.data, (), path, missing=kind == "missing")
        return bool(path)

    def with_made_up_ids(self, workflow: Workflow) -> Workflow:
        """The workflow with ids that nobody can have written in place of those that were wrong."""
        renamed = {
            part: tuple(
                s.model_copy(update={"id": MADE_UP + s.id}) if s.id == _placeholder(key, n) else s
                for n, s in enumerate(getattr(workflow, part))
            )
            for part, key in (("steps", "steps"), ("finally_", "finally"))
        }
        return workflow.model_copy(update=renamed)

    def _take_of_step(self, at: Key, inside: Key, *, missing: bool) -> None:
        """A step stays in its place, without what is wrong in it."""
        steps, number = self.data[at[0]], int(at[1])
        step = steps[number]
        if not inside or not isinstance(step, dict):
            self.words.update(_names_of_step(step))
            self.places.add(shown_key(at))
            steps[number] = {"id": _placeholder(at[0], number), "agent": "unreadable"}
        elif inside == ("id",):
            if not missing:
                self.words.update(_names("id", step["id"]))
            step["id"] = _placeholder(at[0], number)
            self.keys.setdefault(shown_key(at), set()).add("id")
        else:
            self._remove(step, at, inside, missing=missing)

    def _remove(self, owner: dict[Any, Any], at: Key, inside: Key, *, missing: bool) -> None:
        """Takes one value out of a step, or of the workflow itself."""
        inside = inside[:-1] if missing else inside
        while len(inside) > 1 and not isinstance(_value(owner, inside[:-1]), dict):
            inside = inside[:-1]  # an entry of a list takes the list along: the others would move
        holder = _value(owner, inside[:-1])
        if not inside or not isinstance(holder, dict) or inside[-1] not in holder:
            return
        value = holder.pop(inside[-1])
        key = _nearest_key(str(inside[0]), Step if at else Workflow)
        self.keys.setdefault(shown_key(at), set()).add(key)
        if len(inside) == 1:
            self.words.update(_names(key, value) if at else _names_of_workflow(key, value))
        elif key == "inputs" and len(inside) == 2:
            self.words.add(str(inside[1]))
        elif key != "output":  # its schema says the same without its other keys
            self.places.add(shown_key((*at, *inside[:-1])))


def _placeholder(part: Any, number: int) -> str:
    return f"unreadable-{part}-{number}"


def _value(owner: Any, path: Key) -> Any:
    return Source("", owner).value(path)


def _follows_from(key: str, message: str) -> bool:
    return any(text in message for text in _FOLLOWS.get(key, ()))


def _nearest_key(key: str, model: type[BaseModel]) -> str:
    """The key itself, or the one it was meant to be; one that resembles none may have named the doer."""
    known = [info.alias or name for name, info in model.model_fields.items()]
    if key in known:
        return key
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.6)), "agent")


def _names_of_workflow(key: str, value: Any) -> Iterator[str]:
    if key == "inputs" and isinstance(value, (dict, list)):
        yield from map(str, value)
    for step in value if key in _PARTS and isinstance(value, list) else ():
        yield from _names_of_step(step)


def _names_of_step(step: Any) -> Iterator[str]:
    for key, value in step.items() if isinstance(step, dict) else ():
        yield from _names(_nearest_key(str(key), Step), value)


def _names(key: str, value: Any) -> Iterator[str]:
    """Ids, output names and input names in the value of a step's key."""
    if key == "id" and value is not None:
        yield from (str(value), default_name(str(value)))
    elif key == "expected_output" and value is not None:
        yield str(value)
    elif key in ("inputs", "depends_on"):
        yield from map(str, value if isinstance(value, list) else [value])
