"""Attacks by text: what others say, or put in the place of a file, freezes no command and no run.

Each command here is ended by the test when it takes a minute; without a limit they took hours.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.catalogs import make_catalog
from tests.support.command import User
from tests.support.durable import eventually
from tests.support.messages_api import MessagesApi, answers_in

SLOW = "^(a|aa)+$"
TEXT = "a" * 5_000 + "!"
ASKS = f"""\
workflow: asks
inputs:
  note: {{type: file}}
steps:
  - id: one
    agent: ann
    inputs: [note]
    expected_output: said
    output:
      type: json
      schema: {{type: object, properties: {{word: {{type: string, pattern: "{SLOW}"}}}}, required: [word]}}
"""
CALLS = """\
workflow: calls
steps:
  - id: one
    agent: ann
    expected_output: said
"""
SERVER = f"""\
import json, sys

TOOL = {{"name": "look", "description": "Looks.", "inputSchema": {{"type": "object", "properties": {{
    "word": {{"type": "string", "pattern": "{SLOW}"}}}}}}}}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        result = {{"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {{"tools": {{}}}},
                  "serverInfo": {{"name": "slow", "version": "1"}}}}
    elif asked["method"] == "tools/list":
        result = {{"tools": [TOOL]}}
    else:
        result = {{"content": [{{"type": "text", "text": "looked"}}]}}
    print(json.dumps({{"jsonrpc": "2.0", "id": asked["id"], "result": result}}), flush=True)
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return make_catalog(tmp_path / "catalog", asks=ASKS, calls=CALLS)


@pytest.fixture
def somebody(user: User, api: MessagesApi, catalog: Path) -> User:
    """Somebody with a catalog of their own and a model that says what the test wants."""
    return user.with_variables(
        ANTHROPIC_API_KEY="sk-test",
        ANTHROPIC_BASE_URL=api.base_url,
        PHASELINE_CATALOG=str(catalog),
        **user.exports(),
    )


@pytest.fixture
def stranger(tmp_path: Path) -> User:
    """Somebody whose commands start nothing: what they ask for is refused before."""
    folder = tmp_path / "folder"
    folder.mkdir()
    return User(tmp_path / "home", folder)


# ------------------------------------------------------------------ patterns


def test_a_pattern_of_an_author_against_an_answer(somebody: User, api: MessagesApi) -> None:
    """The answer is rejected with the reason; the run ends, and so does every resume of it."""
    (somebody.folder / "note.md").write_text("Say a word.\n")
    api.answer_with(lambda body: {"text": json.dumps({"word": TEXT})})
    run = somebody.phaseline("run", "asks", "-i", "note=@note.md", "--run-id", "slow-pattern", "--json")
    assert run.code == 1, run
    assert "takes too long on this text" in run.out
    again = somebody.phaseline("resume", "slow-pattern", "--json")
    assert again.code == 1, again
    assert "Traceback" not in run.err + again.err


def test_a_pattern_of_a_server_against_a_call(somebody: User, api: MessagesApi, catalog: Path) -> None:
    """The call is refused with the reason, and the model goes on."""
    server = somebody.folder / "server.py"
    server.write_text(SERVER)
    entry = {"command": sys.executable, "args": [str(server)]}
    tools = catalog / "agents" / "ann" / "tools-config.json"
    tools.write_text(json.dumps({"mcpServers": {"slow": entry}}))

    def reply(body: dict[str, object]) -> dict[str, object]:
        if answers_in(body) == 0:
            name = next(tool["name"] for tool in body["tools"] if "look" in tool["name"])  # type: ignore[attr-defined]
            return {"tools": [{"name": name, "input": {"word": TEXT}}]}
        return {"text": "Done."}

    api.answer_with(reply)
    run = somebody.phaseline("run", "calls", "--run-id", "slow-server", "--json")
    assert run.completed
    assert "takes too long on this text" in json.dumps(api.asked[-1])


# ------------------------------------------------------------------ files that are none


