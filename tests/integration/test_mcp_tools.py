"""An agent's MCP tools against a real server process, over stdio and HTTP, through the gate of a real run."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from blocks.ledger import Ledger
from blocks.patience import Patience
from tasks.effects.waits import Undecided
from tasks.servers.client import McpServers
from tasks.servers.session import ServerUnavailable
from tasks.servers.tools import annotated_effect, mcp_tools
from tasks.tools import ToolResult, ToolSet
from tasks.waiting import Waiting
from tests.support.gates import GateDesk
from tests.support.mcp_server import Calls, asked_file, http_server
from tests.support.plans import agent
from workflows.core.errors import UsageError
from workflows.core.models.agent import McpServer
from workflows.core.plans.plan import (
    AgentPlan,
    DecidersPlan,
    HandlerPlan,
    ServerPlan,
    SkillPlan,
    ToolRulePlan,
)

NAMES = ["balance", "die", "fail", "move", "pay", "picture", "set_limit", "slow", "tell", "vault"]
Given = tuple[str, dict[str, Any]]


@dataclass
class Bank:
    """A run whose agent has the test server; each `call` is a process of that run."""

    desk: GateDesk
    calls: Calls
    entry: dict[str, Any]
    rules: tuple[ToolRulePlan, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)

    def change(self, **more: Any) -> None:
        """Give the server's entry other settings."""
        self.entry = {**self.base, **more}

    @property
    def base(self) -> dict[str, Any]:
        return {name: value for name, value in self.entry.items() if name in ("command", "args", "url")}

    def agent(self) -> AgentPlan:
        server = McpServer.model_validate(self.entry)
        servers = (ServerPlan(name="bank", server=server),)
        return agent("ann").model_copy(update={"servers": servers, "tool_rules": self.rules})

    def call(self, name: str, arguments: dict[str, Any], ordinal: int = 0) -> ToolResult:
        return self.several((name, arguments), ordinal=ordinal)[0]

    def several(self, *calls: Given, ordinal: int = 0) -> list[ToolResult]:
        async def step(gate: Any, context: Any) -> list[ToolResult]:
            servers = McpServers(self.environ, context.secrets)
            try:
                tools = ToolSet(tuple(t.through(gate) for t in await mcp_tools(self.agent(), servers, gate)))
                return [await tools.call(f"bank__{name}", given, ordinal) for name, given in calls]
            finally:
                await servers.close()

        return self.desk.work(step)

    def tools(self) -> ToolSet:
        async def step(gate: Any, context: Any) -> ToolSet:
            servers = McpServers(self.environ, context.secrets)
            try:
                return ToolSet(tuple(t.through(gate) for t in await mcp_tools(self.agent(), servers, gate)))
            finally:
                await servers.close()

        return self.desk.work(step)

    def waits(self, name: str, arguments: dict[str, Any]) -> Waiting:
        with pytest.raises(Waiting) as caught:
            self.call(name, arguments)
        return caught.value


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path / "calls")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[GateDesk]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield GateDesk(ledger, tmp_path, {"BANK_TOKEN": "tok-0123456789"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Calls]]:
    """A server over HTTP that no test ends."""
    calls = Calls(tmp_path_factory.mktemp("shared") / "calls")
    with http_server(calls) as url:
        yield url, calls


@pytest.fixture
def bank(desk: GateDesk, shared: tuple[str, Calls]) -> Bank:
    """The server over HTTP, without any calls yet."""
    url, calls = shared
    for file in (calls.file, asked_file(calls.file)):
        file.unlink(missing_ok=True)
    return Bank(desk, calls, {"url": url})


@pytest.fixture
def own(desk: GateDesk, calls: Calls) -> Bank:
    """The server as a process of the run, over stdio."""
    return Bank(desk, calls, calls.entry())


def rules(**effects: str) -> tuple[ToolRulePlan, ...]:
    return tuple(ToolRulePlan(name=f"bank.{name}", effect=effect) for name, effect in effects.items())


def test_what_the_model_is_offered(bank: Bank) -> None:
    offered = bank.tools().definitions()
    assert [tool["name"] for tool in offered] == [f"bank__{name}" for name in NAMES]
    pay = next(tool for tool in offered if tool["name"] == "bank__pay")
    assert pay["description"] == "Pay somebody."
    assert sorted(pay["input_schema"]["properties"]) == ["amount", "to"]
    bank.change(tools=["pay", "balance"])
    bank.rules = (ToolRulePlan(name="bank.balance", allow=False),)
    assert [tool["name"] for tool in bank.tools().definitions()] == ["bank__pay"]


