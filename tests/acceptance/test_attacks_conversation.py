"""What was tried against the durability of a conversation, over real processes, servers and kills."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.catalogs import make_catalog
from tests.support.command import Answer, User
from tests.support.mcp_server import Calls
from tests.support.messages_api import MessagesApi, answers_in

WORK = """\
workflow: work
steps:
  - id: act
    agent: ann
    prompt: Do it.
    retries: {max: 2, delay: 1s}
    output: {type: json, repair: 0}
"""
LISTED = '''
"""A stdio MCP server whose tools are what a file says; it writes down every call."""
import json, sys
from pathlib import Path
tools, calls = Path(sys.argv[1]), Path(sys.argv[2])
for line in sys.stdin:
    m = json.loads(line)
    i, method, p = m.get("id"), m.get("method"), m.get("params") or {}
    if method == "initialize":
        said = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "shop", "version": "1"}}
    elif method == "tools/list":
        said = {"tools": json.loads(tools.read_text())}
    elif method == "tools/call":
        with calls.open("a") as file:
            file.write(json.dumps(p["name"]) + "\\n")
        said = {"content": [{"type": "text", "text": "ok"}]}
    else:
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": i, "result": said}), flush=True)
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home with its Prefect server for all tests of the module."""
    path = tmp_path_factory.mktemp("talking") / "home"
    yield path
    User(path, path).phaseline("down")


class Scene:
    """A catalog whose agent may pay over MCP, and a model that answers as `reply` says."""

    def __init__(self, home: Path, folder: Path, api: MessagesApi) -> None:
        self.api, self.folder, self.run_id = api, folder, folder.name.strip("_")
        self.calls = Calls(folder / "calls.jsonl")
        self.catalog = make_catalog(folder / "catalog", work=WORK)
        self.rules({"mcpServers": {"bank": self.calls.entry()}})
        work = folder / "work"
        work.mkdir()
        variables = {
            "ANTHROPIC_API_KEY": "sk-test",
            "ANTHROPIC_BASE_URL": api.base_url,
            "PHASELINE_CATALOG": str(self.catalog),
            "PHASELINE_STORAGE": str(folder / "storage"),
        }
        self.user = User(home, work, variables)

    def rules(self, document: dict[str, Any]) -> None:
        """ann's tools-config.json."""
        (self.catalog / "agents/ann/tools-config.json").write_text(json.dumps(document))

    def run(self) -> Answer:
        """`phaseline run`."""
        return self.user.phaseline("run", "work", "--run-id", self.run_id, "--json", timeout=240)

    def resume(self, *words: str) -> Answer:
        """`phaseline resume`."""
        return self.user.phaseline("resume", self.run_id, *words, "--json", timeout=240)

    def killed(self, *words: str, when: Callable[[], Any]) -> None:
        """A command that is killed, with all its children, once `when()` holds."""
        with self.user.start(*words) as process:
            deadline = time.monotonic() + 90
            while not when():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def answer(self, *words: str) -> dict[str, Any]:
        """Answers the only open wait of the run; gives what was asked."""
        (wait,) = self.user.phaseline("inbox", "--run", self.run_id, "--json").document["waits"]
        answered = self.user.phaseline("answer", wait["wait_id"], *words, "--json")
        assert answered.code == 0, answered
        return dict(wait)

    @property
    def paid(self) -> int:
        """Answers that were paid for."""
        return sum(1 for r in self.api.asked if r["status"] == 200 and not r["fault"])

    @property
    def payments(self) -> list[int]:
        """What was paid over MCP."""
        return [call["arguments"]["amount"] for call in self.calls.all("pay")]


@pytest.fixture
def scene(home: Path, tmp_path: Path) -> Iterator[Scene]:
    with MessagesApi() as api:
        yield Scene(home, tmp_path, api)


def pays(amount: int, to: str = "bob") -> dict[str, Any]:
    return {"tools": [{"name": "bank__pay", "input": {"to": to, "amount": amount}}]}


def test_six_overloads_after_a_payment_pay_nothing_twice(scene: Scene) -> None:
    """Neither the money nor the answers: the retry goes on in the same conversation."""
    wordings = iter([pays(7), pays(7, to="Bob Miller"), pays(7, to="B. Miller")])
    overloads = iter([{"fault": "overloaded"}] * 6)
    scene.api.answer_with(
        lambda body: next(wordings) if answers_in(body) == 0 else next(overloads, {"text": "[1]"})
    )
    scene.run().completed  # noqa: B018 - it fails when the run did not complete
    assert scene.payments == [7] and scene.paid == 2


def test_another_conversation_may_not_pay_in_other_words(scene: Scene) -> None:
    """A refusal ends the first one; the next is told, and whoever it is asked of decides, also over kills."""
    held = threading.Event()
    wordings = iter([pays(7), pays(7, to="Bob Miller"), pays(7, to="Bob Miller")])

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        told = "<earlier_work>" in json.dumps(body["messages"][0])
        if answers_in(body) == 0:
            if told and not held.is_set():
                held.set()
                return {"latency": 3600}
            return next(wordings)
        return {"text": "[1]"} if told else {"stop_reason": "refusal", "text": ""}

    scene.api.answer_with(reply)
    refused = scene.run()
    assert refused.code == 1 and "refused" in json.dumps(refused.document), refused
    assert scene.payments == [7]
    scene.killed("resume", scene.run_id, when=held.is_set)
    waiting = scene.resume()
    assert waiting.code == 3 and scene.payments == [7], waiting
    asked = scene.answer("--reject")
    assert asked["kind"] == "action" and "It was called before in this step" in asked["ask"]
    scene.resume().completed  # noqa: B018
    assert scene.payments == [7]
    last = json.dumps(scene.api.asked[-1]["body"]["messages"])
    assert "did not approve this call" in last