def pipe(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: list[Callable[[Path], None]] = [pipe, sparse, zeros]
FILES = [
    "asks.yaml",
    "models.yaml",
    "agents/ann/config.yaml",
    "agents/ann/SOUL.md",
    "agents/ann/tools-config.json",
    "skills/shared/tool/SKILL.md",
    "skills/shared/tool/config.yaml",
    "skills/shared/tool/handlers/count.py",
    "skills/shared/tool/notes.md",
]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("file", FILES)
def test_no_file_of_a_catalog_is_waited_for(
    stranger: User, catalog: Path, file: str, make: Callable[[Path], None]
) -> None:
    (catalog / file).unlink(missing_ok=True)
    make(catalog / file)
    answer = stranger.phaseline("--catalog", str(catalog), "check", timeout=60)
    assert answer.code == 2, answer
    assert "Traceback" not in answer.err
    said = ("it is a pipe", "it is larger than", "the file is larger than", "outside the catalog")
    assert any(words in answer.err + answer.out for words in said), answer


@pytest.mark.parametrize("make", KINDS)
def test_no_file_on_the_command_line_is_waited_for(
    stranger: User, catalog: Path, make: Callable[[Path], None]
) -> None:
    make(stranger.folder / "note.md")
    make(stranger.folder / "inputs.yaml")
    start = ["--catalog", str(catalog), "run", "asks", "--offline"]
    answers = [
        stranger.phaseline(*start, "-i", "note=@note.md", timeout=60),
        stranger.phaseline(*start, "--inputs", "inputs.yaml", timeout=60),
        stranger.phaseline("event", "type", "--data", "@inputs.yaml", timeout=60),
    ]
    for answer in answers:
        assert answer.code == 2, answer
        assert "Traceback" not in answer.err


def test_little_yaml_is_little_work(stranger: User, catalog: Path) -> None:
    """Merges in merges, a number of a million digits: told with file and line, at once."""
    merges = "a0: &a0 {x: 1}\n" + "".join(
        f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 9)}]}}\n" for n in range(12)
    )
    for text, said in ((merges, "too many values"), ("timeout: 0x" + "f" * 900_000, "not a number")):
        (catalog / "bomb.yaml").write_text(text)
        answer = stranger.phaseline("--catalog", str(catalog), "check", "bomb", timeout=60)
        assert answer.code == 2, answer
        assert "bomb.yaml:1:" in answer.err + answer.out
        assert said in answer.err + answer.out


# ------------------------------------------------------------------ signals

BUSY = {
    "counts": "    while True:\n        pass\n",
    "keeps on": (
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            pass\n"
    ),
    "waits for a database": (
        "    import sqlite3\n"
        "    one = sqlite3.connect('x.db', isolation_level=None)\n"
        "    one.execute('BEGIN EXCLUSIVE')\n"
        "    sqlite3.connect('x.db', timeout=90).execute('CREATE TABLE t (a)')\n"
    ),
    "blocks its event loop": (
        "    import asyncio\n"
        "    from blocks.process.ending import on_signals\n"
        "    async def run():\n"
        "        with on_signals(asyncio.current_task().cancel, last_steps=True):\n"
        "            while True:\n"
        "                pass\n"
        "    asyncio.run(run())\n"
    ),
    "checks a schema in a thread": (
        "    import asyncio\n"
        "    from blocks.process.ending import on_signals\n"
        "    async def run():\n"
        "        with on_signals(asyncio.current_task().cancel):\n"
        "            await asyncio.to_thread(time.sleep, 90)\n"
        "    asyncio.run(run())\n"
    ),
    "matches a pattern": (
        f"    from workflows.core.text.patterns import found_in\n    found_in('{SLOW}', {TEXT!r}, 90)\n"
    ),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("what", BUSY)
def test_a_signal_ends_a_command_that_does_not_hear_it(
    stranger: User, what: str, number: signal.Signals
) -> None:
    """Whatever the main thread does. Five seconds are the promise; more are the machine's."""
    code = (
        "import sys, time, types\n"
        "from deployments import cli\n"
        "def execute(args, out):\n"
        f"    print('busy', flush=True)\n{BUSY[what]}"
        "sys.modules['deployments.commands.robots'] = types.SimpleNamespace(execute=execute)\n"
        "sys.argv = ['phaseline', 'robots']\n"
        "sys.exit(cli.main())\n"
    )
    with stranger.started("-c", code) as process:
        eventually(lambda: stranger.log.read_text() == "busy\n")
        time.sleep(0.3)  # into what it is busy with
        begun = time.monotonic()
        process.send_signal(number)
        process.wait(60)
        assert time.monotonic() - begun < 10
    assert process.returncode in (1, 128 + number), stranger.log.read_text()
    assert "Traceback" not in stranger.log.read_text()
