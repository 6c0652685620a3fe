"""Small catalogs for tests of the language core."""

from __future__ import annotations

from pathlib import Path

from workflows.core.catalog.contents import Catalog
from workflows.core.compile.compiler import compile_workflow, examine
from workflows.core.plans.plan import Plan
from workflows.core.read.findings import Findings

AGENT = """agent:
  id: {name}
  name: {name}
  model: {{name: claude-opus, version: latest, max_tokens: 4000, thinking: moderate}}
  skills:
    - skill_id: shared/tool
"""
SKILL = "---\nname: {name}\ndescription: Counts words.\n---\n# How\nCount.\n"
HANDLER = '''"""Words."""

from pathlib import Path


def count(text: Path, least: int = 1) -> dict[str, int]:
    """Count the words of a text.

    Args:
        text: The text.
        least: Shortest word that counts.
    """
    return {"words": sum(len(w) >= least for w in text.read_text().split())}
'''


def make_catalog(root: Path, **workflows: str) -> Path:
    """Two agents, `ann` and `bob`, the shared skill `shared/tool`, and the given workflows."""
    for name in ("ann", "bob"):
        folder = root / "agents" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(AGENT.format(name=name))
        (folder / "SOUL.md").write_text(f"You are {name}.\n")
    tool = root / "skills" / "shared" / "tool"
    (tool / "handlers").mkdir(parents=True)
    (tool / "SKILL.md").write_text(SKILL.format(name="tool"))
    (tool / "handlers" / "count.py").write_text(HANDLER)
    for name, text in workflows.items():
        (root / f"{name}.yaml").write_text(text)
    return root


def compiled(root: Path, name: str = "w") -> Plan:
    """The plan of a catalog's workflow."""
    catalog = Catalog.load(root)
    return compile_workflow(catalog.find_workflow(name), catalog)


def examined(root: Path, name: str = "w") -> Findings:
    """What is wrong with a catalog's workflow."""
    catalog = Catalog.load(root)
    return examine(catalog.find_workflow(name), catalog)[1]


def resume_by_itself(catalog: Path) -> None:
    """Has a catalog say so of runs whose process died."""
    folder = catalog / "orchestrator"
    folder.mkdir(exist_ok=True)
    (folder / "agent.yml").write_text("resume: auto\n")
