"""Variables in the settings of MCP servers, and the warning that servers are not connected yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.catalogs import examined, make_catalog
from workflows.core.catalog import Catalog
from workflows.core.catalog_check import check_catalog
from workflows.core.errors import UsageError
from workflows.core.mcp_servers import expand
from workflows.core.models.agent import McpServer

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


def test_an_agent_with_servers_is_warned_of_once(tmp_path: Path) -> None:
    steps = "steps: [{id: a, agent: ann}, {id: b, agent: ann, skills: []}, {id: c, agents: [bob, ann]}]\n"
    root = make_catalog(tmp_path, w=f"workflow: w\n{steps}", v=f"workflow: v\n{steps}")
    tools = {"mcpServers": {"files": {"command": "npx"}}}
    (root / "agents/ann/tools-config.json").write_text(json.dumps(tools, indent=1))
    for warnings in (examined(root).warnings, check_catalog(Catalog.load(root)).warnings):
        (warning,) = warnings
        assert (warning.file, warning.line, warning.path) == (
            "agents/ann/tools-config.json",
            2,
            "mcpServers",
        )
        assert "not connected yet; steps run without them" in warning.message and warning.cure


def test_an_agent_no_step_uses_is_not_warned_of(tmp_path: Path) -> None:
    root = make_catalog(tmp_path, w="workflow: w\nsteps: [{id: a, agent: bob}]\n")
    (root / "agents/ann/tools-config.json").write_text('{"mcpServers": {"files": {"command": "npx"}}}')
    assert check_catalog(Catalog.load(root)).warnings == []