def test_one_session_serves_all_calls_and_ends_with_the_run(own: Bank) -> None:
    assert [str(r.content) for r in own.several(*[("balance", {"account": a}) for a in "abc"])] == [
        f'{{\n  "account": "{a}",\n  "amount": 12\n}}' for a in "abc"
    ]
    (pid,) = {call["pid"] for call in own.calls.all()}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_outcome_is_given_again_and_the_key_reaches_the_server(bank: Bank) -> None:
    results = [bank.call("pay", {"to": "ann", "amount": 5}) for _ in range(2)]
    assert results == [ToolResult("paid 5 to ann, receipt 1")] * 2
    (paid,) = bank.calls.all("pay")
    assert paid["key"] == paid["arguments"]["argument"] == bank.desk.effect.idempotency_key
    assert (bank.desk.effect.tool, bank.desk.effect.effect) == ("bank.pay", "once")
    assert bank.call("pay", {"to": "ann", "amount": 5}, ordinal=1) == ToolResult("paid 5 to ann, receipt 2")
    assert len(set(bank.calls.keys("pay"))) == 2


def test_over_stdio(own: Bank) -> None:
    assert own.call("pay", {"to": "ann", "amount": 5}).content == "paid 5 to ann, receipt 1"
    assert own.calls.keys() == [own.desk.effect.idempotency_key]
    assert own.call("pay", {"to": "ann", "amount": 5}).content == "paid 5 to ann, receipt 1"


def test_annotations_count_only_where_they_are_trusted(bank: Bank) -> None:
    arguments = {"account": "a", "limit": 3}
    bank.several(("balance", {"account": "a"}), ("set_limit", arguments))
    assert {row.tool: row.effect for row in bank.desk.effects()} == {
        "bank.balance": "once",
        "bank.set_limit": "once",
    }
    bank.change(trust_annotations=True)
    bank.rules = rules(pay="idempotent")
    assert {t.name: t.effect for t in bank.tools()} == {
        **dict.fromkeys((f"bank__{name}" for name in NAMES), "once"),
        "bank__balance": "none",
        "bank__vault": "none",
        "bank__set_limit": "idempotent",
        "bank__pay": "idempotent",
    }
    bank.rules = rules(balance="once")
    assert next(t for t in bank.tools() if t.name == "bank__balance").effect == "once"


def test_reads_are_not_recorded(bank: Bank) -> None:
    bank.change(trust_annotations=True)
    for _ in range(2):
        bank.call("balance", {"account": "a"})
    assert len(bank.calls.all()) == 2 and bank.desk.effects() == []


def test_a_server_that_dies_during_a_call_that_must_not_be_repeated(own: Bank) -> None:
    waiting = own.waits("die", {"how": "always"})
    assert "closed the connection during the call" in waiting.message
    own.desk.answer({"outcome": "done", "result": "it died"})
    assert own.call("die", {"how": "always"}) == ToolResult("it died")


def test_a_server_that_dies_during_an_idempotent_call(own: Bank) -> None:
    own.rules = rules(die="idempotent")
    assert own.call("die", {"how": "once"}) == ToolResult("survived")
    assert len(set(own.calls.keys("die"))) == 1 and len({c["pid"] for c in own.calls.all()}) == 2


def test_a_server_over_http_that_is_gone(desk: GateDesk, calls: Calls) -> None:
    with http_server(calls) as url:
        bank = Bank(desk, calls, {"url": url}, rules(die="idempotent"))
        result = bank.call("die", {"how": "once"})
    assert result.is_error and "the MCP server 'bank'" in str(result.content)
    assert "but an earlier sending of this call had no answer" in str(result.content)
    assert desk.effect.state == "unknown" and len(calls.all("die")) == 1


