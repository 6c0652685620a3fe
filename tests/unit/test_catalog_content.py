"""The default catalog agrees with itself, and the documents' fixtures are what their README says.

These are checks of written content: names that point somewhere, facts that stand in two files, prompts
that name tools which exist.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflows.core.expressions.templates import Expression, Template
from workflows.core.routing.matching import Rule, choose
from workflows.core.text.patterns import pattern_fault
from workflows.core.tools.handlers import inspect_handler, tool_name
from workflows.core.units import parse_duration, parse_rate, parse_share, parse_size

CATALOG = Path(__file__).resolve().parents[2] / "workflows"
DOCUMENTS = Path(__file__).resolve().parents[1] / "fixtures" / "documents"
WORKFLOWS = sorted(p for p in CATALOG.glob("*.yaml") if p.name != "models.yaml")
NATIVE = ["ai-engineer", "product-manager", "architect", "template"]
PHASES = ["inspiration", "goals", "tasks", "delivery", "learning", "validation", "host"]
SKILL_IDS = [s.relative_to(CATALOG / "skills").parent.as_posix() for s in CATALOG.glob("skills/**/SKILL.md")]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def agents() -> dict[str, dict[str, Any]]:
    configs = [load(CATALOG / "agents" / folder / "config.yaml")["agent"] for folder in NATIVE]
    return {config["id"]: config for config in configs}


def registered_skills() -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in load(CATALOG / "orchestrator/skill-registry.yaml")["skills"]}


def handlers(skill: str) -> list[str]:
    return sorted(p.stem for p in (CATALOG / "skills" / skill / "handlers").glob("[a-z]*.py"))


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [*workflow["steps"], *workflow.get("finally", [])]


@pytest.mark.parametrize("skill", SKILL_IDS)
def test_skill_folder_follows_the_standard(skill: str) -> None:
    folder = CATALOG / "skills" / skill
    text = (folder / "SKILL.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    front = yaml.safe_load(head)
    assert set(front) == {"name", "description", "license", "compatibility", "metadata", "allowed-tools"}
    assert front["name"] == folder.name and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", front["name"])
    assert 20 <= len(front["description"]) <= 1024 and len(front["compatibility"]) <= 500
    assert all(isinstance(value, str) for value in front["metadata"].values())
    assert 40 <= len(body.splitlines()) <= 120
    tools = [tool_name(skill, handler) for handler in handlers(skill)]
    assert sorted(front["allowed-tools"].split()) == sorted(tools)
    for tool in tools:
        assert tool.split("__")[1] in body, f"the body does not say when to use {tool}"
    for reference in re.findall(r"references/[\w.-]+", body):
        assert (folder / reference).is_file()


@pytest.mark.parametrize("skill", SKILL_IDS)
def test_skill_registry_config_and_files_agree(skill: str) -> None:
    entry = registered_skills()[skill]
    config = load(CATALOG / "skills" / skill / "config.yaml")
    assert entry["location"] == f"/workspace/skills/{skill}"
    assert config["version"] == entry["version"]
    assert config["timeout"] == entry["resource_requirements"]["timeout"]
    declared = {handler["name"]: handler["effect"] for handler in config["handlers"]}
    assert sorted(declared) == sorted(entry["handlers"]) == handlers(skill)
    assert set(declared.values()) <= {"none", "idempotent", "once"}
    parse_size(entry["resource_requirements"]["memory"])
    if "rate_limit" in entry:
        parse_rate(entry["rate_limit"])


def test_every_registered_skill_exists() -> None:
    assert sorted(registered_skills()) == sorted(SKILL_IDS)
    owners = {entry["owner"] for entry in registered_skills().values() if entry["visibility"] == "private"}
    assert owners == {"ai-engineer", "product-manager", "architect"}


@pytest.mark.parametrize("skill", SKILL_IDS)
def test_handlers_are_readable_as_tools(skill: str) -> None:
    for name in handlers(skill):
        source = (CATALOG / "skills" / skill / "handlers" / f"{name}.py").read_text(encoding="utf-8")
        spec = inspect_handler(source, name)
        described = [p.get("description") for p in spec.input_schema["properties"].values()]
        assert spec.description and all(described)


@pytest.mark.parametrize("folder", NATIVE)
def test_agent_folder_is_whole(folder: str) -> None:
    place = CATALOG / "agents" / folder
    config = load(place / "config.yaml")["agent"]
    identity = dict(re.findall(r"(?m)^- (\w+): (.+)$", (place / "IDENTITY.md").read_text(encoding="utf-8")))
    assert (identity["ID"], identity["Name"]) == (config["id"], config["name"])
    assert "temperature" not in config["model"]
    assert isinstance(
        json.loads((place / "tools-config.json").read_text(encoding="utf-8"))["mcpServers"], dict
    )
    assert "## Boundaries" in (place / "SOUL.md").read_text(encoding="utf-8")
    for bound in config["skills"]:
        entry = registered_skills()[bound["skill_id"]]
        assert entry["visibility"] == "public" or entry["owner"] == folder


def test_no_secret_stands_in_the_catalog() -> None:
    for path in CATALOG.rglob("*"):
        if path.suffix in {".yaml", ".yml", ".json", ".yao", ".md"}:
            assert not re.search(r"://[^/\s:]+:[^@\s]+@", path.read_text(encoding="utf-8")), path


def test_agent_registry_facts() -> None:
    entries = {e["id"]: e for e in load(CATALOG / "orchestrator/agent-registry.yaml")["agents"]}
    assert {k: e["replicas"] for k, e in entries.items()} == {
        "agent-ai-001": 3,
        "agent-pm-002": 2,
        "agent-arch-003": 2,
    }
    assert set(entries) == set(agents()) - {"agent-template-000"}
    for entry in entries.values():
        assert parse_share(entry["slo"]["availability"]) >= 0.995
        assert parse_duration(entry["slo"]["response_time_p99"]) in {3.0, 4.0, 5.0}
        assert parse_rate(entry["slo"]["throughput"])[1] == 60.0
        assert parse_size(entry["resources"]["limits"]["memory"]) >= 4 * 2**30


@pytest.mark.parametrize("phase", PHASES)
def test_phase_agent(phase: str) -> None:
    place = CATALOG / "agents" / "phaseline" / phase
    manifest = json.loads((place / "package.yao").read_text(encoding="utf-8"))
    assert manifest["type"] == f"robot-{phase}" and manifest["connector"] == "$ENV.ANTHROPIC_API_KEY"
    assert manifest["automated"] is (phase != "host") and manifest["mentionable"] is False
    assert manifest["options"]["max_tokens"] > 0
    (prompt,) = load(place / "prompts.yml")
    assert prompt["role"] == "system" and len(prompt["content"]) > 150
    assert load(CATALOG / "orchestrator/agent.yml")["uses"][phase] == f"phaseline/{phase}"


def test_models_table() -> None:
    table = load(CATALOG / "models.yaml")
    assert isinstance(table["prices_as_of"], str) and table["default"] in table["families"]
    named = {i for family in table["families"].values() for i in family["versions"].values()}
    for name, family in table["families"].items():
        assert family["latest"] in family["versions"].values()
        assert all(isinstance(version, str) for version in family["versions"]), name
    assert set(table["models"]) <= named
    for model in table["models"].values():
        assert model["output"] == pytest.approx(5 * model["input"])
        assert model["cache_write"] == pytest.approx(1.25 * model["input"])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("从需求到上线给我一个完整方案", "end_to_end_feature_delivery"),
        ("训练一个产品推荐模型", "ml_model_training"),
        ("新功能的用户需求", "product_strategy"),
        ("基础设施怎么搭", "system_architecture"),
        ("用户系统", "product_strategy"),  # both have priority 8: file order decides
        ("hello", "default_shared_skills"),
    ],
)
def test_routing_rules(text: str, rule: str) -> None:
    written = load(CATALOG / "orchestrator/routing-rules.yaml")["routing_rules"]
    assert all(pattern_fault(entry["pattern"]) is None for entry in written)
    chosen = choose([Rule(e["name"], e["pattern"], e["priority"]) for e in written], text).rule
    assert chosen is not None and chosen.name == rule


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_workflow_names_point_somewhere(path: Path) -> None:
    flow = load(path)
    assert flow["workflow"] == path.stem
    for entry in flow["inputs"].values():
        assert entry["description"]
        if entry["type"] == "file":
            assert (CATALOG / entry["default"]).is_file()
    ids = [step["id"] for step in steps(flow)]
    made = [step["expected_output"] for step in steps(flow)]
    assert len(set(ids)) == len(ids) and len(set(made)) == len(made)
    available = set(flow["inputs"]) | set(made)
    for step in steps(flow):
        assert set(step.get("inputs", [])) <= available
        for doer in [*step.get("agents", []), *([step["agent"]] if "agent" in step else [])]:
            _check_doer(doer, step)
        if "skill" in step:
            assert step["handler"] in handlers(step["skill"])
        if "workflow" in step:
            assert (CATALOG / f"{step['workflow']}.yaml").is_file()


def _check_doer(doer: str, step: dict[str, Any]) -> None:
    bound = {entry["skill_id"] for entry in agents()[doer]["skills"]}
    assert set(step.get("skills", bound)) <= bound, f"{step['id']}: {doer} does not bind its skills"
    usable = step.get("skills", sorted(bound))
    offered = {tool_name(skill, handler) for skill in usable for handler in handlers(skill)}
    assert set(re.findall(r"`([a-z-]+__\w+)`", step["prompt"])) <= offered


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_workflow_templates_and_expressions_parse(path: Path) -> None:
    flow = load(path)
    known = set(flow["inputs"]) | {s["expected_output"] for s in steps(flow)} | {"item", "index", "previous"}
    for step in steps(flow):
        written = [step.get("when"), step.get("for_each"), step.get("repeat", {}).get("until")]
        for source in filter(None, written):
            assert Expression.parse(source).names <= known
        texts = [step.get("prompt", ""), *(v for v in step.get("args", {}).values() if isinstance(v, str))]
        for text in texts:
            assert Template.parse(text).names <= known


def test_triage_picks_the_grave_rows() -> None:
    flow = load(CATALOG / "feedback-triage.yaml")
    expression = Expression.parse(next(s["for_each"] for s in flow["steps"] if "for_each" in s))
    rows = [{"id": str(n), "severity": s} for n, s in enumerate(["low", "high", "critical", "high"])]
    chosen = expression.evaluate({"feedback": rows, "limit": 2})
    assert [row["id"] for row in chosen] == ["1", "2"]
    when = Expression.parse(next(s["when"] for s in flow["steps"] if "when" in s))
    assert when.holds({"severity_report": {"totals": {"critical": 8}}})
    assert not when.holds({"severity_report": {"totals": {"critical": 0}}})


def test_end_to_end_carries_the_documents_facts() -> None:
    ours, theirs = (
        load(CATALOG / "end-to-end-delivery.yaml"),
        load(DOCUMENTS / "openclaw/end-to-end-delivery.yaml"),
    )
    kept = ("id", "name", "agent", "agents", "inputs", "skills", "expected_output", "timeout", "depends_on")
    assert [{k: s[k] for k in kept if k in s} for s in ours["steps"]] == theirs["steps"]
    assert ours["total_timeout"] == theirs["total_timeout"] == sum(s["timeout"] for s in ours["steps"])


@pytest.mark.parametrize("folder", ["ai-engineer", "product-manager", "architect"])
def test_agents_carry_the_documents_facts(folder: str) -> None:
    ours = load(CATALOG / f"agents/{folder}/config.yaml")["agent"]
    theirs = load(DOCUMENTS / f"openclaw/agents/{folder}/config.yaml")["agent"]
    for key in ("id", "name", "description", "permissions", "rate_limits", "monitoring"):
        assert ours.get(key) == theirs.get(key)
    assert ours["skills"][: len(theirs["skills"])] == theirs["skills"]
    for key in ("provider", "name", "version", "max_tokens"):
        assert ours["model"][key] == theirs["model"][key]


@pytest.mark.parametrize("name", ["agent-registry", "skill-registry"])
def test_registries_carry_the_documents_facts(name: str) -> None:
    ours = load(CATALOG / f"orchestrator/{name}.yaml")
    theirs = load(DOCUMENTS / f"openclaw/orchestrator/{name}.yaml")
    ((key, entries),) = theirs.items()
    assert len(ours[key]) >= len(entries)
    for our, their in zip(ours[key], entries, strict=False):  # ours may add to them
        assert {k: our[k] for k in their if k != "handlers"} == {
            k: v for k, v in their.items() if k != "handlers"
        }


@pytest.mark.parametrize(
    ("place", "unreadable"),
    [
        ("corrupt/end-to-end-delivery.yaml", True),
        ("corrupt/kubernetes-deployment.yaml", True),
        ("openclaw/end-to-end-delivery.yaml", False),
        ("openclaw-infrastructure/kubernetes/deployment.yaml", False),
    ],
)
def test_only_the_corrupt_originals_are_unreadable(place: str, unreadable: bool) -> None:
    text = (DOCUMENTS / place).read_text(encoding="utf-8")
    if unreadable:
        with pytest.raises(yaml.YAMLError):
            list(yaml.safe_load_all(text))
    else:
        assert all(list(yaml.safe_load_all(text)))


def test_lost_indent_of_agent_yml_is_repaired() -> None:
    assert load(DOCUMENTS / "corrupt/agent.yml")["uses"] is None
    uses = load(DOCUMENTS / "yao/orchestrator/agent.yml")["uses"]
    assert set(uses) == set(PHASES)
    for agent in uses.values():
        json.loads((DOCUMENTS / "yao/agents" / agent / "package.yao").read_text(encoding="utf-8"))
