"""Agent folders: config.yaml or package.yao, IDENTITY.md, SOUL.md, prompts, tools and hooks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from workflows.core.errors import shown_path
from workflows.core.models.agent import Agent, AgentFile, Manifest, Model, Prompt, ToolsConfig
from workflows.core.models.written import Written
from workflows.core.plans.plan import HookPlan
from workflows.core.read.files import FileTooLarge, NoRegularFile, read_file, read_text
from workflows.core.read.findings import Findings, find_files, has_entry, is_file, is_inside
from workflows.core.read.source import Key, Source
from workflows.core.read.validation import read_model
from workflows.core.refs import digest, digest_bytes
from workflows.core.text.cut_text import cut
from workflows.core.tools.rules import check_endpoints, check_tools

MAX_TEXT = 20_000
MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Characters of SOUL.md that reach a prompt; longer files are cut there."""

_FIELD = re.compile(r"[-*]\s*+([A-Za-z ]++)[:\uff1a](.*)")
_INLINE_SECRET = re.compile(r"://[^/\s:@]+:[^/\s@]+@")


@dataclass(frozen=True)
class CatalogAgent:
    """An agent as the catalog holds it."""

    config: Agent
    folder: str
    """Relative to the catalog's root, such as agents/architect."""
    source: Source
    identity: tuple[tuple[str, str], ...] = ()
    persona: str = ""
    """SOUL.md, or the system entries of prompts.yml."""
    tools: ToolsConfig = field(default_factory=ToolsConfig)
    tools_source: Source | None = None
    """tools-config.json; None when the folder has none."""
    hooks: tuple[HookPlan, ...] = ()
    rivals: tuple[str, ...] = ()
    """Folders of others with the same id: nobody knows whose rules are meant."""

    @property
    def id(self) -> str:
        """Its id."""
        return self.config.id

    @property
    def base(self) -> Key:
        """Where the agent stands in its file: below `agent:`, or at the top of a manifest."""
        return ("agent",) if isinstance(self.source.data, dict) and "agent" in self.source.data else ()

    @property
    def short_folder(self) -> str:
        """Below agents/, as skill owners name it."""
        return self.folder.removeprefix("agents/")


class _Prompts(Written):
    prompts: tuple[Prompt, ...] = ()


def load_agents(root: Path, findings: Findings) -> dict[str, CatalogAgent]:
    """Every agent below agents/, by id."""
    out: dict[str, CatalogAgent] = {}
    folder = root / "agents"
    if not folder.is_dir():
        return out
    for file in find_files(root, folder, ("config.yaml", "config.yml", "package.yao"), findings):
        if file.name == "package.yao" and (file.parent / "config.yaml").exists():
            continue
        agent = load_agent(root, file, findings)
        if agent is None:
            continue
        if agent.id in out:
            first = out[agent.id]
            findings.error(
                agent.source,
                ("agent", "id"),
                f"the agent id '{agent.id}' is taken by {first.source.file}",
                "give one of the two agents another id",
            )
            out[agent.id] = replace(first, rivals=(*first.rivals, agent.folder))
            continue
        out[agent.id] = agent
    return out


def load_agent(root: Path, file: Path, findings: Findings) -> CatalogAgent | None:
    """One agent from its config.yaml or package.yao; None when the file is wrong."""
    read = (
        _read_manifest(root, file, findings)
        if file.name == "package.yao"
        else _read_config(root, file, findings)
    )
    if read is None:
        return None
    source, config = read
    folder = file.parent
    identity = _read_identity(root, folder / "IDENTITY.md", findings)
    _compare_identity(source, config, identity, findings)
    _warn_settings(source, config, findings)
    if "agent" in (source.data or {}):
        check_endpoints(source, ("agent", "permissions"), config.permissions, findings)
    tools = _read_tools(root, folder / "tools-config.json", findings)
    return CatalogAgent(
        config=config,
        folder=shown_path(folder, root),
        source=source,
        identity=identity,
        persona=_read_persona(root, folder, source, findings),
        tools=tools[1],
        tools_source=tools[0],
        hooks=_read_hooks(root, folder, source, config, findings),
    )


def _read_config(root: Path, file: Path, findings: Findings) -> tuple[Source, Agent] | None:
    read = findings.read(root, file, AgentFile)
    return (read[0], read[1].agent) if read else None


def _read_manifest(root: Path, file: Path, findings: Findings) -> tuple[Source, Agent] | None:
    read = findings.read(root, file, Manifest)
    if read is None:
        return None
    source, manifest = read
    model = manifest.model or Model()
    if manifest.options.max_tokens:
        model = model.model_copy(update={"max_tokens": manifest.options.max_tokens})
    if manifest.options.temperature is not None:
        model = model.model_copy(update={"temperature": manifest.options.temperature})
    agent = Agent(
        id=str(file.parent.relative_to(root / "agents")).replace("\\", "/"),
        name=manifest.name,
        description=manifest.description,
        type=manifest.type,
        model=model,
        connector=manifest.connector,
        hooks=manifest.hooks,
        skills=manifest.skills,
        automated=manifest.automated,
        mentionable=manifest.mentionable,
    )
    return source, agent


