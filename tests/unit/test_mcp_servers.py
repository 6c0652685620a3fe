"""Variables in the settings of MCP servers, and what is wrong with what is said of their tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import compiled, make_catalog
from workflows.core.catalog.contents import Catalog
from workflows.core.check.catalog import check_catalog
from workflows.core.compile.effects import find_acts
from workflows.core.errors import UsageError
from workflows.core.models.agent import McpServer
from workflows.core.plans.plan import Plan
from workflows.core.read.findings import Findings
from workflows.core.tools.mcp_servers import expand

VALUES = {"TOKEN": "s3cret", "HOST": "example.com", "EMPTY": "", "NESTED": "${TOKEN}", "SOME_NAME": "x"}


def test_every_setting_is_expanded() -> None:
    server = McpServer(
        command="${BIN:-npx}",
        args=("-y", "${HOST}/${HOST}", "plain"),
        env={"TOKEN": "${TOKEN}", "FIXED": "$TOKEN"},
        cwd="/srv/${DIR:-a b}",
    )
    made = expand(server, VALUES)
    assert (made.command, made.args) == ("npx", ("-y", "example.com/example.com", "plain"))
    assert (made.env, made.cwd) == ({"TOKEN": "s3cret", "FIXED": "$TOKEN"}, "/srv/a b")
    assert server.args[1] == "${HOST}/${HOST}"
    web = McpServer(url="https://${HOST}/mcp", headers={"Authorization": "Bearer ${TOKEN}"}, tools=("a",))
    assert expand(web, VALUES) == McpServer(
        url="https://example.com/mcp", headers={"Authorization": "Bearer s3cret"}, tools=("a",)
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${NONE:-}", ""),
        ("${NONE:-http://h:1/-x}", "http://h:1/-x"),
        ("${NESTED}", "${TOKEN}"),
        ("$5 and $HOME and {HOST}", "$5 and $HOME and {HOST}"),
    ],
)
def test_values_and_defaults(written: str, value: str) -> None:
    assert expand(McpServer(command="c", args=(written,)), VALUES).args == (value,)


@pytest.mark.parametrize(
    ("server", "key"),
    [
        (McpServer(command="${SOME_NAM}"), "command"),
        (McpServer(command="c", args=("a", "${SOME_NAM}")), "args[1]"),
        (McpServer(command="c", env={"A": "${SOME_NAM}"}), "env.A"),
        (McpServer(command="c", cwd="${SOME_NAM}"), "cwd"),
        (McpServer(url="${SOME_NAM}"), "url"),
        (McpServer(url="u", headers={"B": "${SOME_NAM}"}), "headers.B"),
    ],
)
def test_a_missing_variable_is_named_with_its_place(server: McpServer, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        expand(server, VALUES, name="files")
    assert caught.value.message == f"the MCP server 'files', {key}: the variable SOME_NAM is not set"
    assert "did you mean 'SOME_NAME'" in caught.value.cure and "${SOME_NAM:-default}" in caught.value.cure
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("written", ["${", "${HOST", "${2nd}", "${}", "${HOST:=x}"])
def test_what_names_no_variable(written: str) -> None:
    with pytest.raises(UsageError, match="names no variable"):
        expand(McpServer(command="c", args=(written,)), VALUES)


def configured(tmp_path: Path, tools: dict[str, Any], agent: str = "") -> Findings:
    """What is wrong with a catalog whose agent `ann` has this tools-config.json."""
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: ann}]\n")
    (root / "agents/ann/tools-config.json").write_text(json.dumps(tools, indent=1))
    if agent:
        config = root / "agents/ann/config.yaml"
        config.write_text(config.read_text() + agent)
    return check_catalog(Catalog.load(root))


def test_a_variable_among_the_words_of_a_command_is_a_warning(tmp_path: Path) -> None:
    """Everybody on the machine sees them; what is no secret may stand there."""
    server = {"command": "${RUNNER}", "args": ["--key=${CRM_LOGIN}", "${HOME}/x", "plain", "${PIN:-1}"]}
    found = configured(tmp_path, {"mcpServers": {"crm": {**server, "env": {"LOGIN": "${CRM_LOGIN}"}}}})
    assert found.errors == []
    shown = [m for m in found.warnings if "runs as you" not in m.message]
    told = {(m.path, m.message.split()[0]) for m in shown}
    entry = "mcpServers.crm"
    assert told == {
        (f"{entry}.command", "RUNNER"),
        (f"{entry}.args[0]", "CRM_LOGIN"),
        (f"{entry}.args[3]", "PIN"),
    }
    assert all("`ps`" in m.message and "`env`" in m.cure for m in shown)


FILES = {"mcpServers": {"files": {"command": "npx"}}}


def test_a_plain_entry_is_right(tmp_path: Path) -> None:
    found = configured(tmp_path, {**FILES, "tools": {"files.read": {"effect": "none"}, "http_request": {}}})
    (warning,) = found.warnings
    assert found.errors == [] and warning.path == "mcpServers.files.command"
    assert "is a program that runs as you" in warning.message and "docs/security.md" in warning.cure
    web = configured(tmp_path / "web", {"mcpServers": {"web": {"url": "https://h/mcp"}}})
    assert (web.errors, web.warnings) == ([], [])


@pytest.mark.parametrize(
    ("tools", "told", "cure"),
    [
        ({**FILES, "tools": {"file.read": {}}}, "unknown server 'file'", "did you mean 'files'?"),
        ({"tools": {"files.read": {}}}, "unknown server 'files'", "add it below mcpServers"),
        ({**FILES, "tools": {"files.": {}}}, "names no tool", "write server.tool"),
        (
            {"mcpServers": {"files": {"command": "c", "tools": ["read"], "trust_annotations": True}},
             "tools": {"files.raed": {}}},
            "'raed' is not among the tools of 'files'",
            "did you mean 'read'?",
        ),
        ({"mcpServers": {"my files": {"command": "npx"}}}, "no name of a server", "letters, digits"),
    ],
)  # fmt: skip
def test_wrong_rules_are_errors(tmp_path: Path, tools: dict[str, Any], told: str, cure: str) -> None:
    (mistake,) = configured(tmp_path, tools).errors
    assert told in mistake.message and cure in mistake.cure
    assert (mistake.file, mistake.line > 1) == ("agents/ann/tools-config.json", True)


def test_undeclared_tools_and_open_secrets_are_warned_of(tmp_path: Path) -> None:
    server = {"command": "npx", "tools": ["read", "pay"], "env": {"API_KEY": "sk-1", "B_TOKEN": "${B}"}}
    tools = {"mcpServers": {"files": server}, "tools": {"files.read": {"effect": "none"}}}
    secret, undeclared, _ = sorted(configured(tmp_path, tools).warnings, key=lambda m: m.message)
    assert "'API_KEY' looks like a secret" in secret.message and "sk-1" not in str(secret.to_json())
    assert "nothing says what 'pay' of 'files' does" in undeclared.message
    assert '"files.pay": {"effect": "none"}' in undeclared.cure


def test_effect_key_without_an_effect_is_warned_of(tmp_path: Path) -> None:
    tools = {**FILES, "tools": {"files.read": {"effect": "none", "effect_key": "path"}}}
    warning, _ = sorted(configured(tmp_path, tools).warnings, key=lambda m: m.message)
    assert "has no effect" in warning.message


@pytest.mark.parametrize(
    ("pattern", "right"),
    [
        ("*.example.com", True),
        ("https://example.com:8443", True),
        ("*", True),
        ("exa*mple.com", False),
        ("*example.com", False),
        ("example.com/path", False),
        ("ftp://example.com", False),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_host_patterns(tmp_path: Path, pattern: str, right: bool, listed: bool) -> None:
    inner = f"network_access: true, allowed_endpoints: ['{pattern}']"
    written = f"[{{file_access: true}}, {{{inner}}}]" if listed else f"{{{inner}}}"
    errors = configured(tmp_path, {}, f"  permissions: {written}\n").errors
    assert [m.message for m in errors] == ([] if right else [f"'{pattern}' is no pattern of hosts"])
    assert all(m.path.endswith("allowed_endpoints[0]") or "allowed_endpoints" in m.path for m in errors)


def test_network_access_to_nobody_is_warned_of(tmp_path: Path) -> None:
    (warning,) = configured(tmp_path, {}, "  permissions: {network_access: true}\n").warnings
    assert "reaches nobody" in warning.message


def test_a_plan_holds_what_the_files_give_without_values(tmp_path: Path) -> None:
    server = {"command": "npx", "env": {"TOKEN": "${BANK_TOKEN}"}}
    tools = {
        "mcpServers": {"b": server, "a": {"url": "https://x/mcp"}},
        "tools": {"b.pay": {"effect": "once", "effect_key": ["to"], "approval": True}},
    }
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: ann}, {id: b, agent: bob}]\n")
    (root / "agents/ann/tools-config.json").write_text(json.dumps(tools))
    config = root / "agents/ann/config.yaml"
    config.write_text(
        config.read_text() + "  permissions: {network_access: true, allowed_endpoints: [h.org]}\n"
    )
    ann, bob = (step.agents[0] for step in compiled(root).steps)
    assert [entry.name for entry in ann.servers] == ["a", "b"]
    assert ann.servers[1].server.env == {"TOKEN": "${BANK_TOKEN}"}
    (rule,) = ann.tool_rules
    assert (rule.name, rule.effect, rule.effect_key, rule.approval) == ("b.pay", "once", ("to",), True)
    assert ann.http is not None and ann.http.endpoints == ("h.org",)
    assert (bob.servers, bob.tool_rules, bob.http) == ((), (), None)
    assert [what for what, _ in find_acts(compiled(root).steps[0])][-3:] == [
        "ann has the MCP server 'a'",
        "ann has the MCP server 'b'",
        "ann may make HTTP requests",
    ]
    assert Plan.model_validate_json(compiled(root).model_dump_json(by_alias=True)) == compiled(root)


def test_http_requests_that_only_read_act_on_nothing(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: ann}]\n")
    config, rules = root / "agents/ann/config.yaml", root / "agents/ann/tools-config.json"
    reach = "  permissions: {network_access: true, allowed_endpoints: [h.org]}\n"
    config.write_text(config.read_text() + reach)
    for rule, reads in (
        ({"methods": ["GET", "HEAD"]}, True),
        ({"methods": ["GET"]}, True),
        ({"methods": ["GET"], "effect": "none"}, True),
        ({"methods": ["GET"], "effect": "once"}, False),
        ({"methods": ["GET"], "effect": "idempotent"}, False),
        ({"methods": ["GET", "POST"]}, False),
        ({}, False),
    ):
        rules.write_text(json.dumps({"tools": {"http_request": rule}}))
        step = compiled(root).steps[0]
        http = step.agents[0].http
        assert http is not None and (http.methods, http.reads_only) == (tuple(rule.get("methods", ())), reads)
        assert ("ann may make HTTP requests" in [what for what, _ in find_acts(step)]) is not reads
    rules.write_text(json.dumps({"tools": {"http_request": {"allow": False}}}))
    assert compiled(root).steps[0].agents[0].http is None


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"web.get": {"methods": ["GET"]}}, "'web.get' makes no HTTP requests of its own"),
        ({"http_request": {"methods": ["FETCH"]}}, "methods"),
        ({"http_request": {"methods": []}}, "methods too few entries"),
    ],
)
def test_methods_that_mean_nothing(tmp_path: Path, rule: dict[str, object], told: str) -> None:
    errors = configured(tmp_path, {"mcpServers": {"web": {"url": "https://h/mcp"}}, "tools": rule}).errors
    (mistake,) = errors
    assert told in f"{mistake.path} {mistake.message}" and mistake.cure
