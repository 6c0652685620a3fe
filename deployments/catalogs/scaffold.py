"""The files `phaseline new` writes. Each set passes `phaseline check` in the catalog it is made for."""

from __future__ import annotations

import re
from pathlib import Path

from workflows.core.catalog.agents import CatalogAgent
from workflows.core.catalog.contents import DEFAULT_ROOT, Catalog
from workflows.core.catalog.skills import MAX_FILE
from workflows.core.errors import UsageError
from workflows.core.models.registry import AgentRegistry
from workflows.core.read.documents import parse_source
from workflows.core.read.files import read_text
from workflows.core.read.source import Unreadable
from workflows.core.read.validation import read_model

Files = dict[str, str]
"""Texts by path below the catalog."""

_TEMPLATE = "agents/template"
_BINDING = re.compile(r"^ *- *skill_id: *(?P<id>\S+) *\n(?:(?! *- )\s+\S.*\n)*", re.MULTILINE)
REGISTRY = "orchestrator/agent-registry.yaml"

_WORKFLOW = """\
# Check it: phaseline check {name}    Run it: phaseline run {name} --offline
workflow: {name}
description: {name}
inputs:
  topic:
    type: string
    description: What it is about
    default: {name}

total_timeout: 30m

steps:
  - id: draft
    agent: {agent}
    expected_output: draft
    timeout: 10m
    retries: 1
    prompt: |
      Write one page in Markdown about: {{{{ topic }}}}
      Begin with the conclusion. Mark what you do not know as an open question.

  - id: review
    agent: {agent}
    inputs: [draft]          # made by the step above: that makes the edge
    expected_output: reviewed
    timeout: 10m
    prompt: |
      Check the draft: unsupported claims, gaps, contradictions.
      Write the improved text, then a list of what you changed and why.
"""

_SKILL = """\
---
name: {leaf}
description: Counts lines, words and characters of a document. Use it when a length or size has to be stated.
license: Apache-2.0
metadata:
  version: "0.1.0"
allowed-tools: {leaf}__count_words
---

# {leaf}

Say here how the work is done: the steps, the judgement, what not to do. Agents read this page when they
decide to use the skill; until then they see only the description above.

## Tools

- `{leaf}__count_words`: lines, words and characters of a document.
"""

_SKILL_CONFIG = """\
# effect: none = changes nothing outside the call, idempotent = may be repeated with the same arguments,
# once = must never run twice.
version: 0.1.0
timeout: 60
handlers:
  - name: count_words
    effect: none
"""

_HANDLER = '''\
"""A first handler: replace it by your own, and name it in config.yaml."""

from pathlib import Path
from typing import Any


def count_words(document: Path) -> dict[str, Any]:
    """Count the lines, words and characters of a document.

    Args:
        document: A text or Markdown document.
    """
    text = document.read_text("utf-8")
    return {"lines": len(text.splitlines()), "words": len(text.split()), "characters": len(text)}
'''

_ROBOT = """\
# The phases' agents come from orchestrator/agent.yml; `resources: {{phases: {{goals: ID}}}}` names others.
robot: {name}
description: {name}

identity:
  role: Says in one sentence who this robot is and for whom it works
  duties:
    - What it looks after
  rules:
    - What it never does

triggers:
  clock: {{enabled: true}}
  intervene: {{enabled: true}}
  event: {{enabled: false}}

clock:
  mode: times
  times: ["09:00"]
  days: [Mon, Tue, Wed, Thu, Fri]
  tz: UTC

quota: {{max: 1}}
"""

_ROUTING = """\
# Which rule answers a free text: highest priority first, file order among equals.
routing_rules:
  - name: everything
    pattern: ".*"
    agents: [{agent}]
    priority: 1
"""


def workflow_files(catalog: Catalog, name: str) -> Files:
    """A workflow of two steps. Raises UsageError in a catalog without agents."""
    usable = [a for a in catalog.agents.values() if a.config.type is None and _active(catalog, a)]
    if not usable:
        raise UsageError(
            "the catalog has no agent that could do its steps", "first: phaseline new agent NAME"
        )
    usable.sort(key=lambda a: a.folder == _TEMPLATE)  # the template itself only when there is no other
    return {f"{name}.yaml": _WORKFLOW.format(name=name, agent=usable[0].id)}


