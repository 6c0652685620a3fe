"""What changes a content key, and what must not: a key that changes too often pays twice, one that changes
too seldom gives an old answer to a new question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.catalogs import compiled, make_catalog
from workflows.core.plans.plan import content_key

WORKFLOW = """workflow: w
inputs: {topic: string}
steps:
  - id: a
    name: First
    agent: ann
    inputs: [topic]
    prompt: "Write about {{ topic }}."
    timeout: 60
    expected_output: draft
    output: {type: json, schema: {type: object}, repair: 1}
  - id: b
    skill: shared/tool
    args: {text: draft}
    depends_on: a
  - id: c
    workflow: inner
    args: {topic: "{{ topic }}"}
"""
INNER = "workflow: inner\ninputs: {topic: string}\nsteps:\n"
INNER += "  - {id: x, agent: bob, inputs: [topic], prompt: Go.}\n"

Change = Callable[[Path], object]


def edit(file: str, old: str, new: str) -> Change:
    def change(root: Path) -> None:
        path = root / file
        text = path.read_text()
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new))

    return change


def write(file: str, text: str) -> Change:
    def change(root: Path) -> None:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return change


def rename(old: str, new: str) -> Change:
    return lambda root: (root / old).rename(root / new)


ANN, SOUL = "agents/ann/config.yaml", "agents/ann/SOUL.md"
TOOL = "skills/shared/tool"
TOOLS_FILE = "agents/ann/tools-config.json"
WEB, FILES = '"web": {"url": "https://x/mcp"}', '"files": {"command": "npx", "env": {"TOKEN": "${TOKEN}"}}'
READ, PUT = '"files.read": {"effect": "none"}', '"files.put": {"effect": "idempotent"}'
TOOLS_TEXT = f'{{"mcpServers": {{{WEB}, {FILES}}}, "tools": {{{READ}, {PUT}}}}}'
TOOLS_REORDERED = f'{{"tools": {{{PUT}, {READ}}}, "mcpServers": {{{FILES}, {WEB}}}}}'

SAME: dict[str, Change] = {
    "timeout": edit("w.yaml", "timeout: 60", "timeout: 2h"),
    "total timeout": edit("w.yaml", "steps:", "total_timeout: 1h\nsteps:"),
    "retries": edit("w.yaml", "timeout: 60", "retries: {max: 5, delay: 2s}"),
    "cache": edit("w.yaml", "timeout: 60", "cache: never"),
    "on_failure": edit("w.yaml", "timeout: 60", "on_failure: continue"),
    "when": edit("w.yaml", "timeout: 60", "when: topic != 'x'"),
    "comments": edit("w.yaml", "steps:", "# the steps\nsteps:"),
    "description of the workflow": edit("w.yaml", "steps:", "description: x\nsteps:"),
    "step id": edit("w.yaml", "depends_on: a", "depends_on: a\n    name: Count"),
    "file name of the workflow": rename("w.yaml", "other.yaml"),
    "rate limits": edit(ANN, "  skills:", "  rate_limits: {requests_per_minute: 5}\n  skills:"),
    "monitoring": edit(ANN, "  skills:", "  monitoring: {log_level: DEBUG}\n  skills:"),
    "memory": edit(ANN, "  skills:", "  memory: {type: persistent, ttl: 1d}\n  skills:"),
    "repair": edit("w.yaml", "repair: 1", "repair: 3"),
    "max_turns": edit(ANN, "  skills:", "  max_turns: 5\n  skills:"),
    "permissions": edit(ANN, "  skills:", "  permissions: [{file_access: true}]\n  skills:"),
    "timeout of an MCP server": edit(TOOLS_FILE, '"npx"', '"npx", "timeout": "5s"'),
    "order of MCP servers and rules": write(TOOLS_FILE, TOOLS_REORDERED),
    "timeout of a skill binding": edit(ANN, "shared/tool", "shared/tool\n      timeout: 5"),
    "folder of the agent": rename("agents/ann", "agents/anna"),
    "registry of agents": write(
        "orchestrator/agent-registry.yaml", "agents: [{id: ann, replicas: 3}, {id: bob}]"
    ),
    "registry of skills": write(
        "orchestrator/skill-registry.yaml", "skills: [{id: shared/tool, resource_requirements: {timeout: 9}}]"
    ),
    "bytecode": write(f"{TOOL}/handlers/__pycache__/count.cpython-311.pyc", "x"),
    "hidden files": write(f"{TOOL}/.DS_Store", "x"),
    "another agent": edit("agents/bob/SOUL.md", "You", "Now you"),
    "routing rules": write("orchestrator/routing-rules.yaml", "routing_rules: []"),
}

DIFFERENT: dict[str, Change] = {
    "prompt": edit("w.yaml", "Write about", "Write all about"),
    "output type": edit("w.yaml", "{type: json, schema: {type: object}, repair: 1}", "markdown"),
    "schema": edit("w.yaml", "schema: {type: object}", "schema: {type: array}"),
    "agent": edit("w.yaml", "agent: ann", "agent: bob"),
    "skills of the step": edit("w.yaml", "timeout: 60", "skills: []"),
    "inputs": edit("w.yaml", "inputs: [topic]\n    prompt", "prompt"),
    "model": edit(ANN, "claude-opus", "claude-sonnet"),
    "version of the model": edit(ANN, "version: latest", 'version: "5"'),
    "effort": edit(ANN, "thinking: moderate", "thinking: deep"),
    "max_tokens": edit(ANN, "max_tokens: 4000", "max_tokens: 4001"),
    "SOUL.md": edit(SOUL, "You are", "You were"),
    "description of the agent": edit(ANN, "name: ann\n", "name: ann\n  description: Writes.\n"),
    "SKILL.md": edit(f"{TOOL}/SKILL.md", "Count.", "Count well."),
    "description of the skill": edit(f"{TOOL}/SKILL.md", "Counts words.", "Counts letters."),
    "handler": edit(f"{TOOL}/handlers/count.py", ">= least", "> least"),
    "MCP server": edit(TOOLS_FILE, '"npx"', '"uvx"'),
    "another MCP server": edit(TOOLS_FILE, '"web"', '"net"'),
    "tools of an MCP server": edit(TOOLS_FILE, '"npx"', '"npx", "tools": ["put", "read"]'),
    "no MCP servers": write(TOOLS_FILE, "{}"),
    "rule of a tool": edit(TOOLS_FILE, '"none"', '"once"'),
    "network access": edit(
        ANN, "  skills:", "  permissions: {network_access: true, allowed_endpoints: [a.org]}\n  skills:"
    ),
    "reference file": write(f"{TOOL}/references/words.md", "a"),
}


def key(root: Path, step: str = "a") -> str:
    return content_key(compiled(root).step(step), {"topic": "0" * 64})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = make_catalog(tmp_path, w=WORKFLOW, inner=INNER)
    write(TOOLS_FILE, TOOLS_TEXT)(made)
    return made


@pytest.mark.parametrize("name", SAME)
def test_this_keeps_the_key(name: str, root: Path) -> None:
    before = {s: key(root, s) for s in "abc"}
    SAME[name](root)
    after = {s: key(root, s) for s in "abc"}
    kept = "ab" if name == "another agent" else "abc"
    assert [s for s in kept if after[s] != before[s]] == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_this_changes_the_key(name: str, root: Path) -> None:
    before = key(root)
    DIFFERENT[name](root)
    assert key(root) != before


@pytest.mark.parametrize(
    "change",
    [
        edit(f"{TOOL}/handlers/count.py", ">= least", "> least"),
        edit("w.yaml", "{text: draft}", "{text: draft, least: 2}"),
    ],
    ids=["handler", "arguments"],
)
def test_a_skill_step_changes_with_its_handler_and_arguments(change: Change, root: Path) -> None:
    before = key(root, "b")
    change(root)
    assert key(root, "b") != before


@pytest.mark.parametrize(
    "change",
    [
        edit("inner.yaml", "Go.", "Go on."),
        edit("inner.yaml", "prompt: Go.", "prompt: Go., when: topic != 'x'"),
        edit("agents/bob/SOUL.md", "You", "Now you"),
        edit("w.yaml", '{topic: "{{ topic }}"}', "{topic: fixed}"),
    ],
    ids=["prompt", "condition", "agent", "arguments"],
)
def test_a_workflow_step_changes_with_what_is_inside(change: Change, root: Path) -> None:
    before = key(root, "c")
    change(root)
    assert key(root, "c") != before


def test_values_and_parts_are_in_the_key(root: Path) -> None:
    step = compiled(root).step("a")
    keys = {
        content_key(step, {"topic": "0" * 64}),
        content_key(step, {"topic": "1" * 64}),
        content_key(step, {"topic": "0" * 64}, part=1),
        content_key(step, {"topic": "0" * 64}, part=2),
    }
    assert len(keys) == 4


def test_keys_that_were_given_stay(tmp_path: Path) -> None:
    """What earlier versions stored is found again. Where a text that agents are told is changed on purpose,
    these change with it, and every run pays anew: say so in the changelog."""
    workflow = "workflow: w\nsteps:\n - {id: a, agent: ann}\n - {id: b, agent: bob}\n"
    root = make_catalog(tmp_path, w=workflow)
    access = "  permissions: {network_access: true, allowed_endpoints: [a.example.com], tools: [%s]}\n"
    for name, tool in (("ann", "x"), ("bob", "ask_person")):
        file = root / f"agents/{name}/config.yaml"
        file.write_text(file.read_text() + access % tool)
    servers = '{"m": {"command": "c", "timeout": "3s"}}'
    ask = '"ask_person": {"people": {"assignees": ["kim"]}}'
    http = '"http_request": {"methods": ["GET"], "effect": "once"}'
    rules = f'{{{ask}, {http}, "m.t": {{"effect": "none"}}}}'
    write(TOOLS_FILE, f'{{"mcpServers": {servers}, "tools": {rules}}}')(root)
    plan = compiled(root)
    assert {step.id: step.definition for step in plan.steps} == {
        "a": "314fbbee09b46cf623714f9e904ca12ecf94499eb7cf6b6fec6949f42e413c64",
        "b": "73d9c1a2f9404b862d97159ef3a6714f7dc3f60b1bfea4813cc216b768dc4843",
    }
    assert plan.definition == "d4026537bf0399d0958bf3ffbebd3188539735dbefd9bb97be657a3a712bd648"
