"""A tool of phaseline's own is its entry in the table and its executor, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.doers.built_in_tools import EXECUTORS, ToolUse
from tasks.tools import Tool, ToolResult
from tests.support.catalogs import compiled
from tests.support.messages_api import MessagesApi
from tests.support.steps import Desk
from workflows.core.compile.effects import find_acts
from workflows.core.errors import InvalidDefinition
from workflows.core.tools.built_in.table import BUILT_IN
from workflows.core.tools.built_in.tool import BuiltInTool

KEY = "sk-test-0123456789"
STEP = 'steps:\n  - {id: s, agent: ann, prompt: "Add up."}\n'
ADD = BuiltInTool(
    name="add",
    description="Add two numbers.",
    input_schema={
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    effect="none",
    granted_by="name",
)


def add_tool(use: ToolUse) -> Tool:
    """The executor."""

    async def run(arguments: dict[str, Any]) -> ToolResult:
        return ToolResult(f"{use.path}: {arguments['a'] + arguments['b']}")

    return Tool(ADD.name, ADD.description, ADD.schema_with(), run, "none")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The tables with the new tool."""
    monkeypatch.setitem(BUILT_IN, ADD.name, ADD)
    monkeypatch.setitem(EXECUTORS, ADD.name, add_tool)
    return monkeypatch


@pytest.fixture
def api() -> Iterator[MessagesApi]:
    with MessagesApi(keys={KEY}) as running:
        yield running


@pytest.fixture
def desk(tmp_path: Path, api: MessagesApi) -> Desk:
    return Desk(tmp_path, STEP, {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.base_url})


def grant(desk: Desk, rules: str = '"add": {}') -> Desk:
    desk.write("agents/ann/tools-config.json", f'{{"tools": {{{rules}}}}}')
    return desk


def test_every_tool_of_the_table_has_an_executor() -> None:
    assert list(BUILT_IN) == list(EXECUTORS)


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("by", ["permissions", "rule"])
def test_an_agent_calls_a_new_tool_that_its_files_grant_by_name(
    api: MessagesApi, desk: Desk, by: str
) -> None:
    if by == "rule":
        grant(desk)
    else:
        config = desk.catalog / "agents/ann/config.yaml"
        config.write_text(config.read_text() + "  permissions: {tools: [add]}\n")
    api.queue({"tools": [{"name": "add", "input": {"a": 1, "b": 2}}]}, {"text": "3"})
    assert desk.run().body == "3\n"
    assert {"name": "add", "description": ADD.description, "input_schema": ADD.input_schema} in [
        {key: tool[key] for key in ("name", "description", "input_schema")}
        for tool in api.asked[0]["body"]["tools"]
    ]
    (result,) = api.asked[-1]["body"]["messages"][-1]["content"]
    assert "s: 3" in str(result["content"])


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("rules", ["", '"add": {"allow": false}'])
def test_it_is_not_offered_where_nothing_grants_it(api: MessagesApi, desk: Desk, rules: str) -> None:
    api.queue({"tools": [{"name": "add", "input": {"a": 1, "b": 2}}]}, {"text": "Done."})
    grant(desk, rules).run()
    assert "There is no tool named add" in str(api.asked[-1]["body"]["messages"][-1]["content"])


def test_a_rule_for_a_tool_that_is_not_in_the_table_is_an_error(desk: Desk) -> None:
    with pytest.raises(InvalidDefinition, match="'add' is no tool"):
        compiled(grant(desk).catalog)


def test_it_is_in_the_content_key_of_those_that_have_it(desk: Desk, table: pytest.MonkeyPatch) -> None:
    before = compiled(desk.catalog).steps[0].definition
    plan = compiled(grant(desk).catalog)
    keys = {before, plan.steps[0].definition}
    assert plan.steps[0].agents[0].built_in == ("add",)
    for change in ({"description": "Add."}, {"input_schema": {"type": "object", "properties": {}}}):
        table.setitem(BUILT_IN, ADD.name, replace(ADD, **change))
        keys.add(compiled(desk.catalog).steps[0].definition)
    assert len(keys) == 4


def test_a_tool_that_acts_is_known_to_act(desk: Desk, table: pytest.MonkeyPatch) -> None:
    table.setitem(BUILT_IN, ADD.name, replace(ADD, effect="once"))
    found = [what for what, _ in find_acts(compiled(grant(desk).catalog).steps[0])]
    assert any("the tool 'add' with the effect `once`" in what for what in found)
