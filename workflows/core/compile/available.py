"""Keys that can be written already, and do nothing yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from workflows.core.doers.registry import available_keys
from workflows.core.models.workflow import NOT_YET, Step, Workflow
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


def check_available(
    source: Source, workflow: Workflow, steps: Iterable[tuple[Key, Step]], findings: Findings
) -> None:
    """Records every key that is not available yet; `steps` with their places."""
    for place, key in _unavailable_keys(workflow, steps):
        findings.error(source, place, f"`{key}` is not available yet", "remove it for now", of_key=True)


def _unavailable_keys(workflow: Workflow, steps: Iterable[tuple[Key, Step]]) -> Iterator[tuple[Key, str]]:
    for key in NOT_YET["workflow"]:
        if getattr(workflow, key) is not None:
            yield (key,), key
    for at, step in steps:
        for key in (key for key in NOT_YET["step"] if key not in available_keys()):
            if getattr(step, key) not in (None, ()):
                yield (*at, key), key
        for key in NOT_YET["undo"] if step.undo is not None else ():
            if getattr(step.undo, key) is not None:
                yield (*at, "undo", key), f"undo.{key}"
        for key in NOT_YET["output"]:
            if getattr(step.output, key) not in (None, ()):
                yield (*at, "output", key), f"output.{key}"
