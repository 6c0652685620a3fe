"""Keys of a step that do not go together, steps that can never run, schemas that are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workflows.core.errors import did_you_mean
from workflows.core.findings import Findings
from workflows.core.models.workflow import Step
from workflows.core.source import Key, Source

SCHEMA_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


def check_shape(source: Source, at: Key, step: Step, findings: Findings) -> None:
    """Records what is wrong with the combination of a step's keys."""
    if len(step.doers) != 1:
        _doers(source, at, step, findings)
    for place, message, cure in _conflicts(at, step):
        findings.error(source, place, message, cure, of_key=True)


def _doers(source: Source, at: Key, step: Step, findings: Findings) -> None:
    if not step.doers:
        findings.error(
            source,
            at,
            f"the step '{step.id}' has nobody to do it",
            "add `agent:`, `agents:`, `skill:` or `workflow:`",
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
    doers = set(step.doers)
    doer = step.doers[0] if step.doers else ""
    takes_args = ("skill", "mcp", "process", "workflow")
    if step.args and doers and not doers & set(takes_args):
        others = "use `prompt`, or one of " + ", ".join(takes_args)
        yield (*at, "args"), f"`args` does nothing beside `{doer}`", others
    if step.handler and doers and "skill" not in doers:
        yield (*at, "handler"), "`handler` goes with `skill` only", "remove it"
    if step.prompt and doers and doers <= set(takes_args):
        yield (*at, "prompt"), f"`prompt` does nothing beside `{doer}`", "use `args`, or an agent"
    if step.skills is not None and doers and not doers & {"agent", "agents", "phase"}:
        yield (*at, "skills"), f"`skills` does nothing beside `{doer}`", "remove it"
    if step.merge and doers and "agents" not in doers:
        yield (*at, "merge"), "`merge` goes with `agents` only", "remove it"
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


def check_schema(source: Source, place: Key, schema: Any, findings: Findings) -> None:
    """Records what makes a JSON Schema unusable: wrong types, a `required` that no property has."""
    if not isinstance(schema, dict):
        findings.error(source, place, "a schema is a map of keys", "write `type: object` and `properties:`")
        return
    written = schema.get("type")
    for name in written if isinstance(written, list) else [written]:
        if name is not None and name not in SCHEMA_TYPES:
            findings.error(
                source, (*place, "type"), f"'{name}' is no JSON type", did_you_mean(str(name), SCHEMA_TYPES)
            )
    properties = schema.get("properties")
    if properties is not None and not isinstance(properties, dict):
        findings.error(
            source, (*place, "properties"), "should be a map of properties", "write `name: {type: string}`"
        )
        return
    _required(source, place, schema, properties or {}, findings)
    for name, inner in (properties or {}).items():
        check_schema(source, (*place, "properties", name), inner, findings)
    if "items" in schema and not isinstance(schema["items"], bool):
        check_schema(source, (*place, "items"), schema["items"], findings)


def _required(
    source: Source, place: Key, schema: dict[str, Any], properties: dict[str, Any], findings: Findings
) -> None:
    required = schema.get("required", [])
    if not isinstance(required, (list, tuple)):
        findings.error(source, (*place, "required"), "should be a list of names", "write `required: [name]`")
        return
    for name in required:
        if properties and name not in properties:
            findings.error(
                source,
                (*place, "required"),
                f"no property is called '{name}'",
                did_you_mean(str(name), properties),
            )