def test_a_step_that_is_done_anew_asks_before_it_pays_in_other_words(scene: Scene) -> None:
    wordings = iter([pays(7), pays(8)])
    scene.api.answer_with(lambda body: next(wordings) if answers_in(body) == 0 else {"text": "[1]"})
    scene.run().completed  # noqa: B018
    assert scene.resume("--from", "act").code == 3 and scene.payments == [7]
    scene.answer()
    scene.resume().completed  # noqa: B018
    assert scene.payments == [7, 8]


def test_blank_text_is_never_said_again(scene: Scene) -> None:
    """Beside a call, and as an answer; the strict stand-in would refuse either."""
    replies = [{**pays(7), "text": " \n"}, {"text": "\n\n"}, {"text": "[1]"}]
    (scene.catalog / "work.yaml").write_text(WORK.replace("repair: 0", "repair: 1"))
    scene.api.queue(*replies)
    scene.run().completed  # noqa: B018
    assert [r["status"] for r in scene.api.asked] == [200, 200, 200] and scene.payments == [7]


def test_a_turn_that_the_provider_refuses_for_ever_is_left(scene: Scene) -> None:
    poison = "a poisoned word"
    answers = iter([{"text": poison}, {"text": "[1]"}])

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        said = json.dumps(body["messages"][1:])
        if poison in said:
            return {"fault": "bad_request", "message": "messages.3: something about it is wrong"}
        if answers_in(body) == 0:
            return pays(7)
        return next(answers)

    (scene.catalog / "work.yaml").write_text(WORK.replace("repair: 0", "repair: 3"))
    scene.api.answer_with(reply)
    scene.run().completed  # noqa: B018
    assert scene.payments == [7] and scene.paid == 3


def test_a_raised_max_turns_pays_nothing_again(scene: Scene) -> None:
    config = scene.catalog / "agents/ann/config.yaml"
    written = config.read_text()
    config.write_text(f"{written}  max_turns: 2\n")
    scene.api.answer_with(lambda body: pays(answers_in(body)) if answers_in(body) < 4 else {"text": "[1]"})
    assert scene.run().code == 1 and scene.payments == [0]
    assert scene.resume().code == 1 and scene.paid == 2, "nothing is paid while the limit stands"
    config.write_text(f"{written}  max_turns: 9\n")
    scene.resume("--use", "new").completed  # noqa: B018
    assert scene.paid == 5 and scene.payments == [0, 1, 2, 3]


def test_a_lost_body_asks_one_answer_anew(scene: Scene) -> None:
    long, held = "no json " * 20_000, threading.Event()

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        turn = answers_in(body)
        if turn == 5 and not held.is_set():
            held.set()
            return {"latency": 3600}
        return {"text": long if turn == 1 else "no json" if turn < 5 else "[1]", "thinking": None}

    (scene.catalog / "work.yaml").write_text(WORK.replace("repair: 0", "repair: 9"))
    scene.api.answer_with(reply)
    scene.killed("run", "work", "--run-id", scene.run_id, when=held.is_set)
    paid = scene.paid
    (body,) = [f for f in (scene.folder / "storage").rglob("*") if f.is_file() and long in f.read_text()]
    body.write_text("something else")
    scene.resume().completed  # noqa: B018
    assert scene.paid - paid == 2, "the lost answer, and the one that was under way"


def test_a_server_may_change_what_its_tools_say(scene: Scene) -> None:
    """While an approval is open: one tool gets other words, one is gone, one is new."""
    server, listed = scene.folder / "server.py", scene.folder / "tools.json"
    server.write_text(LISTED)
    shape = {"type": "object"}
    look = {"name": "look", "description": "Looks it up", "inputSchema": shape}
    pay = {"name": "pay", "description": "Pays", "inputSchema": shape}
    listed.write_text(json.dumps([look, {"name": "old", "description": "Old", "inputSchema": shape}, pay]))
    entry = {"command": sys.executable, "args": [str(server), str(listed), str(scene.folder / "made")]}
    effects = {"shop.look": {"effect": "none"}, "shop.old": {"effect": "none"}}
    rules = {**effects, "shop.pay": {"effect": "once", "approval": True}}
    scene.rules({"mcpServers": {"shop": entry}, "tools": rules})
    turns = [["look"], ["pay"], ["old"]]
    scene.api.answer_with(
        lambda body: (
            {"tools": [{"name": f"shop__{name}", "input": {}} for name in turns[answers_in(body)]]}
            if answers_in(body) < 3
            else {"text": "[1]"}
        )
    )
    assert scene.run().code == 3
    changed = {**look, "description": "Looks it up (release 1.1)"}
    listed.write_text(json.dumps([changed, {**look, "name": "new"}, pay]))
    scene.answer()
    scene.resume().completed  # noqa: B018
    assert scene.paid == 4, "no turn is paid again"
    assert (scene.folder / "made").read_text().split() == ['"look"', '"pay"']
    tools = [[t["name"] for t in r["body"]["tools"] if "shop" in t["name"]] for r in scene.api.asked]
    assert all(names == tools[0] for names in tools)
    last = json.dumps(scene.api.asked[-1]["body"]["messages"][-1])
    assert "shop__old is not there any more" in last
