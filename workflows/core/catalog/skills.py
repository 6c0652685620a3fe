"""Skill folders: SKILL.md with its standard frontmatter, config.yaml, handlers; the registry's overlay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflows.core.errors import did_you_mean, shown_path
from workflows.core.models.skill import Frontmatter, Handler, RegisteredSkill, SkillConfig, SkillRegistry
from workflows.core.plans.plan import FilePlan, HandlerPlan
from workflows.core.read.documents import parse_source
from workflows.core.read.files import read_file, read_text
from workflows.core.read.findings import Findings, find_files, has_entry, is_file, is_inside
from workflows.core.read.source import Key, Source, Unreadable
from workflows.core.read.validation import read_model
from workflows.core.refs import digest, digest_bytes
from workflows.core.tools.handlers import SignatureError, inspect_handler, tool_name

STANDARD_KEYS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
MAX_FILE = 2 * 1024 * 1024
MAX_TRACKED = 64 * 1024 * 1024


@dataclass(frozen=True)
class CatalogSkill:
    """A skill as the catalog holds it: folder facts with the registry's values over them."""

    id: str
    name: str
    description: str
    folder: str
    source: Source
    version: str = ""
    owner: str = "system"
    visibility: str = "public"
    timeout: float | None = None
    memory: int | None = None
    gpu: str = "none"
    files: tuple[FilePlan, ...] = ()
    handlers: tuple[HandlerPlan, ...] = ()
    available: bool = True
    """False for an entry of the registry without a folder."""

    @property
    def digest(self) -> str:
        """Of the tracked files: paths and contents."""
        return digest([[f.path, f.sha256] for f in self.files])


def load_skills(
    root: Path, registry: tuple[Source, SkillRegistry] | None, findings: Findings
) -> dict[str, CatalogSkill]:
    """Every skill below skills/ and of the registry, by id."""
    entries: dict[str, tuple[Source, Key, RegisteredSkill]] = {}
    if registry is not None:
        for index, entry in enumerate(registry[1].skills):
            place: Key = ("skills", index)
            if entry.id in entries:
                findings.error(
                    registry[0], (*place, "id"), f"the skill '{entry.id}' stands twice", "keep one entry"
                )
                continue
            entries[entry.id] = (registry[0], place, entry)
    out: dict[str, CatalogSkill] = {}
    for folder in _find_folders(root, entries, findings):
        skill_id, path = folder
        skill = _load_folder(root, skill_id, path, entries.get(skill_id), findings)
        if skill is not None:
            out[skill_id] = skill
    for skill_id, (source, place, entry) in entries.items():
        if skill_id not in out and not any(m.file.startswith(f"skills/{skill_id}/") for m in findings.errors):
            findings.warn(
                source,
                (*place, "id"),
                f"the skill '{skill_id}' has no folder; agents are told its name only",
                f"add skills/{skill_id}/SKILL.md",
            )
            out[skill_id] = CatalogSkill(
                id=skill_id,
                name=entry.name or skill_id,
                description=entry.name or skill_id,
                folder="",
                source=source,
                available=False,
                **_registry_fields(entry),
            )
    return out


def _registry_fields(entry: RegisteredSkill | None) -> dict[str, Any]:
    if entry is None:
        return {}
    needs = entry.resource_requirements
    return {
        "version": entry.version or "",
        "owner": entry.owner,
        "visibility": entry.visibility,
        "timeout": needs.timeout,
        "memory": needs.memory,
        "gpu": needs.gpu,
    }


def _find_folders(
    root: Path, entries: Mapping[str, tuple[Source, Key, RegisteredSkill]], findings: Findings
) -> list[tuple[str, Path]]:
    """Skill ids with their folders: found below skills/, or named by `location`."""
    base = root / "skills"
    found = (
        {str(f.parent.relative_to(base)): f.parent for f in find_files(root, base, ("SKILL.md",), findings)}
        if base.is_dir()
        else {}
    )
    for skill_id, (source, place, entry) in entries.items():
        if entry.location is None:
            continue
        folder = _resolve_location(root, entry.location)
        if folder is None or not is_inside(root, folder):
            findings.error(
                source,
                (*place, "location"),
                "the location lies outside the catalog",
                f"write /workspace/skills/{skill_id}",
            )
        elif is_file(folder / "SKILL.md") and skill_id not in found:
            found = {k: v for k, v in found.items() if v != folder} | {skill_id: folder}
    return sorted(found.items())


def _resolve_location(root: Path, written: str) -> Path | None:
    """`/workspace/skills|agents|orchestrator/...` means the catalog; other absolute paths are not read."""
    if written.startswith("/workspace/"):
        return root / written.removeprefix("/workspace/")
    return None if written.startswith("/") else root / written


def _load_folder(
    root: Path,
    skill_id: str,
    folder: Path,
    entry: tuple[Source, Key, RegisteredSkill] | None,
    findings: Findings,
) -> CatalogSkill | None:
    file = folder / "SKILL.md"
    source, head = _read_frontmatter(root, file, findings)
    if source is None or head is None:
        return None
    if head.name != folder.name:
        findings.error(
            source,
            ("name",),
            f"the name must be the folder's: '{folder.name}'",
            f"write `name: {folder.name}`",
        )
        return None
    config_source, config = _read_config(root, folder, findings)
    values = _registry_fields(entry[2] if entry else None)
    if config.version and values.get("version") and config.version != values["version"]:
        findings.warn(
            source,
            (),
            f"version {values['version']} in the registry, {config.version} in config.yaml; "
            "the registry's is used",
            "make the two equal",
        )
    values["version"] = values.get("version") or config.version or head.metadata.get("version", "")
    values["timeout"] = values.get("timeout") or config.timeout
    declared = config.handlers
    told: tuple[Source, Key] = (config_source, ("handlers",))
    if declared is None and entry is not None:
        declared, told = entry[2].handlers, (entry[0], (*entry[1], "handlers"))
    return CatalogSkill(
        id=skill_id,
        name=(entry[2].name if entry and entry[2].name else head.metadata.get("title", head.name)),
        description=head.description,
        folder=shown_path(folder, root),
        source=source,
        files=_list_files(root, folder, source, findings),
        handlers=_load_handlers(root, skill_id, folder, declared, told, findings),
        **values,
    )