def _active(catalog: Catalog, agent: CatalogAgent) -> bool:
    entry = catalog.registered.get(agent.id)
    return entry is None or entry.status == "active"


def skill_files(name: str) -> Files:
    """A skill with one working handler."""
    folder, leaf = f"skills/{name}", name.rpartition("/")[2]
    return {
        f"{folder}/SKILL.md": _SKILL.format(leaf=leaf),
        f"{folder}/config.yaml": _SKILL_CONFIG,
        f"{folder}/handlers/count_words.py": _HANDLER,
    }


def robot_files(name: str) -> Files:
    """A robot that wakes on working days at nine."""
    return {f"robots/{name}.yaml": _ROBOT.format(name=name)}


def agent_files(catalog: Catalog, name: str) -> Files:
    """A copy of agents/template (the default catalog's where there is none) under a new id.

    Bindings of skills the catalog does not have are left out.
    """
    template, root = _template(catalog)
    words = [(template.id, name), (template.config.name, name), (template.config.description, name)]
    folder = root / template.folder
    files: Files = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        text = read_text(file, MAX_FILE)
        for old, new in words:
            text = text.replace(old, new) if old else text
        files[f"agents/{name}/{file.relative_to(folder).as_posix()}"] = text
    config = f"agents/{name}/config.yaml"
    files[config] = _known_bindings(_without_header(files[config]), catalog)
    return files


def _template(catalog: Catalog) -> tuple[CatalogAgent, Path]:
    for known in (catalog, Catalog.load(DEFAULT_ROOT)):
        for agent in known.agents.values():
            if agent.folder == _TEMPLATE and agent.source.file.endswith("config.yaml"):
                return agent, known.root
    raise UsageError("the template agent cannot be read", "phaseline check says why")


def _without_header(text: str) -> str:
    """Without the comment at its top, which tells how to copy the folder."""
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        del lines[0]
    return "".join(lines)


def _known_bindings(text: str, catalog: Catalog) -> str:
    """Without the bindings of skills this catalog does not have."""
    kept = _BINDING.sub(lambda m: m[0] if m["id"] in catalog.skills else "", text)
    return re.sub(r"^( *skills:) *\n(?!\s*- )", r"\1 []\n", kept, flags=re.MULTILINE)


def with_registered(text: str, agent_id: str) -> str | None:
    """The agent registry with one more entry at its end, comments and order kept.

    None when the file is written in a way that cannot be extended safely.
    """
    items = re.findall(r"^( *)- ", text, flags=re.MULTILINE)
    indent = items[0] if items else "  "
    entry = f"{indent}- id: {agent_id}\n{indent}  status: active\n{indent}  version: 0.1.0\n"
    if re.search(r"^agents: *(\[\]|null|~)? *(#.*)?$", text, flags=re.MULTILINE) and not items:
        made = re.sub(r"^agents:.*$", "agents:\n" + entry.rstrip("\n"), text, count=1, flags=re.MULTILINE)
    else:
        made = text.rstrip("\r\n") + "\n\n" + entry
    return made if _registered_ids(made) == [*(_registered_ids(text) or []), agent_id] else None


def _registered_ids(text: str) -> list[str] | None:
    """The ids of a registry; None when the text is none."""
    try:
        source = parse_source(text.encode(), REGISTRY)
    except Unreadable:
        return None
    value, _ = read_model(AgentRegistry, source)
    return [entry.id for entry in value.agents] if value is not None else None


def catalog_files() -> Files:
    """What one's own catalog begins with: template and phase agents, shared skills, the table of models."""
    copied = [DEFAULT_ROOT / "models.yaml", DEFAULT_ROOT / "orchestrator/agent.yml"]
    for folder in (_TEMPLATE, "agents/phaseline", "skills/shared"):
        copied += (p for p in (DEFAULT_ROOT / folder).rglob("*") if p.is_file())
    files = {
        f.relative_to(DEFAULT_ROOT).as_posix(): f.read_text("utf-8")
        for f in sorted(copied)
        if "__pycache__" not in f.parts
    }
    agent = _template(Catalog.load(DEFAULT_ROOT))[0].id
    files["orchestrator/routing-rules.yaml"] = _ROUTING.format(agent=agent)
    files["hello.yaml"] = _WORKFLOW.format(name="hello", agent=agent)
    return files
