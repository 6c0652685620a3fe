"""The tools that skills give an agent step: their texts on demand, and their handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from blocks.storage.artifacts import ArtifactStore
from tasks.context import RunContext
from tasks.effects.calls import NotPerformed, Unsure
from tasks.handlers.faults import HandlerError, HandlerFault, HandlerOutput
from tasks.handlers.pinned_code import Code, CodeChanged, copy_pinned
from tasks.handlers.process import run_handler
from tasks.outputs.stored import keep_large
from tasks.secrets import scrub_text, scrub_value, without_secrets
from tasks.tools import Tool, ToolError, ToolResult
from tasks.values import DocumentFile, Value
from workflows.core.errors import PhaselineError
from workflows.core.plans.plan import HandlerPlan, SkillPlan
from workflows.core.read.files import read_file
from workflows.core.refs import digest_bytes
from workflows.core.tools.built_in.read_skill import READ_SKILL
from workflows.core.tools.handlers import with_documents

HANDLER_TIMEOUT = 120.0
"""Seconds of one call when neither the registry nor the binding says."""

_OURS = ("SKILL.md", "config.yaml")
"""Files of a skill's folder that no handler needs: a run goes on where they were reworded."""
_TEXT = (".md", ".txt", ".json", ".yaml", ".yml", ".csv", ".py", ".toml", ".html", ".xml", ".sh")


class SkillChanged(PhaselineError):
    """A skill's file is not the one that was compiled into the plan."""

    final = True
    before_sending = True
    """Nothing was called yet."""


def skill_tools(
    skills: Sequence[SkillPlan], values: Mapping[str, Value], context: RunContext, step: str
) -> list[Tool]:
    """One tool per handler that the step can call."""
    out = []
    names = [n for n, v in values.items() if v.ref is not None or v.plain is not None]
    for skill in skills:
        for handler in skill.handlers if skill.folder else ():
            tool = _handler_tool(skill, handler, names, values, context, step)
            if tool is not None:
                out.append(tool)
    return out


def without_known_secrets(tool: Tool, context: RunContext) -> Tool:
    """The tool with no known secret in what it gives: a result is sent to the model's provider."""

    async def run(arguments: dict[str, Any]) -> ToolResult:
        try:
            result = await tool.run(arguments)
        except ToolError as fault:
            raise type(fault)(scrub_text(str(fault), context.secrets)) from None
        return replace(result, content=scrub_value(result.content, context.secrets))

    return replace(tool, run=run)


def read_skill_tool(skills: Sequence[SkillPlan], root: Path) -> Tool:
    """The tool that gives the texts of skills, as they were when the plan was made."""
    by_id = {s.id: s for s in skills}

    async def run(arguments: dict[str, Any]) -> ToolResult:
        skill = by_id[arguments["skill"]]
        name = str(arguments.get("file") or "SKILL.md")
        files = {f.path: f for f in skill.files if Path(f.path).suffix in _TEXT}
        if name not in files:
            raise ToolError(f"{skill.id} has no file {name}. It has: {', '.join(sorted(files))}.")
        try:
            body = read_file(root / skill.folder / name)
        except OSError:
            raise _changed_fault(skill, name) from None
        if digest_bytes(body) != files[name].sha256:
            raise _changed_fault(skill, name)
        return ToolResult(body.decode("utf-8-sig", "replace"))

    schema = READ_SKILL.schema_with(skill={"enum": list(by_id)})
    return Tool(READ_SKILL.name, READ_SKILL.description, schema, run, "none")


def _changed_fault(skill: SkillPlan, name: str) -> SkillChanged:
    return SkillChanged(
        f"{skill.folder}/{name} changed while the run was going on",
        "start the run again, so that it is planned with the changed file",
    )


def _handler_tool(
    skill: SkillPlan,
    handler: HandlerPlan,
    names: Sequence[str],
    values: Mapping[str, Value],
    context: RunContext,
    step: str,
) -> Tool | None:
    try:
        schema = with_documents(handler.input_schema, handler.documents, names)
    except ValueError:
        return None  # it needs a document and the step has none

    async def run(arguments: dict[str, Any]) -> ToolResult:
        try:
            result = await call_handler(skill, handler, arguments, values, context)
        except HandlerFault as fault:
            raise _as_told(fault) from None
        return ToolResult(await keep_large(result, handler.name, context, step))

    return Tool(handler.name, handler.description, schema, run, handler.effect)


def _as_told(fault: HandlerFault) -> NotPerformed | Unsure:
    """What a call without a result says of what it did: nothing, or that nobody knows."""
    if fault.before_sending:
        return NotPerformed(str(fault))
    # One that raised, or gave what is no result, most likely does so again.
    return Unsure(fault.message, passing=not isinstance(fault, (HandlerError, HandlerOutput)))


async def call_handler(
    skill: SkillPlan,
    handler: HandlerPlan,
    arguments: Mapping[str, Any],
    values: Mapping[str, Value],
    context: RunContext,
) -> Any:
    """Runs a handler in its own process. Document arguments are names among `values`. Raises HandlerFault.

    Neither its result nor its fault holds a known secret.
    """
    documents: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for name, value in arguments.items():
        if name in handler.documents and value is not None:
            documents[name] = await _documents(value, values, context.store)
        else:
            plain[name] = value
    with without_secrets(context.secrets):
        result = await run_handler(
            code=_code(skill, handler, context.catalog_root),
            function=handler.handler,
            arguments=plain,
            documents=documents,
            timeout=skill.timeout or HANDLER_TIMEOUT,
            memory=skill.memory,
        )
    return scrub_value(result, context.secrets)


async def _documents(
    value: Any, values: Mapping[str, Value], store: ArtifactStore
) -> DocumentFile | list[DocumentFile]:
    if isinstance(value, (list, tuple)):
        return [await _document(str(v), values, store) for v in value]
    return await _document(str(value), values, store)


async def _document(name: str, values: Mapping[str, Value], store: ArtifactStore) -> DocumentFile:
    if name not in values:
        raise NotPerformed(f"There is no document named {name}. There are: {', '.join(values)}.")
    return await values[name].document(store)


def _code(skill: SkillPlan, handler: HandlerPlan, root: Path) -> Code:
    """The code that runs is the code that was planned: everything the skill tracks but what only we read."""
    files = [(file.path, file.sha256) for file in skill.files if file.path not in _OURS]

    def copy(target: Path) -> Path:
        try:
            copy_pinned(root / skill.folder, files, target)
        except CodeChanged as changed:
            raise _changed_fault(skill, str(changed)) from None
        if handler.file not in {path for path, _ in files}:
            raise _changed_fault(skill, handler.file)
        return target / handler.file

    return Code(skill.folder, copy)