def test_a_server_that_died_between_two_calls_is_started_again(own: Bank) -> None:
    async def step(gate: Any, context: Any) -> list[Any]:
        servers = McpServers({})
        try:
            tools = ToolSet(tuple(t.through(gate) for t in await mcp_tools(own.agent(), servers, gate)))
            first = await tools.call("bank__pay", {"to": "ann", "amount": 1})
            os.kill(own.calls.all()[0]["pid"], 9)
            await asyncio.sleep(0.3)
            return [first.content, (await tools.call("bank__pay", {"to": "bob", "amount": 2})).content]
        finally:
            await servers.close()

    assert own.desk.work(step) == ["paid 1 to ann, receipt 1", "paid 2 to bob, receipt 2"]
    assert [row.state for row in own.desk.effects()] == ["done", "done"]


def test_no_answer_in_time(bank: Bank) -> None:
    bank.change(timeout=0.4)
    assert "did not answer within 0.4 s" in bank.waits("slow", {"seconds": 5}).message
    assert len(bank.calls.all("slow")) == 1


def test_a_server_says_how_it_failed(bank: Bank) -> None:
    told, own, wrong, unknown = bank.several(
        ("fail", {"how": "tool"}), ("fail", {"how": "own"}), ("fail", {"how": "wrong"}), ("fail", {"x": 1})
    )
    assert told.is_error and "there is no money" in str(told.content)
    assert own.is_error and "closed on Sundays (4711)" in str(own.content)
    assert wrong.is_error and "refused the call: amount is odd (-32602)" in str(wrong.content)
    assert unknown.is_error and "Wrong arguments" in str(unknown.content)
    states = {str(row.arguments["how"]): row.state for row in bank.desk.effects()}
    assert states == {"tool": "done", "own": "done", "wrong": "refused"}
    assert "something broke" in bank.waits("fail", {"how": "inside"}).message


def test_pictures(bank: Bank) -> None:
    result = bank.call("picture", {})
    assert isinstance(result.content, list)
    assert [block["type"] for block in result.content] == ["text", "image"]
    assert "one pixel" in result.content[0]["text"]
    assert "[image of type image/png, 60000 bytes, left out]" in result.content[0]["text"]
    assert bank.call("picture", {}) == result


# --- servers that ask ---


@pytest.mark.parametrize("http", [False, True])
def test_a_servers_question_becomes_a_wait_and_its_call_goes_on_later(
    request: pytest.FixtureRequest, http: bool
) -> None:
    bank: Bank = request.getfixturevalue("bank" if http else "own")
    if not http:  # a key of its own: the next process understands where this one stopped
        bank.entry = {**bank.entry, "args": [*bank.entry["args"], "--key", "cd" * 32]}
    waiting = bank.waits("move", {"amount": 3})
    wait = bank.desk.wait
    assert waiting.wait_ids == (wait.wait_id,)
    assert (wait.kind, wait.ask) == ("mcp", "bank (move) asks: Really move 3?")
    assert set(wait.form["properties"]) == {"sure", "reason"} and wait.detail["state"]
    assert bank.desk.effect.state == "not_done"
    assert bank.waits("move", {"amount": 3}).wait_ids == waiting.wait_ids
    with pytest.raises(UsageError, match="sure"):
        bank.desk.answer({"sure": "perhaps"})
    bank.desk.answer({"sure": True, "reason": "asked"})
    assert bank.call("move", {"amount": 3}) == ToolResult("moved 3, call 1")
    (moved,) = bank.calls.all("move")
    assert moved["arguments"] == {"amount": 3, "reason": "asked"}
    assert bank.call("move", {"amount": 3}) == ToolResult("moved 3, call 1")


def test_a_question_nobody_agrees_to(bank: Bank) -> None:
    bank.waits("move", {"amount": 3})
    bank.desk.answer(None, "reject")
    assert bank.call("move", {"amount": 3}) == ToolResult("not moved: decline")


def test_a_question_that_nobody_answers_in_time(bank: Bank) -> None:
    """It counts as a no, of nobody; or the call is left where it stands."""
    for on_timeout, name in (("reject", "bank.move"), ("fail", "move")):
        people = DecidersPlan(assignees=("ann", "bob"), deadline=60.0, on_timeout=on_timeout)
        bank.rules = (ToolRulePlan(name=name, people=people),)
        amount = {"amount": len(name)}
        bank.waits("move", amount)
        assert (bank.desk.wait.kind, bank.desk.wait.assignees) == ("mcp", ("ann", "bob"))
        bank.desk.pass_deadline()
        if on_timeout == "reject":
            assert bank.call("move", amount) == ToolResult("not moved: cancel")
            continue
        for _ in range(2):
            with pytest.raises(Undecided, match="nobody answered in time: bank"):
                bank.call("move", amount)
        assert bank.calls.asked(len(name)) == 1, "the server is not called again"
    assert bank.calls.all("move") == []


