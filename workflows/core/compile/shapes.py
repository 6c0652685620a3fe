"""Keys of a step that do not go together, steps that can never run, contracts that mislead."""

from __future__ import annotations

from collections.abc import Iterator

from workflows.core.compile.edges import shown_id
from workflows.core.doers.registry import DOERS, written_doers
from workflows.core.models.workflow import Step
from workflows.core.read.findings import Findings
from workflows.core.read.source import Key, Source


def check_shape(source: Source, at: Key, step: Step, findings: Findings) -> None:
    """Records what is wrong with the combination of a step's keys."""
    if len(step.doers) != 1:
        _report_doers(source, at, step, findings)
    for place, message, cure in _conflicts(at, step):
        findings.error(source, place, message, cure, of_key=True)
    _warn_panel(source, at, step, findings)


def _warn_panel(source: Source, at: Key, step: Step, findings: Findings) -> None:
    """A contract of data holds for each answer of a panel, while what it publishes holds them all."""
    output = step.output
    if step.agents is None or (output.schema_ is None and output.type not in ("json", "table")):
        return
    key = "schema" if output.schema_ is not None else "type"
    findings.warn(
        source,
        (*at, "output", key),
        f"the {key} holds for each member's answer; the merged output is "
        "{voices: [{agent, name, answer}, ...]}" + (" with `synthesis`" if _synthesises(step) else ""),
        "read the answers as `NAME.voices`, each under `answer`; or let a later step make one value of them",
    )


def _synthesises(step: Step) -> bool:
    return step.merge is not None and step.merge.agent is not None


def _report_doers(source: Source, at: Key, step: Step, findings: Findings) -> None:
    if not step.doers:
        findings.error(
            source,
            at,
            f"the step '{shown_id(step.id)}' has nobody to do it",
            "add `agent:`, `agents:`, `skill:`, `workflow:`, `approval:` or `await_event:`",
        )
        return
    both = " and ".join(f"`{d}`" for d in step.doers)
    findings.error(
        source,
        (*at, step.doers[1]),
        f"a step has one doer, this one has {both}",
        "keep one of them",
        of_key=True,
    )


def _conflicts(at: Key, step: Step) -> Iterator[tuple[Key, str, str]]:
    doers = written_doers(step)
    if len(doers) == 1 and doers[0].waits:
        return  # what goes with a wait is told in people
    doer = step.doers[0] if step.doers else ""
    if doers and len(doers) == len(step.doers):  # of those to come it is not known what they take
        yield from _unused_keys(at, step, doer, frozenset[str]().union(*(d.takes for d in doers)))
    if step.ttl is not None and step.cache != "always":
        yield (*at, "ttl"), "`ttl` goes with `cache: always` only", "remove it, or write `cache: always`"
    if step.for_each is not None and step.repeat is not None:
        yield (
            (*at, "repeat"),
            "`repeat` and `for_each` cannot stand in one step",
            "move one into a workflow step",
        )
    if (step.for_each is not None or step.repeat is not None) and doer == "agents":
        key = "for_each" if step.for_each is not None else "repeat"
        yield (
            (*at, key),
            f"`{key}` on a panel is not available yet",
            "put the panel into a workflow of its own",
        )
    if step.repeat is not None and doer == "workflow":
        yield (*at, "repeat"), "`repeat` on a workflow is not available yet", "repeat a step inside it"
    if step.for_each == ():
        yield (
            (*at, "for_each"),
            "the step can never run: its list is empty",
            "give it items or remove the step",
        )
    if step.when is False or (
        isinstance(step.when, str) and step.when.strip().lower() in ("false", "0", "none")
    ):
        yield (
            (*at, "when"),
            "the step can never run: `when` is always false",
            "write a condition or remove the step",
        )


def _unused_keys(at: Key, step: Step, doer: str, takes: frozenset[str]) -> Iterator[tuple[Key, str, str]]:
    """Keys that say something to another kind of doer than the step's."""
    if step.args and "args" not in takes:
        others = "use `prompt`, or one of " + ", ".join(_taking("args"))
        yield (*at, "args"), f"`args` does nothing beside `{doer}`", others
    if step.handler and "handler" not in takes:
        yield (*at, "handler"), "`handler` goes with `skill` only", "remove it"
    if step.prompt and "prompt" not in takes:
        yield (*at, "prompt"), f"`prompt` does nothing beside `{doer}`", "use `args`, or an agent"
    if step.skills is not None and "skills" not in takes:
        yield (*at, "skills"), f"`skills` does nothing beside `{doer}`", "remove it"
    if step.merge and "merge" not in takes:
        yield (*at, "merge"), "`merge` goes with `agents` only", "remove it"
    if step.effect_key and "effect_key" not in takes:
        cure = "set it on the steps inside that act"
        yield (*at, "effect_key"), f"`effect_key` does nothing beside `{doer}`", cure
    if step.people is not None and "people" not in takes and step.undo is None:
        cure = "set it on the steps inside that act"
        if "skills" in takes:
            cure = "write it below the tool in the agent's tools-config.json"
        yield (*at, "people"), "`people` goes with `skill` or `undo`", cure


def _taking(key: str) -> list[str]:
    return [doer.key for doer in DOERS.values() if key in doer.takes]
