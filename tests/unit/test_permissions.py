"""What an agent may use is decided once: what is compiled, offered, called and told to people agrees."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from blocks.ledger import Ledger
from tasks.context import RunContext
from tasks.doers.agent_tools import step_tools
from tasks.effects.gate import EffectGate
from tasks.tools import Tool, ToolResult
from tasks.web.http_request import http_tool
from tests.support.catalogs import AGENT, compiled, make_catalog
from tests.support.gates import GateDesk
from workflows.core.permissions.explanation import explain_tools
from workflows.core.permissions.grants import Grants
from workflows.core.permissions.ruling import Allowed, Denied
from workflows.core.permissions.skills import may_use_skill
from workflows.core.plans.plan import AgentPlan, Plan

WORKFLOW = "workflow: w\nsteps: [{id: a, agent: ann, prompt: Go.}]\n"
BIND = "  skills: [{skill_id: shared/tool}]\n"
NETWORK = "  permissions: {network_access: true, allowed_endpoints: [a.example.com, '*.b.example.com']}\n"
ASKING = "  permissions: {tools: [ask_person]}\n"
NO = '{"allow": false}'


def agent_of(root: Path, config: str = "", rules: str = "", servers: str = "") -> tuple[Plan, AgentPlan]:
    """The plan of one step, and its agent, with lines added to its config.yaml and rules of its tools."""
    catalog = make_catalog(root, w=WORKFLOW)
    handlers = catalog / "skills/shared/tool/handlers"
    (handlers / "idle.py").write_text('def idle() -> str:\n    """Idle."""\n    return ""\n')
    file = catalog / "agents/ann/config.yaml"
    file.write_text(AGENT.format(name="ann").partition("  skills:")[0] + config)
    text = f'{{"mcpServers": {{{servers}}}, "tools": {{{rules}}}}}'
    (catalog / "agents/ann/tools-config.json").write_text(text)
    plan = compiled(catalog)
    return plan, plan.step("a").agents[0]


def offered(root: Path, plan: Plan) -> set[str]:
    """The names of the tools that the runner gives the agent in a recorded run."""
    step = plan.step("a")

    async def work(gate: EffectGate, context: RunContext) -> list[Tool]:
        return await step_tools(step, step.agents[0], {}, (), (), context, "a")

    with Ledger.open(root / "ledger.db") as ledger:
        return {tool.name for tool in GateDesk(ledger, root, {}).work(work, path="a")}


CASES: dict[str, tuple[str, str, str, bool]] = {
    "the text of a skill": (BIND, "", "read_skill", True),
    "no skill, no text": ("", "", "read_skill", False),
    "a text that a rule takes away": (BIND, f'"read_skill": {NO}', "read_skill", False),
    "a handler": (BIND, "", "tool__idle", True),
    "a handler of a skill it has not": ("", "", "tool__idle", False),
    "a handler that a rule takes away": (BIND, f'"tool__idle": {NO}', "tool__idle", False),
    "requests": (NETWORK, "", "http_request", True),
    "requests without network": ("", "", "http_request", False),
    "requests that a rule takes away": (NETWORK, f'"http_request": {NO}', "http_request", False),
    "a question": (ASKING, "", "ask_person", True),
    "a question by a rule": ("", '"ask_person": {}', "ask_person", True),
    "a question that nothing grants": ("", "", "ask_person", False),
    "a question that a rule takes away": (ASKING, f'"ask_person": {NO}', "ask_person", False),
}


@pytest.mark.parametrize("case", CASES)
def test_compiler_runner_and_explanation_agree(tmp_path: Path, case: str) -> None:
    config, rules, tool, may = CASES[case]
    plan, agent = agent_of(tmp_path, config, rules)
    grants = Grants.of(agent)
    assert isinstance(grants.may_call(tool), Allowed) is may
    told = {line.tool for line in explain_tools(grants) if line.allowed}
    assert (tool in told) is may
    assert (tool in offered(tmp_path, plan)) is may


ASKED: list[tuple[str, str, str, bool]] = [
    ("GET", "a.example.com", "GET", True),
    ("POST", "a.example.com", "GET", False),
    ("POST", "a.example.com", "", True),
    ("GET", "c.b.example.com", "", True),
    ("GET", "b.example.com", "", False),
    ("GET", "other.example.com", "", False),
    ("DELETE", "other.example.com", "GET", False),
]


@pytest.mark.parametrize(("method", "host", "only", "may"), ASKED)
def test_requests_agree(tmp_path: Path, method: str, host: str, only: str, may: bool) -> None:
    rules = f'"http_request": {{"methods": ["{only}"]}}' if only else ""
    _, agent = agent_of(tmp_path, NETWORK, rules)
    grants = Grants.of(agent)
    ruling = grants.may_request(method, "https", host, 443)
    assert isinstance(ruling, Allowed) is may
    may_use = not only or method == only
    assert isinstance(grants.may_call("http_request", {"method": method}), Allowed) is may_use
    tool = http_tool(grants)
    assert (method in tool.input_schema["properties"]["method"]["enum"]) is may_use
    line = next(line for line in explain_tools(grants) if line.tool == "http_request")
    assert (method in line.because.partition(" to ")[0].split(", ")) is may_use
    if isinstance(ruling, Denied):
        with pytest.raises(Exception, match="is not an allowed") as refused:
            asyncio.run(tool.send({"method": method, "url": f"https://{host}/"}, "key"))
        assert str(refused.value) == f"{ruling.reason}."
        assert ruling.cure


SERVER = '"bank": {"command": "c", "tools": ["pay", "look"]}'


@pytest.mark.parametrize(
    ("server", "tool", "rules", "may"),
    [
        ("bank", "pay", "", True),
        ("bank", "steal", "", False),
        ("other", "pay", "", False),
        ("bank", "pay", f'"bank.pay": {NO}', False),
        ("bank", "pay", f'"bank__pay": {NO}', False),
        ("bank", "look", f'"bank.pay": {NO}', True),
    ],
)
def test_tools_of_servers_agree(tmp_path: Path, server: str, tool: str, rules: str, may: bool) -> None:
    _, agent = agent_of(tmp_path, "", rules, SERVER)
    grants = Grants.of(agent)
    assert isinstance(grants.may_call(tool, server=server), Allowed) is may
    assert (f"{server}.{tool}" in {line.tool for line in explain_tools(grants) if line.allowed}) is may


@pytest.mark.parametrize("named", ["bank.pay", "bank__pay", "pay"])
def test_people_are_told_of_rules_where_a_server_lists_no_tools(tmp_path: Path, named: str) -> None:
    servers = '"bank": {"command": "c", "trust_annotations": true}, "shop": {"command": "s"}'
    rules = f'"{named}": {NO}, "bank.send": {{"approval": true}}'
    _, agent = agent_of(tmp_path, "", rules, servers)
    lines = {line.tool: line for line in explain_tools(Grants.of(agent))}
    assert not lines["bank.pay"].allowed and lines["bank.send"].approval and lines["bank.*"].allowed
    assert lines["bank.*"].effect == "as it says, or once" and lines["shop.*"].effect == "once"
    assert ("shop.pay" in lines) is (named == "pay") and "shop.bank.send" not in lines


def test_each_denial_says_what_would_allow_it() -> None:
    nobody = Grants(folder="agents/ann")
    rulings: list[Any] = [nobody.may_call(name) for name in ("read_skill", "http_request", "ask_person", "x")]
    rulings += [nobody.may_call("pay", server="bank"), nobody.may_request("GET", "https", "a", 443)]
    assert all(isinstance(ruling, Denied) and ruling.reason and ruling.cure for ruling in rulings)


class Someone:
    """An agent, as the catalog has it."""

    id, short_folder = "agent-1", "one"


class Knowledge:
    """A skill, as the catalog has it."""

    def __init__(self, owner: str, visibility: str) -> None:
        self.id, self.owner, self.visibility = "s", owner, visibility


@pytest.mark.parametrize(
    ("owner", "visibility", "may"),
    [
        ("system", "public", True),
        ("other", "public", True),
        ("agent-1", "private", True),
        ("one", "private", True),
        ("other", "private", False),
    ],
)
def test_a_private_skill_is_its_owners(owner: str, visibility: str, may: bool) -> None:
    skill = Knowledge(owner, visibility)
    assert isinstance(may_use_skill(skill, (Someone(),)), Allowed) is may
    assert isinstance(may_use_skill(skill, ()), Allowed) is (visibility == "public")


def test_a_method_that_is_not_granted_is_not_even_asked_about(tmp_path: Path) -> None:
    """A conversation may have been told of more when it began."""
    rules = '"http_request": {"methods": ["GET"], "approval": true}'
    plan, _ = agent_of(tmp_path, NETWORK, rules)
    step = plan.step("a")

    async def work(gate: EffectGate, context: RunContext) -> ToolResult:
        tools = await step_tools(step, step.agents[0], {}, (), (), context, "a")
        http = next(tool for tool in tools if tool.name == "http_request")
        return await http.run({"method": "POST", "url": "https://a.example.com/"})

    with Ledger.open(tmp_path / "ledger.db") as ledger:
        desk = GateDesk(ledger, tmp_path, {})
        refused = desk.work(work, path="a")
        assert refused.is_error and refused.content == "POST is not an allowed method. Allowed: GET."
        assert desk.effects() == []