def test_a_server_that_forgot_where_it_stopped_begins_again_with_the_answers(own: Bank) -> None:
    own.waits("move", {"amount": 3})
    own.desk.answer({"sure": True})
    own.entry = {**own.entry, "args": [*own.entry["args"], "--key", "ef" * 32]}
    assert own.call("move", {"amount": 3}) == ToolResult("moved 3, call 1")


@pytest.mark.parametrize("trusted", [True, False])
def test_two_questions_one_after_the_other(bank: Bank, trusted: bool) -> None:
    bank.change(trust_annotations=trusted)
    bank.waits("vault", {"amount": 3})
    bank.desk.answer({"sure": True})
    bank.waits("vault", {"amount": 3})
    assert bank.desk.wait.ask == "bank (vault) asks: Which code?"
    bank.desk.answer({"code": 42})
    assert bank.call("vault", {"amount": 3}) == ToolResult("True 42")


# --- servers that cannot be used ---


def unavailable(bank: Bank) -> ServerUnavailable:
    with pytest.raises(ServerUnavailable) as caught:
        bank.tools()
    assert caught.value.cure
    return caught.value


def test_a_server_that_cannot_be_opened(own: Bank) -> None:
    own.entry = {"command": "no-such-command-anywhere"}
    assert "the MCP server 'bank' could not be opened: the command or its folder was not found" in str(
        unavailable(own)
    )
    program = "import sys; sys.exit('no licence for ' + 'tok-0123456789')"
    own.entry = {"command": sys.executable, "args": ["-c", program]}
    ended = str(unavailable(own))
    assert "it ended at once; it said: no licence for [secret BANK_TOKEN]" in ended
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own.entry = {"url": f"http://127.0.0.1:{free.getsockname()[1]}/mcp"}
        assert "could not be opened" in str(unavailable(own))


@pytest.mark.parametrize("lost", ["before it is opened", "between two calls", "with its session"])
def test_a_server_that_is_killed_and_comes_back_is_waited_for(own: Bank, lost: str) -> None:
    with ExitStack() as first, ExitStack() as second:
        own.entry = {"url": first.enter_context(http_server(own.calls))}
        port = urlsplit(own.entry["url"]).port or 0
        back: list[str] = []
        coming = Thread(target=lambda: back.append(second.enter_context(http_server(own.calls, port=port))))

        def restart() -> None:
            first.close()
            coming.start()

        async def step(gate: Any, context: Any) -> list[ToolResult]:
            gate.patience = Patience()
            servers = McpServers({}, context.secrets)
            try:
                if lost == "before it is opened":
                    restart()
                offered = await mcp_tools(own.agent(), servers, gate)
                tools = ToolSet(tuple(tool.through(gate) for tool in offered))
                paid = [await tools.call("bank__pay", {"to": "ann", "amount": 1}, 0)]
                if lost == "with its session":
                    await servers.close()
                if lost != "before it is opened":
                    restart()
                return [*paid, await tools.call("bank__pay", {"to": "ann", "amount": 1}, 1)]
            finally:
                await servers.close()

        paid = own.desk.work(step)
        coming.join()
    assert back and not any(result.is_error for result in paid), paid
    assert len(own.calls.all("pay")) == 2


def test_an_address_where_nobody_is_ends_the_step_in_the_end(own: Bank) -> None:
    async def step(gate: Any, context: Any) -> None:
        gate.patience = Patience(20.0)  # a twentieth of it
        await mcp_tools(own.agent(), McpServers({}, context.secrets), gate)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own.entry = {"url": f"http://127.0.0.1:{free.getsockname()[1]}/mcp"}
        began = time.monotonic()
        with pytest.raises(ServerUnavailable, match="nothing answers at its address"):
            own.desk.work(step)
        assert time.monotonic() - began > 0.5, "it was not waited for"


def test_variables_are_filled_in_when_it_is_opened(own: Bank) -> None:
    file = str(own.calls.file)
    own.entry = {"command": "${PYTHON}", "args": [own.entry["args"][0], "${CALLS}"]}
    own.environ = {"PYTHON": sys.executable, "CALLS": file}
    assert own.call("pay", {"to": "ann", "amount": 1}).content == "paid 1 to ann, receipt 1"
    own.environ = {"PYTHON": sys.executable}
    with pytest.raises(UsageError, match="the variable CALLS is not set"):
        own.tools()