def _read_frontmatter(root: Path, file: Path, findings: Findings) -> tuple[Source | None, Frontmatter | None]:
    name = shown_path(file, root)
    empty = Source(name, None)
    if not is_inside(root, file):
        findings.error(empty, (), "the file lies outside the catalog", "copy it into the catalog")
        return None, None
    try:
        body = read_file(file, MAX_FILE)
    except OSError as fault:
        findings.error(empty, (), f"not readable: {fault.strerror}", "put a file of text in its place")
        return None, None
    parts = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        findings.error(
            empty, (), "SKILL.md has no frontmatter", "begin it with '---', name, description, '---'"
        )
        return None, None
    try:
        source = parse_source(b"\n" + parts[1], name)
    except Unreadable as fault:
        findings.errors += fault.mistakes
        return None, None
    if not isinstance(source.data, dict):
        findings.error(source, (), "the frontmatter holds no keys", "write `name:` and `description:`")
        return None, None
    for key in [k for k in source.data if k not in STANDARD_KEYS]:
        findings.warn(
            source,
            (key,),
            f"'{key}' is no standard key of a skill; it is not read",
            did_you_mean(key, STANDARD_KEYS),
        )
    known = {k: v for k, v in source.data.items() if k in STANDARD_KEYS}
    value, mistakes = read_model(Frontmatter, Source(name, known, source.marks, source.key_marks))
    findings.errors += mistakes
    return source, value


def _read_config(root: Path, folder: Path, findings: Findings) -> tuple[Source, SkillConfig]:
    file = folder / "config.yaml"
    read = findings.read(root, file, SkillConfig) if has_entry(file) else None
    return read or (Source(shown_path(file, root), None), SkillConfig())


def _list_files(root: Path, folder: Path, source: Source, findings: Findings) -> tuple[FilePlan, ...]:
    """Tracked files: all but hidden ones and bytecode."""
    out = []
    for file in sorted(folder.rglob("*")):
        relative = file.relative_to(folder)
        if any(p.startswith(".") or p == "__pycache__" for p in relative.parts):
            continue
        if file.is_dir():
            if file.is_symlink():
                findings.error(
                    source,
                    (),
                    f"{relative} is a linked folder and is not read",
                    "copy the folder into the skill",
                )
            continue
        if file.suffix == ".pyc" or (file != folder / "SKILL.md" and _is_in_nested_skill(folder, file)):
            continue
        if not is_inside(root, file) or not file.exists():
            findings.error(
                source, (), f"{relative} leads outside the catalog", "copy the file into the skill"
            )
            continue
        try:
            body = read_file(file, MAX_TRACKED)
        except OSError as fault:
            cure = "keep large data out of the skill; steps take it as an input"
            findings.error(source, (), f"{relative} is not readable: {fault.strerror}", cure)
            continue
        out.append(FilePlan(path=relative.as_posix(), sha256=digest_bytes(body), size=len(body)))
    return tuple(out)


def _is_in_nested_skill(folder: Path, file: Path) -> bool:
    return any((p / "SKILL.md").exists() for p in file.parents if p != folder and p.is_relative_to(folder))


def _load_handlers(
    root: Path,
    skill_id: str,
    folder: Path,
    declared: tuple[Handler, ...] | None,
    told: tuple[Source, Key],
    findings: Findings,
) -> tuple[HandlerPlan, ...]:
    files = {f.stem: f for f in sorted((folder / "handlers").glob("*.py")) if not f.stem.startswith("_")}
    if declared is None:
        declared = tuple(Handler(name=name) for name in files)
    out = []
    for index, handler in enumerate(declared):
        file = files.get(handler.name)
        if file is None:
            findings.error(
                told[0],
                (*told[1], index),
                f"the handler '{handler.name}' has no file handlers/{handler.name}.py",
                did_you_mean(handler.name, files) or f"add handlers/{handler.name}.py",
            )
            continue
        plan = _load_handler(root, skill_id, folder, file, handler, findings)
        if plan is not None:
            out.append(plan)
    return tuple(out)


def _load_handler(
    root: Path, skill_id: str, folder: Path, file: Path, handler: Handler, findings: Findings
) -> HandlerPlan | None:
    source = Source(shown_path(file, root), None)
    if not is_inside(root, file):
        findings.error(source, (), "the file lies outside the catalog", "copy it into the catalog")
        return None
    try:
        spec = inspect_handler(read_text(file, MAX_FILE), handler.name)
    except SignatureError as fault:
        findings.error(Source(source.file, None, {(): (fault.line, 1)}), (), fault.message, fault.cure)
        return None
    except (OSError, UnicodeDecodeError):
        findings.error(source, (), "not readable as UTF-8 text", "save the file as UTF-8")
        return None
    return HandlerPlan(
        name=tool_name(skill_id, handler.name),
        handler=handler.name,
        file=file.relative_to(folder).as_posix(),
        description=spec.description,
        input_schema=spec.input_schema,
        documents=spec.documents,
        effect=handler.effect,
    )