def _read_text(root: Path, file: Path, findings: Findings) -> str | None:
    """The text of a file, empty when there is none; None when it was refused."""
    if not has_entry(file):
        return ""
    source = Source(shown_path(file, root), None)
    if not is_inside(root, file):
        findings.error(source, (), "the file lies outside the catalog", "copy it into the catalog")
        return None
    try:
        text = read_text(file, MAX_TEXT_BYTES)
    except (NoRegularFile, FileTooLarge) as fault:
        findings.error(source, (), f"not readable: {fault.strerror}", "put a file of text in its place")
        return None
    except (OSError, UnicodeDecodeError):
        findings.error(source, (), "not readable as UTF-8 text", "save the file as UTF-8")
        return None
    if len(text) > MAX_TEXT:
        findings.warn(
            source,
            (),
            f"longer than {MAX_TEXT} characters; the rest is not used",
            "move know-how into a skill",
        )
    return cut(text, MAX_TEXT).strip()


def _read_identity(root: Path, file: Path, findings: Findings) -> tuple[tuple[str, str], ...]:
    lines = (_read_text(root, file, findings) or "").splitlines()
    found = (field for line in lines if (field := _FIELD.fullmatch(line.strip())))
    return tuple((field[1].strip(), field[2].strip()) for field in found if field[2].strip())


def _compare_identity(
    source: Source, config: Agent, identity: tuple[tuple[str, str], ...], findings: Findings
) -> None:
    told = {k.lower(): v for k, v in identity}.get("id")
    if told and told != config.id:
        findings.warn(
            source,
            ("agent", "id"),
            f"IDENTITY.md says '{told}'; '{config.id}' of config.yaml is used",
            "make the two ids equal",
        )


def _warn_settings(source: Source, config: Agent, findings: Findings) -> None:
    base = ("agent",) if source.file.endswith((".yaml", ".yml")) else ()
    if config.model.temperature is not None:
        place = (*base, "model", "temperature") if base else ("options", "temperature")
        findings.warn(
            source,
            place,
            "current models take no temperature; it is not sent",
            "remove it, or use `thinking:`",
        )
    connection = config.memory.storage.connection_string or ""
    if _INLINE_SECRET.search(connection):
        place = (*base, "memory", "storage", "connection_string")
        mistake = source.mistake(
            place, "a password stands in the file", 'name it instead: "$ENV.NAME", and set NAME where it runs'
        )
        findings.warnings.append(replace(mistake, value=_INLINE_SECRET.sub("://***@", connection)))


def _read_persona(root: Path, folder: Path, source: Source, findings: Findings) -> str:
    soul = _read_text(root, folder / "SOUL.md", findings)
    for name in ("prompts.yml", "prompts.yaml"):
        if has_entry(folder / name):
            return "\n\n".join(p for p in (soul, _read_prompts(root, folder / name, findings)) if p)
    if soul == "":
        is_empty = is_file(folder / "SOUL.md")
        findings.warn(
            source,
            (),
            ("the agent's SOUL.md is empty" if is_empty else "the agent has no SOUL.md")
            + "; its name and description are all it is told",
            "write a SOUL.md",
        )
    return soul or ""


def _read_prompts(root: Path, file: Path, findings: Findings) -> str:
    source = findings.read_data(root, file)
    if source is None:
        return ""
    if not isinstance(source.data, list):
        findings.error(source, (), "should be a list of prompts", "write '- role: system' and '  content: |'")
        return ""
    wrapped = Source(
        source.file, {"prompts": source.data}, {("prompts", *k): v for k, v in source.marks.items()}
    )
    value, mistakes = read_model(_Prompts, wrapped)
    findings.errors += mistakes
    return "\n\n".join(p.content.strip() for p in value.prompts if p.role == "system") if value else ""


def _read_tools(root: Path, file: Path, findings: Findings) -> tuple[Source | None, ToolsConfig]:
    read = findings.read(root, file, ToolsConfig) if has_entry(file) else None
    if read is not None:
        check_tools(*read, findings)
    return read or (None, ToolsConfig())


def hook_sources(file: Path) -> dict[str, bytes]:
    """What a hook is made of: every Python file beside or below it, since it may import those, by path."""
    folder = file.parent
    files = sorted(f for f in folder.rglob("*.py") if f.is_file() and is_inside(folder, f))
    return {f.relative_to(folder).as_posix(): read_file(f) for f in files}


def hook_digest(name: str, sources: Mapping[str, bytes]) -> str:
    """What pins a hook: the name of its file and its sources."""
    return digest([name, *([path, digest_bytes(body)] for path, body in sources.items())])


def _read_hooks(
    root: Path, folder: Path, source: Source, config: Agent, findings: Findings
) -> tuple[HookPlan, ...]:
    out = []
    for event, written in (("create", config.hooks.create), ("next", config.hooks.next)):
        if written is None:
            continue
        base = ("agent", "hooks", event) if "agent" in (source.data or {}) else ("hooks", event)
        name, _, function = written.partition(":")
        file = folder / name
        if not function.isidentifier() or not name.endswith(".py"):
            findings.error(source, base, "not a hook", "write file.py:function")
        elif not is_file(file) or not is_inside(folder, file):
            findings.error(source, base, f"the agent's folder has no file {name}", "check the file's name")
        else:
            plan = HookPlan(
                event="create" if event == "create" else "next",
                file=name,
                function=function,
                sha256=hook_digest(file.name, hook_sources(file)),
            )
            out.append(plan)
    return tuple(out)