def test_what_an_entry_takes_from_the_environment_is_a_secret(own: Bank) -> None:
    assert own.call("tell", {}).content == "nothing"
    own.change(env={"BANK_LOGIN": "${HOUSE}", "TOKEN_FILE": "x"})
    own.environ = {"HOUSE": "ordinary"}
    assert own.call("tell", {}, ordinal=1).content == "[secret HOUSE]", "whatever it is called"
    own.change(env={"BANK_LOGIN": "${HOUSE_SECRET}"})
    own.environ = {"HOUSE_SECRET": "hush-hush-hush"}
    assert own.call("tell", {}, ordinal=2).content == "[secret HOUSE_SECRET]"


def test_names_that_the_server_does_not_know(bank: Bank) -> None:
    bank.change(tools=["pays"])
    with pytest.raises(UsageError, match="'pays', which the MCP server 'bank' lacks") as caught:
        bank.tools()
    assert caught.value.cure == "did you mean 'pay'?"
    bank.change()
    bank.rules = rules(balanse="none")
    with pytest.raises(UsageError, match="'balanse'"):
        bank.tools()
    bank.rules = (ToolRulePlan(name="bank.pay", effect_key=("too",)),)
    with pytest.raises(UsageError, match="names 'too', which the tool does not take"):
        bank.tools()


def test_a_rule_for_the_bare_name_reaches_the_tool(bank: Bank) -> None:
    bank.rules = (ToolRulePlan(name="pay", approval=True), ToolRulePlan(name="slow", allow=False))
    assert "bank__slow" not in [tool.name for tool in bank.tools()]
    bank.waits("pay", {"to": "ann", "amount": 5})
    assert bank.desk.wait.kind == "action" and bank.calls.all() == []


@pytest.mark.parametrize("name", ["pays", "bank__pays", "Pay", "pay "])
def test_a_rule_that_would_miss_its_tool_is_an_error(bank: Bank, name: str) -> None:
    bank.rules = (ToolRulePlan(name=name, approval=True),)
    with pytest.raises(UsageError, match=f"a rule for '{name}', which no MCP server offers") as caught:
        bank.tools()
    assert "did you mean" in caught.value.cure


def test_a_server_cannot_name_a_tool_so_that_a_rule_of_ours_grants_it_something(bank: Bank) -> None:
    """The rule is for a handler, or a tool of ours; where it restricts, it restricts the server's as well."""
    handler = HandlerPlan(
        name="pay", handler="pay", file="handlers/pay.py", description="", effect="none", input_schema={}
    )
    skill = SkillPlan(
        id="own", name="own", description="", folder="skills/own", digest="", handlers=(handler,)
    )
    plain = bank.agent
    bank.agent = lambda: plain().model_copy(update={"skills": (skill,)})  # type: ignore[method-assign]
    bank.rules = (ToolRulePlan(name="pay", effect="none", effect_key=("to",)),)
    assert next(tool for tool in bank.tools() if tool.name == "bank__pay").effect == "once"
    bank.rules = (ToolRulePlan(name="pay", effect="none", approval=True),)
    bank.waits("pay", {"to": "ann", "amount": 5})
    bank.rules = (ToolRulePlan(name="pay", allow=False),)
    assert "bank__pay" not in [tool.name for tool in bank.tools()]


def test_an_approval_shows_the_arguments(bank: Bank) -> None:
    bank.rules = (ToolRulePlan(name="bank.pay", approval=True),)
    bank.waits("pay", {"to": "ann", "amount": 5})
    assert bank.desk.wait.detail["arguments"] == {"to": "ann", "amount": 5} and bank.calls.all() == []
    bank.desk.answer({})
    assert bank.call("pay", {"to": "ann", "amount": 5}).content == "paid 5 to ann, receipt 1"


def test_what_nobody_said_counts_as_once() -> None:
    from mcp.types import Tool, ToolAnnotations

    said = Tool(name="t", input_schema={}, annotations=ToolAnnotations(destructive_hint=False))
    assert annotated_effect(said, trusted=True) == "once"
    assert annotated_effect(Tool(name="t", input_schema={}), trusted=True) == "once"
